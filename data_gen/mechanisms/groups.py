"""How the groups came about: drawn by lot, self-chosen, or picked for being extreme."""

from collections.abc import Mapping
from typing import Any

from data_gen.case import Draw, Flaw, Hinge, Sound, both

_GAP = (
    "Afterwards {m} was {x}{u} with {thing} and {y}{u} without it.",
    "With {thing} {m} came to {x}{u}, without it to {y}{u}.",
    "{m} stood at {x}{u} with {thing}, as against {y}{u} without it.",
    "The outcome for {m}: {x}{u} with {thing}, {y}{u} without.",
)
_BEYOND_CHANCE = (
    "That is a gap well beyond chance.",
    "The gap is far larger than chance would make it.",
    "Chance alone does not make a gap of that size.",
)
_ORDER = (
    "As for {thing}, {fact}. {result} {chance}",
    "{result} {chance} As for who got what, {fact}.",
    "{result} {fact}. {chance}",
    "To recall how {thing} was set up: {fact}. {result} {chance}",
)
_CREDIT_GAP = (
    "the gap is the work of {thing}",
    "{thing} accounts for the gap between the two",
    "the gap is down to {thing}",
    "the credit for the gap goes to {thing}",
)
_DOUBT_GAP = (
    "the gap may come from {who} rather than from {thing}",
    "before {thing} gets the credit, {who} must be ruled out as the reason",
    "{who} may account for the gap as well as {thing} does",
    "{thing} cannot be credited as long as {who} may lie behind the gap",
)


def selection_bias(d: Draw) -> Hinge:
    """Drawn by lot against self-chosen."""
    a, m = d["assignments"], d["metric"]
    x, y = _better_worse(d, m)
    who = f"what decided {a['who']}"  # a clause, which reads badly where a critique names a reason
    words = {"thing": d.thing, "who": a["who"]}
    result = d.pick(*_GAP).format(m=m["name"], x=x, y=y, u=m["unit"], **words)
    rest = {"result": result, "chance": d.pick(*_BEYOND_CHANCE), "thing": d.thing}
    credit, doubt = d.pick(*_CREDIT_GAP).format(**words), d.pick(*_DOUBT_GAP).format(**words)
    return Hinge(
        premises=both(d.pick(*_ORDER), {"fact": a["lot"]}, {"fact": a["self"]}, **rest),
        conclusions=(credit, doubt),
        flaws=(
            Flaw(
                "logical_contradiction",
                doubt,
                f"The text says that {a['lot']}. That rules out {who} as the reason for the gap "
                f"between {x} and {y}.",
                f"Credit {d.thing}, or name a difference that such an assignment leaves.",
            ),
            Flaw(
                "selection_bias",
                a["self"],
                f"The groups were not made by chance: {a['self']}. The gap between {x} and {y} may "
                f"come from {who}.",
                "Assign by lot, or compare like with like, before crediting it.",
            ),
        ),
        sound=(
            Sound("assignment by chance", "Chance made the groups, so the gap can be credited."),
            Sound("sees the self-selection", f"The gap may come from {who}, as it says."),
        ),
        stance=True,
    )


_STEP = (
    "A month later {m} there had gone from {y}{u} to {x}{u}.",
    "There {m} moved from {y}{u} to {x}{u} within a month.",
    "Four weeks on, {m} there had changed from {y}{u} to {x}{u}.",
    "In the month after that, {m} there went from {y}{u} to {x}{u}.",
)
_REST = (
    "Over the rest it stayed where it was.",
    "Everywhere else it did not move.",
    "Elsewhere the figure was flat.",
)
#: All say that the measure came in, as a text may hold nothing besides.
_PICKED = (
    "As for {thing}, {fact}. {step} {rest}",
    "{thing} did not come in everywhere: {fact}. {step} {rest}",
    "To recall how {thing} was tried out: {fact}. {step} {rest}",
    "This is how {thing} came in: {fact}. {step} {rest}",
)
_CREDIT_STEP = (
    "the step is to be credited to {thing}",
    "{thing} has shown what it can do",
    "the improvement is owed to {thing}",
    "{thing} made the whole difference there",
)
_DOUBT_STEP = (
    "much of the step may be the usual way back from an extreme start",
    "part of this would have come by itself, since an extreme seldom lasts",
    "some of the gain is what any extreme start gives back on its own",
    "after so extreme a start, part of the way back was to be expected in any case",
)


def regression_to_mean(d: Draw) -> Hinge:
    """Picked for being extreme in what is then measured against drawn at random."""
    e = d["extremes"]
    m = next(item for item in d.scene.slots["metric"] if item["name"] == e["measure"])
    x, y = _better_worse(d, m)
    step = d.pick(*_STEP).format(m=m["name"], x=x, y=y, u=m["unit"])
    rest = {"step": step, "rest": d.pick(*_REST), "thing": d.thing}
    credit, doubt = d.pick(*_CREDIT_STEP).format(thing=d.thing), d.pick(*_DOUBT_STEP)
    return Hinge(
        premises=both(d.pick(*_PICKED), {"fact": e["drawn"]}, {"fact": e["worst"]}, **rest),
        conclusions=(credit, doubt),
        flaws=(
            Flaw(
                "logical_contradiction",
                doubt,
                f"There was no extreme start: {e['drawn']}. A return to normal cannot explain the "
                f"step from {y} to {x}.",
                "Give the credit where it is due, since the rest did not move.",
            ),
            Flaw(
                "regression_to_mean",
                e["worst"],
                f"They were picked because they stood out: {e['worst']}. Part of the step from "
                f"{y} to {x} would have come without {d.thing}.",
                "Compare with equally extreme ones that were left alone.",
            ),
        ),
        sound=(
            Sound("not picked for being extreme", "No extremes were picked; the rest stood still."),
            Sound("allows for the way back", "Extremes drift back, and the text says so."),
        ),
        stance=True,
    )


def _better_worse(d: Draw, metric: Mapping[str, Any]) -> tuple[str, str]:
    """A clearly better and a clearly worse value of the metric."""
    low, high = d.measure(metric, d.rng.uniform(0.05, 0.3), d.rng.uniform(0.65, 0.95))
    return (low, high) if metric["better"] == "lower" else (high, low)
