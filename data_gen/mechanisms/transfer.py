"""Whether the evidence is about the thing decided: condition, date, question, expert."""

from data_gen.case import ANSWER_LINKS, Draw, Flaw, Hinge, Sound, both, upper_first

_TRIED = (
    "The trial of {thing} {success}; it was run only {place}.",
    "{thing} was tried only {place}, and the trial {success}.",
    "So far {thing} has been tried only {place}; the trial {success}.",
    "We have tried {thing} only {place}. The trial {success}.",
)
_SUCCESS = ("went well from start to finish", "met every target", "showed a clear gain")
_USED = (
    "the same can be expected of it in daily use {place}",
    "we can bank on the same result when it goes into use {place}",
    "it will do as well {place}, which is what we need it for",
    "in use {place} it should do just as well",
)


def extrapolation(d: Draw) -> Hinge:
    """Tried under one condition, used under the same or under another."""
    c = d["conditions"]
    frame = d.pick(*_USED)

    def wrong(tried: str, used: str) -> Flaw:
        return Flaw(
            "extrapolation",
            f"only {tried}",
            f"The trial was run {tried}, but the use will be {used}. The result need not carry "
            f"over: {c['why']}.",
            f"Run a trial {used} before relying on it.",
        )

    return Hinge(
        premises=both(
            d.pick(*_TRIED), {"place": c["a"]}, {"place": c["b"]},
            thing=d.thing, success=d.pick(*_SUCCESS),
        ),
        conclusions=(frame.format(place=c["a"]), frame.format(place=c["b"])),
        flaws=(wrong(c["a"], c["b"]), wrong(c["b"], c["a"])),
        sound=(
            Sound("tested as it will be used", f"Trial and use are both {c['a']}."),
            Sound("tested as it will be used", f"Trial and use are both {c['b']}."),
        ),
    )  # fmt: skip


_DATED = (
    "{test} was done {weeks} weeks {word} {change}, which was the last change so far.",
    "We have {test}, from {weeks} weeks {word} {change}. Nothing has been altered since that day.",
    "{test} dates from {weeks} weeks {word} {change}. There has been no other change.",
    "The last thing to change was that {change}. {test} was done {weeks} weeks {word} that.",
)
_CURRENT = (
    "{test} describes things as they are today",
    "{test} can be relied on for the present state",
    "we can go by {test} as it stands",
    "there is no need to repeat {test}",
)
_LAPSED = (
    "{test} describes a state that is gone",
    "{test} cannot be relied on for the present state",
    "we cannot go by {test} as it stands",
    "there is a need to repeat {test}",
)


def stale_evidence(d: Draw) -> Hinge:
    """Evidence from after, or from before, a decisive change."""
    c = d["changes"]
    weeks = d.pick("two", "three", "four", "five", "six")
    holds, lapsed = d.pick(*_CURRENT).format(**c), d.pick(*_LAPSED).format(**c)
    frame = d.pick(*_DATED)
    test = upper_first(c["test"])
    premises = both(frame, {"word": "after"}, {"word": "before"}, weeks=weeks, **c)
    span = f"{weeks} weeks before {c['change']}"
    return Hinge(
        premises=premises,
        conclusions=(holds, lapsed),
        flaws=(
            Flaw(
                "dismissed_evidence",
                lapsed,
                f"{test} was made {weeks} weeks after {c['change']}, so it already describes the "
                "new state; there is no ground for setting it aside.",
                f"Use {c['test']}, or name a later change that upset it.",
            ),
            Flaw(
                "stale_evidence",
                span if span in premises[1] else f"{weeks} weeks before that",
                f"{test} comes from {weeks} weeks before {c['change']}; what it showed then need "
                "not hold now.",
                f"Repeat {c['test']} under the present state.",
            ),
        ),
        sound=(
            Sound("evidence is current", f"It was made after {c['change']}, so it still applies."),
            Sound("sees that it is out of date", f"It was made before {c['change']}."),
        ),
        either_order=True,
    )


_ASKED = (
    "The question put to us is {q}.",
    "What has to be settled here is {q}.",
    "We were asked {q}, and nothing else.",
    "The point to be decided is {q}.",
)
_REASON = (
    "we can say yes, because {r}",
    "the answer is yes: {r}",
    "it can be answered with yes, seeing that {r}",
    "the answer has to be yes, since {r}",
)


def irrelevant_evidence(d: Draw) -> Hinge:
    """A reason that bears on the question asked, or on another one."""
    r = d["relevance"]
    frame = d.pick(*_REASON)

    def wrong(question: str, reason: str) -> Flaw:
        return Flaw(
            "irrelevant_evidence",
            reason,
            f"The question is {question}. The reason given has no bearing on it: {reason}.",
            f"Give a reason that bears on {question}, or leave the question open.",
        )

    def right(question: str, reason: str) -> Sound:
        return Sound(
            "the reason bears on the question",
            f"The question is {question}, and the reason speaks to it: {reason}.",
        )

    return Hinge(
        premises=both(d.pick(*_ASKED), {"q": r["q1"]}, {"q": r["q2"]}),
        conclusions=(frame.format(r=r["r1"]), frame.format(r=r["r2"])),
        flaws=(wrong(r["q1"], r["r2"]), wrong(r["q2"], r["r1"])),
        sound=(right(r["q1"], r["r1"]), right(r["q2"], r["r2"])),
        links=ANSWER_LINKS,
    )


_OPEN = (
    "What we need to know is {q}.",
    "The open point is {q}.",
    "It remains to be decided {q}.",
    "The question before us is {q}.",
)
_WORD = (
    "the answer is yes; I have it from {e}",
    "{e} says yes, and I go by that",
    "on the word of {e} the answer is yes",
    "we should go by {e}, whose answer is yes",
)


def appeal_to_authority(d: Draw) -> Hinge:
    """Somebody who knows this field, or another."""
    e = d["experts"]
    frame = d.pick(*_WORD)

    def wrong(question: str, who: str, right: str) -> Flaw:
        return Flaw(
            "appeal_to_authority",
            who,
            f"{upper_first(question)} is a question outside the field of {who}, so that yes "
            "carries no weight.",
            f"Ask {right}, or show evidence.",
        )

    def right(question: str, who: str) -> Sound:
        return Sound("asks the right expert", f"{upper_first(who)} is the one to ask {question}.")

    return Hinge(
        premises=both(d.pick(*_OPEN), {"q": e["q1"]}, {"q": e["q2"]}),
        conclusions=(frame.format(e=e["e1"]), frame.format(e=e["e2"])),
        flaws=(wrong(e["q1"], e["e2"], e["e1"]), wrong(e["q2"], e["e1"], e["e2"])),
        sound=(right(e["q1"], e["e1"]), right(e["q2"], e["e2"])),
        links=ANSWER_LINKS,
    )
