"""Whom the figures are about: too few, only those that lasted, only the best."""

from data_gen.case import Derived, Draw, Flaw, Hinge, Sound, both, upper_first

RUN = (
    "So far {k} of {n} {many} {success}.",
    "To date we have seen {n} {many}, and {k} of them {success}.",
    "Up to now there were {n} {many}; {k} of them {success}.",
    "Of the {n} {many} since the start, {k} {success}.",
    "We have {n} {many} on record, of which {k} {success}.",
)
FIRM = (
    "this is established as the normal course for {many}",
    "we can count on most of the next {many} to go the same way",
    "the pattern for {many} is firm enough to build on",
    "for {many} in general a rate near this can be taken as proven",
    "we may treat this as the rule for {many}",
)
CAUTIOUS = (
    "a run like that may well be luck and tells us next to nothing about {many} in general",
    "this could just as well be chance, and no rate for {many} can be read off it",
    "for {many} the figures are too thin to tell a habit from an accident",
    "it is far too early to speak of a rule for {many}",
    "with so little to go on, the next {many} may turn out quite differently",
)


def small_sample(d: Draw) -> Hinge:
    """A handful against hundreds, and a firm conclusion against a cautious one."""
    u = d["units"]
    few, many = d.whole(3, 5), d.whole(240, 960, 10)
    hits = round(many * d.pick(0.88, 0.9, 0.92, 0.95))
    words = {"many": u["many"], "success": u["success"]}
    firm, cautious = d.pick(*FIRM).format(**words), d.pick(*CAUTIOUS).format(**words)
    chance = Derived(f"{100 * 0.5**few:.3g}%", f"100*0.5**{few}")
    rate = Derived(f"{100 * hits / many:.0f}%", f"100*{hits}/{many}")
    return Hinge(
        premises=both(d.pick(*RUN), {"k": hits, "n": many}, {"k": few, "n": few}, **words),
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
                f"Wait for many more {u['many']}, or state the claim as a mere hint.",
            ),
        ),
        sound=(
            Sound("large sample", f"{hits} of {many} {u['many']} is ample for the claim made."),
            Sound(
                "caution fits the sample",
                f"Only {few} {u['many']} can show nothing firm, and nothing firm is claimed.",
            ),
        ),
        derived=(chance, rate),
    )


_LIST = (
    "The table covers {who}; {rate}% of them {did}.",
    "The figures are for {who}. Of these, {rate}% {did}.",
    "We looked at {who}: {rate}% {did}.",
    "Going through {who}, I find that {rate}% {did}.",
    "My list takes in {who}. Of those, {rate}% {did}.",
)
_BROAD = (
    "about {rate}% of {starters} can be expected to {do}",
    "anyone who asks about {starters} may be told that some {rate}% {do}",
    "for {starters} a rate of about {rate}% is a fair forecast",
    "of {starters}, roughly {rate}% should {do}",
)
_NARROW = (
    "this describes only those that lasted, and for {starters} no rate follows from it",
    "no rate for {starters} can be had from this, as it leaves out the ones that dropped away",
    "since {lost} were not counted, nothing can be forecast for {starters}",
    "what is missing here is {lost}, and so it gives no rate for {starters}",
)


def survivorship(d: Draw) -> Hinge:
    """Everybody counted against only those that are left."""
    r = d["rosters"]
    rate = d.whole(62, 88)
    words = {"rate": rate, **r}
    broad, narrow = d.pick(*_BROAD).format(**words), d.pick(*_NARROW).format(**words)
    return Hinge(
        premises=both(d.pick(*_LIST), {"who": r["all"]}, {"who": r["survivors"]}, **words),
        conclusions=(broad, narrow),
        flaws=(
            Flaw(
                "logical_contradiction",
                narrow,
                f"The count is said to cover {r['all']}. It does not leave out {r['lost']}, so "
                "the objection contradicts the text.",
                f"Accept the rate of {rate}%, or name who is really missing.",
            ),
            Flaw(
                "survivorship_bias",
                r["survivors"],
                f"The count takes in {r['survivors']}, and no others. "
                f"{upper_first(r['lost'])} are missing, so "
                f"the {rate}% need not hold for {r['starters']}.",
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


#: Premise and, verbatim in it, the words that say which three are shown.
_SHOWN = (
    ("I quote just three of the {many} here, the three with the {which} figures. In each of them "
     "{subject} {ahead}.", "the three with the {which} figures"),
    ("Of all the {many} I show only the {which} three; in each, {subject} {ahead}.",
     "only the {which} three"),
    ("The three {many} with the {which} results are shown, the others are not. In all three "
     "{subject} {ahead}.", "the three {many} with the {which} results"),
    ("Only the {which} three {many} are in the table, and in each of them {subject} {ahead}.",
     "only the {which} three {many}"),
)  # fmt: skip
_SETTLED = (
    "these alone show that {subject} {ahead} over {total} as a whole",
    "it is already certain that {subject} {ahead} over {total}",
    "that is enough to say that {subject} {ahead} over {total}",
    "we may say without seeing more that {subject} {ahead} over {total}",
)
_UNSETTLED = (
    "whether {subject} {ahead} over {total} cannot be told from these",
    "these leave it open whether {subject} {ahead} over {total} as a whole",
    "it is still unknown whether {subject} {ahead} over {total}",
    "we cannot say without seeing more whether {subject} {ahead} over {total}",
)


def cherry_picking(d: Draw) -> Hinge:
    """If the weakest part holds, the whole does; the strongest part proves nothing."""
    s = d["series"]
    settled, unsettled = d.pick(*_SETTLED).format(**s), d.pick(*_UNSETTLED).format(**s)
    frame, span = d.pick(*_SHOWN)
    return Hinge(
        premises=both(frame, {"which": "weakest"}, {"which": "strongest"}, **s),
        conclusions=(settled, unsettled),
        flaws=(
            Flaw(
                "dismissed_evidence",
                unsettled,
                f"If {s['subject']} {s['ahead']} even in the weakest three {s['many']}, the others "
                f"can only be better, so nothing is open about {s['total']}.",
                "Draw the conclusion that the weakest figures already force.",
            ),
            Flaw(
                "cherry_picking",
                span.format(which="strongest", **s),
                f"The strongest three {s['many']} say nothing about the rest, where it may have "
                "gone the other way by more.",
                f"Show all {s['many']}, or the weakest ones, before judging {s['total']}.",
            ),
        ),
        sound=(
            Sound("the weakest cases are shown", "If even the weakest hold, the whole does too."),
            Sound(
                "does not judge the whole by its best part",
                f"Three picked {s['many']} leave {s['total']} open, as the text says.",
            ),
        ),
    )
