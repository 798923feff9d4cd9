"""When a revision counts as better than its draft: the whole truth table."""

from collections import Counter
from dataclasses import replace

import pytest

from data_gen.acceptance import (
    ACCEPTED,
    RULE_BROKEN,
    SAME,
    TIE,
    UNSCORED,
    VERDICT_WRONG,
    WORSE,
    by_judge,
    by_oracle,
    choose,
    draft_of,
    weigh,
)
from data_gen.backends.protocol import Answer, UnanswerableError
from minicrit.prompts import render_critique
from tests.data_gen.test_rules import FLAWED, GOOD

RIGHT = render_critique(GOOD)
WRONG_FLAW = render_critique(replace(GOOD, flaw_type="anchoring"))
WRONG = "Verdict: valid\nCritique: It did rise on Mondays."


def drafted(text):
    return draft_of(FLAWED, text)


def scored(*scores):
    return lambda draft, revision: scores or None


@pytest.mark.parametrize(
    ("draft", "revision", "scorers", "outcome"),
    [
        (WRONG_FLAW, RIGHT, [scored(0.5, 0.9)], ACCEPTED),
        (WRONG_FLAW, RIGHT, [scored(0.5, 0.625)], ACCEPTED),  # just the margin
        (WRONG_FLAW, RIGHT, [scored(0.5, 0.59)], TIE),
        (WRONG_FLAW, RIGHT, [scored(0.5, 0.5)], TIE),
        (WRONG_FLAW, RIGHT, [scored(0.5, 0.49)], WORSE),
        (WRONG_FLAW, RIGHT, [scored()], UNSCORED),
        (WRONG_FLAW, RIGHT, [scored(0.5, 0.9), scored(0.0, 1.0)], ACCEPTED),
        (WRONG_FLAW, RIGHT, [scored(0.5, 0.9), scored(0.5, 0.5)], TIE),
        (WRONG_FLAW, RIGHT, [scored(0.5, 0.9), scored(1.0, 0.0)], WORSE),
        (WRONG_FLAW, RIGHT, [scored(0.5, 0.9), scored()], UNSCORED),
        (WRONG_FLAW, RIGHT, [scored(0.9, 0.5), scored(0.0, 1.0)], WORSE),
        # whatever a scorer says of these
        (RIGHT, RIGHT, [scored(0.0, 1.0)], SAME),
        (RIGHT, WRONG, [scored(0.0, 1.0)], VERDICT_WRONG),
        (WRONG, WRONG + " Twice.", [scored(0.0, 1.0)], VERDICT_WRONG),
        (RIGHT, WRONG_FLAW, [scored(0.0, 1.0)], RULE_BROKEN),
        (WRONG_FLAW, RIGHT.replace("3 of 3", "2 of 2"), [scored(0.0, 1.0)], RULE_BROKEN),
        (WRONG, WRONG_FLAW, [scored(0.0, 1.0)], RULE_BROKEN),  # though it did not apply before
        (
            WRONG_FLAW,
            WRONG_FLAW + " Then buy.",
            [scored(0.0, 1.0)],
            RULE_BROKEN,
        ),  # nor is it mended
        (WRONG, RIGHT, [scored(0.0, 1.0)], ACCEPTED),
    ],
)
def test_outcomes(draft, revision, scorers, outcome):
    found = weigh(drafted(draft), drafted(revision), scorers, margin=0.125)
    assert found.outcome == outcome
    assert found.text == revision
    assert (found.scores is None) == (outcome in (SAME, VERDICT_WRONG, RULE_BROKEN)
                                      or (len(scorers) == 1 and outcome == UNSCORED))  # fmt: skip


def test_without_a_margin_equal_is_still_a_tie():
    assert weigh(drafted(WRONG_FLAW), drafted(RIGHT), [scored(1, 1)], margin=0).outcome == TIE


def test_a_judge_is_not_asked_about_what_the_oracle_does_not_prefer():
    def never(draft, revision):
        raise AssertionError

    found = weigh(drafted(WRONG_FLAW), drafted(RIGHT), [scored(0.9, 0.5), never], margin=0.1)
    assert found.outcome == WORSE


def test_oracle_scores_both():
    old, new = by_oracle(drafted(WRONG_FLAW), RIGHT)
    assert (old, new) == (pytest.approx(by_oracle(drafted(RIGHT), WRONG_FLAW)[1]), 1.0)
    assert by_oracle(drafted(WRONG), RIGHT)[0] == 0.0


@pytest.mark.parametrize(
    ("better", "scores", "counted"),
    [("RIGHT", (0.0, 1.0), "agreed"), ("first", (0.5, 0.5), "swapped"), (None, None, "failed")],
)
def test_judge_decides_in_both_orders(better, scores, counted):
    def ask(request):
        if better is None:
            raise UnanswerableError("refused")
        first = request.prompt.index("<review")
        place = "first" if request.prompt.index("Flaw: small_sample", first) < (
            request.prompt.index("Flaw: anchoring", first)) else "second"  # fmt: skip
        said = place if better == "RIGHT" else better
        return Answer(f'{{"better": "{said}", "reason": "x"}}', "end")

    counts: Counter[str] = Counter()
    assert by_judge(ask, counts)(drafted(WRONG_FLAW), RIGHT) == scores
    assert counts == {counted: 1}


def test_choice_goes_by_verdict_then_rules_then_score_then_place():
    draft = drafted(WRONG_FLAW)
    no_fix = render_critique(replace(GOOD, fix=None))

    def chosen(*texts, by_score):
        found = choose(draft, texts, by_score=by_score)
        return found and found.text

    assert chosen(WRONG, no_fix, by_score=False) == no_fix
    assert chosen(no_fix, RIGHT, by_score=False) == RIGHT
    mild = render_critique(replace(GOOD, severity="low"))  # no rule says how severe a flaw is
    assert chosen(mild, RIGHT, by_score=False) == mild
    assert chosen(mild, RIGHT, by_score=True) == RIGHT
    assert chosen(draft.text, WRONG, by_score=True) == WRONG  # the draft again is no revision
    assert chosen(draft.text, by_score=True) == draft.text
    assert chosen("Not in the form.", by_score=True) is None


@pytest.mark.parametrize(("text", "whole"), [("No flaw here.", True), (RIGHT, False)])
def test_to_a_draft_that_cannot_be_read_every_good_revision_is_preferred(text, whole):
    draft = draft_of(FLAWED, text, whole=whole)
    assert (draft.critique, draft.good, draft.review.broken) == (None, False, {})
    revision = choose(draft, [WRONG, WRONG_FLAW, RIGHT], by_score=True)
    assert revision.text == RIGHT
    scorers = [by_oracle, by_judge(lambda request: pytest.fail("asked"), Counter())]
    found = weigh(draft, revision, scorers, margin=0.125)
    assert (found.outcome, found.scores) == (ACCEPTED, (0.0, 1.0))
    assert weigh(draft, drafted(WRONG), scorers, margin=0.125).outcome == VERDICT_WRONG
    assert weigh(draft, drafted(WRONG_FLAW), scorers, margin=0.125).outcome == RULE_BROKEN


def test_a_draft_is_good_if_it_breaks_no_rule():
    assert drafted(RIGHT).good
    assert not drafted(WRONG_FLAW).good
    assert not drafted(WRONG).good
