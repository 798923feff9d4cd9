"""From a store to training data: labels, pairs, what is left out, the firewall, the manifest."""

import json
from pathlib import Path

import pytest

from data_gen.feedback import labelled, make_feedback
from data_gen.feedback_rows import REWRITE, VERDICT, kept_out
from data_gen.verify import verify
from minicrit.cli import main
from minicrit.config import Recipe
from minicrit.feedback.entries import group_of
from minicrit.feedback.opinions import cases_of
from minicrit.feedback.store import FeedbackStore
from minicrit.feedback_config import FeedbackConfig
from minicrit.manifest import check_outputs, read_manifest
from minicrit.prompts import parse_critique
from minicrit.records import Example, Preference, read_examples, write_examples

SUBJECTS = ("harbour crane", "pollen count", "payroll system", "bridge deck", "tram line",
            "seed order", "night shift", "fuel pump", "radio mast", "grain store", "ferry fare",
            "dam gate", "wage claim", "paint batch", "glass kiln", "coal yard", "fish farm",
            "mail room", "ski lift", "toll road")  # fmt: skip
WRITTEN = {"label": "flawed", "p_flawed": 0.9, "threshold": 0.5, "flaw_type": "small_sample",
           "severity": "high", "evidence": {"text": "it failed twice", "start": 30, "end": 45},
           "critique": "Two failures are few.", "fix": "Count them for a year."}  # fmt: skip
PASSED = {"label": "valid", "p_flawed": 0.1, "threshold": 0.5, "critique": "It follows."}
BARE = {"label": "flawed", "p_flawed": 0.9, "threshold": 0.5}


def text_of(n):
    subject = SUBJECTS[n % len(SUBJECTS)]
    return (f"We looked at the {subject} because it failed twice in week {n}, and the crew that "
            f"runs the {subject} says the cause is still not known to them.")  # fmt: skip


