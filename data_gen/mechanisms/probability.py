"""How likely, how often, out of how many."""

from data_gen.case import Derived, Draw, Flaw, Hinge, Sound, number, upper_first


def base_rate(d: Draw) -> Hinge:
    """A good detector on a rare and on a common thing."""
    a = d["alarms"]
    catch, false = d.pick(90, 92, 95, 98), d.pick(2, 3, 4, 5)
    rare, common = d.pick(500, 1000, 2000), d.pick(2, 3)
    frame = d.pick(
        "The detector catches {catch}% of the true cases and errs on {false}% of the rest. "
        "Here one in {n} {items} is {truth}.",
        "About one in {n} {items} is {truth}. The detector finds {catch}% of those and errs on "
        "{false}% of the others.",
    )
    words = {"catch": catch, "false": false, "items": a["items"], "truth": a["truth"]}
    premises = tuple(frame.format(n=number(n), **words) for n in (common, rare))
    surely = d.pick(
        f"{a['alarm']} means {a['truth']} in the great majority of cases",
        f"when we get {a['alarm']}, {a['truth']} is by far the likeliest reason",
    )
    seldom = d.pick(
        f"{a['alarm']} is most often a false one",
        f"only a small part of the times that we get {a['alarm']} will there be {a['truth']}",
    )
    shares = []
    for n in (common, rare):
        share = 100 * catch / (catch + false * (n - 1))
        text = f"{share:.0f}%" if share >= 1 else f"{share:.1f}%"
        shares.append(Derived(text, f"100*{catch}/({catch}+{false}*({n}-1))"))

    def wrong(n: int, share: Derived, claim: str) -> Flaw:
        return Flaw(
            "base_rate_neglect",
            claim,
            f"With one true case in {number(n)}, {catch}% caught and {false}% false alarms, "
            f"{share.text} of the alarms are real. The claim ignores that rate.",
            f"Work out the share of real alarms from the rate of one in {number(n)}.",
        )

    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(surely, seldom),
        flaws=(wrong(common, shares[0], seldom), wrong(rare, shares[1], surely)),
        sound=(
            Sound("base rate taken into account", f"At one in {common}, {shares[0].text} are real."),
            Sound("base rate taken into account",
                  f"At one in {number(rare)}, only {shares[1].text} of alarms are real."),
        ),
        derived=tuple(shares),
    )  # fmt: skip


def calibration(d: Draw) -> Hinge:
    """The stated chance against the record."""
    t = d["trackers"]
    total = d.pick(20, 40, 50)
    good, poor = round(total * d.pick(0.9, 0.95)), round(total * d.pick(0.5, 0.55, 0.6))
    frame = d.pick(
        "Of {who}'s last {n} {call}s, none left out, {k} {hit}.",
        "I went through the last {n} {call}s of {who}: {k} {hit}.",
        "Looking back over {n} {call}s from {who}, {k} {hit}.",
    )
    words = {"who": t["who"], "n": total, "call": t["call"], "hit": t["hit"]}
    premises = tuple(upper_first(frame.format(k=k, **words)) for k in (good, poor))
    rates = [Derived(f"{100 * k / total:.0f}%", f"100*{k}/{total}") for k in (good, poor)]
    frame_c = d.pick(
        "I put the chance that the next {call} holds at about {p}",
        "for the next {call} I reckon with a chance of {p}",
    )
    conclusions = tuple(frame_c.format(call=t["call"], p=r.text) for r in rates)
    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(conclusions[0], conclusions[1]),
        flaws=(
            Flaw(
                "underconfidence",
                conclusions[1],
                f"{good} of {total} held, which is {rates[0].text}; a chance of {rates[1].text} is "
                "far below that record.",
                f"State about {rates[0].text}, or say why the next should be worse.",
            ),
            Flaw(
                "overconfidence",
                conclusions[0],
                f"Only {poor} of {total} held, which is {rates[1].text}; a chance of "
                f"{rates[0].text} is far above that record.",
                f"State about {rates[1].text}, or say why the next should be better.",
            ),
        ),
        sound=(
            Sound("certainty fits the record", f"{good} of {total} is {rates[0].text}, as stated."),
            Sound("certainty fits the record", f"{poor} of {total} is {rates[1].text}, as stated."),
        ),
        derived=tuple(rates),
    )


