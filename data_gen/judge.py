"""A language model compares critiques in both orders, and only what both agree on counts.

Models favour one place (arXiv 2306.05685: GPT-4 changes its mind in a third of the cases when two
answers are swapped), so an answer that moves with the order is a tie. A comparison that fails, is
refused or does not parse is no comparison, and is counted.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, permutations

from data_gen.answers import read_fields, schema_of, template
from data_gen.backends.protocol import Answer, Request, UnanswerableError
from data_gen.preferences import Scored
from minicrit.records import Example

VERSION = "1"
_SCHEMA = schema_of(better=("first", "second", "equal"), reason=None)
Ask = Callable[[Request], Answer]


def judge(example: Example, texts: Sequence[str], ask: Ask, counts: Counter[str]) -> list[Scored]:
    """Each critique with the share of the others that it beats, ties half; None if none was judged.

    Args:
        example: what was criticized; its label is not shown.
        texts: the critiques.
        ask: answers a request, see `asker.Asker.ask`.
        counts: what became of the comparisons: agreed, tied, swapped, failed.
    """
    unique = sorted(set(texts))
    won: dict[str, list[float]] = {text: [] for text in unique}
    for one, two in combinations(unique, 2):
        result = _compare(example, one, two, ask, counts)
        if result is not None:
            won[one].append(result)
            won[two].append(1 - result)
    shares = {text: sum(w) / len(w) if w else None for text, w in won.items()}
    return [Scored(text, shares[text]) for text in texts]


def questions(example: Example, texts: Sequence[str]) -> Iterator[Request]:
    """All that `judge` may ask about these critiques."""
    for one, two in permutations(sorted(set(texts)), 2):
        yield _question(example, one, two)


def _compare(example: Example, one: str, two: str, ask: Ask, counts: Counter[str]) -> float | None:
    """1 if the first is better in both orders, 0 if the second is, 1/2 for a tie."""
    said = [_asked(example, *order, ask) for order in ((one, two), (two, one))]
    if None in said:
        counts["failed"] += 1
        return None
    forth, back = said
    if forth == back == "equal":
        counts["tied"] += 1
        return 0.5
    if {forth, back} != {"first", "second"}:
        counts["swapped"] += 1
        return 0.5
    counts["agreed"] += 1
    return 1.0 if forth == "first" else 0.0


def _question(example: Example, first: str, second: str) -> Request:
    system, prompt = template("judge", VERSION)
    shown = {"rationale": example.rationale, "first": first, "second": second}
    # No text may close the block it stands in and go on as if it were us.
    blocks = {name: text.replace("</", "< /") for name, text in shown.items()}
    return Request(system, prompt.substitute(domain=example.domain, **blocks), _SCHEMA,
                   max_tokens=400)  # fmt: skip


def _asked(example: Example, first: str, second: str, ask: Ask) -> str | None:
    try:
        answer = ask(_question(example, first, second))
    except UnanswerableError:
        return None
    fields, _ = read_fields(answer.text, _SCHEMA) if answer.stop == "end" else ({}, "")
    return fields.get("better")