def numbers(*, held_out):
    return [n for n in range(400) if kept_out(group_of("general", text_of(n)), 0.1) is held_out]


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A recipe, and a way to fill its store: (number, result, decisions) each."""
    monkeypatch.chdir(tmp_path)
    recipe = Recipe()

    def fill(*rows):
        with FeedbackStore(recipe.feedback.store) as store:
            for n, result, decisions in rows:
                name = f"r{len(list(store.requests()))}"
                store.add_request(name, "general", text_of(n), result)
                for operator, decision, more in decisions:
                    store.add_decision(name, decision, operator, **more)

    return recipe, fill, tmp_path / "data/operators"


def rows_of(path: Path):
    return [json.loads(line) for line in path.read_text().splitlines()]


TRAIN = numbers(held_out=False)
HELD = numbers(held_out=True)


def test_decisions_become_examples(made):
    recipe, fill, out = made
    a, b, c, d, e = TRAIN[:5]
    fill(
        (a, WRITTEN, [("ann", "agree", {})]),
        (b, WRITTEN, [("ann", "disagree", {})]),
        (c, WRITTEN, [("ann", "correct", {"flaw_type": "missing_alternative",
                                          "evidence": {"start": 0, "end": 13}})]),
        (d, PASSED, [("ann", "disagree", {"flaw_type": "stale_evidence"})]),
        (e, WRITTEN, [("ann", "correct", {"critique": "Twice is\r\nnot often."})]),
        (HELD[0], WRITTEN, [("ann", "agree", {})]),
    )  # fmt: skip
    make_feedback(recipe)
    examples = {e.rationale: e for e in read_examples(out / "examples/feedback.jsonl").examples}
    agreed, wrong, mended, missed, rewritten = (examples[text_of(n)] for n in (a, b, c, d, e))
    assert (agreed.label, agreed.flaw_type, agreed.severity) == ("flawed", "small_sample", "high")
    assert (agreed.evidence, agreed.critique) == ("it failed twice", "Two failures are few.")
    assert (wrong.label, wrong.flaw_type, wrong.critique, wrong.evidence) == ("valid",) + (
        None,
    ) * 3
    assert (mended.flaw_type, mended.severity) == ("missing_alternative", "medium")
    assert (mended.evidence, mended.critique, mended.fix) == ("We looked at ", None, None)
    assert (missed.label, missed.flaw_type) == ("flawed", "stale_evidence")
    assert rewritten.critique == "Twice is\nnot often."
    assert agreed.group == group_of("general", text_of(a))
    (held,) = read_examples(out / "holdout.jsonl").examples
    assert (held.rationale, held.split) == (text_of(HELD[0]), "validation")
    assert {e.split for e in examples.values()} == {"train"}


def test_pairs_prefer_what_operators_wrote_and_the_right_verdict(made):
    recipe, fill, out = made
    a, b, c, d = TRAIN[:4]
    fill(
        (a, WRITTEN, [("ann", "correct", {"critique": "Twice is not often."})]),
        (b, BARE, [("ann", "disagree", {})]),
        (c, WRITTEN, [("ann", "disagree", {}), ("bob", "disagree", {})]),
        (c, PASSED, [("ann", "agree", {})]),  # the right verdict, with its critique
        (d, BARE, [("ann", "correct", {"critique": "New words."})]),
        (HELD[0], WRITTEN, [("ann", "correct", {"critique": "Not learnt from."})]),
    )
    make_feedback(recipe)
    pairs = [Preference.from_row(row) for row in rows_of(out / "pairs.jsonl")]
    by_text = {pair.rationale: pair for pair in pairs}
    assert len(pairs) == 3
    rewrite, verdict, known = (by_text[text_of(n)] for n in (a, b, c))
    assert (rewrite.scorer, verdict.scorer, known.scorer) == (REWRITE, VERDICT, VERDICT)
    assert parse_critique(rewrite.chosen).critique == "Twice is not often."
    assert parse_critique(rewrite.chosen).flaw_type == "small_sample"
    assert parse_critique(rewrite.rejected).critique == "Two failures are few."
    assert (verdict.chosen, verdict.rejected) == ("Verdict: valid", "Verdict: flawed")
    assert parse_critique(known.chosen).critique == "It follows."
    assert parse_critique(known.rejected).label == "flawed"
    aside = rows_of(out / "disputed.removed.jsonl")
    assert [row["reason"] for row in aside] == ["nothing to compare with"]


def test_what_an_operator_took_back_teaches_nothing(made):
    """Ann rewrote a critique, then changed her mind; the others agree with the critic's own."""
    recipe, fill, out = made
    more = {"critique": "Taken back.", "flaw_type": "missing_alternative"}
    fill((TRAIN[0], WRITTEN, [("ann", "correct", more), ("ann", "disagree", {}),
                              ("bob", "agree", {}), ("cid", "agree", {})]))  # fmt: skip
    make_feedback(recipe)
    (example,) = read_examples(out / "examples/feedback.jsonl").examples
    assert (example.label, example.flaw_type) == ("flawed", "small_sample")
    assert example.critique == "Two failures are few."
    assert rows_of(out / "pairs.jsonl") == []
    (aside,) = rows_of(out / "disputed.removed.jsonl")
    assert aside["reason"] == "taken back by its operator"


