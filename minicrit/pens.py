"""Who holds the pen while a critic writes: many texts together, or one with drafts."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from minicrit.accepting import Rule
from minicrit.decoding import greedy
from minicrit.flat_decoding import FlatDecoder
from minicrit.packing import Tree
from minicrit.reader import Reader
from minicrit.scribe import Scribe
from minicrit.speculation import Tally


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
        cost: of all that was written. closest: see `accepting.Greedy`.
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
        scribe = self.scribe
        found = scribe.write(texts, [self.start], longest, self.decoder, rules)
        self.cost.add(scribe.last)
        scribe.last = self.cost
        if scribe.closest is not None:
            scribe.closest = self.closest = min(self.closest, scribe.closest)
        return found
