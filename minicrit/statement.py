"""Whether a sum stands in a text as a statement of its own, and is meant as it stands.

A sum that is a part of a longer one, whose result goes on (in another unit, with a remainder), or
that the text denies, quotes, rounds or corrects, is not one that its author states. What may come
before and after is listed, and all else counts as a reason to say nothing: what is counted again
raises the probability of a flaw, so a miss is cheaper than a false alarm.
"""

import re

#: What a statement may begin after: nothing, a stop, or a word that introduces it.
_BEGINS = re.compile(
    r"(?:\A|\n|(?<!\d)[:;,.=(\[$]|(?<=\d)[;,.=] |\b(?:is|are|was|be|so|that|then|thus|hence|"
    r"therefore|have|has|had|get|gets|got|gives?|makes?|needs?|means|equals|since|because|as|"
    r"where|us|we|it|this|which|calculate|compute|find|solve|total|answer|result|value|"
    r"expression|equation|first|also|now|namely))[ \t]*\Z", re.IGNORECASE)  # fmt: skip
_AHEAD = 24  # characters that tell
#: What may follow a result: nothing, a stop, or a word that begins something else.
_ENDS = re.compile(
    r"(?:[ \t]*(?:\*\*|\$|\\[)\]]|[)\]\"\u201d]))*"
    r"(?:\s*\Z|[.;:,](?=\s|\Z|[)\"\u201d])|[ \t]*(?:\n|=(?![=>]))|"
    r",? (?:and(?! (?:\d|(?:an?|one|half|older|over|above|up|upwards?|more|younger|under|below|"
    r"beyond|higher|lower|less|fewer|greater|smaller|later|earlier)\b))|"
    r"but|so|which|because|since|then|in all|in total|altogether|"
    r"for(?! (?:both|each|all|us|(?:the )?(?:\d|two|three|four|five|six)))|of cases|"
    r"before (?:fees|tax(?:es)?|VAT|costs|discounts?))\b)")  # fmt: skip
#: What a result is of. It may follow if the sum itself names it, or names nothing and ends with it.
_UNIT = re.compile(r" (?!(?:times|plus|minus|less|of|by)\b)([a-z][a-z-]+)\b")
_LAST = re.compile(r"[.;:,](?=\s|\Z|[)\"\u201d])|[)\"\u201d]|\s*(?:\Z|\n)")
_NAMED = re.compile(r"[A-Za-wyz]")
#: No such thing: other units, parts and multiples, remainders, comparisons, powers.
_NO_THING = re.compile(
    r"(?:seconds?|minutes?|hours?|days?|nights?|weeks?|fortnights?|months?|quarters?|years?|"
    r"hundreds?|thousands?|[mb]illions?|trillion|dozens?|pairs?|lakh|crore|percent|pct|bps|per|"
    r"remainder|rem|mod|short|below|under|above|over|more|fewer|left|too|off|squared|cubed|"
    r"halves|thirds|fourths|fifths|sixths|sevenths|eighths|ninths|tenths|"
    r"mn|bn|k?m|[cm]m|k?g|mg|[mc]?l|lit(?:er|re)s?|met(?:er|re)s?|kilo\w*|grams?|feet|foot|"
    r"yards?|miles?|tonnes?|tons?|cents?|dollars?|euros?|pounds?|degrees?|am|pm)",
    re.IGNORECASE,
)
#: Words of a sentence that denies, quotes, supposes or rounds what it says.
_OTHERWISE = re.compile(
    r"\b(?:not|no|never|nobody|wrong(?:ly)?|incorrect|false|mistakes?|errors?|slip|instead of|"
    r"rather than|if|suppose|assum\w+|pupils?|binary|hex\w*|octal|base|clock|mod|modulo|boolean|"
    r"roughly|about|approx\w*|around|nearly|almost|nearest|give or take|near enough|or so|round\w*|"
    r"significant|wrote|sa(?:id|ys)|claim(?:s|ed)|draft|earlier|floor|ceil\w*|at (?:most|least)|"
    r"according to|believes?|believed|argue[sd]?|insist(?:s|ed)|answer(?:s|ed)|(?<!all )told|"
    r"thinks?|thought|absurd|nonsense|slogan|jokes?|joking|typos?|old|disput\w*|billed|charged|"
    r"overcharg\w*|alleg\w*|puzzle|pattern|decibels?|in (?:parallel|quadrature)|vectors?|"
    r"logarithm\w*|odds)\b"
    r"|n['\u2019]t\b|[?\u2248\u223c~]", re.IGNORECASE)  # fmt: skip
