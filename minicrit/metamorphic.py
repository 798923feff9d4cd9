"""The metamorphic violation rate: how often a change that must not move the verdict moves it.

The adversarial suite holds items that are another one changed, by a slip of the pen or an
instruction to the critic: `<id>/<change>`, of source `adversarial/metamorphic_keep/<change>`. A
violation is a verdict (p above the judge's threshold) that differs from the one on the item `<id>`;
which of the two is right does not matter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from minicrit.measures import DRAWS, HALF, Bools, Floats, Truth, entry, mean_of, plain
from minicrit.records import Example
from minicrit.slices import rate
from minicrit.statistics import mcnemar_exact
from minicrit.unseen import Side

NOWHERE = -1


@dataclass(frozen=True)
class Pairs:
    """Changed items and their bases, m of each, by their rows among the examples.

    Attributes:
        changes: (m,) names.
        rows: (m,) of the changed items.
        bases: (m,) of what they are a change of; -1 where that is not among the examples.
    """

    changes: npt.NDArray[np.str_]
    rows: npt.NDArray[np.intp]
    bases: npt.NDArray[np.intp]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Self:
        """All of them, in the order of the examples."""
        places = {e.id: row for row, e in enumerate(examples)}
        found: list[tuple[str, int, int]] = []
        for row, example in enumerate(examples):
            match example.source.split("/"):
                case ["adversarial", "metamorphic_keep", change]:
                    base, slash, end = example.id.rpartition("/")
                    named = slash and end == change
                    found.append((change, row, places.get(base, NOWHERE) if named else NOWHERE))
        changes, rows, bases = zip(*found, strict=True) if found else ((), (), ())
        return cls(np.array(changes, np.str_), np.array(rows, np.intp), np.array(bases, np.intp))

    def only(self, mask: Bools) -> "Pairs":
        """Those where `mask` (m,) is true."""
        return Pairs(self.changes[mask], self.rows[mask], self.bases[mask])

    def scored(self, p: Floats) -> Bools:
        """(m,) whether both have a p; p (n,) is nan where unscored."""
        known = ~np.isnan(p)
        both: Bools = known[self.rows] & known[self.bases] & (self.bases != NOWHERE)
        return both

    def moved(self, p: Floats, threshold: float) -> Bools:
        """(m,) whether the verdicts differ; for pairs that are scored."""
        flagged = p > threshold
        moved: Bools = flagged[self.rows] != flagged[self.bases]
        return moved


def violations(
    p: Floats, examples: Sequence[Example], threshold: float, *, seed: int = 0, draws: int = DRAWS
) -> dict[str, Any] | None:
    """The part of a judge's report on changes that must not move its verdict.

    Args:
        p: (n,) of the examples, nan where unscored.
        examples: n of them.
        threshold: above which p is a verdict of flawed.
        seed: of the resampling.
        draws: resamples of whole groups, and of families, for each interval.

    Returns:
        None without such items. Else `rate` over all pairs of which both are scored and, unless the
        threshold is 0.5, `rate_threshold_half`, both as `measures.mean_of` has them; `changes`, the
        rate by change with Wilson's interval; and `left_out`: how many items have no verdict
        (`unscored`), and how many of the others none on what they are a change of
        (`no_scored_base`).
    """
    pairs = Pairs.of(examples)
    if not len(pairs.rows):
        return None
    both = pairs.only(pairs.scored(p))
    unscored = int(np.isnan(p[pairs.rows]).sum())
    truth = Truth.of([examples[row] for row in both.rows])

    def over_all(limit: float) -> dict[str, Any]:
        moved = both.moved(p, limit).astype(np.float64)
        if not len(moved):
            return entry(math.nan, 0, {})
        return mean_of(moved, truth, seed=seed, draws=draws)

    moved = both.moved(p, threshold)
    return {
        "rate": over_all(threshold),
        **({} if threshold == HALF else {"rate_threshold_half": over_all(HALF)}),
        "changes": {str(name): rate(moved[both.changes == name])
                    for name in np.unique(both.changes)},
        "left_out": {"unscored": unscored,
                     "no_scored_base": len(pairs.rows) - len(both.rows) - unscored},
    }  # fmt: skip


def contrast(a: Side, b: Side, examples: Sequence[Example]) -> dict[str, Any] | None:
    """Two judges by their violations, on the pairs that both scored; None without such items.

    McNemar's test takes pairs as independent.
    """
    pairs = Pairs.of(examples)
    if not len(pairs.rows):
        return None
    both = pairs.only(pairs.scored(a.p) & pairs.scored(b.p))
    first, second = (both.moved(side.p, side.threshold) for side in (a, b))
    only_a, only_b = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    return {"n": len(both.rows), "only_a_moved": only_a, "only_b_moved": only_b,
            "mcnemar_p": plain(mcnemar_exact(only_a, only_b))}  # fmt: skip
