"""Writing that stays with the rationale: evidence is a span of it, figures are its own.

Left to itself a critic misquotes by a word, prints figures that stand nowhere, and now and then
names a flaw that there is not. Here it writes greedily with three restrictions. Where it opens a
quotation, the span is read off likelihoods (`spans`), word for word from the rationale. A figure is
written only if it stands in the rationale or follows from figures there in one step of arithmetic
(`figures.follow`), and as result of a sum that the text has begun, or of what else it works out in
so many words, only if it is the right one (`sums`, `derivations`). And flaw and severity are of
those that there are (`taxonomy`). Else the next likeliest token is taken. That any other figure has
a source does not make it the one that matters.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch

from minicrit.accepting import Greedy, Rule
from minicrit.derivations import Derivations, wrong_turn
from minicrit.encoding import Encoder
from minicrit.figures import NUMBER, figures, value_printed
from minicrit.packing import Tree
from minicrit.prompts import escaped
from minicrit.sources import RUNS, sourced, unsourced
from minicrit.spans import Quoting, closings, likeliest
from minicrit.sums import called_for, stated_sums
from minicrit.taxonomy import FLAW_TYPES, SEVERITIES

#: Names this way of writing; changes whenever another text may come of it, but for the rules of
#: sums (`recount.RULES`).
MANNER = "grounded-8"
#: What stands before a quotation in a critique, see `prompts.render_critique`.
MARK = '\nEvidence: "'
#: What may stand behind the headings that have only so many answers.
_NAMES = {"\nFlaw: ": FLAW_TYPES, "\nSeverity: ": SEVERITIES}
#: So many tokens are tried, the likeliest first, before one that breaks a restriction is let pass.
_TRIED = 64
_RUN = re.compile(r"(?<![\w.,:])\d[\d,.:]*$")  # a figure that may go on


class Sources:
    """Which figures a critique of one rationale may print."""

    def __init__(self, rationale: str) -> None:
        self.rationale = rationale

    @cached_property
    def values(self) -> frozenset[float]:
        """What may be cited without a sum of its own."""
        return sourced(self.rationale)

    @cached_property
    def _derivations(self) -> Derivations:
        return Derivations(self.rationale)

    @cached_property
    def _runs(self) -> frozenset[str]:
        """Digits as they stand in the rationale, dates, times and versions among them."""
        return frozenset(m.group().rstrip(".,:") for m in RUNS.finditer(self.rationale))

    @cached_property
    def _forms(self) -> list[str]:
        """The values as they may be printed, and the runs, sorted."""
        return sorted({*self._runs, *_printed(self.values)})

    def lets(self, before: str, text: str) -> bool:
        """Whether a text that goes on from `before` adds no figure without source and no false sum.

        A figure at its end may still become another one, so it counts by what it can become.
        """
        if not any(map(str.isdigit, text[len(before) :])) and not _RUN.search(before):
            return True
        last = _RUN.search(text)
        done = text[: last.start()] if last else text
        said = before[: found.start()] if (found := _RUN.search(before)) else before
        if self._false(done) > self._false(said):
            return False
        known = self._derivations.right(done)
        if any(value not in self.values for value in unsourced(done) - figures(said) - known):
            return False
        return last is None or self._begins(done, last.group())

    def ends(self, text: str) -> bool:
        """Whether the figure at the end of a finished text, if there is one, may stand there."""
        last = _RUN.search(text)
        if last is None:
            return True
        called, _ = self._called_for(text[: last.start()])
        return all(value_printed(m.group()) in called
                   for m in NUMBER.finditer(last.group()))  # fmt: skip

    def _called_for(self, text: str) -> tuple[frozenset[float], list[str]]:
        """What a figure that follows a text may be, and the ways in which it may be printed."""
        if (called := called_for(text)) is not None:
            return called, sorted(_printed(called))
        if (called := self._derivations.called_for(text)) is not None:
            return called, sorted(_printed(called, padded=False))
        return self.values, self._forms

    def _false(self, text: str) -> int:
        """So many sums do not hold, and so much was not worked out rightly."""
        sums = sum(not one.holds for one in stated_sums(text))
        return sums + self._derivations.amiss(text)

    def _begins(self, done: str, run: str) -> bool:
        """Whether a figure that may stand after `done` begins so."""
        values, forms = self._called_for(done)
        bare = run.rstrip(".,:")
        if bare != run:  # the stop of a sentence
            sourced = NUMBER.fullmatch(bare) and value_printed(bare) in values
            if sourced or (forms is self._forms and bare in self._runs):
                return True
        at = bisect_left(forms, run)
        return at < len(forms) and forms[at].startswith(run)


def _printed(values: Iterable[float], *, padded: bool = True) -> Iterator[str]:
    """The ways in which values may be printed: with and without commas, to two decimals at most.

    `padded`: with zeros at the end, too.
    """
    for value in values:
        exact = np.format_float_positional(value, trim="-")
        for form in (exact, f"{value:.1f}", f"{value:.2f}") if padded else (exact,):
            if value_printed(form) == value:
                yield form
                yield f"{int(value):,}{form.removeprefix(str(int(value)))}"


def _are_named(text: str) -> bool:
    """Whether flaw and severity, as far as they are written, are of those that there are."""
    for heading, names in _NAMES.items():
        _, there, rest = text.partition(heading)
        name, ended, _ = rest.partition("\n")
        if there and not (name in names if ended else any(n.startswith(name) for n in names)):
            return False
    return True


class Grounded(Greedy):
    """The likeliest token that adds no stray figure, false sum or name; at a quotation it stops."""

    def __init__(
        self, encoder: Encoder, sources: Sources, *, quotes: bool, watch: bool = False
    ) -> None:
        """Follows one text from its beginning on.

        Args:
            encoder: of the tokenizer.
            sources: of its rationale.
            quotes: whether the text ends where a quotation is opened.
            watch: see `Greedy`.
        """
        super().__init__(watch)
        self.encoder, self.sources, self.quotes = encoder, sources, quotes
        self.opening: torch.Tensor | None = None
        """Logits (V,) of the first token of a quotation, if the text came to one."""
        self._ids: list[int] = []
        self._text = ""

    @property
    def stopped(self) -> bool:
        """Whether the text came to a quotation, and will go on behind it."""
        return self.opening is not None

    def take(
        self, logits: torch.Tensor, draft: Sequence[int], q: torch.Tensor | None, done: int
    ) -> list[int]:
        """See `Rule`."""
        taken: list[int] = []
        for at, token in enumerate(logits.argmax(-1).tolist()):
            taken.append(self._next(logits[at], token))
            if taken[-1] == self.encoder.end or (at < len(draft) and taken[-1] != draft[at]):
                break
        self.note(logits[: len(taken)])
        return taken

    def _next(self, logits: torch.Tensor, first: int) -> int:
        """One token, of logits (V,) and the likeliest of them; the text then has it."""
        if self.quotes and self._text.endswith(MARK):
            self.opening = logits.to("cpu", torch.float32, copy=True)
            return self.encoder.end
        tried = [first]
        if not self._may(first):
            tried = logits.topk(min(_TRIED, len(logits))).indices.tolist()
        token = next(filter(self._may, tried), first)
        self._ids.append(token)
        self._text = self._said([])
        return token

    def _may(self, token: int) -> bool:
        if token == self.encoder.end:
            return self.sources.ends(self._text)
        text = self._said([token])
        if self.quotes and MARK in text and not text.endswith(MARK):
            return False  # the quote and what follows it in one token
        return self.sources.lets(self._text, text) and _are_named(text) and not wrong_turn(text)

    def _said(self, more: list[int]) -> str:
        return str(self.encoder.tokenizer.decode(self._ids + more))


class Pen(Protocol):
    """Who writes several texts and reads likelihoods after them; texts are known by number."""

    @property
    def watch(self) -> bool:
        """Whether rules are to note how close to a tie the texts came, see `accepting.Greedy`."""

    def write(
        self,
        rows: Sequence[int],
        texts: Sequence[list[int]],
        rules: Sequence[Rule] | None,
        longest: int,
    ) -> list[list[int]]:
        """What follows each of these texts, by its rule or greedily, without the end token."""

    def read(
        self, rows: Sequence[int], trees: Sequence[Tree], also: Sequence[int]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each tree the log-likelihoods of its tokens (S,), and of others there (S, C)."""


