"""Whether a written critique explains what it says: evidence, reasons, figures, sums.

A figure may stand in the rationale or in the reference critique, be the result of a sum that the
critique states or of what else it works out in so many words (`derivations`), or follow from the
figures of the rationale in one step of arithmetic: sum, difference, product, ratio, a share or a
change in percent, a rate per 1,000, the chance of an even run (`sources.sourced`, by which grounded
critics write, the oracle scores and the constitution goes). The reference is never shown to who
writes; its figures count as it may take more steps than one. With many figures in a text nearly
anything follows from some two of them, so few are called stray, and those surely are; with more
than 40, nothing is taken to follow. Whether a figure with a source is the right one is known of
sums and derivations.
"""

from data_gen.oracle import prose_of, score, stray
from minicrit.derivations import untrue
from minicrit.misses import Explanation
from minicrit.prompts import UnparsedError, parse_critique
from minicrit.records import Example
from minicrit.written import is_verbatim


def explanation_of(
    example: Example, text: str, *, ended: bool, lost: str | None = None
) -> Explanation:
    """What a critique with the right verdict is worth.

    Args:
        example: with its reference.
        text: the critique.
        ended: whether it came to its end, and was not cut off.
        lost: why nothing could be written, if so.
    """
    if lost:
        return Explanation("", broken=lost)
    if not ended:
        return Explanation(text, broken="cut off")
    try:
        critique = parse_critique(text)
    except UnparsedError as error:
        return Explanation(text, broken=f"unparsed: {error}")
    parts, prose = score(example, text).parts, prose_of(critique)
    return Explanation(
        text,
        evidence=critique.evidence,
        overlap=parts.get("evidence"),
        verbatim=is_verbatim(example, critique.evidence) if critique.evidence else None,
        reasons=parts.get("content"),
        stray=tuple(sorted(stray(example, prose))),
        miscounted=tuple(untrue(example.rationale, prose)),
    )


def said_type(text: str) -> str | None:
    """The flaw type that a critique, or its beginning, names; None if it names none."""
    try:
        return parse_critique("\n".join(text.split("\n")[:2])).flaw_type
    except UnparsedError:
        return None