def denominators(d: Draw) -> Hinge:
    """More events because there was more exposure, or in spite of less."""
    e = d["exposures"]
    base = d.whole(2, 9)
    many, few = 4 * base, 2 * base
    big, small = 1000 * d.whole(8, 16, 2), 1000 * d.pick(1, 2)
    frame = d.pick(
        "{a} had {x} {events} in {m} {exposure}, {b} {y} in {n}.",
        "We count {x} {events} for {a} (over {m} {exposure}) and {y} for {b} (over {n}).",
    )
    words = {"a": e["a"], "b": e["b"], "events": e["events"], "exposure": e["exposure"]}
    premises = tuple(
        upper_first(frame.format(x=many, y=few, m=number(m), n=number(n), **words))
        for m, n in ((small, big), (big, small))
    )
    ends = d.pick(
        (f"{e['a']} is the one with the worse rate", f"{e['b']} is the one with the worse rate"),
        (
            f"{e['a']} is more prone to {e['events']}",
            f"{e['b']} is more prone to {e['events']}",
        ),
    )

    def rates(m: int, n: int) -> tuple[Derived, Derived]:
        first, second = 1000 * many / m, 1000 * few / n
        return (
            Derived(number(round(first, 2)), f"1000*{many}/{m}"),
            Derived(number(round(second, 2)), f"1000*{few}/{n}"),
        )

    near, far = rates(small, big), rates(big, small)

    def wrong(pair: tuple[Derived, Derived], claim: str) -> Flaw:
        return Flaw(
            "denominator_neglect",
            claim,
            f"Per 1,000 {e['exposure']} {e['a']} had {pair[0].text} {e['events']} and {e['b']} "
            f"{pair[1].text}, so the claim has the rates the wrong way round.",
            f"Divide the {e['events']} by the {e['exposure']} before comparing.",
        )

    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=ends,
        flaws=(wrong(near, ends[1]), wrong(far, ends[0])),
        sound=(
            Sound("compares rates", f"Per 1,000 it is {near[0].text} against {near[1].text}."),
            Sound("compares rates", f"Per 1,000 it is {far[0].text} against {far[1].text}."),
        ),
        derived=(*near, *far),
    )


def overfitting(d: Draw) -> Hinge:
    """One rule fixed beforehand against the best of many."""
    r = d["rules"]
    tries = d.whole(40, 120, 10)
    gain = d.whole(6, 14)
    one = d.pick(
        f"{upper_first(r['one'])} was fixed in writing before anybody had seen {r['data']}",
        f"{upper_first(r['one'])} was the only one tried, and tried once, on {r['data']}",
    )
    best = d.pick(
        f"{upper_first(r['one'])} was the best of {tries} {r['many']} tried on {r['data']}",
        f"{upper_first(r['one'])} came out on top when {tries} {r['many']} were run on {r['data']}",
    )
    end = d.pick(f", and it improved the result by {gain}%.", f"; the result was {gain}% better.")
    trust = d.pick(
        f"the {gain}% is a fair test result, and we may expect a good part of it again",
        f"there is sound reason to expect a gain near {gain}% from here on",
    )
    luck = d.pick(
        f"the {gain}% is what the luckiest of many tries would show, and no forecast",
        f"a gain of {gain}% on these data is no test, as it was found by searching them",
    )
    return Hinge(
        premises=(one + end, best + end),
        conclusions=(trust, luck),
        flaws=(
            Flaw(
                "logical_contradiction",
                luck,
                "There was no search: a single rule was set and then tried, so the objection of "
                f"many tries contradicts the text and the {gain}% stands.",
                "Accept the test, or name another weakness of it.",
            ),
            Flaw(
                "overfitting",
                best,
                f"The best of {tries} tries on the same data looks good by luck alone, so the "
                f"{gain}% is no forecast.",
                f"Test {r['one']} once on data that were not used to choose it.",
            ),
        ),
        sound=(
            Sound("fixed beforehand", f"One rule, set in advance, makes the {gain}% a fair test."),
            Sound("discounts the search", f"After {tries} tries the best says little, as stated."),
        ),
    )
