"""The oracle: how good a critique is of a rationale whose flaw is known."""

import random
from dataclasses import replace
from statistics import fmean

import pytest

from data_gen.compose import compose
from data_gen.oracle import VERDICT, WEIGHTS, prose_of, score
from minicrit.derivations import Derivations
from minicrit.prompts import critique_of, render_critique
from minicrit.records import Example

FLAWED = Example(
    id="a", domain="trading", group="g", source="s", split="train", label="flawed",
    rationale="It rose on 3 of 3 Mondays. So it always rises on a Monday.",
    flaw_type="small_sample", severity="high", evidence="It rose on 3 of 3 Mondays.",
    critique="Three Mondays are too few for a rule.", fix="Look at 200 Mondays.",
)  # fmt: skip
REFERENCE = critique_of(FLAWED)


def share(**parts):
    """The score by hand: the given parts differ from 1, all others are 1."""
    total = sum(WEIGHTS.values())
    return VERDICT + (1 - VERDICT) * (
        1 - sum(WEIGHTS[name] * (1 - value) for name, value in parts.items()) / total
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, share()),
        ({"flaw_type": "anchoring"}, share(flaw_type=0)),
        ({"severity": "low"}, share(severity=0)),
        # 26 characters marked, all of them right; then 15 of them: F1 2 * 15 / (26 + 15)
        ({"evidence": "It rose on 3 of"}, share(evidence=30 / 41)),
        ({"evidence": "nowhere to be found"}, share(evidence=0)),
        ({"evidence": None}, share(evidence=0, complete=3 / 4)),
        # The reference says three, too, few, rule, look and, half as much, monday: 5.5 in all.
        # Here little, look, monday (2.5), of which look and monday are shared: 2 * 1.5 / 8
        ({"critique": "Of 17 Mondays 200 say little."}, share(figures=1 / 2, content=3 / 8)),
        # think, three, too, few, look, monday (5.5) without rule: 2 * 4.5 / 11
        ({"critique": "I think that three are too few."}, share(impersonal=0, content=9 / 11)),
        # text, rose (1/2), too, little, look, monday: 5, shared 2.5
        (
            {"critique": 'The text says "we rose", which is too little.'},
            share(content=5 / 10.5),
        ),
        # important, note, three, few, look, monday: 5.5, shared 3.5
        (
            {"critique": "It is important to note that three are few."},
            share(plain=0, content=7 / 11),
        ),
        # few, day, look, monday: 3.5, shared 2.5
        ({"critique": "few " * 64 + "days."}, share(concise=2 - 69 / 45, content=5 / 9)),
        ({"critique": "few " * 200 + "days."}, share(concise=0, content=5 / 9)),
        # No reason at all, only the subject: 2 * 0.5 / (5.5 + 0.5)
        ({"critique": "On Mondays.", "fix": "Mondays."}, share(content=1 / 6)),
    ],
)
def test_oracle_by_hand(change, expected):
    found = score(FLAWED, render_critique(replace(REFERENCE, **change)))
    assert found.total == pytest.approx(expected)


def test_without_a_reference_nothing_is_said_about_reasons():
    bare = replace(FLAWED, critique=None, fix=None)
    found = score(bare, render_critique(replace(REFERENCE, fix="Look at more Mondays.")))
    assert "content" not in found.parts
    assert found.total == 1.0


def test_what_the_reference_says_in_the_first_person_is_no_fault():
    theirs = replace(FLAWED, critique="The list is what I type in, and no check.")
    assert score(theirs, render_critique(critique_of(theirs))).parts["impersonal"] == 1.0
    more = replace(critique_of(theirs), critique="The list is what I type in, if you ask me.")
    assert score(theirs, render_critique(more)).parts["impersonal"] == 0.0
    mine = replace(REFERENCE, critique="Three mines are too few; look at each mine.")
    assert score(FLAWED, render_critique(mine)).parts["impersonal"] == 1.0


