"""The benchmark on eight items whose numbers are derived by hand, and how it fails and resumes."""

import json
import logging
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minicrit import tables
from minicrit.benchmark import benchmark
from minicrit.config import Recipe
from minicrit.files import sha256_file
from minicrit.report import write_report
from tests.minicrit.benchmark_case import (
    StandIn,
    changed,
    growing,
    lasting,
    many,
    recipe,
    small,
    twins,
)


def run(made: Recipe, load: Callable[[str], Any] = StandIn, draws: int = 30) -> dict[str, Any]:
    return benchmark(made, load=load, draws=draws)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(recipe(tmp_path_factory.mktemp("bench")))


def test_metrics_by_hand(report: dict[str, Any]) -> None:
    """Critic a at 0.5: one valid item flagged (.6), one flawed one passed (.4), six right.

    F1 = 3/4; AUROC: of 16 pairs only .4 < .6 is wrong; Brier: (1+1+36+4+4+36+9+9)/100/8 = .125.
    """
    metrics = report["judges"]["model_1"]["metrics"]
    value = {name: entry["value"] for name, entry in metrics.items()}
    assert value["f1"] == value["recall"] == value["precision"] == value["accuracy"] == 0.75
    assert (value["fpr"], value["twin_consistency"]) == (0.25, 0.5)
    assert (value["auroc"], value["brier"]) == (0.9375, 0.125)
    # 2 pi R / (pi (1 + R) + (1 - pi) FPR) = .15 / (.175 + .225) at pi = .1
    assert (value["f1_at_50"], value["f1_at_10"]) == (0.75, 0.375)
    assert {k: metrics[k]["n"] for k in ("f1", "fpr", "recall", "precision", "twin_consistency")} \
        == {"f1": 8, "fpr": 4, "recall": 4, "precision": 4, "twin_consistency": 4}  # fmt: skip


def test_intervals_are_named_and_the_widest_is_shown(report: dict[str, Any]) -> None:
    """Wilson at 1 of 4 is [.0456, .6994]."""
    fpr = report["judges"]["model_1"]["metrics"]["fpr"]
    assert list(fpr["intervals"]) == ["wilson", "by group", "by family"]
    assert fpr["intervals"]["wilson"] == pytest.approx([0.0456, 0.6994], abs=1e-4)
    assert fpr["low"] == min(low for low, _ in fpr["intervals"].values())
    assert fpr["high"] == max(high for _, high in fpr["intervals"].values())


@pytest.mark.parametrize("name", ["limit", "critiques", "latency_items"])
def test_fewer_than_none_is_refused_before_anything_is_loaded(tmp_path: Path, name: str) -> None:
    made = recipe(tmp_path)
    setattr(made.benchmark, name, -1)
    with pytest.raises(ValueError, match=rf"benchmark\.{name}: expected 0 or more, got -1"):
        run(made, load=pytest.fail)


def test_a_margin_that_shows_nothing_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    made.benchmark.margin = 0.0
    with pytest.raises(ValueError, match=r"benchmark\.margin: expected more than 0, got 0;"):
        run(made, load=pytest.fail)


def test_facts_and_constants(report: dict[str, Any]) -> None:
    """Half flawed: `always flawed` has F1 2/3; a tied majority says valid."""
    facts = report["items"]
    assert (facts["n"], facts["flawed"], facts["groups"], facts["families"]) == (8, 4, 4, 2)
    assert (facts["twins"], facts["seen_by_words"], facts["prevalence"]) == (4, 0, 0.5)
    assert report["constants"]["always_flawed"]["f1"] == pytest.approx(2 / 3, abs=1e-6)
    assert report["constants"]["majority"]["recall"] == 0


def test_items_that_a_critic_may_know_are_told(tmp_path: Path, caplog: Any) -> None:
    """On the rows that its threshold was certified on, a critic keeps its limit by construction."""
    split = ["calibration"] * 3 + ["train"] * 2 + ["test"] * 3
    rows = [replace(e, split=name) for e, name in zip(small(), split, strict=True)]
    made = recipe(tmp_path, rows)
    made.benchmark.split = "all"
    assert run(made)["items"]["known"] == {"calibration": 3, "train": 2}
    said = "Known items: 3 of split calibration, 2 of split train. Critics learn from such rows"
    assert said in caplog.text
    assert said in made.benchmark.out.with_suffix(".md").read_text()
    write_report(made)
    assert said in (made.benchmark.out.parent / "index.html").read_text()


