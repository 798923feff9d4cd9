"""The stage `explain`: figures by hand, kill and resume, the real tiny critic."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from data_gen.explanations import elsewhere, explain
from minicrit.cli import main
from minicrit.config import Recipe
from minicrit.encoding import TooLongError
from minicrit.files import sha256_file
from minicrit.records import Example, write_examples
from minicrit.side_views import explained_view
from tests.minicrit.benchmark_case import FLAWED, VALID, StandIn, growing, twins

#: What is wrong with the critique of the flawed text of each group, if anything is.
CHANGES = {
    "0": ("", ""),
    "1": ("small_sample", "sunk_cost"),
    "2": ('"all dips recover"', '"Case 2"'),
    "3": ("Three cases.", "Three of 977 cases."),
}


class Writer(StandIn):
    """Right verdicts but for a false alarm in group 3; critiques as `CHANGES` says."""

    writes = 0
    dies_at = 99

    def write(
        self, items: Sequence[tuple[str, str]], labels: Sequence[str], longest: int
    ) -> list[tuple[str, int]]:
        Writer.writes += 1
        if Writer.writes == Writer.dies_at:
            raise KeyboardInterrupt
        pairs = zip(items, labels, strict=True)
        return [self._text(rationale, label) for (_, rationale), label in pairs]

    def _text(self, rationale: str, label: str) -> tuple[str, int]:
        number = rationale.split()[1].rstrip(".")
        if number == "4":
            return "No flaw found." if label == "valid" else FLAWED, 160
        return (FLAWED.replace(*CHANGES[number]) if label == "flawed" else VALID), 10


def items() -> list[Example]:
    said = {3: (0.9, 0.9)}
    return [e for n in range(5) for e in twins(n, said.get(n, (0.1, 0.9)), (0, 0))]


def recipe_for(folder: Path) -> Recipe:
    recipe = Recipe()
    write_examples(folder / "data.jsonl", items())
    settings = recipe.explain
    settings.model, settings.data = Path("a"), folder / "data.jsonl"
    settings.batch, settings.limit, settings.out = 2, 0, folder / "reports" / "explain"
    return recipe


def run(folder: Path) -> dict:
    Writer.writes = 0
    return explain(recipe_for(folder), load=lambda _: Writer("a"))


def test_every_figure_by_hand(tmp_path):
    """Groups: 0 right, 1 wrong name, 2 wrong place, 3 false alarm and a figure, 4 cut off twice."""
    report = run(tmp_path)
    found = {name: (row["value"], row["n"]) for name, row in report["figures"].items()}
    assert found == {
        "parsed": (8 / 10, 10),
        "verdict_right": (9 / 10, 10),
        "no_invented_figure": (6 / 10, 10),
        "no_false_sum": (8 / 10, 10),
        "flaw_type_right": (3 / 5, 5),
        "evidence_overlap": (3 / 5, 5),
        "evidence_verbatim": (4 / 5, 5),
        "reasons": (pytest.approx(3 / 5, abs=0.1), 5),
        "reasons_elsewhere": (1.0, 5),
        "valid_reasons": (pytest.approx(3 / 5, abs=0.25), 5),
        "valid_reasons_elsewhere": (1.0, 5),
        "flawed_right": (1 / 5, 5),
        "valid_right": (3 / 5, 5),
    }
    assert "a miss in each row but that of the verdict, which" in explained_view(report)["about"]
    one = report["figures"]["verdict_right"]
    assert one["low"] < one["value"] <= one["high"]
    rows = [json.loads(x) for x in (tmp_path / "reports/explain.items.jsonl").open()]
    assert rows[7]["stray"] == [977.0]
    assert rows[9]["broken"] == "cut off"
    assert sorted(p.name for p in (tmp_path / "reports").iterdir()) == [
        "explain.items.jsonl", "explain.json", "explain.md"]  # fmt: skip
    page = (tmp_path / "reports/explain.md").read_text()
    assert "| flawed right | 0.200" in page
    assert "figures stand in text or reference, or follow from the text |" in page


def kinds(*said: str) -> list[Example]:
    """Flawed items of one kind with these reference critiques, and no fix."""
    flawed = [twins(n, (0.1, 0.9), (0, 0))[1] for n in range(len(said))]
    return [replace(e, critique=text, fix=None) for e, text in zip(flawed, said, strict=True)]


def test_what_references_of_other_items_get_for_the_reasons():
    """1 of 2 and 2 words are shared by the first two: 2 / 4 each; of a kind of its own, none."""
    a, b, c = kinds("Lactate falls.", "Lactate rises.", "Lactate falls.")
    assert elsewhere([a, b]) == [0.5, 0.5]
    assert elsewhere([a, b, c]) == [0.75, 0.5, 0.75]
    bare = replace(c, critique=None)  # no text that could be worth anything
    assert elsewhere([a, b, bare]) == [0.5, 0.5, 0.0]
    assert elsewhere([a, replace(b, group=a.group)]) == [None, None]
    assert elsewhere([a, replace(b, flaw_type="sunk_cost")]) == [None, None]
    assert elsewhere([a, replace(b, source="composer/trading/family_1/base_rate")]) == [None, None]


@pytest.mark.parametrize(("reference", "right"), [
    ("Three dips are few, the coin shows that by luck.", 0.0), ("Three cases.", 1.0)])  # fmt: skip
def test_a_critique_that_gives_none_of_the_reasons_is_not_right(tmp_path, reference, right):
    recipe = recipe_for(tmp_path)
    recipe.explain.reasons = 0.5
    rows = [replace(e, critique=reference if e.label == "flawed" else "It follows.", fix=None)
            for e in twins(0, (0.1, 0.9), (0, 0))]  # fmt: skip
    write_examples(tmp_path / "data.jsonl", rows)
    found = explain(recipe, load=lambda _: Writer("a"))["figures"]
    assert found["flawed_right"]["value"] == right


def test_a_verdict_alone_is_no_right_critique(tmp_path):
    """It parses, and has no false figure."""

    class Bare(Writer):
        def _text(self, rationale: str, label: str) -> tuple[str, int]:
            return f"Verdict: {label}", 10

    found = explain(recipe_for(tmp_path), load=lambda _: Bare("a"))["figures"]
    assert found["parsed"]["value"] == 1.0
    assert found["valid_right"]["value"] == found["valid_reasons"]["value"] == 0.0


def test_a_flaw_that_was_missed_gives_no_reasons(tmp_path):
    """Once left out of the share, which so was that of the detected flaws alone."""
    recipe = recipe_for(tmp_path)
    rows = [e for n in range(4) for e in twins(n, (0.1, 0.1 if n else 0.9), (0, 0))]
    write_examples(tmp_path / "data.jsonl", rows)
    found = explain(recipe, load=lambda _: Writer("a"))["figures"]
    assert found["reasons"]["n"] == found["flaw_type_right"]["n"] == 4
    assert found["reasons"]["value"] == pytest.approx(1 / 4, abs=0.05)


def test_where_no_flaw_is_named_none_can_be_named_rightly(tmp_path):
    recipe = recipe_for(tmp_path)
    rows = [e for n in (0, 4) for e in twins(n, (0.1, 0.9), (0, 0))]
    write_examples(tmp_path / "data.jsonl", [replace(e, flaw_type=None) for e in rows])
    found = explain(recipe, load=lambda _: Writer("a"))["figures"]
    assert "flaw_type_right" not in found
    assert (found["flawed_right"]["value"], found["flawed_right"]["n"]) == (1 / 2, 2)


def test_all_alike_is_not_certain(tmp_path):
    """Resamples of four right verdicts have no spread; Wilson at 4 of 4: 4 / (4 + 1.96^2)."""
    recipe = recipe_for(tmp_path)
    write_examples(
        tmp_path / "data.jsonl", [e for n in (0, 3) for e in twins(n, (0.1, 0.9), (0, 0))]
    )
    found = explain(recipe, load=lambda _: Writer("a"))["figures"]["verdict_right"]
    assert (found["value"], found["high"]) == (1.0, 1.0)
    assert found["low"] == pytest.approx(4 / (4 + 1.959964**2), abs=1e-6)


class Cramped(Writer):
    """Has no room for a critique of group 2."""

    def write(self, items, labels, longest):
        if any(text.startswith("Case 2.") for _, text in items):
            raise TooLongError("expected at most 9 prompt tokens, got 10; shorten it")
        return super().write(items, labels, longest)


def test_a_text_that_leaves_no_room_is_a_miss_and_stops_no_other(tmp_path):
    recipe = recipe_for(tmp_path)
    recipe.explain.batch = 3
    report = explain(recipe, load=lambda _: Cramped("a"))
    assert report["unwritten"] == {"too long": 2}
    assert report["figures"]["parsed"]["value"] == (8 - 2) / 10
    assert report["figures"]["flawed_right"]["value"] == 1 / 5
    rows = [json.loads(x) for x in (tmp_path / "reports/explain.items.jsonl").open()]
    assert [row["broken"] for row in rows if row["group"] == "2"] == ["too long"] * 2
    page = (tmp_path / "reports/explain.md").read_text()
    assert "Of 2 nothing could be written (too long)." in page


def test_items_that_could_not_be_read_are_said_to_be_left_out(tmp_path):
    recipe = recipe_for(tmp_path)
    rows = [replace(e, id=f"{n}/{e.label}", group=str(n), rationale=f"{e.rationale} {n}")
            for n in range(20) for e in twins(0, (0.1, 0.9 if n else "nan"), (0, 0))]  # fmt: skip
    write_examples(tmp_path / "data.jsonl", rows)
    report = explain(recipe, load=lambda _: Writer("a"))
    assert (report["n"], report["unscored"]) == (39, {"undefined p": 1})
    said = "39 items of split test, without 1 more that could not be read (1 undefined p)"
    assert said in (tmp_path / "reports/explain.md").read_text()
    assert explained_view(report)["about"].startswith(f"critic a on {said}.")


def test_an_item_that_comes_twice_is_refused(tmp_path):
    recipe = recipe_for(tmp_path)
    folder = tmp_path / "two"
    for name in ("a", "b"):
        write_examples(folder / f"{name}.jsonl", items())
    recipe.explain.data = folder
    said = "each id once over all files, got 10 twice, such as .+; name each file once, or put the"
    with pytest.raises(ValueError, match=said):
        explain(recipe, load=lambda _: Writer("a"))


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    run(tmp_path)
    whole = (tmp_path / "reports/explain.json").read_bytes()
    (tmp_path / "reports/explain.json").unlink()
    monkeypatch.setattr(Writer, "dies_at", 3)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.setattr(Writer, "dies_at", 99)
    run(tmp_path)
    assert Writer.writes == 3  # two of the five passes were kept
    assert (tmp_path / "reports/explain.json").read_bytes() == whole


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("batch", 0, "explain.batch: expected 1 or more, got 0"),
     ("overlap", 2.0, "explain.overlap: expected a share from 0 to 1, got 2.0"),
     ("reasons", 2.0, "explain.reasons: expected a share from 0 to 1, got 2.0"),
     ("split", "train", "expected rows of split train, got none of 10")],
)  # fmt: skip
def test_settings_that_will_not_do(tmp_path, name, value, words):
    recipe = recipe_for(tmp_path)
    setattr(recipe.explain, name, value)
    with pytest.raises(ValueError, match=words):
        explain(recipe, load=lambda _: Writer("a"))


def test_the_tiny_critic_by_the_command(tmp_path, capsys):
    """A base that learnt nothing: all verdicts are read, nothing parses, in either precision."""
    rows = [replace(e, rationale=e.rationale[:60]) for e in items()[:4]]
    write_examples(tmp_path / "data.jsonl", rows)
    told = ["explain", "--explain.model", "tiny", "--explain.data", str(tmp_path / "data.jsonl"),
            "--explain.max_new_tokens", "16", "--explain.limit", "0"]  # fmt: skip
    for dtype in ("null", "bfloat16"):
        out = tmp_path / dtype
        assert main([*told, "--explain.dtype", dtype, "--explain.out", str(out)]) == 0
        report = json.loads(out.with_name(f"{dtype}.json").read_text())
        assert report["n"] == 4
        assert report["figures"]["parsed"]["value"] == 0.0
    assert "# Whole critiques of tiny" in capsys.readouterr().out


def test_the_hash_of_the_items_is_that_of_what_was_read(tmp_path):
    recipe = recipe_for(tmp_path)
    path = tmp_path / "data.jsonl"
    before = sha256_file(path)
    report = explain(recipe, load=growing(path, Writer))
    assert report["inputs"] == {path.as_posix(): before} != {path.as_posix(): sha256_file(path)}