def test_reasons_count_not_their_fluency():
    """Means over 200 composed texts of each label, everything but the prose taken from the text.

    Of those that work nothing out, which would be untrue of another text.
    """
    made = [c.example for c in compose(1200, 5, "train")]
    made = [e for e in made if not Derivations(e.rationale).right(prose_of(e))]
    rng = random.Random(0)
    for label in ("flawed", "valid"):
        chosen = rng.sample([e for e in made if e.label == label], 200)
        own, same, other, praise = (
            fmean(score(e, told(e, by(e))).total for e in chosen)
            for by in (
                lambda e: e,
                lambda e: rng.choice(others(made, e, alike=True)),
                lambda e: rng.choice(others(made, e, alike=False)),
                lambda e: GENERIC[e.label],
            )
        )
        assert own == 1.0
        assert own - 0.04 > same > max(other, praise) + 0.05
        assert max(other, praise) < 0.9


GENERIC = {
    "valid": replace(FLAWED, strengths="clear and careful", fix=None,
                     critique="The argument is sound and well supported by the evidence."),
    "flawed": replace(FLAWED, critique="The evidence does not support the conclusion.",
                      fix="Gather more data and consider alternatives before deciding."),
}  # fmt: skip


def told(example, other):
    """The critique of an example with the prose of another one."""
    prose = {name: getattr(other, name) for name in ("strengths", "critique", "fix")}
    return render_critique(replace(critique_of(example), **prose))


def others(made, example, *, alike):
    """Of other groups, with the same label, of the same mechanism (and flaw) or of another one."""
    mechanism = example.source.rpartition("/")[2]
    return [
        e for e in made if e.group != example.group and e.label == example.label
        and (e.source.rpartition("/")[2] == mechanism) == alike
        and (not alike or e.flaw_type == example.flaw_type)
    ]  # fmt: skip


@pytest.mark.parametrize(("said", "total", "figures"), [
    ("22 of 40 is 55%.", 1.0, 1.0), ("22 of 40, which is 95%.", VERDICT, 0.0),
])  # fmt: skip
def test_with_a_false_sum_the_verdict_alone_counts(said, total, figures):
    record = replace(FLAWED, rationale="Of 40 forecasts 22 came true. So the next will for sure.",
                     evidence="the next will for sure", critique="22 of 40 is 55%.")  # fmt: skip
    found = score(record, render_critique(replace(critique_of(record), critique=said)))
    assert (found.total, found.parts["figures"]) == (total, figures)


@pytest.mark.parametrize(("said", "figures"), [
    ("28 of 50 held, so 22 of 50 did not.", 1.0),
    ("28 of 50 held, so 23 of 50 did not.", 3 / 4),  # the fourth is that of the fix
])  # fmt: skip
def test_a_figure_that_follows_in_one_step_has_a_source(said, figures):
    record = replace(FLAWED, rationale="Of 50 forecasts 28 came true. So the next will.",
                     evidence="the next will", critique="That is near chance.")  # fmt: skip
    found = score(record, render_critique(replace(critique_of(record), critique=said)))
    assert found.parts["figures"] == pytest.approx(figures)


def test_oracle_goes_by_the_verdict_first():
    wrong = "Verdict: valid\nStrengths: It counts.\nCritique: Three Mondays are enough."
    assert score(FLAWED, wrong).total == 0.0
    assert score(FLAWED, "Verdict: flawed").total >= VERDICT
    assert score(FLAWED, "There is no flaw here. Verdict: flawed").total is None
    assert score(FLAWED, "Verdict: flawed or not").total is None


def test_every_reference_scores_full_marks():
    for composed in compose(200, 1, "train"):
        example = composed.example
        found = score(example, render_critique(critique_of(example)))
        # A derived figure of the reference counts as given; nothing else may be missing.
        assert found.total == pytest.approx(1.0), (found, example.id)
