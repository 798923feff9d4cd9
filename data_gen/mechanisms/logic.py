"""Statements that fit or exclude each other."""

from data_gen.case import Draw, Flaw, Hinge, Sound, both, upper_first

_FACT = (
    "{fact}.",
    "As far as I could check, {fact}.",
    "We know that {fact}.",
    "According to the file, {fact}.",
    "It is on record that {fact}.",
    "One thing first: {fact}.",
)
_CLAIM = ("{claim}", "{claim}", "we can take it that {claim}", "one may rely on it that {claim}",
          "we have to reckon with it that {claim}")  # fmt: skip


def contradiction(d: Draw) -> Hinge:
    """A fact and what follows from it, or from its opposite."""
    e = d["entailments"]
    frame = d.pick(*_CLAIM)

    def wrong(fact: str, claim: str) -> Flaw:
        return Flaw(
            "logical_contradiction",
            claim,
            f"The text says that {fact}. The claim that {claim} does not fit that: {e['why']}.",
            "Keep the fact and give up the claim, or show that the fact is wrong.",
        )

    follows = Sound("conclusion follows from the fact", f"It follows: {e['why']}.")
    return Hinge(
        premises=both(d.pick(*_FACT), {"fact": e["a"]}, {"fact": e["b"]}),
        conclusions=(frame.format(claim=e["if_a"]), frame.format(claim=e["if_b"])),
        flaws=(wrong(e["a"], e["if_b"]), wrong(e["b"], e["if_a"])),
        sound=(follows, follows),
        links=("So ", "Therefore ", "Hence ", "On that footing ", "Accordingly ", ""),
    )


_THREE = (
    "{one}, {two} or {third}: nothing else comes into question. {fact}.",
    "There are three candidates, {one}, {two} and {third}. {fact}.",
    "It has to be {one}, {two} or {third}. {name} notes that {fact}.",
    "The list came down to {one}, {two} and {third}. As to the last, {fact}.",
)
_TWO_LEFT = (
    "that leaves {one} and {two}, and one of the two it must be",
    "it can only be {one} or {two}",
    "only {one} and {two} are left",
    "the choice is between {one} and {two} alone",
)
_THREE_LEFT = (
    "besides {one} and {two} we have to keep {third} in mind",
    "we can rule out {third} no more than {one} or {two}",
    "all three are still open, {third} included",
    "we cannot strike {third} off the list",
)


def false_dichotomy(d: Draw) -> Hinge:
    """The third way is ruled out, or open."""
    o = d["options"]
    two, three = d.pick(*_TWO_LEFT).format(**o), d.pick(*_THREE_LEFT).format(**o)
    return Hinge(
        premises=both(
            d.pick(*_THREE), {"fact": o["closed"]}, {"fact": o["open"]}, name=d.fill("{name}"), **o
        ),
        conclusions=(two, three),
        flaws=(
            Flaw(
                "logical_contradiction",
                three,
                f"The same text rules out {o['third']}: {o['closed']}.",
                f"Go on with {o['one']} and {o['two']}, or withdraw the fact.",
            ),
            Flaw(
                "false_dichotomy",
                two,
                "The two options are not the only ones. The text itself leaves room for "
                f"{o['third']}: {o['open']}.",
                f"Look into {o['third']} before settling on one of the two.",
            ),
        ),
        sound=(
            Sound("alternatives ruled out", f"The text rules out {o['third']}, so two are left."),
            Sound("keeps the third way open", f"Nothing rules out {o['third']}: {o['open']}."),
        ),
    )


_AGREES = (
    "{figure} agrees with {source}, which {origin}.",
    "{source} says the same as {figure}; it {origin}.",
    "{figure} matches {source}. The latter {origin}.",
    "Set beside {source}, {figure} comes out the same. As for where the former comes from, it "
    "{origin}.",
)
_CONFIRMED = (
    "{figure} has been confirmed from outside",
    "we have a real check on {figure}",
    "the agreement is good support for {figure}",
    "{figure} now stands on two legs",
)
_UNCONFIRMED = (
    "{figure} has yet to be confirmed from outside",
    "for {figure} a real check is still missing",
    "the agreement is no support for {figure}",
    "{figure} still stands on one leg",
)


def circular_reasoning(d: Draw) -> Hinge:
    """The check is independent of the claim, or copied from it."""
    c = d["checks"]
    confirmed, unconfirmed = d.pick(*_CONFIRMED).format(**c), d.pick(*_UNCONFIRMED).format(**c)
    source = upper_first(c["source"])
    return Hinge(
        premises=both(
            d.pick(*_AGREES), {"origin": c["independent"]}, {"origin": c["derived"]}, **c
        ),
        conclusions=(confirmed, unconfirmed),
        flaws=(
            Flaw(
                "dismissed_evidence",
                unconfirmed,
                f"{source} {c['independent']}. That is an independent check, and it is waved away.",
                "Count the agreement as a confirmation, or show where the two depend on each "
                "other.",
            ),
            Flaw(
                "circular_reasoning",
                c["derived"],
                f"{source} {c['derived']}, so its agreement with {c['figure']} confirms nothing.",
                "Check it against a source that does not go back to the same figure.",
            ),
        ),
        sound=(
            Sound("independent check", f"{source} {c['independent']}, so the agreement counts."),
            Sound("sees that the check is circular", f"{source} {c['derived']}; that is no check."),
        ),
    )
