"""How likely: base rates, track records, rules found by searching."""

from data_gen.case import Derived, Draw, Flaw, Hinge, Sound, both, number, upper_first

DETECTOR = (
    "{alarm} comes up {catch}% of the time where there is {truth}, and {false}% of the time where "
    "there is not. Here one in {n} {items} is {truth}.",
    "About one in {n} {items} is {truth}. Where that is so, {alarm} comes up {catch}% of the "
    "time; where it is not, {false}% of the time.",
    "One out of {n} {items} is {truth}. We get {alarm} for {catch}% of those and for {false}% of "
    "all the others.",
    "Of our {items}, one in {n} is {truth}. For those we get {alarm} in {catch}% of cases, for "
    "the rest in {false}%.",
)
SURELY = (
    "{alarm} means {truth} in the great majority of cases",
    "when we get {alarm}, {truth} is by far the likeliest reason",
    "behind {alarm} there is usually {truth}",
    "as a rule {alarm} can be taken for {truth}",
)
SELDOM = (
    "{alarm} means something other than {truth} in the great majority of cases",
    "when we get {alarm}, {truth} is by far the less likely reason",
    "behind {alarm} there is only rarely {truth}",
    "as a rule {alarm} cannot be taken for {truth}",
)


def base_rate(d: Draw) -> Hinge:
    """A good detector on a rare and on a common thing."""
    a = d["alarms"]
    catch, false = d.pick(90, 92, 95, 98), d.pick(2, 3, 4, 5)
    rare, common = d.pick(500, 1000, 2000), d.pick(2, 3)
    surely, seldom = d.pick(*SURELY).format(**a), d.pick(*SELDOM).format(**a)
    shares = []
    for n in (common, rare):
        share = 100 * catch / (catch + false * (n - 1))
        text = f"{share:.0f}%" if share >= 1 else f"{share:.1f}%"
        shares.append(Derived(text, f"100*{catch}/({catch}+{false}*({n}-1))"))

    def wrong(n: int, share: Derived, claim: str) -> Flaw:
        return Flaw(
            "base_rate_neglect",
            claim,
            f"With one true case in {number(n)}, {catch}% of them caught and {false}% of the rest "
            f"flagged too, {share.text} of the alarms are real. The claim ignores that rate.",
            f"Work out the share of real alarms from the rate of one in {number(n)}.",
        )

    return Hinge(
        premises=both(
            d.pick(*DETECTOR), {"n": number(common)}, {"n": number(rare)},
            catch=catch, false=false, **a,
        ),
        conclusions=(surely, seldom),
        flaws=(wrong(common, shares[0], seldom), wrong(rare, shares[1], surely)),
        sound=(
            Sound("base rate taken into account",
                  f"At one in {common}, {shares[0].text} of alarms are real."),
            Sound("base rate taken into account",
                  f"At one in {number(rare)}, only {shares[1].text} of alarms are real."),
        ),
        derived=tuple(shares),
        either_order=True,
    )  # fmt: skip


RECORD = (
    "Of {who}'s last {n} {call}s, none left out, {k} {hit}.",
    "I went through the last {n} {call}s of {who}: {k} {hit}.",
    "Looking back over {n} {call}s from {who}, {k} {hit}.",
    "On file for {who} are {n} {call}s, of which {k} {hit}.",
    "We kept all of the last {n} {call}s from {who}, and {k} {hit}.",
)
CHANCE = (
    "the chance of the same for the next {call} is about {p}",
    "for the next {call} that makes a chance of about {p}",
    "the next {call} has a chance of about {p} of turning out as well",
    "about {p} is the chance to give to the next {call}",
)


def calibration(d: Draw) -> Hinge:
    """The stated chance against the record."""
    t = d["trackers"]
    n = d.pick(20, 40, 50)
    good, poor = round(n * d.pick(0.9, 0.95)), round(n * d.pick(0.5, 0.55, 0.6))
    high, low = (Derived(f"{100 * k / n:.0f}%", f"100*{k}/{n}") for k in (good, poor))
    frame = d.pick(*CHANCE)
    claims = tuple(frame.format(call=t["call"], p=rate.text) for rate in (high, low))
    return Hinge(
        premises=both(d.pick(*RECORD), {"k": good}, {"k": poor}, n=n, **t),
        conclusions=(claims[0], claims[1]),
        flaws=(
            Flaw(
                "underconfidence",
                claims[1],
                f"The record is {good} of {n}, which is {high.text}; a chance of {low.text} is far "
                "below it.",
                f"State about {high.text}, or say why the next should be worse.",
            ),
            Flaw(
                "overconfidence",
                claims[0],
                f"The record is {poor} of {n}, which is {low.text}; a chance of {high.text} is far "
                "above it.",
                f"State about {low.text}, or say why the next should be better.",
            ),
        ),
        sound=(
            Sound("certainty fits the record", f"{good} of {n} is {high.text}, as stated."),
            Sound("certainty fits the record", f"{poor} of {n} is {low.text}, as stated."),
        ),
        derived=(high, low),
    )


_FIXED = (
    "was fixed in writing before anybody had seen {data}",
    "was the only one tried, and tried once, on {data}",
    "was agreed on before the first look at {data}",
    "was written down first and then run a single time on {data}",
)
_SEARCHED = (
    "was the best of {tries} {many} tried on {data}",
    "came out on top when {tries} {many} were run on {data}",
    "was picked as the winner among {tries} {many} run on {data}",
    "was kept because none of {tries} {many} did better on {data}",
)
_GAINED = (
    ", and it improved the result by {gain}%.",
    "; the result was {gain}% better.",
    ". The gain was {gain}%.",
    ", with a gain of {gain}%.",
)
_TRUST = (
    "the {gain}% is a fair test result, and we may expect a good part of it again",
    "there is sound reason to expect a gain near {gain}% from here on",
    "the gain of {gain}% was earned in a clean test and can be planned with",
    "something close to {gain}% should come again",
)
_LUCK = (
    "the {gain}% is what the luckiest of many tries would show, and no forecast",
    "a gain of {gain}% here is no test, as it was found by searching",
    "some gain near {gain}% was bound to turn up in so many tries and need not come again",
    "the {gain}% was picked out of many tries and promises little",
)


def overfitting(d: Draw) -> Hinge:
    """One rule fixed beforehand against the best of many."""
    r = d["rules"]
    tries, gain = d.whole(40, 120, 10), d.whole(6, 14)
    words = {"tries": tries, "gain": gain, **r}
    one, best = (f"{{one}} {d.pick(*how)}".format(**words) for how in (_FIXED, _SEARCHED))
    trust, luck = d.pick(*_TRUST).format(**words), d.pick(*_LUCK).format(**words)
    frame = "{how}" + d.pick(*_GAINED)
    return Hinge(
        premises=both(frame, {"how": one}, {"how": best}, **words),
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
            Sound("discounts the search", f"{upper_first(r['one'])} won out of {tries}; that says "
                  "little, as stated."),
        ),
    )  # fmt: skip
