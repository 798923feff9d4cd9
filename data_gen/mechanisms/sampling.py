"""Whom the figures are about: too few, only those that lasted, hand-picked, self-chosen."""

from data_gen.case import Derived, Draw, Flaw, Hinge, Sound, number, upper_first


def small_sample(d: Draw) -> Hinge:
    """A handful against hundreds, and a firm conclusion against a cautious one."""
    u = d["units"]
    few, many = d.whole(3, 5), d.whole(240, 960, 10)
    hits = round(many * d.pick(0.88, 0.9, 0.92, 0.95))
    lead = d.pick("So far", "To date", "Up to now", "Since the start")
    frame = d.pick(
        "{lead} {k} of {n} {many} {success}.",
        "{lead} we have seen {n} {many}, and {k} of them {success}.",
        "{lead} there were {n} {many}; {k} {success}.",
    )
    state = {"lead": lead, "many": u["many"], "success": u["success"]}
    firm = d.pick(
        f"it is settled that the great majority of {u['many']} do so",
        f"this is established as the normal course for {u['many']}",
        f"we can count on the next {u['many']} to go the same way",
    )
    cautious = d.pick(
        f"a run like that may well be luck, and it tells us next to nothing about {u['many']}",
        f"this could just as well be chance, and no rate for {u['many']} can be read off it",
        "the figures are too thin to tell a habit from an accident",
    )
    chance = Derived(f"{100 * 0.5**few:.0f}%", f"100*0.5**{few}")
    rate = Derived(f"{100 * hits / many:.0f}%", f"100*{hits}/{many}")
    return Hinge(
        premises=(
            frame.format(k=hits, n=many, **state),
            frame.format(k=few, n=few, **state),
        ),
        conclusions=(firm, cautious),
        flaws=(
            Flaw(
                "dismissed_evidence",
                cautious,
                f"{hits} of {many} is {rate.text}, far too steady a rate over far too many "
                f"{u['many']} to be put down to chance.",
                f"Take the rate of {rate.text} as established and say how far it may vary.",
            ),
            Flaw(
                "small_sample",
                firm,
                f"{few} of {few} is too small a sample for a firm claim: even at an even chance "
                f"such a run comes up in {chance.text} of cases.",
                f"Wait for many more {u['many']} or state the claim as a mere hint.",
            ),
        ),
        sound=(
            Sound("large sample", f"{hits} of {many} {u['many']} is ample for the claim made."),
            Sound(
                "caution fits the sample",
                f"With only {few} {u['many']} nothing firm can be said, and nothing firm is said.",
            ),
        ),
        derived=(chance, rate),
    )


def survivorship(d: Draw) -> Hinge:
    """Everybody counted against only those that are left."""
    r = d["rosters"]
    rate = d.whole(62, 88)
    frame = d.pick(
        "The table covers {who}; {rate}% of them {did}.",
        "The figures are for {who}. Of these, {rate}% {did}.",
        "We looked at {who}: {rate}% {did}.",
    )
    broad = d.pick(
        f"about {rate}% of {r['starters']} can be expected to {r['do']}",
        f"whoever asks about {r['starters']} may be told that some {rate}% {r['do']}",
    )
    narrow = d.pick(
        f"this describes those that lasted, and for {r['starters']} no rate follows from it",
        f"no rate for {r['starters']} can be had from this, because the list leaves out "
        "those that dropped away",
    )
    premises = tuple(
        frame.format(who=who, rate=rate, did=r["did"]) for who in (r["all"], r["survivors"])
    )
    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(broad, narrow),
        flaws=(
            Flaw(
                "logical_contradiction",
                narrow,
                f"The list is said to cover {r['all']}; it does not leave out {r['lost']}, so "
                "the objection contradicts the text.",
                f"Accept the rate of {rate}% or name who is really missing.",
            ),
            Flaw(
                "survivorship_bias",
                r["survivors"],
                f"Only {r['survivors']} are counted. {upper_first(r['lost'])} are missing, so "
                f"the {rate}% is too rosy for {r['starters']}.",
                f"Count {r['lost']} as well before giving a rate.",
            ),
        ),
        sound=(
            Sound("complete list", f"{upper_first(r['lost'])} are counted, so the rate carries."),
            Sound(
                "limits the claim to the list",
                f"{upper_first(r['lost'])} are not in the list, and no rate is claimed for all.",
            ),
        ),
    )


