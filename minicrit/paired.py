"""Two judges on the same items: bounds, equivalence, multiplicity, what can be found at all.

Pure functions of drawn differences and of p values.
"""

# mypy: disable-error-code="import-untyped"
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from minicrit.statistics import Difference, percentiles

Floats = npt.NDArray[np.float64]
LEVEL = 0.95  # of the bounds of differences
#: Loss of a metric -> probability that none of the items that it takes is among those drawn.
Unseen = Callable[[float], float]


@dataclass(frozen=True)
class Drawn:
    """A bootstrap with the corrections of BCa (Efron 1987).

    Attributes:
        known: the defined draws.
        bias: by how much more of them lie below the value than above, as a normal quantile.
        bend: how fast their spread changes with the value (the acceleration).
    """

    known: Floats
    bias: float = 0.0
    bend: float = 0.0

    @classmethod
    def of(cls, value: float, drawn: Floats, left_out: Floats) -> Self:
        """From the statistic on the data, on each draw (B,), and without each group (G,).

        Where the corrections are undefined (all draws on one side of the value, or nan among the
        left-out) there are none, and the bounds are plain percentiles.
        """
        known = drawn[~np.isnan(drawn)]
        if not len(known) or np.isnan(left_out).any():
            return cls(known)
        below = (np.sum(known < value) + np.sum(known <= value)) / 2 / len(known)
        if not 0 < below < 1:
            return cls(known)
        away = left_out.mean() - left_out
        spread = float((away**2).sum())
        bend = float((away**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
        return cls(known, float(special.ndtri(below)), bend)

    def bounds(self, level: float = 0.95) -> tuple[float, float]:
        """Bounds that hold the true value in a share `level` of repetitions."""
        moved = self.bias + special.ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
        if np.any(1 - self.bend * moved <= 0):
            return percentiles(self.known, level)
        shares = special.ndtr(self.bias + moved / (1 - self.bend * moved))
        low, high = np.quantile(self.known, shares)
        return float(low), float(high)

    def at_most(self, limit: float) -> float:
        """One-sided p that the true value is at most `limit`: where a bound would reach it."""
        return _p(int(np.sum(self.known <= limit)), len(self.known), self.bias, self.bend)

    def at_least(self, limit: float) -> float:
        """One-sided p that the true value is at least `limit`."""
        return _p(int(np.sum(self.known >= limit)), len(self.known), -self.bias, -self.bend)


def _p(count: int, draws: int, bias: float, bend: float) -> float:
    """(1 + count) / (1 + draws), corrected as the bounds are; never below 1 / (1 + draws).

    The correction of a share that no draw backs is a matter of the normal's far tail alone.
    """
    least = 1 / (1 + draws)
    share = (1 + count) * least
    away = float(special.ndtri(share)) - bias
    if share >= 1 or 1 + bend * away <= 0:
        return share
    return max(least, float(special.ndtr(away / (1 + bend * away) - bias)))


def least_p(clusters: int) -> float:
    """The least two-sided p that so many clusters can give: 2^(1 - G), 0.03 from six.

    That is the chance at which all of them speak for the same judge, whoever is better.
    """
    return 2.0 ** (1 - clusters)


def difference(
    value: float, drawn: Floats, left_out: Floats, n: int, *, apart: int | None = None
) -> Difference:
    """A difference with BCa bounds (95 %) and the two-sided p at which a bound touches zero.

    No p is below `least_p` of the clusters in which the judges differ: those in which they do not
    say nothing, as in McNemar's test. Where that alone lifts p above 5 %, the bounds are drawn out
    to zero. Undefined as in `statistics.percentiles`.

    Args:
        value: the difference.
        drawn: (B,) of it.
        left_out: (G,) it without each cluster.
        n: items.
        apart: clusters in which the judges differ; all of them unless given.
    """
    if math.isnan(percentiles(drawn, LEVEL)[0]):
        return Difference(value, math.nan, math.nan, math.nan, n)
    found = Drawn.of(value, drawn, left_out)
    low, high = found.bounds(LEVEL)
    least = least_p(len(left_out) if apart is None else apart)
    p = min(1.0, max(2 * min(found.at_most(0.0), found.at_least(0.0)), least))
    if least > 1 - LEVEL:
        low, high = min(low, 0.0), max(high, 0.0)
    return Difference(value, low, high, p, n)


def one_sided(
    value: float, drawn: Floats, left_out: Floats, margin: float, unseen: tuple[Unseen, Unseen],
    *, held: int | None = None,
) -> tuple[float, float]:  # fmt: skip
    """P that the difference is at most -margin, and p that it is at least +margin.

    Two one-sided tests (Schuirmann 1987): the first, if small, says that A is not below B by the
    margin; the second that it is not above; the larger of them, that they are equivalent.

    Draws know only what was seen to differ. What would take a judge from the difference that was
    seen to the margin may by chance not be among the items at all, and neither p is below the
    probability of that. Where a share w of all units is worse n units show none of them with
    probability (1 - w)^n: of a plain rate, without a gain, 0.20 for a margin of 0.02 and 80 units,
    and at most 0.05 from 149 units on. Nor is either below half of `least_p`: few clusters that
    all happen to lie on one side, 2^-G of worlds, hardly move any draw.

    Args:
        value: the difference, A minus B.
        drawn: (B,) of it.
        left_out: (G,) it without each group.
        margin: above 0.
        unseen: of A and of B, by how much of the metric it would have to lose.
        held: clusters with items that the metric is over; all of them unless given.

    Returns:
        Both; nan as in `statistics.percentiles`.
    """
    check_margin("margin", margin)
    if math.isnan(percentiles(drawn, LEVEL)[0]):
        return math.nan, math.nan
    found = Drawn.of(value, drawn, left_out)
    floor = least_p(len(left_out) if held is None else held) / 2
    least = [max(floor, hidden(margin + max(0.0, gain)))
             for hidden, gain in zip(unseen, (value, -value), strict=True)]  # fmt: skip
    return max(found.at_most(-margin), least[0]), max(found.at_least(margin), least[1])


def none_of(share: float, units: int) -> float:
    """Probability that `units` drawn independently show none of a share of all."""
    return float(max(0.0, 1 - share) ** units)


def check_margin(name: str, margin: float) -> None:
    """ValueError for a margin by which nothing can be shown; `name` is that of the setting."""
    if not margin > 0:
        raise ValueError(f"{name}: expected more than 0, got {margin:g}; say how much worse still "
                         "counts as no worse")  # fmt: skip


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values, in the order given (Holm 1979).

    Reject those <= alpha, and at most a share alpha of such sets of tests holds a false rejection.
    """
    order = sorted(range(len(p)), key=lambda at: p[at])
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, at in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[at]))
        adjusted[at] = highest
    return adjusted


def pairs_needed(gap: float, discordance: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Items for McNemar's test to find a gap in accuracy (Connor 1987).

    n = (z_{alpha/2} sqrt(psi) + z_{power} sqrt(psi - d^2))^2 / d^2, psi the share of items on which
    one judge is right and the other is not, d the gap, 0 < d <= psi.
    """
    if not 0 < gap <= discordance <= 1:
        raise ValueError(f"expected 0 < gap <= discordance <= 1, got {gap:g} and {discordance:g}; "
                         "judges cannot differ more than they disagree")  # fmt: skip
    z_alpha, z_power = special.ndtri(1 - alpha / 2), special.ndtri(power)
    root = z_alpha * math.sqrt(discordance) + z_power * math.sqrt(discordance - gap**2)
    return float((root / gap) ** 2)


def detectable(n: int, discordance: float, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """The least gap in accuracy that n items find with this power; None if none can be found."""
    if n < 1 or pairs_needed(discordance, discordance, power, alpha) > n:
        return None
    least = discordance * 1e-6
    if pairs_needed(least, discordance, power, alpha) <= n:
        return least
    return float(optimize.brentq(
        lambda gap: pairs_needed(gap, discordance, power, alpha) - n, least, discordance
    ))  # fmt: skip