#: Before a sum: what comes to it or off it besides its terms.
_BESIDES = re.compile(
    r"\b(?:including|excluding|net of|after costs|fees?|tax(?:es)?|VAT|discounts?|deposit|rebates?|"
    r"surcharges?|tips?|bonus|for (?:two|three|four|five|six|both))\b", re.IGNORECASE)  # fmt: skip
#: In the sentence after: it was not meant.
_DENIED = re.compile(
    r"\W*(?:but |yet )?(?:that|this|it|which|they|the (?:right|correct|true))\b[^.!?\n]{0,30}?"
    r"(?:\b(?:wrong|not|cannot|right|correct|mistaken?|errors?|slip|false|overcharg\w*|"
    r"too (?:high|low|much|many|few|large|small))\b|n['\u2019]t\b)", re.IGNORECASE)  # fmt: skip
#: Two whole numbers and what is said of them: maybe hours, places or a score.
_TWO = re.compile(r"(\d{1,4})\s*([-+\u2212]|plus|minus)\s*(\d{1,4})\D*?(\d{1,4})\D*")
_CLOCK = 24  # hours, counted to twelve or on
_STOP = re.compile(r"[.!?](?=\s|$)|\n")
_SENTENCE, _LATER = 400, 120  # characters: how far a sentence is looked for, and a correction


def stands(text: str, start: int, end: int) -> bool:
    """Whether what lies between these offsets is a whole statement, not a part of a longer one."""
    if not _BEGINS.search(text[max(0, start - _AHEAD) : start]):
        return False
    if _ENDS.match(text, end):
        return True
    unit, said = _UNIT.match(text, end), text[start:end]
    if unit is None:
        return False
    if _NAMED.search(said):
        whole = _ENDS.match(text, unit.end()) is not None
        return whole and re.search(rf"\b{unit[1]}\b", said) is not None
    return _LAST.match(text, unit.end()) is not None and not _NO_THING.fullmatch(unit[1])


def meant(text: str, start: int, end: int, right: str) -> bool:
    """Whether the sentence says it for good, and the right result does not follow.

    Args:
        text: the whole.
        start: offset of the sum.
        end: offset behind it.
        right: what it comes to, as it would be printed.
    """
    before = [found.end() for found in _STOP.finditer(text, max(0, start - _SENTENCE), start)]
    begin = before[-1] if before else max(0, start - _SENTENCE)
    stop = _STOP.search(text, end, end + _SENTENCE)
    close = stop.end() if stop else min(len(text), end + _SENTENCE)
    if _OTHERWISE.search(text, begin, start) or _OTHERWISE.search(text, end, close):
        return False
    if _BESIDES.search(text, begin, start) or _DENIED.match(text, close):
        return False
    later = text[end : max(close, end + _LATER)]
    return re.search(rf"(?<![\w.,]){re.escape(right)}(?!\d|[.,]\d)", later) is None


def places(said: str) -> bool:
    """Whether a sum of two may count places from one to the other, goals, or hours of a clock.

    `1 - 5 = 5 levels`, `3 - 2 = 5 goals`, `22 - 6 = 8` and `22 + 4 = 2` at night.
    """
    found = _TWO.fullmatch(said)
    if found is None:
        return False
    one, two, result = (int(found[group]) for group in (1, 3, 4))
    adds = found[2] in ("+", "plus")
    small = max(one, two) <= _CLOCK
    if small and result <= _CLOCK // 2:
        hours = one + two if adds else two - one
        if (hours - result) % (_CLOCK // 2) == 0:
            return True
    spans = (two - one, two - one + 1)  # without and with the first
    ranges = one < two and result in spans
    return not adds and (ranges or (small and result == one + two))
