"""What is done with the evidence: rules kept or bent, money gone, warnings."""

from collections.abc import Mapping
from typing import Any

from data_gen.case import (
    ANSWER_LINKS,
    Derived,
    Draw,
    Flaw,
    Hinge,
    Sound,
    both,
    grid,
    number,
)

RULE = (
    "Before the start we wrote down that {measure} above {t}{unit} would mean giving up "
    "{hypothesis}. It came to {v}{unit}.",
    "The rule, fixed beforehand: with {measure} above {t}{unit} we give up {hypothesis}. The "
    "result was {v}{unit}.",
    "We had agreed in advance to give up {hypothesis} if {measure} came out above {t}{unit}. It "
    "came out at {v}{unit}.",
    "{hypothesis} would have to go, we said beforehand, if {measure} was above {t}{unit}. We now "
    "have {v}{unit}.",
)
DECIDED = (
    "the decision is to {do}",
    "we {do}",
    "my advice is to {do}",
    "the thing to do is to {do}",
)


def fixed_criterion(d: Draw) -> Hinge:
    """A limit set beforehand, and what is done once the result is in."""
    c = d["criteria"]
    limit, below, above = _around_limit(d, c)
    frame = d.pick(*DECIDED)
    keep, drop = frame.format(do=c["keep"]), frame.format(do=c["drop"])
    return Hinge(
        premises=both(d.pick(*RULE), {"v": below}, {"v": above}, t=limit, **c),
        conclusions=(keep, drop),
        flaws=(
            Flaw(
                "moving_goalposts",
                drop,
                f"The result of {below}{c['unit']} is within the limit of {limit}{c['unit']} that "
                f"was fixed beforehand, yet the decision goes against {c['hypothesis']}.",
                f"Do as was fixed beforehand and {c['keep']}, or say why the limit was wrong.",
            ),
            Flaw(
                "confirmation_bias",
                keep,
                f"The result of {above}{c['unit']} is over the limit of {limit}{c['unit']} that "
                f"was fixed beforehand, yet the decision holds on to {c['hypothesis']}.",
                f"Do as was fixed beforehand and {c['drop']}.",
            ),
        ),
        sound=(
            Sound("keeps to a rule fixed beforehand",
                  f"{below}{c['unit']} is within the limit of {limit}{c['unit']}."),
            Sound("keeps to a rule fixed beforehand",
                  f"{above}{c['unit']} is over the limit of {limit}{c['unit']}."),
        ),
        links=("So ", "Hence ", "Accordingly ", "After that ", ""),
    )  # fmt: skip


def _around_limit(d: Draw, c: Mapping[str, Any]) -> tuple[str, str, str]:
    """The limit, a value clearly below it and one clearly above it."""
    limit = grid((c["low"] + c["high"]) / 2, c)
    below = grid(c["low"] + d.rng.uniform(0, 0.5) * (limit - c["low"]), c)
    above = grid(c["high"] - d.rng.uniform(0, 0.5) * (c["high"] - limit), c)
    return number(limit), number(below), number(above)


BALANCE = (
    "{project} has swallowed {s}{unit}. Finishing it costs another {r}{unit} and will bring in "
    "{g}{unit}.",
    "So far {s}{unit} has gone into {project}. It needs {r}{unit} more and will then return "
    "{g}{unit}.",
    "We have put {s}{unit} into {project}. What is left to do takes {r}{unit}; what we get out of "
    "it at the end is {g}{unit}.",
    "{project}: {s}{unit} spent, {r}{unit} still to spend, {g}{unit} to come back once it is done.",
)
COURSE = (
    "we should {do}",
    "the sensible course is to {do}",
    "the right thing is to {do}",
    "my advice is to {do}",
)


def sunk_cost(d: Draw) -> Hinge:
    """What is still to be paid against what it will bring; what is spent does not count."""
    p = d["projects"]
    u = p["unit"]
    spent, rest = d.whole(200, 900, 50), d.whole(80, 160, 10)
    much, little = rest + d.whole(90, 240, 10), rest - d.whole(30, 60, 10)
    frame = d.pick(*COURSE)
    on, stop = frame.format(do=p["finish"]), frame.format(do=f"stop {p['project']} here")
    gain, loss = (Derived(str(abs(g - rest)), f"abs({g}-{rest})") for g in (much, little))
    fix = f"Leave the {spent}{u} out and compare {rest}{u} with "
    return Hinge(
        premises=both(d.pick(*BALANCE), {"g": much}, {"g": little}, s=spent, r=rest, **p),
        conclusions=(on, stop),
        flaws=(
            Flaw(
                "sunk_cost",
                stop,
                f"What is spent, {spent}{u}, is gone either way. From here on {rest}{u} buys "
                f"{much}{u}, a gain of {gain.text}{u}, which stopping gives away.",
                f"{fix}{much}{u}.",
            ),
            Flaw(
                "sunk_cost",
                on,
                f"What is spent, {spent}{u}, is gone either way. From here on {rest}{u} buys only "
                f"{little}{u}, a loss of {loss.text}{u}, which stopping would save.",
                f"{fix}{little}{u}.",
            ),
        ),
        sound=(
            Sound("looks forward only", f"{rest}{u} still to pay brings {much}{u}; it pays."),
            Sound("looks forward only", f"{rest}{u} still to pay brings only {little}{u}."),
        ),
        derived=(gain, loss),
        links=("So ", "Therefore ", "On that footing ", "Accordingly ", ""),
        either_order=True,
    )


_NOTED = (
    "{fact}.",
    "From the record: {fact}.",
    "Worth noting: {fact}.",
    "One more observation: {fact}.",
    "I also see in the notes that {fact}.",
)
_GO = (
    "nothing on record points to {risk}, and we {proceed}",
    "with no sign of {risk} we {proceed}",
    "as there is no hint of {risk}, we {proceed}",
    "we have seen no warning of {risk} and {proceed}",
)
_WAIT = (
    "something on record points to {risk}, and we {hold}",
    "with a sign of {risk} we {hold}",
    "as there is a hint of {risk}, we {hold}",
    "we have seen a warning of {risk} and {hold}",
)


def warning_sign(d: Draw) -> Hinge:
    """A warning in the record, or none, and whether the decision heeds it."""
    s = d["signs"]
    go, wait = d.pick(*_GO).format(**s), d.pick(*_WAIT).format(**s)
    return Hinge(
        premises=both(d.pick(*_NOTED), {"fact": s["absent"]}, {"fact": s["present"]}),
        conclusions=(go, wait),
        flaws=(
            Flaw(
                "logical_contradiction",
                wait,
                f"There is no such sign in the text; it says that {s['absent']}.",
                "Go by the record, or say where the sign was seen.",
            ),
            Flaw(
                "unaddressed_risk",
                s["present"],
                f"The text notes that {s['present']}. That is a warning of {s['risk']}, and the "
                "decision passes over it.",
                f"Rule out {s['risk']} before going on.",
            ),
        ),
        sound=(
            Sound("the record was looked at", f"By the text {s['absent']}; no sign of "
                  f"{s['risk']}."),
            Sound("heeds the warning", f"The text notes that {s['present']}, and heeds it."),
        ),
        links=ANSWER_LINKS,
        either_order=True,
    )  # fmt: skip
