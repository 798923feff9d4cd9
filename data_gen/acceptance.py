"""Whether a revision is better than its draft: only then is anything learnt from it.

A revision is accepted if its verdict is right, it breaks no rule that code can see, and every
scorer prefers it: the oracle by a margin, a judge in both orders (small models improve on their own
drafts in their own eyes alone, so somebody else must agree; arXiv 2504.04918). What a critic learns
to write matters more than what it learns to leave (arXiv 2508.18312), so a rule that the draft
broke must not be broken again. To a draft that cannot be read, or never ended, any is preferred.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from data_gen.judge import Ask, judge
from data_gen.oracle import score
from data_gen.rules import VERDICT, Review, review
from minicrit.prompts import Critique, UnparsedError, parse_critique
from minicrit.records import Example

#: What can become of a draft.
ACCEPTED, WORSE, TIE = "accepted", "worse", "tie"
VERDICT_WRONG, RULE_BROKEN, SAME = "verdict_wrong", "rule_broken", "same"
UNPARSED, UNSCORED, UNANSWERED = "unparsed", "unscored", "unanswered"
OUTCOMES = (ACCEPTED, TIE, WORSE, RULE_BROKEN, VERDICT_WRONG, SAME, UNPARSED, UNSCORED,
            UNANSWERED)  # fmt: skip
#: A draft that is not revised, as it breaks no rule.
CLEAN = "clean"


@dataclass(frozen=True)
class Draft:
    """A critique, and what the rules say of it.

    `critique` is None for one that does not parse or never ended; such a one keeps and breaks
    nothing, and is begun anew.
    """

    example: Example
    text: str
    critique: Critique | None
    review: Review

    @property
    def good(self) -> bool:
        """Whether it can be read and breaks no rule that label or code can see."""
        return self.critique is not None and not self.review.broken


@dataclass(frozen=True)
class Weighed:
    """What became of a draft.

    Attributes:
        outcome: one of OUTCOMES.
        text: the revision; empty if there is none that parses.
        scores: of draft and revision by the first scorer that was asked; None if none was.
        review: of the revision.
    """

    outcome: str
    text: str = ""
    scores: tuple[float, float] | None = None
    review: Review | None = None


#: Scores of draft and revision; None where they could not be compared.
Compare = Callable[[Draft, str], tuple[float, float] | None]


def draft_of(example: Example, text: str, *, whole: bool = True) -> Draft:
    """A draft; it cannot be read if it is not `whole`, as the critic never ended it."""
    unread = Draft(example, text, None, Review(frozenset(), {}))
    if not whole:
        return unread
    try:
        critique = parse_critique(text)
    except UnparsedError:
        return unread
    return Draft(example, text, critique, review(example, critique))


def choose(draft: Draft, texts: Sequence[str], *, by_score: bool) -> Draft | None:
    """The one revision that is weighed, so that no scorer is asked until one likes something.

    The right verdict comes first, then the fewest broken rules, then the oracle's score if it is a
    scorer anyway, then the first written.

    Args:
        draft: what they revise.
        texts: revisions; those that are the draft over again come last.
        by_score: whether the oracle may be asked.

    Returns:
        One that can be read; None if none can.
    """

    def rank(revision: Draft) -> tuple[bool, bool, int, float]:
        right = VERDICT not in revision.review.broken
        value = score(draft.example, revision.text).total or 0.0 if by_score else 0.0
        return not _same(draft, revision), right, -len(revision.review.broken), value

    read = [one for text in texts if (one := draft_of(draft.example, text)).critique]
    return max(read, key=rank, default=None)


def _same(draft: Draft, revision: Draft) -> bool:
    """Whether it is the draft over again; that one ends is another matter."""
    return draft.critique is not None and revision.text == draft.text


def weigh(draft: Draft, revision: Draft, scorers: Sequence[Compare], *, margin: float) -> Weighed:
    """Accepts a revision or says why not; scorers are asked in turn while they prefer it.

    Args:
        draft: what is revised.
        revision: by whomever; one that can be read.
        scorers: at least one.
        margin: least difference of scores; smaller ones are ties.
    """
    known = Weighed(ACCEPTED, revision.text, review=revision.review)
    if _same(draft, revision):
        return replace(known, outcome=SAME)
    if VERDICT in revision.review.broken:
        return replace(known, outcome=VERDICT_WRONG)
    if revision.review.broken:
        return replace(known, outcome=RULE_BROKEN)
    for compare in scorers:
        scores = compare(draft, revision.text)
        known = replace(known, outcome=_preferred(scores, margin), scores=known.scores or scores)
        if known.outcome != ACCEPTED:
            break
    return known


def _preferred(scores: tuple[float, float] | None, margin: float) -> str:
    if scores is None:
        return UNSCORED
    gain = scores[1] - scores[0]
    if gain < 0:
        return WORSE
    return ACCEPTED if gain > 0 and gain >= margin else TIE


def by_oracle(draft: Draft, revision: str) -> tuple[float, float] | None:
    """What the oracle gives both; a draft that cannot be read gets 0."""
    old = score(draft.example, draft.text).total if draft.critique else 0.0
    new = score(draft.example, revision).total
    return None if old is None or new is None else (old, new)


def by_judge(ask: Ask, counts: Counter[str]) -> Compare:
    """A model compares both in both orders: 1 to 0, 0 to 1, or half each if it is of two minds.

    It is not asked about a draft that cannot be read.
    """

    def compare(draft: Draft, revision: str) -> tuple[float, float] | None:
        if draft.critique is None:
            return 0.0, 1.0
        own: Counter[str] = Counter()
        old, new = (one.score for one in judge(draft.example, (draft.text, revision), ask, own))
        counts.update(own)
        return None if old is None or new is None else (old, new)

    return compare
