"""Figures that do or do not follow from the figures given."""

from data_gen.case import Derived, Draw, Flaw, Hinge, Sound, grid, number, upper_first


def product(d: Draw) -> Hinge:
    """Rate times time."""
    b = d["batches"]
    rate = d.whole(2, 9) * d.pick(10, 20, 50)
    short, long = sorted(d.rng.sample(range(3, 13), 2))
    if long == short + 1:
        long += 2
    frame = d.pick(
        "{verb} {rate} {items} a {period}, and we have {n} {periods}.",
        "There are {n} {periods} to go. {verb} {rate} {items} a {period}.",
    )
    words = {"verb": b["verb"], "rate": rate, "items": b["items"], "period": b["period"],
             "periods": b["periods"]}  # fmt: skip
    premises = tuple(frame.format(n=n, **words) for n in (short, long))
    totals = [Derived(number(rate * n), f"{rate}*{n}") for n in (short, long)]
    frame_c = d.pick(
        "that makes {t} {items} in all",
        "we shall come to {t} {items}",
        "the total is {t} {items}",
    )
    conclusions = tuple(frame_c.format(t=t.text, items=b["items"]) for t in totals)

    def wrong(n: int, right: Derived, claimed: Derived, claim: str) -> Flaw:
        return Flaw(
            "calculation_error",
            claim,
            f"{rate} a {b['period']} for {n} {b['periods']} makes {right.text}, not "
            f"{claimed.text}.",
            f"Put {right.text} and check what was built on the other figure.",
        )

    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(conclusions[0], conclusions[1]),
        flaws=(
            wrong(short, totals[0], totals[1], conclusions[1]),
            wrong(long, totals[1], totals[0], conclusions[0]),
        ),
        sound=(
            Sound("figures add up", f"{rate} times {short} is {totals[0].text}."),
            Sound("figures add up", f"{rate} times {long} is {totals[1].text}."),
        ),
        derived=tuple(totals),
    )


def anchoring(d: Draw) -> Hinge:
    """The estimate follows the counts, or the rumour."""
    e = d["estimates"]
    low, high = grid(e["low"] * d.pick(1.0, 1.1, 1.25), e), grid(e["high"] * d.pick(0.85, 1.0), e)
    nearby = [grid(v * f, e) for v in (low, high) for f in (0.95, 1.06)]
    rumour = number(grid(high * d.pick(1.25, 1.4), e))
    frame = d.pick(
        "{rumour} put {quantity} at {r}{unit}. {first} gives {x}{unit} and {second} {y}{unit}.",
        "The first figure for {quantity} was {r}{unit}, from {rumour_low}. Since then {first_low} "
        "has given {x}{unit}, and {second}, made separately, {y}{unit}.",
    )
    words = {
        "rumour": upper_first(e["rumour"]), "rumour_low": e["rumour"], "quantity": e["quantity"],
        "r": rumour, "unit": e["unit"], "first": upper_first(e["first"]), "first_low": e["first"],
        "second": e["second"],
    }  # fmt: skip
    premises = tuple(
        frame.format(x=number(x), y=number(y), **words)
        for x, y in ((nearby[0], nearby[1]), (nearby[2], nearby[3]))
    )
    frame_c = d.pick("I carry {v}{unit} for {q}", "for {q} we should reckon with {v}{unit}",
                     "my estimate of {q} is {v}{unit}")  # fmt: skip
    conclusions = tuple(
        frame_c.format(v=number(v), q=e["quantity"], unit=e["unit"]) for v in (low, high)
    )

    def wrong(kind: str, x: float, y: float, claim: str, why: str) -> Flaw:
        return Flaw(
            kind,
            claim,
            f"The two counts give {number(x)} and {number(y)}; the estimate is not near either. "
            f"{why}",
            f"Stay with the counts, near {number(x)} to {number(y)}.",
        )

    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(conclusions[0], conclusions[1]),
        flaws=(
            wrong("anchoring", nearby[0], nearby[1], conclusions[1],
                  f"It leans on the unsupported first figure of {rumour}."),
            wrong("unsupported_claim", nearby[2], nearby[3], conclusions[0],
                  "Nothing in the text supports it."),
        ),
        sound=(
            Sound("follows the measurements", "The estimate follows two separate counts."),
            Sound("follows the measurements", "The estimate follows two separate counts."),
        ),
    )  # fmt: skip
