"""What is done with the evidence: rules kept or bent, money gone, warnings."""

from data_gen.case import Derived, Draw, Flaw, Hinge, Sound, grid, number, upper_first


def fixed_criterion(d: Draw) -> Hinge:
    """A limit set beforehand, and what is done once the result is in."""
    c = d["criteria"]
    limit = grid((c["low"] + c["high"]) / 2, c)
    below, above = (
        number(v) for v in d_values(d, c["low"], limit, c["high"], c)
    )
    frame = d.pick(
        "Before the start we wrote down that {m} above {t}{u} would mean giving up {h}. It came to "
        "{v}{u}.",
        "The rule, fixed beforehand: {m} above {t}{u} and {h} is given up. The result was {v}{u}.",
    )
    words = {"m": c["measure"], "t": number(limit), "u": c["unit"], "h": c["hypothesis"]}
    premises = tuple(frame.format(v=v, **words) for v in (below, above))
    keep = d.pick(f"{c['hypothesis']} stands, and we {c['keep']}",
                  f"we hold on to {c['hypothesis']} and {c['keep']}")  # fmt: skip
    drop = d.pick(f"{c['hypothesis']} is given up, and we {c['drop']}",
                  f"we let go of {c['hypothesis']} and {c['drop']}")  # fmt: skip
    limit_text = f"{number(limit)}{c['unit']}"
    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(keep, drop),
        flaws=(
            Flaw(
                "moving_goalposts",
                drop,
                f"The result of {below}{c['unit']} is within the limit of {limit_text} that was "
                "fixed beforehand, yet the idea is given up.",
                f"Follow the rule and keep {c['hypothesis']}, or say why the rule was wrong.",
            ),
            Flaw(
                "confirmation_bias",
                keep,
                f"The result of {above}{c['unit']} is over the limit of {limit_text} that was to "
                "end the idea, yet it is kept.",
                f"Follow the rule and give up {c['hypothesis']}.",
            ),
        ),
        sound=(
            Sound("keeps to a rule fixed beforehand", f"{below} is within {limit_text}; it stays."),
            Sound("keeps to a rule fixed beforehand", f"{above} is over {limit_text}; it goes."),
        ),
        either_order=False,
    )


def d_values(d: Draw, low: float, limit: float, high: float, item: object) -> tuple[float, float]:
    """A value clearly below and one clearly above the limit."""
    slot = dict(item)  # type: ignore[call-overload]
    return (
        grid(low + d.rng.uniform(0, 0.5) * (limit - low), slot),
        grid(high - d.rng.uniform(0, 0.5) * (high - limit), slot),
    )


def sunk_cost(d: Draw) -> Hinge:
    """What is still to be paid against what it will bring; what is spent does not count."""
    p = d["projects"]
    spent, rest = d.whole(200, 900, 50), d.whole(80, 160, 10)
    much, little = rest + d.whole(90, 240, 10), rest - d.whole(30, 60, 10)
    u = p["unit"]
    frame = d.pick(
        "{project} has swallowed {s}{u}. Finishing it costs another {r}{u} and will bring in "
        "{g}{u}.",
        "So far {s}{u} has gone into {project}. It needs {r}{u} more and will then return {g}{u}.",
    )
    words = {"project": p["project"], "s": spent, "r": rest, "u": u}
    premises = tuple(upper_first(frame.format(g=g, **words)) for g in (much, little))
    on = d.pick(f"we should {p['finish']}", f"the sensible course is to {p['finish']}")
    stop = d.pick(f"we should stop {p['project']} here",
                  f"the sensible course is to end {p['project']} now")  # fmt: skip
    gain, loss = (Derived(str(abs(g - rest)), f"abs({g}-{rest})") for g in (much, little))
    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(on, stop),
        flaws=(
            Flaw(
                "sunk_cost",
                stop,
                f"The {spent}{u} is gone either way. From here on {rest}{u} buys {much}{u}, a "
                f"gain of {gain.text}{u}, so stopping loses money.",
                f"Leave the {spent}{u} out and compare {rest}{u} with {much}{u}.",
            ),
            Flaw(
                "sunk_cost",
                on,
                f"The {spent}{u} is gone either way. From here on {rest}{u} buys only "
                f"{little}{u}, a loss of {loss.text}{u}, so going on loses money.",
                f"Leave the {spent}{u} out and compare {rest}{u} with {little}{u}.",
            ),
        ),
        sound=(
            Sound("looks forward only", f"{rest}{u} still to pay brings {much}{u}; it pays."),
            Sound("looks forward only", f"{rest}{u} still to pay brings {little}{u}; it does not."),
        ),
        derived=(gain, loss),
    )


def warning_sign(d: Draw) -> Hinge:
    """A warning in the record, or none, and whether the decision heeds it."""
    s = d["signs"]
    frame = d.pick("{fact}.", "From the record: {fact}.", "Worth noting: {fact}.",
                   "One more observation: {fact}.")  # fmt: skip
    premises = tuple(upper_first(frame.format(fact=s[key])) for key in ("absent", "present"))
    go = d.pick(
        f"nothing on record points to {s['risk']}, and we {s['proceed']}",
        f"with no sign of {s['risk']} we {s['proceed']}",
    )
    wait = d.pick(
        f"there is a sign of {s['risk']} on record, and we {s['hold']}",
        f"seeing a sign of {s['risk']} we {s['hold']}",
    )
    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(go, wait),
        flaws=(
            Flaw(
                "logical_contradiction",
                wait,
                f"There is no such sign in the text; it says that {s['absent']}.",
                f"{upper_first(s['proceed'])}, or say where the sign was seen.",
            ),
            Flaw(
                "unaddressed_risk",
                s["present"] if s["present"] in premises[1] else upper_first(s["present"]),
                f"That {s['present']} points to {s['risk']}, and the decision passes over it.",
                f"{upper_first(s['hold'])} until {s['risk']} is ruled out.",
            ),
        ),
        sound=(
            Sound("the record was looked at", f"The record shows no sign of {s['risk']}."),
            Sound("heeds the warning", f"That {s['present']} is a warning, and it is heeded."),
        ),
    )
