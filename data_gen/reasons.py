"""How far two texts give the same reasons, by the words that carry content.

Both become sets of stems: without function words, without figures, endings cut off. What they share
is weighed against what each of them says (F1), so leaving out costs as much as adding, and swapping
the two changes nothing. A word of the rationale counts `GIVEN` of another one: taking up its
subject is needed to speak of it, but no reason yet.

A set of words knows neither order nor negation, and a synonym is another word. So this ranks
critiques of one rationale; its value is no probability that a reason is right.
"""

import re
from functools import lru_cache

#: What a word counts that stands in the rationale; 1 for any other.
GIVEN = 0.5
_FUNCTION_WORDS = (
    "a about above after again also although am among an and any are as at be because been before "
    "being below between both but by can could did do does doing done down during each either "
    "else even for from further had has have having he her here hers him his how however i if in "
    "into is it its itself just let like made make makes may me might must my neither nor now of "
    "off on once one or other our ours out over own per quite rather same say says shall she "
    "should since so some still such than that the their theirs them then there these they this "
    "those though through thus to under until up upon us very was we well were what when where "
    "whether which while who whom whose why will with within without would yet you your"
)
#: Words that carry no reason. `few`, `no`, `not`, `only`, `too`, `never`, `all` do.
STOP = frozenset(_FUNCTION_WORDS.split())
_WORD = re.compile(r"[^\W\d_]+")
_FEWEST = 3  # letters that must be left of a word
_ENDINGS = (
    "isations", "izations", "isation", "ization", "ations", "ingly", "ation", "ments", "ment",
    "ness", "ities", "ally", "ings", "edly", "ity", "ies", "ied", "ing", "ers", "est", "ed", "es",
    "er", "ly", "al", "s", "e", "y",
)  # fmt: skip


def reasons_f1(reference: str, written: str, rationale: str) -> float:
    """0 to 1: 2 |A & B| / (|A| + |B|) over the weighted stems of both; 0 if either has none."""
    true, said, given = stems(reference), stems(written), stems(rationale)

    def weight(words: frozenset[str]) -> float:
        return len(words) - (1 - GIVEN) * len(words & given)

    both = weight(true) + weight(said)
    return 2 * weight(true & said) / both if both else 0.0


def stems(text: str) -> frozenset[str]:
    """The content words of a text, folded and without their endings."""
    words = _WORD.findall(text.casefold())
    return frozenset(_stem(word) for word in words if word not in STOP and len(word) > 1)


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    """`sampled`, `sampling`, `samples` and `sample` are one; the longest ending that fits goes."""
    for ending in _ENDINGS:
        stem = word.removesuffix(ending)
        kept = ending == "s" and stem[-1:] in "auis"  # bias, bonus, basis, loss
        if stem != word and len(stem) >= _FEWEST and not kept:
            doubled = len(stem) > _FEWEST and stem[-1] == stem[-2] and ending in ("ing", "ed", "er")
            return stem[:-1] if doubled else stem
    return word
