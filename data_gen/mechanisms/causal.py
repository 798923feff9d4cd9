"""What made what: a comparison group, the order of events, a rival explanation."""

from data_gen.case import Draw, Flaw, Hinge, Sound, number, upper_first


def difference_in_differences(d: Draw) -> Hinge:
    """The comparison group stood still, or moved by as much."""
    g, m = d["groups"], d["metric"]
    span, step = m["high"] - m["low"], m["step"]
    fall = max(2, round(0.4 * span / step)) * step
    sign = -1 if m["better"] == "lower" else 1
    start = m["high"] - 0.1 * span if sign < 0 else m["low"] + 0.1 * span
    start = round(start / step) * step
    other = start + d.pick(-1, 1) * step
    unit = m["unit"]
    treated = f"from {number(start)}{unit} to {number(start + sign * fall)}{unit}"
    still, moved = (f"from {number(other)}{unit} to {number(other + sign * move)}{unit}"
                    for move in (step, fall - step if fall > 2 * step else fall))  # fmt: skip
    frame = d.pick(
        "{treated_name} has had {thing} since {month}: {m} there went {a}. {Control} went without "
        "it; its figure went {b}.",
        "Where {thing} is in use, {treated_name}, {m} moved {a}. Where it is not, {control}, the "
        "same figure moved {b}.",
    )
    words = {"thing": d.thing, "treated_name": g["treated"], "control": g["control"], "Control": upper_first(g["control"]),
             "m": m["name"], "month": d.fill("{month}"), "a": treated}  # fmt: skip
    premises = tuple(upper_first(frame.format(b=b, **words)) for b in (still, moved))
    credit = d.pick(
        f"it was {d.thing} that made the change at {g['treated']}",
        f"I put the change at {g['treated']} down to {d.thing}",
    )
    none = d.pick(
        f"whatever moved {g['treated']} moved {g['control']} as well, and {d.thing} gets no credit",
        f"something common to both must be behind it, and not {d.thing}",
    )
    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(credit, none),
        flaws=(
            Flaw(
                "logical_contradiction",
                none,
                f"{upper_first(g['control'])} hardly moved, {still}, so nothing common to both "
                f"explains the change {treated}.",
                f"Credit {d.thing}, or name what changed at {g['treated']} alone.",
            ),
            Flaw(
                "correlation_causation",
                moved,
                f"{upper_first(g['control'])} went {moved} without {d.thing}, about as much as "
                f"{g['treated']}, so the change cannot be credited to it.",
                "Subtract the change of the comparison group before crediting anything.",
            ),
        ),
        sound=(
            Sound("comparison group stood still", f"Without {d.thing} the figure hardly moved."),
            Sound("reads the comparison group", "Both moved alike, so no credit is given."),
        ),
        stance=True,
    )


def reverse_causation(d: Draw) -> Hinge:
    """What came first cannot be the effect of what came later."""
    s = d["sequences"]
    gap = d.whole(3, 19)
    unit = d.pick("minutes", "days", "hours")
    source = d.pick("In the record", "By the log", "According to the times noted down")
    times = d.pick("every time", "in each case", "without exception")
    premises = tuple(
        f"{source}, {s['a']} came {gap} {unit} {word} {s['b']}, {times}."
        for word in ("before", "after")
    )
    verb = d.pick("brought on", "led to", "was behind")
    forward, backward = (
        f"{one} {verb} {two}" for one, two in ((s["a"], s["b"]), (s["b"], s["a"]))
    )

    def wrong(first: str, later: str, claim: str) -> Flaw:
        return Flaw(
            "reverse_causation",
            claim,
            f"{upper_first(first)} came first by {gap} {unit}; {later} cannot have caused what was "
            "there before it.",
            f"Turn the claim round, or look for a common cause of {first} and {later}.",
        )

    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(forward, backward),
        flaws=(wrong(s["a"], s["b"], backward), wrong(s["b"], s["a"], forward)),
        sound=(
            Sound("order of events fits", f"{upper_first(s['a'])} came first, as a cause must."),
            Sound("order of events fits", f"{upper_first(s['b'])} came first, as a cause must."),
        ),
    )


def missing_alternative(d: Draw) -> Hinge:
    """A second change at the same time, or none."""
    c, m = d["confounders"], d["metric"]
    low, high = d.measure(m, 0.2, 0.8)
    start, end = (high, low) if m["better"] == "lower" else (low, high)
    result = d.pick(
        f"Since {d.thing} came in, {m['name']} has gone from {start}{m['unit']} to "
        f"{end}{m['unit']}.",
        f"After {d.thing} was brought in, {m['name']} went from {start}{m['unit']} to "
        f"{end}{m['unit']}.",
    )
    order = d.pick("{result} {fact}.", "{fact}. {result}")
    premises = tuple(
        order.format(result=result, fact=upper_first(c[key])) for key in ("absent", "present")
    )
    only = d.pick(
        f"I see nothing but {d.thing} that could have done it",
        f"{d.thing} is the only explanation on the table",
    )
    rival = d.pick(
        f"{c['noun']} may explain it as well as {d.thing} does",
        f"I cannot tell {d.thing} from {c['noun']} as the reason",
    )
    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(only, rival),
        flaws=(
            Flaw(
                "logical_contradiction",
                rival,
                f"By the text itself {c['absent']}, so {c['noun']} is no explanation for the step "
                f"from {start} to {end}.",
                f"Drop {c['noun']} as a rival, or show that it took place.",
            ),
            Flaw(
                "missing_alternative",
                only,
                f"The text mentions that {c['present']} and passes over it: {c['noun']} could also "
                f"explain the step from {start} to {end}.",
                f"Separate the effect of {c['noun']} from that of {d.thing} first.",
            ),
        ),
        sound=(
            Sound("rivals ruled out", f"By the text {c['absent']}, so no rival is left."),
            Sound("names the rival", f"{upper_first(c['noun'])} is a rival and is named as one."),
        ),
        stance=True,
    )