def test_what_operators_do_not_agree_on_is_left_out_and_kept(made):
    recipe, fill, out = made
    recipe.feedback.least_agreement = 0.7
    a, b, c, d = TRAIN[:4]
    fill(
        (a, WRITTEN, [("ann", "agree", {}), ("bob", "disagree", {})]),
        (b, WRITTEN, [("ann", "agree", {}), ("bob", "agree", {}), ("cid", "disagree", {})]),
        (c, WRITTEN, [("ann", "agree", {}), ("ann", "disagree", {})]),  # changed her mind
        (d, WRITTEN, [("ann", "correct", {"label": "valid", "critique": "Fine."}),
                      ("bob", "disagree", {}), ("cid", "disagree", {}), ("dan", "agree", {})]),
    )  # fmt: skip
    make_feedback(recipe)
    aside = rows_of(out / "disputed.removed.jsonl")
    assert [(row["reason"], len(row["votes"])) for row in aside] == [
        ("tie", 2),
        ("disagreement", 3),
    ]
    report = json.loads((out / "report.json").read_text())
    assert report["left_out"] == {"tie": 1, "disagreement": 1}
    assert report["labelled"] == {"valid": 2}
    assert report["rationales"] == sum(report["labelled"].values()) + sum(
        report["left_out"].values()
    )
    assert len(rows_of(out / "decisions.journal.jsonl")) == report["decisions"] == 11
    recipe.feedback.least_operators = 2
    make_feedback(recipe)
    assert json.loads((out / "report.json").read_text())["left_out"] == {
        "tie": 1, "disagreement": 1, "too few operators": 1}  # fmt: skip


def test_of_two_who_contradict_each_other_neither_is_trusted():
    """All labels that they settle are those on which they agree."""
    rows = [
        {"unit": str(n), "operator": name, "label": label, "id": n}
        for n in range(20)
        for name, label in (("ann", "flawed"), ("bob", "flawed" if n < 3 else "valid"))
    ]
    found = labelled(cases_of(rows), FeedbackConfig())
    assert (len(found.settled), found.distrusted) == (3, ["ann", "bob"])
    assert labelled(cases_of(rows[:20]), FeedbackConfig(least_right=0.3)).distrusted == []


def test_careless_operators_are_weighed_and_their_words_are_not_taken(made):
    recipe, fill, out = made
    rows = []
    for n in TRAIN[:16]:
        careless = "disagree" if n % 4 else "agree"
        more = {"critique": "careless words"} if careless == "agree" else {}
        rows.append((n, WRITTEN, [("ann", "agree", {}), ("bob", "agree", {}),
                                  ("cid", "correct" if more else careless, more)]))  # fmt: skip
    fill(*rows)
    make_feedback(recipe)
    report = json.loads((out / "report.json").read_text())
    assert report["weighed"]
    assert report["distrusted"] == ["cid"]
    assert report["error_rates"]["cid"]["right_on_flawed"] < 0.5
    assert report["error_rates"]["ann"]["right_on_flawed"] > 0.9
    assert report["labelled"] == {"flawed": 16}
    assert report["pairs"] == {}
    assert report["left_out"] == {"operator is not trusted": sum(n % 4 == 0 for n in TRAIN[:16])}
    assert report["among"]["kappa"]["ann / bob"]["n"] == 16
    examples = read_examples(out / "examples/feedback.jsonl").examples
    assert {e.critique for e in examples} <= {None, "Two failures are few."}
    assert any(e.critique for e in examples)


def test_strengths_that_the_critic_wrote_are_taken_from_its_text(made):
    recipe, fill, out = made
    text = "Verdict: valid\nStrengths: All twelve were counted.\nCritique: It follows."
    whole = {**PASSED, "text": text}
    a, b = TRAIN[:2]
    fill((a, whole, [("ann", "agree", {})]),
         (b, whole, [("ann", "disagree", {"flaw_type": "small_sample", "critique": "Too few."})]),
         (HELD[0], WRITTEN, [("ann", "agree", {})]))  # fmt: skip
    make_feedback(recipe)
    rows = read_examples(out / "examples/feedback.jsonl").examples
    assert {e.rationale: e.strengths for e in rows}[text_of(a)] == "All twelve were counted."
    (pair,) = [Preference.from_row(row) for row in rows_of(out / "pairs.jsonl")]
    assert pair.rejected == text


