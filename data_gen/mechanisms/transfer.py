"""Whether the evidence is about the thing decided: condition, date, question, expert."""

from data_gen.case import Draw, Flaw, Hinge, Sound, upper_first


def extrapolation(d: Draw) -> Hinge:
    """Tried under one condition, used under the same or under another."""
    c = d["conditions"]
    success = d.pick("went well from start to finish", "met every target", "showed a clear gain")
    frame = d.pick(
        "The trial of {thing} {success}; it was run only {place}.",
        "{thing} was tried only {place}, where the trial {success}.",
    )
    premises = tuple(
        upper_first(frame.format(thing=d.thing, success=success, place=place))
        for place in (c["a"], c["b"])
    )
    frame_c = d.pick(
        "as it is to be used {place}, I expect the same there",
        "we can bank on the same result now that it goes into use {place}",
        "it will do as well when it is used {place}, which is where we need it",
    )
    conclusions = tuple(frame_c.format(place=place) for place in (c["a"], c["b"]))

    def wrong(tried: str, used: str) -> Flaw:
        return Flaw(
            "extrapolation",
            f"only {tried}",
            f"The trial was run {tried}, but the use will be {used}. The result need not carry "
            f"over: {c['why']}.",
            f"Run a trial {used} before relying on it.",
        )

    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(conclusions[0], conclusions[1]),
        flaws=(wrong(c["a"], c["b"]), wrong(c["b"], c["a"])),
        sound=(
            Sound("tested as it will be used", f"Trial and use are both {c['a']}."),
            Sound("tested as it will be used", f"Trial and use are both {c['b']}."),
        ),
    )


def stale_evidence(d: Draw) -> Hinge:
    """Evidence from after, or from before, a decisive change."""
    c = d["changes"]
    weeks = d.pick("two", "three", "four", "five", "six")
    frame = d.pick(
        "{test} was done {weeks} weeks {word} {change}.",
        "We have {test}, from {weeks} weeks {word} {change}.",
        "{test} dates from {weeks} weeks {word} {change}.",
    )
    words = {"test": c["test"], "weeks": weeks, "change": c["change"]}
    premises = tuple(upper_first(frame.format(word=w, **words)) for w in ("after", "before"))
    holds = d.pick(
        f"{c['test']} describes things as they are today",
        f"{c['test']} can be relied on for the present state",
    )
    lapsed = d.pick(
        f"{c['test']} describes a state that is gone",
        f"{c['test']} has to be done again before it can be relied on",
    )
    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(holds, lapsed),
        flaws=(
            Flaw(
                "dismissed_evidence",
                lapsed,
                f"{upper_first(c['test'])} was made {weeks} weeks after {c['change']}, so it "
                "already describes the new state; there is no ground for setting it aside.",
                f"Use {c['test']}, or name a later change that upset it.",
            ),
            Flaw(
                "stale_evidence",
                f"{weeks} weeks before {c['change']}",
                f"{upper_first(c['test'])} comes from {weeks} weeks before {c['change']}; what it "
                "showed then need not hold now.",
                f"Repeat {c['test']} under the present state.",
            ),
        ),
        sound=(
            Sound("evidence is current", f"It was made after {c['change']}, so it still applies."),
            Sound("sees that it is out of date", f"It was made before {c['change']}; rightly set aside."),
        ),
    )


def irrelevant_evidence(d: Draw) -> Hinge:
    """A reason that bears on the question asked, or on another one."""
    r = d["relevance"]
    frame = d.pick(
        "The question put to us is {q}.",
        "What has to be settled here is {q}.",
        "We were asked {q}, and nothing else.",
    )
    frame_c = d.pick(
        "I say yes, because {r}",
        "the answer is yes: {r}",
        "it can be answered with yes, seeing that {r}",
    )
    premises = tuple(frame.format(q=q) for q in (r["q1"], r["q2"]))
    conclusions = tuple(frame_c.format(r=reason) for reason in (r["r1"], r["r2"]))

    def wrong(question: str, reason: str) -> Flaw:
        return Flaw(
            "irrelevant_evidence",
            reason,
            f"That {reason} does not bear on the question {question}.",
            f"Give a reason that bears on {question}, or leave the question open.",
        )

    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(conclusions[0], conclusions[1]),
        flaws=(wrong(r["q1"], r["r2"]), wrong(r["q2"], r["r1"])),
        sound=(
            Sound("the reason bears on the question", f"That {r['r1']} bears on {r['q1']}."),
            Sound("the reason bears on the question", f"That {r['r2']} bears on {r['q2']}."),
        ),
        either_order=False,
    )


def appeal_to_authority(d: Draw) -> Hinge:
    """Somebody who knows this field, or another."""
    e = d["experts"]
    frame = d.pick(
        "What we need to know is {q}.",
        "The open point is {q}.",
        "It remains to be decided {q}.",
    )
    frame_c = d.pick(
        "I go by {e}, who says yes",
        "{e} has said yes without hesitation, and that is enough for me",
        "I rely on the word of {e}, which is a clear yes",
    )
    premises = tuple(frame.format(q=q) for q in (e["q1"], e["q2"]))
    conclusions = tuple(frame_c.format(e=who) for who in (e["e1"], e["e2"]))

    def wrong(question: str, who: str, right: str) -> Flaw:
        return Flaw(
            "appeal_to_authority",
            who,
            f"{upper_first(who)} is no authority on {question}; that is not their field.",
            f"Ask {right} or show evidence.",
        )

    return Hinge(
        premises=(premises[0], premises[1]),
        conclusions=(conclusions[0], conclusions[1]),
        flaws=(wrong(e["q1"], e["e2"], e["e1"]), wrong(e["q2"], e["e1"], e["e2"])),
        sound=(
            Sound("asks the right expert", f"{upper_first(e['e1'])} knows about {e['q1']}."),
            Sound("asks the right expert", f"{upper_first(e['e2'])} knows about {e['q2']}."),
        ),
        either_order=False,
    )
