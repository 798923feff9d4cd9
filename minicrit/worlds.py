"""Worlds to compare a gate with: one that drops at random, one that knows, one without any link.

To leave out trades changes a Sharpe ratio whoever chooses them: less is spread, more money lies
idle. So what a gate is worth is its difference less that of gates that drop as many at random.
Flags are (n,) bools, one a trade.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from minicrit.book import Book
from minicrit.ledoit_wolf import standard_error
from minicrit.sharpe import sharpe_ratio

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_CHUNK = 64  # worlds at once
#: A gate is better than random ones if its `chance` is no more: above the 95 % in their middle.
SURE = 0.025
_Z = 1.959963984540054  # of a two-sided 95 % interval
_TIE = 1e-9  # Sharpe ratios that differ by less are the same one


@dataclass(frozen=True)
class Worlds:
    """Sharpe ratios per period (draws,) of random gates, and a band of their running sums.

    Attributes:
        ratios: after each gate; nan where nothing is left that varies.
        band: (3, T) 2.5 %, 50 % and 97.5 % of the running sum in each period.
    """

    ratios: Floats
    band: Floats


def weights_of(flagged: Bools, kept: float) -> Floats:
    """1 for what passes, `kept` for what is flagged: 0 drops it, 0.5 halves it."""
    return np.where(flagged, kept, 1.0)


def exchange(flagged: Bools, blocks: Sequence[str], draws: int, rng: np.random.Generator) -> Bools:
    """Flags (n, draws), each column with as many of them in every block as there are now.

    Exchanging flags within a block is exchanging outcomes between its trades, but leaves the book,
    its days and its overlaps as they were.
    """
    names = np.unique(np.array(blocks), return_inverse=True)[1]
    keys = rng.random((len(flagged), draws))
    keys += names[:, None]
    home = np.argsort(names, kind="stable")
    found = np.empty((len(flagged), draws), dtype=np.bool_)
    for at in range(0, draws, _CHUNK):  # sorting all at once takes as much memory again
        some = slice(at, at + _CHUNK)
        order = np.argsort(keys[:, some], axis=0)  # trades of a block stay together, shuffled
        found[home, some] = flagged[order]
    return found


def exchangeable(flagged: Bools, blocks: Sequence[str]) -> float:
    """Share of the trades in blocks that hold flagged and other ones: the rest cannot move."""
    names = np.unique(np.array(blocks), return_inverse=True)[1]
    sizes, marks = np.bincount(names), np.bincount(names, weights=flagged)
    return float(np.mean(((marks > 0) & (marks < sizes))[names]))


def random_gates(
    book: Book,
    flagged: Bools,
    kept: float,
    *,
    blocks: Sequence[str] | None = None,
    draws: int,
    seed: int,
) -> Worlds:
    """Gates that flag as many trades at random: over all (placebo), or block by block (null)."""
    rng = np.random.default_rng(seed)
    flags = exchange(flagged, blocks or [""] * len(flagged), draws, rng)
    ratios, sums = np.empty(draws), np.empty((len(book.starts), draws), dtype=np.float32)
    for at in range(0, draws, _CHUNK):
        some = slice(at, at + _CHUNK)
        series = book.series(weights_of(flags[:, some], kept))
        ratios[some] = [sharpe_ratio(column) for column in series.T]
        sums[:, some] = np.cumsum(series, axis=0)
    return Worlds(ratios, np.quantile(sums, [0.025, 0.5, 0.975], axis=1))


def false_alarms(
    book: Book,
    flagged: Bools,
    kept: float,
    *,
    blocks: Sequence[str],
    draws: int,
    seed: int,
) -> float:
    """Share of null worlds in which the kernel interval of "after less before" promises a gain.

    A gain is promised if the whole interval lies above zero, which should be 2.5 % or rarer.
    """
    rng = np.random.default_rng(seed)
    flags = exchange(flagged, blocks, draws, rng)
    before = book.series(np.ones(len(flagged)))
    alarms, known = 0, 0
    for column in flags.T:
        pair = np.stack([before, book.series(weights_of(column, kept))], axis=1)
        error = standard_error(pair)
        if error > 0:
            known += 1
            alarms += sharpe_ratio(pair[:, 1]) - sharpe_ratio(pair[:, 0]) > _Z * error
    return alarms / known if known else float("nan")


def chance(ratios: Floats, ratio: float) -> float:
    """Chance of a random gate at least as good: (1 + as good) / (1 + draws); undefined is good.

    Exact under exchangeable trades, whatever the returns (Phipson and Smyth 2010). Books of fixed
    stops and targets often tie, but for the order in which their returns were summed.
    """
    return float((1 + np.sum(~(ratios < ratio - _TIE))) / (1 + len(ratios)))
