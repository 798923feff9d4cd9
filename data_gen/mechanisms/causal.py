"""What made what: a comparison group, the order of events, a rival explanation."""

from data_gen.case import Draw, Flaw, Hinge, Sound, both, number, upper_first

TWO_GROUPS = (
    "{thing} came in for {treated} in {month}: {m} there went {a}. {control} went without it, and "
    "over the same time the figure there went {b}.",
    "Where {thing} is in use, that is for {treated}, {m} moved {a}. Where it is not, for "
    "{control}, the same figure moved {b} over the same time.",
    "{m} for {treated}, with {thing}, went {a}. For {control}, without it, the figure went {b} in "
    "those same weeks.",
    "For {treated}, {m} went {a} once {thing} had come in. {control} had no part in it, and there "
    "the figure went {b} over the same stretch.",
)
CREDIT = (
    "it was {thing} that made the change for {treated}",
    "the change for {treated} is down to {thing}",
    "{thing} is what moved the figure for {treated}",
    "the credit for what changed with {treated} goes to {thing}",
)
COMMON = (
    "whatever moved {treated} moved {control} as well, and {thing} gets no credit",
    "something common to {treated} and {control} must be behind it, and not {thing}",
    "{thing} earns no credit, since {control} changed by as much without it",
    "the change for {treated} would have come without {thing}, as it did for {control}",
)


def difference_in_differences(d: Draw) -> Hinge:
    """The comparison group stood still, or moved by as much."""
    g = d["groups"]
    change, still, moved = _changes(d)
    words = {"thing": d.thing, "m": d["metric"]["name"], "month": d.fill("{month}"), **g}
    credit, common = d.pick(*CREDIT).format(**words), d.pick(*COMMON).format(**words)
    control = upper_first(g["control"])
    return Hinge(
        premises=both(d.pick(*TWO_GROUPS), {"b": still}, {"b": moved}, a=change, **words),
        conclusions=(credit, common),
        flaws=(
            Flaw(
                "logical_contradiction",
                common,
                f"{control} hardly moved, {still}, so nothing common to both explains the change "
                f"{change}.",
                f"Credit {d.thing}, or name what else changed for {g['treated']} alone.",
            ),
            Flaw(
                "correlation_causation",
                moved,
                f"{control} went {moved} without {d.thing}, as large a change as that of "
                f"{g['treated']}, so it cannot be credited to {d.thing}.",
                "Subtract the change of the comparison group before crediting anything.",
            ),
        ),
        sound=(
            Sound("comparison group stood still", f"Without {d.thing} the figure hardly moved."),
            Sound("reads the comparison group", "Both moved alike, so no credit is given."),
        ),
        either_order=True,
        stance=True,
    )


def _changes(d: Draw) -> tuple[str, str, str]:
    """How the treated group moved, and the other one if it stood still or moved along."""
    m = d["metric"]
    span, step, unit = m["high"] - m["low"], m["step"], m["unit"]
    fall = max(4, round(0.4 * span / step)) * step
    sign = -1 if m["better"] == "lower" else 1
    start = m["high"] - 0.1 * span if sign < 0 else m["low"] + 0.1 * span
    start = round(start / step) * step
    other = start + d.pick(-1, 1) * step
    moves = ((start, fall), (other, step), (other, fall))
    first, second, third = (
        f"from {number(at)}{unit} to {number(at + sign * move)}{unit}" for at, move in moves
    )
    return first, second, third


_LINKED = (
    "That {a} and {b} go together is agreed; the open point was which sets off which.",
    "Nobody doubts that of the two, {a} and {b}, one sets off the other.",
    "We know that {a} and {b} are cause and effect, only not which is which.",
    "Between {a} and {b} there is a causal link, and only its direction was in dispute.",
)
_TIMES = (
    "In the record {a} came {gap} {word} {b}, every time.",
    "By the log {a} came {gap} {word} {b} in each case.",
    "According to the times noted down, {a} came {gap} {word} {b} without exception.",
    "Each time that both were timed, {a} came {gap} {word} {b}.",
)
_CAUSED = (
    "{one} brought on {two}",
    "{one} led to {two}",
    "{one} was behind {two}",
    "{one} was the cause of {two}",
    "{two} came about through {one}",
)


