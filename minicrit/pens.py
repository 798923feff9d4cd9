"""Who holds the pen while a critic writes: many texts together, or one with drafts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from minicrit.accepting import Greedy, Rule
from minicrit.decoding import greedy
from minicrit.flat_decoding import FlatDecoder
from minicrit.grounding import Grounded
from minicrit.packing import Tree
from minicrit.reader import Reader
from minicrit.scribe import Scribe
from minicrit.speculation import Tally, written


@dataclass
class Together:
    """All texts in the same forwards."""

    reader: Reader

    @property
    def watch(self) -> bool:
        """See `grounding.Pen`."""
        return False

    def write(
        self,
        rows: Sequence[int],
        texts: Sequence[list[int]],
        rules: Sequence[Rule] | None,
        longest: int,
    ) -> list[list[int]]:
        """See `grounding.Pen`."""
        reader = self.reader
        return greedy(reader.causal_lm, texts, longest=longest, end=reader.encoder.end, rules=rules)

    def read(
        self, rows: Sequence[int], trees: Sequence[Tree], also: Sequence[int]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `grounding.Pen`."""
        return self.reader.read(trees, also)


@dataclass
class Alone(Together):
    """One text with drafts; what was read of it in one go is not read again in the next.

    Attributes:
        scribe: writes. decoder: may have read the prompt.
        start: where in the text the critique begins.
        cost: of all that was written, and of reading the prompt. closest: see `accepting.Greedy`.
    """

    scribe: Scribe
    decoder: FlatDecoder
    start: int
    cost: Tally = field(default_factory=Tally)
    closest: float = float("inf")

    @property
    def watch(self) -> bool:
        """See `grounding.Pen`."""
        return self.scribe.watch

    def write(
        self,
        rows: Sequence[int],
        texts: Sequence[list[int]],
        rules: Sequence[Rule] | None,
        longest: int,
    ) -> list[list[int]]:
        """See `grounding.Pen`."""
        if not texts:
            return []
        scribe, (text,) = self.scribe, texts
        rule = rules[0] if rules else Greedy(self.watch)
        # What a draft had read beyond the text goes; the last token is read for what follows it.
        self.decoder.shelf.cut(0, len(text) - 1)
        (page,), cost = scribe.go_on([text], [self.start], longest, self.decoder, [rule])
        self._count(cost, rule)
        if not (isinstance(rule, Grounded) and rule.stopped):
            scribe.learn([page.text[page.start :]])
        return [written(page)]

    def _count(self, cost: Tally, rule: Rule) -> None:
        self.cost.add(cost)
        self.scribe.last = self.cost
        if self.watch and isinstance(rule, Greedy):
            self.scribe.closest = self.closest = min(self.closest, rule.closest)

    def read(
        self, rows: Sequence[int], trees: Sequence[Tree], also: Sequence[int]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """See `grounding.Pen`."""
        self.cost.forwards += len(trees)
        return super().read(rows, trees, also)
