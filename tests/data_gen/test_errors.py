"""The stage `errors`: counts by hand, kill and resume, a judge of labels, the loop to new data."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from data_gen.errors import OPENING, analyse_errors
from data_gen.focus import LEAST, cell_weights, mechanism_shares
from data_gen.hard import make_hard
from minicrit.base import Base, load_tokenizer
from minicrit.cli import main
from minicrit.config import Recipe
from minicrit.data_config import HardConfig
from minicrit.encoding import Encoder, TooLongError
from minicrit.errors_page import slices_line
from minicrit.files import sha256_file
from minicrit.records import Example, read_examples, write_examples
from minicrit.taxonomy import FLAW_TYPES
from tests.data_gen.scripted_server import ScriptedServer
from tests.minicrit.benchmark_case import StandIn, growing, twins

#: p of the sound and of the flawed twin, as the critic says it.
SAID = {0: (0.1, 0.9), 1: (0.95, 0.8), 2: (0.2, 0.02), 3: (0.3, 0.7), 4: (0.1, 0.9)}


def items(split: str = "validation", groups: int = 12) -> list[Example]:
    """Twin groups of two mechanisms; all but the first five are right and well explained.

    1 is a false alarm, 2 a missed flaw (both sure), 3 gets the wrong name, 4 the wrong evidence;
    of group 5 the sound text is too long, of group 6 the critique does not parse.
    """
    rows = []
    for number in range(groups):
        mechanism = "product" if number in (1, 2, 3) else "anchoring"
        for e in twins(number, SAID.get(number, (0.2, 0.8)), (0, 0)):
            source = f"composer/{e.domain}/family_{number % 3}/{mechanism}"
            rows.append(replace(e, split=split, source=source))
    rows[7] = replace(rows[7], flaw_type="sunk_cost")
    rows[9] = replace(rows[9], evidence="Case 4")
    rows[10] = replace(rows[10], rationale=rows[10].rationale + " too long")
    rows[12] = replace(rows[12], rationale=rows[12].rationale + " mumbles")
    rows[13] = replace(rows[13], rationale=rows[13].rationale + " \u202e<b>anywhere</b>")
    return rows


def recipe_for(folder: Path, rows: list[Example] | None = None) -> Recipe:
    recipe = Recipe()
    write_examples(folder / "data.jsonl", items() if rows is None else rows)
    lessons = [replace(e, id=f"t/{e.id}", split="train") for e in items()[:6]]
    write_examples(folder / "train.jsonl", lessons)
    settings = recipe.errors
    settings.model, settings.data = "a", folder / "data.jsonl"
    settings.train = str(folder / "train.jsonl")
    settings.critiques, settings.batch, settings.slice_items = 50, 4, 4
    settings.out = folder / "reports" / "errors"
    return recipe


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("errors")
    return folder, analyse_errors(recipe_for(folder), load=StandIn)


def test_counts_by_hand(case):
    _, report = case
    found = {kind: row["count"] for kind, row in report["counts"].items()}
    assert found == {"right": 18, "false_positive": 1, "false_negative": 1, "wrong_flaw_type": 1,
                     "poor_explanation": 1, "label": 0, "harness": 2}  # fmt: skip
    assert sum(found.values()) == report["n"] == 24
    assert report["rest"]["items"] == report["rest"]["read"] == 20
    assert report["why"]["poor_explanation"] == {"evidence is elsewhere": 1}
    assert report["why"]["harness"] == {"too long": 1, "unparsed": 1}
    assert report["types"] == [{"flaw_type": "sunk_cost", "called": "small_sample", "count": 1}]
    assert report["doubtful"]["ids"] == ["1/valid", "2/flawed"]
    assert (report["split"], report["steers"], report["written"]) == ("validation", True, 23)


def test_what_can_steer_is_what_is_known_of_every_item(case):
    _, report = case
    assert [(row["id"], row["outcome"], row["mechanism"]) for row in report["items"]] == [
        ("1/valid", "false_positive", "product"), ("2/flawed", "false_negative", "product"),
        ("3/flawed", "wrong_flaw_type", "product"),
    ]  # fmt: skip
    assert report["items"][0]["twin_flaw_type"] == "small_sample"
    assert report["slices"]["worst"][0]["slice"] == {"mechanism": "product"}
    assert (report["slices"]["n"], report["slices"]["misses"]) == (23, 3)


def test_the_line_on_slices_names_what_was_searched(tmp_path):
    """Half of them of a suite: its parts and origins and the source differ, the kind does not."""
    rows = [replace(e, source="adversarial/traps/hand") if e.domain == "medical" else e
            for e in items()]  # fmt: skip
    recipe = recipe_for(tmp_path, rows)
    report = analyse_errors(recipe, load=StandIn)
    assert report["slices"]["axes"] == ["domain", "flaw_type", "source", "mechanism", "suite_part",
                                        "suite_origin", "length", "confidence"]  # fmt: skip
    assert (" items by domain, flaw type, source, mechanism, suite part, suite origin, length, "
            "confidence and pairs of these; ") in slices_line(report)  # fmt: skip
    assert "; none is worse than its rest beyond chance. " in slices_line(report)
    recipe.errors.slices = 0
    assert ("; none was looked at (errors.slices 0), so it is not said whether any is worse. "
            in slices_line(analyse_errors(recipe, load=StandIn)))  # fmt: skip
    assert ".\n\nnone\n\n" in (tmp_path / "reports/errors.md").read_text()


def test_the_files_say_the_same(case):
    folder, report = case
    rows = rows_of(folder / "reports/errors.items.jsonl")
    assert Counter(row["outcome"] for row in rows) == Counter(
        {kind: row["count"] for kind, row in report["counts"].items() if row["count"]}
    )
    assert rows[3]["nearest"][0] == {"id": "t/1/flawed", "similarity": 1.0, "label": "flawed"}
    assert rows[9]["critique"]["overlap"] == 0.0
    assert rows[10]["p_flawed"] is None
    assert json.loads((folder / "reports/errors.json").read_text()) == report
    assert sorted(path.name for path in (folder / "reports").iterdir()) == [
        "errors.html", "errors.items.jsonl", "errors.json", "errors.md"]  # fmt: skip
    assert "| all | 24 |" in (folder / "reports/errors.md").read_text()
    assert report["inputs"].keys() == {str(folder / "data.jsonl"), str(folder / "train.jsonl")}


def test_cards_come_in_turn_and_text_can_do_nothing(case):
    folder, report = case
    assert [card["outcome"] for card in report["cards"]] == [
        "false_positive", "false_negative", "wrong_flaw_type", "poor_explanation", "harness",
        "harness"]  # fmt: skip
    alarm = report["cards"][0]
    assert alarm["confidence"] == 0.95
    assert alarm["otherwise"] is False
    assert "".join(text for text, _ in alarm["pieces"]) == items()[2].rationale
    marked = [text for text, (said, true) in report["cards"][3]["pieces"] if true and not said]
    assert marked == ["Case 4"]
    page = (folder / "reports/errors.html").read_text()
    assert "<u>Case 4</u>" in page
    assert "<mark>all dips recover</mark>" in page
    assert "default-src 'none'" in page
    assert "\u202e" not in page


def test_hidden_marks_in_a_card_stand_as_their_numbers(tmp_path):
    rows = items()
    rows[13] = replace(rows[13], rationale=rows[13].rationale.replace("a=0.8", "a=0.1"))
    analyse_errors(recipe_for(tmp_path, rows), load=StandIn)
    page = (tmp_path / "reports/errors.html").read_text()
    assert '<span class="code">U+202E</span>&lt;b&gt;anywhere' in page


class Cramped(StandIn):
    """Has no room for more than the beginning of a critique behind `snug`, and for none in all."""

    def critique(self, items, *, max_new_tokens=160, batch=8):
        if any("full" in text or ("snug" in text and max_new_tokens > OPENING)
               for _, text in items):  # fmt: skip
            raise TooLongError("expected at most 9 prompt tokens, got 10; shorten it")
        return super().critique(items, max_new_tokens=max_new_tokens, batch=batch)


def test_a_text_that_leaves_no_room_for_a_critique_stops_no_other(case, tmp_path):
    rows = items()
    for place, word in ((15, "full"), (17, "snug"), (18, "snug")):
        rows[place] = replace(rows[place], rationale=f"{rows[place].rationale} {word}")
    report = analyse_errors(recipe_for(tmp_path, rows), load=Cramped)
    _, whole = case
    assert report["why"]["harness"] == {"too long": 4, "unparsed": 1}
    assert report["counts"]["right"]["count"] == whole["counts"]["right"]["count"] - 3
    assert report["written"] == whole["written"] - 3


class Mortal(StandIn):
    """Dies after some calls for critiques, and counts them."""

    calls = 0
    left = 1000

    def critique(self, items, *, max_new_tokens=160, batch=8):
        if Mortal.left == 0:
            raise KeyboardInterrupt
        Mortal.left -= 1
        Mortal.calls += 1
        return super().critique(items, max_new_tokens=max_new_tokens, batch=batch)


@pytest.mark.parametrize("calls", [0, 2, 5])
def test_a_killed_run_goes_on_and_gives_the_same_bytes(case, tmp_path, monkeypatch, calls):
    folder, report = case
    monkeypatch.setattr(Mortal, "left", calls)
    monkeypatch.setattr(Mortal, "calls", 0)
    recipe = recipe_for(folder)
    recipe.errors.out = tmp_path / "errors"
    with pytest.raises(KeyboardInterrupt):
        analyse_errors(recipe, load=Mortal)
    monkeypatch.setattr(Mortal, "left", 1000)
    analyse_errors(recipe, load=Mortal)
    assert Mortal.calls == 3 + 6  # 11 detected flaws and 23 critiques, four at a time
    for ending in ("items.jsonl", "md"):
        assert (tmp_path / f"errors.{ending}").read_bytes() == (
            folder / f"reports/errors.{ending}").read_bytes().replace(
                str(folder / "reports").encode(), str(tmp_path).encode())  # fmt: skip
    assert {p.name.split(".")[-1] for p in tmp_path.iterdir()} == {"html", "jsonl", "json", "md"}
    assert len(list(tmp_path.iterdir())) == 4
    assert report["counts"] == json.loads((tmp_path / "errors.json").read_text())["counts"]


def test_a_sample_of_the_rest_is_drawn_by_seed(tmp_path):
    recipe = recipe_for(tmp_path)
    recipe.errors.critiques = 5
    report = analyse_errors(recipe, load=StandIn)
    row = report["rest"]["poor_explanation"]["all"]
    assert (row["items"], row["read"], report["written"]) == (20, 5, 8)
    assert row["low"] <= row["value"] <= row["high"] <= 20
    again = analyse_errors(recipe, load=StandIn)
    assert again["counts"] == report["counts"]


def test_names_of_flaws_fit_into_the_opening(tiny: Base):
    encoder = Encoder(load_tokenizer(tiny))
    longest = max(len(encoder.ids(f"\nFlaw: {name}\n")) for name in FLAW_TYPES)
    assert longest <= OPENING


def with_judge(recipe: Recipe, server: ScriptedServer) -> Recipe:
    settings = recipe.errors
    settings.judge, settings.judge_model, settings.url = "openai", "m", server.url
    return recipe


def spoken(rows: list[Example], also: tuple[str, ...] = ()) -> list[Example]:
    """Flawed texts get the word by which the scripted judge knows them, and those of `also`."""
    return [
        replace(e, rationale=e.rationale + " anywhere")
        if (e.label == "flawed" and e.id != "2/flawed") or e.id in also else e
        for e in rows
    ]  # fmt: skip


def test_a_judge_who_knows_the_others_may_speak_against_a_label(tmp_path, monkeypatch):
    """The judge calls the missed flaw 2 sound, as the critic does; the false alarm 1, too."""
    monkeypatch.setenv("NO_PROXY", "*")
    with ScriptedServer() as server:
        recipe = with_judge(recipe_for(tmp_path, spoken(items())), server)
        report = analyse_errors(recipe, load=StandIn)
        asked = server.counted["requests"]
        analyse_errors(recipe, load=StandIn)
        assert server.counted["requests"] == asked == 22  # nothing is asked twice
    counts = {kind: row["count"] for kind, row in report["counts"].items()}
    assert (counts["label"], counts["false_negative"], counts["false_positive"]) == (1, 0, 1)
    assert sum(counts.values()) == 24
    assert report["doubtful"]["ids"] == ["1/valid"]
    assert (report["doubtful"]["control"]["n"], report["doubtful"]["control"]["value"]) == (20, 1.0)
    assert "2/flawed" not in {row["id"] for row in report["items"]}
    assert "1 labels are laid aside" in (tmp_path / "reports/errors.md").read_text()
    opinions = tmp_path / "reports/errors.opinions.jsonl"
    assert {row["id"]: row["verdict"] for row in rows_of(opinions)}["2/flawed"] == "valid"
    recipe.errors.judge, recipe.errors.opinions = "none", opinions
    recipe.errors.out = tmp_path / "again" / "errors"
    again = analyse_errors(recipe, load=StandIn)
    assert again["counts"] == report["counts"]


def test_a_judge_who_contradicts_the_other_labels_is_believed_nowhere(tmp_path, monkeypatch):
    """Without the word the judge calls every text sound: half of the control is contradicted."""
    monkeypatch.setenv("NO_PROXY", "*")
    with ScriptedServer() as server:
        report = analyse_errors(with_judge(recipe_for(tmp_path), server), load=StandIn)
    assert report["counts"]["label"]["count"] == 0
    assert report["doubtful"]["ids"] == ["1/valid", "2/flawed"]
    assert not report["doubtful"]["trusted"]
    assert ("so it is not believed (needed: 75% of 10, and more than the 10 with which one label "
            "for all agrees)") in (tmp_path / "reports/errors.md").read_text()  # fmt: skip


def test_a_judge_without_answers_lays_nothing_aside(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with ScriptedServer(lambda body, attempt: "unparsed") as server:
        report = analyse_errors(with_judge(recipe_for(tmp_path), server), load=StandIn)
    assert (report["doubtful"]["unanswered"], report["doubtful"]["asked"]) == (22, 22)
    assert report["counts"]["label"]["count"] == 0


def test_what_a_person_says_of_doubtful_labels(tmp_path):
    recipe = recipe_for(tmp_path)
    path = recipe.errors.opinions = tmp_path / "said.jsonl"
    path.write_text('{"id": "2/flawed", "verdict": "valid", "by": "ann"}\n')
    report = analyse_errors(recipe, load=StandIn)
    assert report["counts"]["label"]["count"] == 1
    assert report["doubtful"]["by"] == "ann"
    for line, message in (
        ('{"id": "2/flawed", "verdict": "maybe"}\n', r"said.jsonl:1: expected id and verdict"),
        ('{"id": "a", "verdict": "valid"}\n' * 2, r"said.jsonl:2: expected one opinion on an item"),
        ("no json\n", r"said.jsonl:1: expected JSON"),
    ):
        path.write_text(line)
        with pytest.raises(ValueError, match=message):
            analyse_errors(recipe, load=StandIn)


def test_the_loop_closes(case, tmp_path):
    """What was got wrong is what the composer then makes more of."""
    folder, report = case
    errors = folder / "reports/errors.json"
    shares = mechanism_shares(errors)
    assert report["judged"] == {"anchoring": 17, "product": 6}  # one of them is too long to read
    told = {"product": 1.0, "anchoring": LEAST}  # 4 / 8, 1 / 19, doubled; of others the mean
    assert shares == pytest.approx(dict.fromkeys(shares, (1 + LEAST) / 2) | told)
    assert cell_weights(errors) == {("trading", "small_sample"): 1.0, ("trading", "sunk_cost"): 1.0,
                                    ("medical", "small_sample"): 1.0}  # fmt: skip
    made = []
    for focus in (errors, None):
        out = tmp_path / f"hard-{focus is None}"
        make_hard(Recipe(hard=HardConfig(focus=focus, count=400, out=out)))
        rows = read_examples(out / "train.jsonl").examples
        made.append(Counter(e.source.split("/")[3] for e in rows))
    focused, even = made
    assert focused["product"] >= even["product"] > 0
    assert focused["product"] * even["anchoring"] >= 3 * even["product"] * focused["anchoring"]
    assert 0 < even["anchoring"] >= 2 * focused["anchoring"]


def test_errors_on_test_items_may_be_read_but_do_not_steer(tmp_path):
    recipe = recipe_for(tmp_path, items("test"))
    recipe.errors.split = "test"
    report = analyse_errors(recipe, load=StandIn)
    assert (report["split"], report["steers"]) == ("test", False)
    page = (tmp_path / "reports/errors.md").read_text()
    assert "Nothing of this may steer training" in page
    assert "make hard" not in page
    with pytest.raises(ValueError, match="what is tested on must not steer training"):
        mechanism_shares(tmp_path / "reports/errors.json")


@pytest.mark.parametrize(("change", "message"), [
    ({"split": "calibration"}, r"data.jsonl: expected rows of split calibration, got none of 24"),
    ({"overlap": 1.5}, r"errors.overlap: expected a share from 0 to 1, got 1.5"),
    ({"max_new_tokens": 3}, r"errors.max_new_tokens: expected 16 or more, got 3"),
    ({"train": "nowhere.jsonl"}, r"errors.train: expected training files, got no nowhere.jsonl"),
    ({"judge": "openai", "opinions": Path("x")}, r"expected a judge or a file of opinions"),
    ({"judge": "anthropic"}, r"errors.judge_model: expected the name of a model of anthropic"),
])  # fmt: skip
def test_settings_that_will_not_do_are_refused_first(tmp_path, change, message):
    recipe = recipe_for(tmp_path)
    for name, value in change.items():
        setattr(recipe.errors, name, value)
    with pytest.raises(ValueError, match=message):
        analyse_errors(recipe, load=lambda model: pytest.fail("too late"))


def test_without_training_files_there_are_no_neighbours(tmp_path):
    recipe = recipe_for(tmp_path)
    recipe.errors.train = None
    report = analyse_errors(recipe, load=StandIn)
    assert report["neighbours"]["training_rows"] == 0
    assert "No training file was looked through" in (tmp_path / "reports/errors.md").read_text()


def test_a_critic_without_errors(tmp_path):
    rows = [e for e in items() if e.group not in "123456"]
    report = analyse_errors(recipe_for(tmp_path, rows), load=StandIn)
    assert report["counts"]["right"]["count"] == report["n"] == len(rows)
    assert report["slices"]["worst"] == report["cards"] == []
    assert "There is nothing to make more of" in (tmp_path / "reports/errors.md").read_text()


def test_the_command_with_a_real_critic(tmp_path, tiny: Base, capsys):
    recipe = recipe_for(tmp_path)
    out = tmp_path / "cli" / "errors"
    command = ["errors", "--config", "tiny", "--base.folder", str(tiny.folder.parent),
               "--errors.model", "tiny", "--errors.data", str(recipe.errors.data),
               "--errors.train", str(recipe.errors.train), "--errors.max_new_tokens", "16",
               "--errors.out", str(out)]  # fmt: skip
    assert main(command) == 0
    assert "# What the critic gets wrong" in capsys.readouterr().out
    report = json.loads(Path(f"{out}.json").read_text())
    assert sum(row["count"] for row in report["counts"].values()) == 24
    assert report["critic"]["name"] == "tiny"
    assert main([*command, "--errors.data", str(tmp_path / "none.jsonl")]) == 1
    assert "expected a file, got none" in capsys.readouterr().err


def test_the_hash_of_the_items_is_that_of_what_was_read(tmp_path):
    recipe = recipe_for(tmp_path)
    path = tmp_path / "data.jsonl"
    before = sha256_file(path)
    report = analyse_errors(recipe, load=growing(path))
    assert report["inputs"][path.as_posix()] == before != sha256_file(path)
    assert set(report["inputs"]) == {path.as_posix(), recipe.errors.train}
