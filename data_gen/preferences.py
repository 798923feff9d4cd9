"""From scored critiques to preference pairs: a clear winner, a plausible loser, or no pair at all.

Which pair comes out depends on the set of critiques alone, not on their order.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import takewhile

from minicrit.prompts import critique_of, render_critique
from minicrit.records import Example, Preference

TWINS = "twins"
#: Characters in which texts may differ and are still compared one by one; composed twins do so in
#: under 200.
_FEW = 300
_WORD = re.compile(r"\S+\s*")


@dataclass(frozen=True)
class Scored:
    """A critique and its score; None where it could not be scored."""

    text: str
    score: float | None


def pair_of(
    example: Example, candidates: Iterable[Scored], *, margin: float, scorer: str
) -> Preference | str:
    """The best critique over a worse one, or why there is no pair.

    The loser is the one nearest to two standard deviations under the mean (arXiv 2502.16825: a
    better teacher than the very worst, which with few candidates it mostly is).

    Args:
        example: what was criticized.
        candidates: scores, higher is better.
        margin: least difference of scores.
        scorer: who scored.
    """
    texts: dict[str, float] = {}
    unscored = 0
    for one in candidates:
        if one.score is None:
            unscored += 1
        else:
            texts[one.text] = one.score
    if len(texts) < 2:  # noqa: PLR2004
        return "unscored" if unscored else "alike"
    ranked = sorted(texts.items(), key=lambda pair: (-pair[1], _order(example, pair[0])))
    chosen, best = ranked[0]
    worse = [(text, score) for text, score in ranked if best > score and best - score >= margin]
    if not worse:
        return "tie"
    aim = _aim([score for _, score in ranked])
    rejected, low = min(worse, key=lambda p: (abs(p[1] - aim), p[1], _order(example, p[0])))
    return preference(example, chosen, rejected, (best, low), scorer)


def _aim(scores: Sequence[float]) -> float:
    mean = math.fsum(scores) / len(scores)
    return mean - 2 * math.sqrt(math.fsum((s - mean) ** 2 for s in scores) / len(scores))


def _order(example: Example, text: str) -> str:
    """Breaks ties without favour to place, length or alphabet."""
    return hashlib.sha256(f"{example.id}\0{text}".encode()).hexdigest()


def preference(
    example: Example, chosen: str, rejected: str, scores: tuple[float, float], scorer: str
) -> Preference:
    """The record of a pair; scores are rounded as they are written."""
    high, low = (round(score, 6) for score in scores)
    return Preference(
        domain=example.domain, rationale=example.rationale, chosen=chosen, rejected=rejected,
        chosen_score=high, rejected_score=low, margin=round(high - low, 6), scorer=scorer,
        group=example.group,
    )  # fmt: skip


def twin_pairs(
    members: Sequence[Example], wanted: Container[str] | None = None
) -> list[Preference]:
    """For each text of a group its own critique over that of its nearest twin.

    The twin's critique is the hardest negative there is: right in every word, of another text.

    Args:
        members: the whole group.
        wanted: ids of the texts that get a pair; None for all.
    """
    pairs = []
    for example in members:
        if wanted is not None and example.id not in wanted:
            continue
        others = [other for other in members if other.label != example.label]
        if not others:
            continue
        twin = others[0] if len(others) == 1 else _nearest(example, others)
        own, its = (render_critique(critique_of(one)) for one in (example, twin))
        pairs.append(preference(example, own, its, (1.0, 0.0), TWINS))
    return pairs


def _nearest(example: Example, others: Sequence[Example]) -> Example:
    return max(others, key=lambda other: (_likeness(example.rationale, other.rationale), other.id))


def _likeness(one: str, other: str) -> float:
    """Share of characters in common, in the same order; of whole words alone where much differs.

    Twins differ in one place: what they begin and end with need not be searched.
    """
    start = _begins_alike(one, other)
    first, second = one[start:], other[start:]
    end = _begins_alike(first[::-1], second[::-1])
    first, second = first[: len(first) - end], second[: len(second) - end]
    if max(len(first), len(second)) > _FEW:
        inside = _in_words(first, second)
    else:
        blocks = SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks()
        inside = sum(block.size for block in blocks)
    return 2 * (start + end + inside) / max(1, len(one) + len(other))


def _begins_alike(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _in_words(first: str, second: str) -> int:
    """Characters of the words in common: the time for single ones grows with their square."""
    words = _WORD.findall(first)
    blocks = SequenceMatcher(None, words, _WORD.findall(second)).get_matching_blocks()
    return sum(len(word) for at, _, size in blocks for word in words[at : at + size])


def lengths(pairs: Sequence[Preference]) -> dict[str, float]:
    """Whether the chosen ones are simply the longer ones, in words."""
    gaps = [len(p.chosen.split()) - len(p.rejected.split()) for p in pairs]
    signs = Counter("longer" if g > 0 else "shorter" if g < 0 else "equal" for g in gaps)
    return {
        "pairs": len(pairs),
        "mean_words_more": round(sum(gaps) / max(1, len(gaps)), 2),
        **{f"chosen_{name}": signs[name] for name in ("longer", "equal", "shorter")},
    }
