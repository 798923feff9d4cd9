"""Two judges on the same items: bounds, equivalence, multiplicity, what can be found at all.

Pure functions of drawn differences and of p values.
"""

# mypy: disable-error-code="import-untyped"
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from minicrit.statistics import Difference, percentiles

Floats = npt.NDArray[np.float64]


def bca(value: float, drawn: Floats, left_out: Floats, level: float = 0.95) -> tuple[float, float]:
    """Bias-corrected and accelerated bounds of a bootstrap (Efron 1987).

    Args:
        value: the statistic on the data.
        drawn: (B,) the statistic on each draw.
        left_out: (G,) the statistic without each group, for the acceleration.
        level: share of repetitions in which the interval is to hold the true value.

    Returns:
        Percentiles moved by how much the draws lie to one side of the value and by how their
        spread changes with it; plain percentiles where that is undefined (all draws on one side,
        or nan among the left-out). nan as in `statistics.percentiles`.
    """
    plain = percentiles(drawn, level)
    known = drawn[~np.isnan(drawn)]
    if math.isnan(plain[0]) or np.isnan(left_out).any():
        return plain
    below = (float(np.sum(known < value)) + float(np.sum(known <= value))) / 2 / len(known)
    if not 0 < below < 1:
        return plain
    bias = float(special.ndtri(below))
    away = left_out.mean() - left_out
    spread = float((away**2).sum())
    bend = float((away**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    moved = bias + special.ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    if np.any(1 - bend * moved <= 0):
        return plain
    shares = special.ndtr(bias + moved / (1 - bend * moved))
    low, high = np.quantile(known, shares)
    return float(low), float(high)


def difference(value: float, drawn: Floats, left_out: Floats, n: int) -> Difference:
    """A difference with its BCa bounds (95 %) and the p of `statistics.paired_bootstrap`."""
    low, high = bca(value, drawn, left_out)
    if math.isnan(low):
        return Difference(value, low, high, math.nan, n)
    known = drawn[~np.isnan(drawn)]
    rarer = min(int(np.sum(known <= 0)), int(np.sum(known >= 0)))
    return Difference(value, low, high, min(1.0, 2 * (1 + rarer) / (1 + len(known))), n)


def one_sided(drawn: Floats, margin: float) -> tuple[float, float]:
    """P that the difference is at most -margin, and p that it is at least +margin.

    Two one-sided tests (Schuirmann 1987): the first, if small, says that A is not below B by the
    margin; the second that it is not above; the larger of them, that they are equivalent. Each is
    (1 + k) / (1 + B) with k the draws on the wrong side of its margin.
    """
    if not margin > 0:
        raise ValueError(f"expected a margin above 0, got {margin:g}; say what is still as good")
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return math.nan, math.nan
    below, above = int(np.sum(known <= -margin)), int(np.sum(known >= margin))
    return (1 + below) / (1 + len(known)), (1 + above) / (1 + len(known))


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