def reverse_causation(d: Draw) -> Hinge:
    """Two linked events; what came first cannot be the effect of what came later."""
    s = d["sequences"]
    # most are events of a moment: no stumble comes days before its stab of pain
    gap = f"{d.whole(3, 19)} {d.pick('minutes', 'full minutes', 'good minutes')}"
    frame = f"{d.pick(*_LINKED)} {d.pick(*_TIMES)}"
    caused = d.pick(*_CAUSED)
    forward, backward = (
        caused.format(one=one, two=two) for one, two in ((s["a"], s["b"]), (s["b"], s["a"]))
    )

    def wrong(first: str, later: str, claim: str) -> Flaw:
        return Flaw(
            "reverse_causation",
            claim,
            f"{upper_first(first)} came first by {gap}, so {later} cannot have caused it.",
            f"Turn the claim round: {first} comes first, {later} second.",
        )

    return Hinge(
        premises=both(frame, {"word": "before"}, {"word": "after"}, gap=gap, **s),
        conclusions=(forward, backward),
        flaws=(wrong(s["a"], s["b"], backward), wrong(s["b"], s["a"], forward)),
        sound=(
            Sound("order of events fits", f"{upper_first(s['a'])} came first, as a cause must."),
            Sound("order of events fits", f"{upper_first(s['b'])} came first, as a cause must."),
        ),
        either_order=True,
    )


_RESULT = (
    "Since {thing} came in, {m} has gone from {x}{u} to {y}{u}.",
    "After {thing} was brought in, {m} went from {x}{u} to {y}{u}.",
    "{m} was {x}{u} before {thing} and is {y}{u} now.",
    "With {thing} in place, {m} has moved from {x}{u} to {y}{u}.",
)
_RIVAL_FACT = (
    "{result} {fact}. Nothing else that could matter changed.",
    "{fact}. Beyond that nothing that could matter changed. {result}",
    "{result} Meanwhile {fact}. All else was as before.",
    "{result} Of what could have played a part, this is on file: {fact}. There is nothing more.",
)
_ONLY = (
    "nothing but {thing} can have done it",
    "{thing} is the only explanation left",
    "it must have been {thing} that did it",
    "{thing} gets the credit, there being nothing else to give it to",
)
_RIVAL = (
    "{noun} may explain it as well as {thing} does",
    "there is no telling {thing} from {noun} as the reason",
    "it may just as well have been {noun}, and not {thing}",
    "{thing} cannot be credited while {noun} may have done it",
)


def missing_alternative(d: Draw) -> Hinge:
    """A second change at the same time, or none."""
    c, m = d["confounders"], d["metric"]
    low, high = d.measure(m, d.rng.uniform(0.1, 0.3), d.rng.uniform(0.7, 0.9))
    x, y = (high, low) if m["better"] == "lower" else (low, high)
    result = d.pick(*_RESULT).format(thing=d.thing, m=m["name"], u=m["unit"], x=x, y=y)
    words = {"thing": d.thing, "noun": c["noun"]}
    only, rival = d.pick(*_ONLY).format(**words), d.pick(*_RIVAL).format(**words)
    return Hinge(
        premises=both(
            d.pick(*_RIVAL_FACT), {"fact": c["absent"]}, {"fact": c["present"]},
            result=upper_first(result),
        ),
        conclusions=(only, rival),
        flaws=(
            Flaw(
                "logical_contradiction",
                rival,
                f"By the text itself {c['absent']}, so {c['noun']} cannot explain the step from "
                f"{x} to {y}.",
                f"Drop {c['noun']} as a rival, or show that there was such a change.",
            ),
            Flaw(
                "missing_alternative",
                only,
                f"The text mentions that {c['present']} and passes over it: {c['noun']} could also "
                f"explain the step from {x} to {y}.",
                f"Separate {c['noun']} from {d.thing} before crediting either.",
            ),
        ),
        sound=(
            Sound("rivals ruled out", f"By the text {c['absent']}, so no rival is left."),
            Sound("names the rival", f"It might have been {c['noun']}, and the text says so."),
        ),
        stance=True,
    )  # fmt: skip