@dataclass(frozen=True)
class Asked:
    """What a critique is written about: ids up to its verdict, the verdict's included."""

    ids: list[int]
    rationale: str


def write(pen: Pen, encoder: Encoder, asked: Sequence[Asked], longest: int) -> list[list[int]]:
    """The rest of each critique (tokens without the end), greedy but for the three restrictions.

    One of `longest` tokens was cut off.
    """
    sources = [Sources(one.rationale) for one in asked]
    rules = [Grounded(encoder, source, quotes=True, watch=pen.watch) for source in sources]
    found = pen.write(range(len(asked)), [one.ids for one in asked], rules, longest)
    opened = {row: rule.opening for row, rule in enumerate(rules) if rule.opening is not None}
    texts = {row: asked[row].ids + found[row] for row in opened}
    spans = _quotations(pen, encoder, opened, texts, [asked[row].rationale for row in opened])
    for row, ids in zip(opened, spans, strict=True):
        found[row] = (found[row] + ids)[:longest]
    rows = [row for row in opened if len(found[row]) < longest]
    rules = [Grounded(encoder, sources[row], quotes=False, watch=pen.watch) for row in rows]
    most = max((longest - len(found[row]) for row in rows), default=0)
    rests = pen.write(rows, [asked[row].ids + found[row] for row in rows], rules, most)
    for row, rest in zip(rows, rests, strict=True):
        found[row] = (found[row] + rest)[:longest]
    return found


def _quotations(
    pen: Pen,
    encoder: Encoder,
    opened: Mapping[int, torch.Tensor],
    texts: Mapping[int, list[int]],
    rationales: Sequence[str],
) -> list[list[int]]:
    """Ids of the span that each text quotes and of what closes it; none without any span."""
    stops, close = closings(encoder)
    quotings = {row: Quoting(encoder, text) for row, text in zip(opened, rationales, strict=True)}
    places = {row: quotings[row].likely(logits) for row, logits in opened.items()}
    able = [row for row in opened if places[row]]
    trees = [quotings[row].tree(texts[row], places[row], close[0]) for row in able]
    found: dict[int, list[int]] = {row: [] for row in opened}
    for row, (said, closed) in zip(able, pen.read(able, trees, close), strict=True):
        span = likeliest(*quotings[row].spans(places[row], said, closed, stops))
        if span:
            found[row] = encoder.ids(escaped(quotings[row].rationale[slice(*span)]) + '"\n')
    return list(found.values())
