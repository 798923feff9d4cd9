"""Figures that do or do not follow from the figures given."""

from data_gen.case import Derived, Draw, Flaw, Hinge, Sound, both, grid, number

RATE = (
    "{verb} {rate} {items} {each}, and we have {n} {periods}.",
    "There are {n} {periods} to go. {verb} {rate} {items} {each}.",
    "The plan runs over {n} {periods}. {verb} {rate} {items} {each}.",
    "{verb} {rate} {items} {each}; this will go on for {n} {periods}.",
)
TOTAL = (
    "that makes {t} {items} in all",
    "we shall come to {t} {items}",
    "the total is {t} {items}",
    "{t} {items} is what we can plan with",
)


def of_each(period: str) -> str:
    """As a rate is said: a day, an hour."""
    return f"an {period}" if period == "hour" else f"a {period}"


def product(d: Draw) -> Hinge:
    """Rate times time."""
    b = d["batches"]
    each = of_each(b["period"])
    rate = d.whole(2, 9) * d.pick(10, 20, 50)
    short = d.whole(3, 9)
    long = short + d.whole(2, 4)
    totals = [Derived(number(rate * n), f"{rate}*{n}") for n in (short, long)]
    frame = d.pick(*TOTAL)
    claims = tuple(frame.format(t=t.text, items=b["items"]) for t in totals)

    def wrong(n: int, right: Derived, claimed: Derived, claim: str) -> Flaw:
        return Flaw(
            "calculation_error",
            claim,
            f"{rate} {each} for {n} {b['periods']} makes {right.text}, not {claimed.text}.",
            f"Use {right.text}, and redo whatever was built on {claimed.text}.",
        )

    return Hinge(
        premises=both(d.pick(*RATE), {"n": short}, {"n": long}, rate=rate, each=each, **b),
        conclusions=(claims[0], claims[1]),
        flaws=(wrong(short, totals[0], totals[1], claims[1]),
               wrong(long, totals[1], totals[0], claims[0])),
        sound=(
            Sound("figures add up", f"{rate} times {short} is {totals[0].text}."),
            Sound("figures add up", f"{rate} times {long} is {totals[1].text}."),
        ),
        derived=tuple(totals),
    )  # fmt: skip


COUNTS = (
    "{a} had {x} {events} in {m} {exposure}, {b} {y} in {n}.",
    "We count {x} {events} for {a} (over {m} {exposure}) and {y} for {b} (over {n}).",
    "For {a} the record shows {x} {events} in {m} {exposure}; for {b} it shows {y} in {n}.",
    "In {m} {exposure} {a} had {x} {events}; in {n} {exposure} {b} had {y}.",
)
WORSE = (
    "the higher rate of {events} is that of {z}",
    "relative to size, {z} had the more {events}",
    "{z} had {events} more often, like for like",
    "on a fair comparison the rate of {events} is higher for {z}",
)


def denominators(d: Draw) -> Hinge:
    """More events because there was more exposure, or in spite of less."""
    e = d["exposures"]
    base = d.whole(2, 9)
    many, few = 4 * base, 2 * base
    big, small = 1000 * d.whole(8, 16, 2), 1000 * d.pick(1, 2)
    frame = d.pick(*WORSE)
    claims = tuple(frame.format(z=e[key], events=e["events"]) for key in ("a", "b"))

    def rate(count: int, exposure: int) -> Derived:
        return Derived(number(round(1000 * count / exposure, 2)), f"1000*{count}/{exposure}")

    near = (rate(many, small), rate(few, big))
    far = (rate(many, big), rate(few, small))

    # the fewer events in the more exposure: who calls that the higher rate compared no counts
    against_both = Flaw(
        "calculation_error",
        claims[1],
        f"Per 1,000 {e['exposure']} {e['a']} had {near[0].text} {e['events']} and {e['b']} "
        f"{near[1].text}. The claim fits neither the rates nor the bare counts.",
        f"Work out both rates again and name {e['a']}.",
    )
    by_counts = Flaw(
        "denominator_neglect",
        claims[0],
        f"Per 1,000 {e['exposure']} {e['a']} had {far[0].text} {e['events']} and {e['b']} "
        f"{far[1].text}, so the claim has the rates the wrong way round.",
        f"Divide the {e['events']} by the {e['exposure']} before comparing.",
    )
    sizes = ({"m": number(small), "n": number(big)}, {"m": number(big), "n": number(small)})
    return Hinge(
        premises=both(d.pick(*COUNTS), *sizes, x=many, y=few, **e),
        conclusions=(claims[0], claims[1]),
        flaws=(against_both, by_counts),
        sound=(
            Sound("compares rates", f"Per 1,000 it is {near[0].text} against {near[1].text}."),
            Sound("compares rates", f"Per 1,000 it is {far[0].text} against {far[1].text}."),
        ),
        derived=(*near, *far),
        either_order=True,
    )


SOURCES = (
    "{rumour} put {quantity} at {r}{unit}. {first} gives {x}{unit} and {second} {y}{unit}.",
    "The first figure for {quantity} was {r}{unit}, from {rumour}. Since then {first} has given "
    "{x}{unit}, and {second}, made separately, {y}{unit}.",
    "On {quantity} we have {x}{unit} from {first} and {y}{unit} from {second}. Before that there "
    "was {rumour}, with {r}{unit}.",
    "{rumour} started us off with {r}{unit} for {quantity}. {first} has {x}{unit}; {second}, done "
    "apart from it, {y}{unit}.",
)
ESTIMATE = (
    "the figure to carry for {quantity} is {v}{unit}",
    "for {quantity} we should plan with {v}{unit}",
    "my estimate of {quantity} is {v}{unit}",
    "{v}{unit} is the figure to use for {quantity}",
)


def anchoring(d: Draw) -> Hinge:
    """The estimate follows the counts, or it does not."""
    e = d["estimates"]
    low, high = grid(e["low"] * d.pick(1.0, 1.1, 1.25), e), grid(e["high"] * d.pick(0.85, 1.0), e)
    near_low, near_high = (
        tuple(number(grid(value * f, e)) for f in (0.95, 1.06)) for value in (low, high)
    )
    rumour = number(grid(high * d.pick(1.25, 1.4), e))
    frame = d.pick(*ESTIMATE)
    claims = tuple(frame.format(v=number(v), **e) for v in (low, high))
    u = e["unit"]  # "k" or " billion" is part of the figure

    def wrong(kind: str, counts: tuple[str, ...], claim: str, why: str) -> Flaw:
        one, two = (f"{count}{u}" for count in counts)
        return Flaw(
            kind,
            claim,
            f"The two counts give {one} and {two}; the estimate is near neither. {why}",
            f"Stay with the counts, near {one} to {two}.",
        )

    follows = Sound("follows the measurements", "The estimate follows two separate counts.")
    return Hinge(
        premises=both(
            d.pick(*SOURCES), {"x": near_low[0], "y": near_low[1]},
            {"x": near_high[0], "y": near_high[1]}, r=rumour, **e,
        ),
        conclusions=(claims[0], claims[1]),
        flaws=(
            wrong("anchoring", near_low, claims[1],
                  f"It leans on the unsupported first figure of {rumour}{u}."),
            wrong("unsupported_claim", near_high, claims[0], "Nothing in the text supports it."),
        ),
        sound=(follows, follows),
        either_order=True,
    )  # fmt: skip
