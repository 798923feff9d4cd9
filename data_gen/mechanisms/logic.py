"""Statements that fit or exclude each other."""

from data_gen.case import Draw, Flaw, Hinge, Sound, upper_first


def contradiction(d: Draw) -> Hinge:
    """A fact and what follows from it, or from its opposite."""
    e = d["entailments"]
    frame = d.pick("{fact}.", "As far as I could check, {fact}.", "We know that {fact}.",
                   "By the papers {fact}.")  # fmt: skip
    premises = tuple(upper_first(frame.format(fact=e[key])) for key in ("a", "b"))

    def wrong(fact: str, claim: str) -> Flaw:
        return Flaw(
            "logical_contradiction",
            claim,
            f"The text says that {fact}, which does not go with the claim that {claim}: "
            f"{e['why']}.",
            "Keep the fact and give up the claim, or show that the fact is wrong.",
        )

    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(e["if_a"], e["if_b"]),
        flaws=(wrong(e["a"], e["if_b"]), wrong(e["b"], e["if_a"])),
        sound=(
            Sound("conclusion follows from the fact", f"It follows: {e['why']}."),
            Sound("conclusion follows from the fact", f"It follows: {e['why']}."),
        ),
        either_order=False,
    )


def false_dichotomy(d: Draw) -> Hinge:
    """The third way is ruled out, or open."""
    o = d["options"]
    frame = d.pick("{fact}.", "As to {third}: {fact}.", "{fact}, as {name} has checked.")
    premises = tuple(
        upper_first(frame.format(fact=o[key], third=o["third"], name=d.fill("{name}")))
        for key in ("closed", "open")
    )
    two = d.pick(
        f"that leaves {o['one']} and {o['two']}, and one of the two it must be",
        f"it can only be {o['one']} or {o['two']}",
    )
    three = d.pick(
        f"beside {o['one']} and {o['two']}, {o['third']} has to be kept in mind",
        f"{o['third']} is as possible as {o['one']} or {o['two']}",
    )
    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(two, three),
        flaws=(
            Flaw(
                "logical_contradiction",
                three,
                f"{upper_first(o['third'])} has been ruled out in the same text: {o['closed']}.",
                f"Go on with {o['one']} and {o['two']}, or withdraw the fact.",
            ),
            Flaw(
                "false_dichotomy",
                two,
                f"The two options are not the only ones. The text itself leaves room for "
                f"{o['third']}: {o['open']}.",
                f"Look into {o['third']} before settling on one of the two.",
            ),
        ),
        sound=(
            Sound("alternatives ruled out", f"{upper_first(o['third'])} is out, so two are left."),
            Sound("keeps the third way open", f"{upper_first(o['third'])} is rightly kept in."),
        ),
    )


def circular_reasoning(d: Draw) -> Hinge:
    """The check is independent of the claim, or copied from it."""
    c = d["checks"]
    frame = d.pick(
        "{figure} agrees with {source}, which {origin}.",
        "{source} says the same as {figure}; it {origin}.",
    )
    premises = tuple(
        upper_first(frame.format(figure=c["figure"], source=c["source"], origin=c[key]))
        for key in ("independent", "derived")
    )
    confirmed = d.pick(
        f"{c['figure']} has been confirmed from outside",
        f"we have a real check on {c['figure']}",
    )
    unconfirmed = d.pick(
        f"{c['figure']} has not been confirmed by this",
        f"for {c['figure']} a real check is still missing",
    )
    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(confirmed, unconfirmed),
        flaws=(
            Flaw(
                "dismissed_evidence",
                unconfirmed,
                f"{upper_first(c['source'])} {c['independent']}; that is an independent check, and "
                "it is waved away.",
                "Count the agreement as a confirmation, or show where the two depend on each "
                "other.",
            ),
            Flaw(
                "circular_reasoning",
                c["derived"],
                f"{upper_first(c['source'])} {c['derived']}, so its agreement with {c['figure']} "
                "confirms nothing.",
                "Check it against a source that does not go back to the same figure.",
            ),
        ),
        sound=(
            Sound("independent check", "The source is independent, so the agreement counts."),
            Sound("sees that the check is circular", "The source goes back to the claim itself."),
        ),
    )