def test_nothing_that_is_measured_on_is_trained_on(made, capsys):
    recipe, fill, out = made
    a, b = TRAIN[:2]
    write_examples("test.jsonl", [Example(id="t", domain="general", rationale=text_of(a).upper(),
                                          label="valid", group="t", source="t", split="test")
                                  ])  # fmt: skip
    recipe.filters.held_out = "test.jsonl"
    fill((a, WRITTEN, [("ann", "correct", {"critique": "Other words."})]),
         (b, WRITTEN, [("ann", "agree", {})]), (HELD[0], WRITTEN, [("ann", "agree", {})])
         )  # fmt: skip
    make_feedback(recipe)
    assert [e.rationale for e in read_examples(out / "examples/feedback.jsonl").examples] == [
        text_of(b)
    ]
    (gone,) = rows_of(out / "removed.jsonl")
    assert gone["example"]["rationale"] == text_of(a)
    assert rows_of(out / "pairs.jsonl") == []
    assert "removed from feedback: 1" in capsys.readouterr().out
    manifest = read_manifest(out)
    assert check_outputs(out) == []
    assert manifest["inputs"].keys() == {"held_out/test.jsonl"}
    Path("checkpoints").mkdir()
    Path("reports").mkdir()
    verify(recipe)
    assert "0 faults; 1 rows of 2 training files against " in (said := capsys.readouterr().out)
    assert "of 1 evaluation files" in said


def test_words_of_a_critic_that_no_file_may_hold_are_left_out(made):
    recipe, fill, out = made
    fill((TRAIN[0], {**WRITTEN, "critique": "bad \x07 bell"}, [("ann", "agree", {})]),
         (TRAIN[1], WRITTEN, [("ann", "agree", {})]))  # fmt: skip
    make_feedback(recipe)
    (aside,) = rows_of(out / "disputed.removed.jsonl")
    assert aside["reason"] == "refused"
    assert "control character" in aside["detail"]
    assert len(read_examples(out / "examples/feedback.jsonl").examples) == 1


def test_the_same_store_gives_the_same_bytes(made):
    recipe, fill, out = made
    fill((TRAIN[0], WRITTEN, [("ann", "agree", {})]), (HELD[0], PASSED, [("ann", "agree", {})]))
    make_feedback(recipe)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    make_feedback(recipe)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_refusals(made, capsys):
    recipe, fill, _ = made
    assert main(["feedback-pairs"]) == 1
    assert "feedback.store: expected a feedback database, got none" in capsys.readouterr().err
    fill((HELD[0], WRITTEN, []))
    with pytest.raises(ValueError, match=r"feedback.store: expected decisions in .*, got none"):
        make_feedback(recipe)
    fill((HELD[0], WRITTEN, [("ann", "agree", {})]))
    with pytest.raises(ValueError, match="expected a rationale to train on, got none of 1"):
        make_feedback(recipe)
    recipe.feedback.validation = 2
    with pytest.raises(ValueError, match=r"feedback.validation: expected a share from 0 to 1"):
        make_feedback(recipe)


def test_what_is_asked_and_decided_while_it_is_read_does_no_harm(made, monkeypatch):
    recipe, fill, out = made
    fill((TRAIN[0], WRITTEN, [("ann", "agree", {})]))
    plain = FeedbackStore.judged

    def busy(store):
        fill((TRAIN[1], WRITTEN, [("ann", "agree", {})]), (TRAIN[2], WRITTEN, []))
        return plain(store)

    monkeypatch.setattr(FeedbackStore, "judged", busy)
    make_feedback(recipe)
    assert len(rows_of(out / "examples/feedback.jsonl")) == 2


def test_a_wrong_verdict_alone_makes_a_pair_though_its_correction_holds_a_critique(made):
    recipe, fill, out = made
    bare = {"label": "valid", "p_flawed": 0.1, "threshold": 0.5}
    fill((TRAIN[0], bare, [("ann", "correct", {"label": "flawed", "critique": "Too few."})]))
    make_feedback(recipe)
    (pair,) = (Preference.from_row(row) for row in rows_of(out / "pairs.jsonl"))
    assert (pair.scorer, pair.chosen, pair.rejected) == (
        VERDICT, "Verdict: flawed", "Verdict: valid")  # fmt: skip
    assert rows_of(out / "disputed.removed.jsonl") == []