def test_comparison_by_hand(report: dict[str, Any]) -> None:
    """Critic b is right on .2 .6 .3 .8 only (4 of 8), a on 6 of 8, both on .1|.2, .9|.6.

    Only a: g1 flawed, g3 valid, g3 flawed, g2 valid; only b: g1 valid, g2 flawed; p = 2 P(Bin(6,
    1/2) <= 2) = 44/64. F1 of b: tp 2, fp 2, fn 2 gives 1/2.
    """
    pair = report["pairs"][0]
    assert (pair["a"], pair["b"], pair["n"]) == ("model_1", "model_2", 8)
    assert (pair["only_a_right"], pair["only_b_right"]) == (4, 2)
    assert pair["mcnemar_p"] == 0.6875
    assert pair["differences"]["f1"]["value"] == 0.25
    assert pair["discordance"] == 0.75
    assert [(p["a"], p["b"]) for p in report["pairs"][1:]] == [("model_1", "words"),
                                                               ("model_2", "words")]  # fmt: skip


def test_slices_by_hand(report: dict[str, Any]) -> None:
    """Groups 0 and 2 are medical, 1 and 3 trading."""
    found = report["judges"]["model_1"]["slices"]
    assert found["domain"]["medical"]["recall"]["value"] == 0.5
    assert found["domain"]["trading"]["fpr"]["value"] == 0.5
    assert found["flaw_type"]["small_sample"]["fpr"] is None
    assert found["mechanism"]["sampling"]["n"] == found["source"]["composer"]["n"] == 8


def test_critiques_by_hand(report: dict[str, Any]) -> None:
    """Two flawed and two valid items in a seeded order; quoted evidence is that of the reference.

    `Most dips recover.` does not hold it, so a flagged valid item quotes what is not there.
    """
    found = report["judges"]["model_1"]["critiques"]
    assert [s["label"] for s in found["samples"]] == ["flawed", "valid"] * 2
    said = [s for s in found["samples"] if s["verdict"] == "flawed"]
    hits = [s for s in said if s["label"] == "flawed"]
    assert found["parsed"]["value"] == found["text_agrees_with_readout"]["value"] == 1
    assert found["flaw_type_right"]["value"] == len(hits) / 2
    # one type occurs: its F1 is 2 hits / (said + true) = 2 h / (h + 2)
    assert found["flaw_type_macro_f1"] == {
        "value": pytest.approx(2 * len(hits) / (len(hits) + 2), abs=1e-6), "n": 2}  # fmt: skip
    overlap = found["evidence_overlap"]
    assert (overlap["value"], overlap["n"]) == (len(hits) / 2, 2)
    wilson = 0.342380  # of 2 of 2 by hand: 1 / (1 + 1.96^2 / 2)
    assert (found["parsed"]["low"], found["parsed"]["high"]) == (pytest.approx(0.5101, abs=1e-4), 1)
    if len(hits) == 2:
        assert overlap["low"] == pytest.approx(wilson)
    assert found["evidence_verbatim"]["n"] == len(said)