def cherry_picking(d: Draw) -> Hinge:
    """The weakest part proves the whole, the strongest part proves nothing."""
    s = d["series"]
    shown = sorted(round(d.rng.uniform(0.2, 1.9), 1) for _ in range(3))
    values = ", ".join(f"+{number(v)}" for v in shown[:2]) + f" and +{number(shown[2])}%"
    frame = d.pick(
        "I quote just three of the {many} here, the {which} three. They came to {values}.",
        "Of all the {many} I give only the {which} three: {values}.",
        "The {which} three {many} stand at {values}; the others are not shown.",
    )
    frames = [frame.format(many=s["many"], which=w, values=values) for w in ("weakest", "strongest")]
    settled = d.pick(
        f"these alone show that {s['subject']} {s['ahead']} over {s['total']} as a whole",
        f"it is already certain that {s['subject']} {s['ahead']} over {s['total']}",
    )
    unsettled = d.pick(
        f"whether {s['subject']} {s['ahead']} over {s['total']} cannot be told from these",
        f"these leave it open whether {s['subject']} {s['ahead']} over {s['total']}",
    )
    return Hinge(
        premises=(frames[0], frames[1]),
        conclusions=(settled, unsettled),
        flaws=(
            Flaw(
                "dismissed_evidence",
                unsettled,
                f"If the weakest three {s['many']} are all above zero, the others are at least "
                "as good, so the total is not open at all.",
                "Draw the conclusion that the weakest figures already force.",
            ),
            Flaw(
                "cherry_picking",
                "the strongest three" if "the strongest three" in frames[1] else "strongest three",
                f"The strongest three {s['many']} say nothing about the rest, which may have "
                "lost more than these gained.",
                f"Show all {s['many']}, or the weakest ones, before judging {s['total']}.",
            ),
        ),
        sound=(
            Sound("the worst cases are shown", "If even the weakest are positive, the total is."),
            Sound(
                "does not judge the whole by its best part",
                f"Three picked {s['many']} leave the total open, as the text says.",
            ),
        ),
    )


def selection_bias(d: Draw) -> Hinge:
    """Drawn by lot against self-chosen."""
    a, m = d["assignments"], d["metric"]
    x, y = _before_after(d)
    result = d.pick(
        f"Afterwards {m['name']} was {x}{m['unit']} with {d.thing} and {y}{m['unit']} without it.",
        f"With {d.thing} {m['name']} came to {x}{m['unit']}, without it to {y}{m['unit']}.",
    )
    credit = d.pick(
        f"the difference is the work of {d.thing}",
        f"{d.thing} accounts for the gap between the two",
    )
    doubt = d.pick(
        f"the difference may come from {a['who']} rather than from {d.thing}",
        f"before {d.thing} gets the credit, {a['who']} must be ruled out as the reason",
    )
    return Hinge(
        premises=tuple(f"{upper_first(a[k])}. {result}" for k in ("lot", "self")),  # type: ignore[arg-type]
        conclusions=(credit, doubt),
        flaws=(
            Flaw(
                "logical_contradiction",
                doubt,
                f"The text says that {a['lot']}, so nobody's choice can explain the gap between "
                f"{x} and {y}.",
                f"Credit {d.thing} or name a difference that chance assignment leaves.",
            ),
            Flaw(
                "selection_bias",
                a["self"],
                f"The groups were not made by chance: {a['self']}. The gap between {x} and {y} may "
                f"come from {a['who']}.",
                "Assign by lot, or compare like with like, before crediting it.",
            ),
        ),
        sound=(
            Sound("assignment by chance", "Chance made the groups, so the gap can be credited."),
            Sound("sees the self-selection", "The groups chose themselves, and credit is withheld."),
        ),
        stance=True,
    )


def regression_to_mean(d: Draw) -> Hinge:
    """Picked for being extreme against drawn at random."""
    e, m = d["extremes"], d["metric"]
    after, before = _before_after(d)
    change = d.pick(
        f"A month later {m['name']} there had gone from {before}{m['unit']} to {after}{m['unit']}.",
        f"There {m['name']} moved from {before}{m['unit']} to {after}{m['unit']} within a month.",
    )
    rest = d.pick("Over the rest it stayed where it was.", "Everywhere else it did not move.")
    credit = d.pick(
        f"the step is to be credited to {d.thing}",
        f"{d.thing} has shown what it can do there",
    )
    doubt = d.pick(
        "much of the step may be the usual way back from an extreme start",
        "part of this would have come by itself, since an extreme seldom lasts",
    )
    return Hinge(
        premises=tuple(f"{upper_first(e[k])}. {change} {rest}" for k in ("drawn", "worst")),  # type: ignore[arg-type]
        conclusions=(credit, doubt),
        flaws=(
            Flaw(
                "logical_contradiction",
                doubt,
                f"There was no extreme start: {e['drawn']}. A return to normal cannot explain the "
                f"step from {before} to {after}.",
                f"Credit {d.thing}, since the rest did not move.",
            ),
            Flaw(
                "regression_to_mean",
                e["worst"],
                f"They were picked because they stood out: {e['worst']}. Part of the step from "
                f"{before} to {after} would have come without {d.thing}.",
                "Compare with equally extreme ones that were left alone.",
            ),
        ),
        sound=(
            Sound("not picked for being extreme", "They were no extremes, and the rest stood still."),
            Sound("allows for the way back to normal", "Extremes drift back, and the text says so."),
        ),
        stance=True,
    )


def _before_after(d: Draw) -> tuple[str, str]:
    """A clearly better and a clearly worse value of the metric."""
    low, high = d.measure(d["metric"], d.rng.uniform(0.05, 0.3), d.rng.uniform(0.65, 0.95))
    return (low, high) if d["metric"]["better"] == "lower" else (high, low)