def test_what_can_be_found_is_said_before_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Before any model is loaded, and again in the report."""
    made = recipe(tmp_path, many())

    def load(name: str) -> StandIn:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.INFO):
        run(made, load)
    assert "100 items; if two judges disagree on 20 % of them, a difference in accuracy of 12." \
        in caplog.text  # fmt: skip
    page = made.benchmark.out.with_name("benchmark.md")
    assert run(made)["detectable"]["gap"] == pytest.approx(0.125, abs=0.005)
    assert "can be found with 80 % power" in page.read_text()


def test_cost_and_half_threshold_by_hand(tmp_path: Path) -> None:
    """Critic a at .65: .4 is missed, a medium flaw, cost 2, no false alarm; at .5 also .6 flagged.

    F1 at .65: tp 3, fn 1, fp 0: 6/7; the cost of 8 items is 2/8.
    """
    report = run(recipe(tmp_path), lambda name: StandIn(name, threshold=0.65))
    metrics = report["judges"]["model_1"]["metrics"]
    value = {name: entry["value"] for name, entry in metrics.items()}
    assert (value["f1"], value["cost"]) == (pytest.approx(6 / 7, abs=1e-6), 0.25)
    assert (value["f1_threshold_half"], value["fpr_threshold_half"]) == (0.75, 0.25)
    assert value["recall_threshold_half"] == 0.75
    assert report["judges"]["model_1"]["operating_point"]["fpr"]["value"] == 0


def test_written_again_to_the_byte_and_readable(tmp_path: Path) -> None:
    """Everything but the measured part; partial scores are gone."""
    made = recipe(tmp_path)
    files = [made.benchmark.out.with_name(f"benchmark.{end}") for end in ("items.jsonl", "json")]
    first = lasting(run(made))
    items = files[0].read_bytes()
    assert lasting(run(made)) == first
    assert files[0].read_bytes() == items
    assert lasting(json.loads(files[1].read_text())) == first
    row = json.loads(items.splitlines()[1])
    assert (row["id"], row["label"], row["p_1"], row["p_2"]) == ("0/flawed", "flawed", 0.9, 0.6)
    page = made.benchmark.out.with_name("benchmark.md").read_text()
    assert "0.250 [" in page
    assert "by family" in page
    assert "must not move" not in page  # no item is a change of another
    assert sorted(p.name for p in files[0].parent.iterdir()) == [
        "benchmark.items.jsonl", "benchmark.json", "benchmark.md"]  # fmt: skip


@pytest.mark.parametrize(("types", "label"), [
    (False, "verdicts a second in batches"), (True, "verdicts with flaw types a second in batches"),
])  # fmt: skip
def test_speed_says_whether_flaw_types_were_read_too(
    tmp_path: Path, types: bool, label: str
) -> None:
    made = recipe(tmp_path)
    made.benchmark.types = types
    rows = {row[0]: row[1:] for row in tables.measured_rows(run(made))[1]}
    assert [name for name in rows if "a second in batches" in name] == [label]
    assert all(float(cell) > 0 for cell in rows[label])


def test_one_model_in_memory_at_a_time(tmp_path: Path) -> None:
    """When the second is loaded nothing holds the first."""
    alive: list[weakref.ref[StandIn]] = []

    def load(name: str) -> StandIn:
        assert all(ref() is None for ref in alive)
        critic = StandIn(name)
        alive.append(weakref.ref(critic))
        return critic

    run(recipe(tmp_path), load)
    assert len(alive) == 2


def test_unscored_items_are_counted_not_guessed(tmp_path: Path) -> None:
    """One of 104 is too long and one undefined: the rest is measured, twins of 49 groups.

    Of four changes a moves the first and has no p of what the last is a change of; b moves the last
    two. The last one makes the 49th twin, as its group has a valid item with a p.
    """
    odd = [*twins(50, ("nan", 0.9), (0.2, 0.8)), *twins(51, ("0.1 too long", 0.9), (0.2, 0.8))]
    valid, flawed, *_ = items = many()[:96]
    turned = [changed(valid, "polite", 0.6, 0.2), changed(valid, "slip", 0.2, 0.2),
              changed(flawed, "polite", 0.9, 0.4), changed(odd[0], "slip", 0.1, 0.7)]  # fmt: skip
    made = recipe(tmp_path, [*items, *odd, *turned])
    report = run(made, draws=5)
    judge = report["judges"]["model_1"]
    assert (judge["n"], judge["unscored"]) == (102, {"too long": 1, "undefined p": 1})
    assert judge["metrics"]["twin_consistency"]["n"] == 49
    assert report["judges"]["model_2"]["unscored"] == {"too long": 1}
    assert report["pairs"][0]["n"] == 102
    assert judge["metamorphic"]["left_out"] == {"unscored": 0, "no_scored_base": 1}
    page = made.benchmark.out.with_name("benchmark.md").read_text()
    shown = page[page.index("## Changes that must not move the verdict") :]
    assert "| all changes | 0.333 [0.061, 0.792] n=3 | 0.500 [" in shown
    assert "| slip | 0.000 [0.000, 0.793] n=1 | 0.500 [0.095, 0.905] n=2 |" in shown
    assert "| left out: no verdict on the text as it was | 1 | 0 | 0 |" in shown
    assert "| critic a against critic b | 3 | 1 | 1 | 1.0000 |" in shown
    rows = [
        json.loads(x) for x in Path(f"{made.benchmark.out}.items.jsonl").read_text().splitlines()
    ]
    assert [r["id"] for r in rows if r["p_1"] is None] == ["50/valid", "51/valid"]


def test_too_many_unscored_fail(tmp_path: Path) -> None:
    """One of eight is more than 5 %."""
    made = recipe(tmp_path, [*small()[:6], *twins(3, ("nan", 0.9), (0.2, 0.8))])
    with pytest.raises(ValueError, match=r"at most 5% unscored.*got 1 of 8 \(1 undefined p\)"):
        run(made)


def test_unparsed_critiques_are_misses_with_reasons(tmp_path: Path) -> None:
    """'No flaw found.' is no verdict."""
    mumbling = [e for n in range(3) for e in twins(n, ("0.1 mumbles", "0.9 mumbles"), (0.2, 0.8))]
    made = recipe(tmp_path, mumbling)
    report = run(made, draws=5)
    found = report["judges"]["model_1"]["critiques"]
    assert found["parsed"]["value"] == 0
    # two shares are of what parsed, of which there is nothing, and the page names them
    none = {name for name in tables.SHARES if found[name]["n"] == 0}
    assert none == {"text_agrees_with_readout", "evidence_verbatim"}
    page = " ".join(Path(f"{made.benchmark.out}.md").read_text().split())
    assert ("but not in two rows: whether text and readout agree is a share of what parsed, and "
            "evidence word for word of what quotes any") in page  # fmt: skip
    assert found["flaw_type_right"]["value"] == found["evidence_overlap"]["value"] == 0
    (reason,) = found["unparsed_reasons"]
    assert reason.startswith("line 1: expected 'Verdict: valid'")
    assert found["unparsed_reasons"][reason] == 4


def test_limit_keeps_whole_groups(tmp_path: Path) -> None:
    """At most 5 items are two twins, the same on every run; one item is no group."""
    made = recipe(tmp_path)
    made.benchmark.limit = 5
    made.benchmark.model_2 = None
    report = run(made, draws=5)
    assert (report["items"]["n"], report["items"]["twins"]) == (4, 2)
    assert report["items"]["left_out"] == {"other_split": 0, "limit": 4}
    assert "p_2" not in Path(f"{made.benchmark.out}.items.jsonl").read_text()
    made.benchmark.limit = 1
    with pytest.raises(ValueError, match=r"room for a whole group, got 1; .* 2 items"):
        run(made)


def test_own_threshold_is_used_and_half_shown_beside_it(tmp_path: Path) -> None:
    """At .65, critic a: no false positive, still one miss: F1 = 6/7; at .5 it stays .75."""
    report = run(recipe(tmp_path), lambda name: StandIn(name, threshold=0.65), draws=5)
    metrics = report["judges"]["model_1"]["metrics"]
    assert metrics["f1"]["value"] == pytest.approx(6 / 7, abs=1e-6)
    assert (metrics["f1_threshold_half"]["value"], metrics["fpr"]["value"]) == (0.75, 0)
    assert metrics["fpr"]["high"] > 0.4  # the bootstrap sees no spread; Wilson does


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("split", "tset", r"benchmark.split: expected train, .* or all, got 'tset'"),
        ("split", "train", r"expected rows of split train, got none of 8"),
        ("data", "{0}/test.jsonl,{0}/test.jsonl", r"expected each id once .* got 8 twice"),
        ("words_data", "{0}/test.jsonl", r"expected rows of split train, got none"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, value: str, message: str) -> None:
    """Before any model is asked for its scores, or after, with the remedy."""
    made = recipe(tmp_path)
    text = value.format(tmp_path)
    setattr(made.benchmark, name, Path(text) if name == "words_data" else text)
    with pytest.raises(ValueError, match=message):
        run(made)


def test_with_a_real_critic(tmp_path: Path, tiny_folder: Path) -> None:
    """The tiny base, loaded as any base: every item scored, repeated to the byte."""
    made = recipe(tmp_path)
    made.base.folder = tiny_folder
    made.benchmark.model_1, made.benchmark.model_2 = "tiny", None
    made.benchmark.critiques, made.benchmark.max_new_tokens = 2, 8
    report = benchmark(made, draws=5)
    judge = report["judges"]["model_1"]
    assert (judge["n"], judge["name"], judge["threshold"]) == (8, "tiny", 0.5)
    assert report["measured"]["model_1"]["verdict_ms"]["p50"] > 0
    assert lasting(benchmark(made, draws=5)) == lasting(report)


def test_the_hash_of_the_items_is_that_of_what_was_read(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    path = Path(made.benchmark.data)
    before = sha256_file(path)
    report = run(made, load=growing(path))
    assert report["inputs"][path.as_posix()] == before != sha256_file(path)
