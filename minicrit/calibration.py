"""Calibration: what p(flawed) is worth, and a threshold with a guarantee. Pure functions.

The guarantee: of n valid items drawn independently from one source, take the (k+1)-th largest score
as the threshold t and flag what scores above it. The true false-positive rate is then distributed
as Beta(k+1, n-k) at worst (ties only lower it), so it exceeds alpha with probability
P(Bin(n, alpha) <= k). The largest k for which that is at most delta is taken, and t is raised by
`ROUNDING` of its log-odds, which only lowers the rate.

It speaks of new items *from the same source*. Twins share their wording, so one valid item of each
group is drawn; families share their scenario, and nothing is promised for a family that is not
among the calibration items. `family_shift` shows how much that matters.
"""

# mypy: disable-error-code="import-untyped"
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from minicrit import scores
from minicrit.calibrated import Scale
from minicrit.statistics import wilson

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Names = npt.NDArray[np.str_]

FAMILIES = 3  # least number of which a domain's own temperature is taken
COLDEST, WARMEST = 0.05, 100.0  # bounds of a temperature; labels that p separates have no optimum
FURTHEST = 20.0  # bound of a shift, in nats
#: A score in service may differ by less from the same one in fitting, which is computed another way
#: (by 1e-12 or so); items that tie with the threshold must not all be flagged for that. In nats: a
#: fixed step of p would carry a threshold near 1 beyond it, and nothing would ever be flagged.
ROUNDING = 1e-6
SHIFTED = 0.05  # level of the test by which items show a shift


@dataclass(frozen=True)
class Certificate:
    """P(false-positive rate > alpha) <= delta for the threshold, over new valid items.

    Attributes:
        alpha: the limit. delta: chance that the limit does not hold all the same.
        n: valid items that it rests on. k: of them, how many may score above the threshold.
        threshold: flag what scores above it.
    """

    alpha: float
    delta: float
    n: int
    k: int
    threshold: float


def largest_k(n: int, alpha: float, delta: float) -> int | None:
    """The largest k with P(Bin(n, alpha) <= k) <= delta; None if not even k = 0 will do."""
    _check_shares(alpha, delta)
    if n < 0:
        raise ValueError(f"expected n >= 0, got {n}; count the valid items")
    k = int(stats.binom.ppf(delta, n, alpha)) if n else 0  # the smallest k with cdf >= delta
    while k >= 0 and stats.binom.cdf(k, n, alpha) > delta:
        k -= 1
    return k if k >= 0 else None


def items_needed(alpha: float, delta: float) -> int:
    """Valid items with which a threshold can be certified: (1 - alpha)^n <= delta."""
    _check_shares(alpha, delta)
    n = max(1, math.ceil(math.log(delta) / math.log1p(-alpha)))
    return n if largest_k(n, alpha, delta) is not None else n + 1


def certify(p: Floats, alpha: float, delta: float) -> Certificate:
    """The lowest threshold that these p of valid items, (n,), allow; at most 1.

    Raises:
        ValueError: if there are too few items for alpha and delta; it says how many are needed.
    """
    k = largest_k(len(p), alpha, delta)
    if k is None:
        raise ValueError(
            f"expected at least {items_needed(alpha, delta)} valid items of different groups to "
            f"certify false positives <= {alpha:g} with confidence {1 - delta:g}, got {len(p)}; "
            "give more calibration items or a higher ALPHA"
        )
    highest = float(np.sort(p)[::-1][k])
    return Certificate(alpha, delta, len(p), k, highest + ROUNDING * highest * (1 - highest))


def scaled(log_odds: Floats, temperature: Floats | float, shift: Floats | float = 0.0) -> Floats:
    """p(flawed) = 1 / (1 + exp(-(z / T + b))); Guo et al. 2017, arXiv 1706.04599; with b, Platt."""
    return np.asarray(special.expit(log_odds / temperature + shift), dtype=np.float64)


def targets(flawed: Bools) -> Floats:
    """What p is fitted to, (n,): for flawed ones (F + 1)/(F + 2), for valid ones 1/(V + 2).

    Platt (1999), section 2.2: labels of few items that p separates would ask for p of 0 and 1.
    """
    num_flawed = int(flawed.sum())
    num_valid = len(flawed) - num_flawed
    return np.where(flawed, (num_flawed + 1) / (num_flawed + 2), 1 / (num_valid + 2))


def fit_temperature(log_odds: Floats, flawed: Bools) -> float:
    """The temperature with the least log loss on the `targets` of these items, in [0.05, 100].

    The loss is convex in 1/T, so the one-dimensional search finds the optimum. Scores that say
    nothing, or the opposite, end at 100 (p near 1/2).
    """
    wanted = targets(flawed)

    def loss(cold: float) -> float:
        odds = cold * log_odds
        return float((np.logaddexp(0.0, odds) - wanted * odds).mean())

    found = optimize.minimize_scalar(loss, bounds=(1 / WARMEST, 1 / COLDEST), method="bounded",
                                     options={"xatol": 1e-8})  # fmt: skip
    return float(1 / found.x)


def fit_scale(log_odds: Floats, flawed: Bools) -> Scale:
    """The temperature, and a shift where the items show one, with the least log loss.

    A critic that was trained on a mixture in which more is flawed than here says `flawed` too
    readily, which no temperature mends. The shift (Platt 1999) is taken if a likelihood-ratio test
    against none rejects at 5 %, so that few items do not make one up. The loss is convex in 1/T
    and the shift.
    """
    temperature = fit_temperature(log_odds, flawed)
    wanted = targets(flawed)

    def loss(at: Floats) -> tuple[float, Floats]:
        odds = log_odds * at[0] + at[1]
        slope = (special.expit(odds) - wanted) / len(odds)
        value = float((np.logaddexp(0.0, odds) - wanted * odds).mean())
        return value, np.array([slope @ log_odds, slope.sum()])

    start = np.array([1 / temperature, 0.0])
    bounds = [(1 / WARMEST, 1 / COLDEST), (-FURTHEST, FURTHEST)]
    found = optimize.minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B",
                              options={"ftol": 1e-14, "gtol": 1e-9})  # fmt: skip
    gain = 2 * len(flawed) * (loss(start)[0] - float(found.fun))
    if gain <= float(stats.chi2.ppf(1 - SHIFTED, 1)):
        return Scale(temperature)
    return Scale(float(1 / found.x[0]), float(found.x[1]))


def fit_scales(
    log_odds: Floats,
    flawed: Bools,
    domains: Names,
    families: Names,
    enough: int,
    *,
    shifted: bool = False,
) -> tuple[Scale, dict[str, Scale]]:
    """The pooled scale, and one for each domain with `enough` items of either label.

    And of `FAMILIES` families: what is fitted to one is that of the family and not of the domain,
    and on others it is worse than the pooled one. Unless `shifted`, it is a temperature alone.
    """

    def fit(rows: Bools | slice) -> Scale:
        if shifted:
            return fit_scale(log_odds[rows], flawed[rows])
        return Scale(fit_temperature(log_odds[rows], flawed[rows]))

    pooled = fit(slice(None))
    own = {}
    for domain in np.unique(domains):
        rows = domains == domain
        several = len(np.unique(families[rows])) >= FAMILIES
        if several and min(int(flawed[rows].sum()), int((~flawed[rows]).sum())) >= enough:
            own[str(domain)] = fit(rows)
    return pooled, own


def believed(flawed: Bools, false: Bools) -> dict[str, Any]:
    """The chance r that a false sum by itself makes a text flawed, from items (n,) each.

    Of those with one a share s is flawed, of all a share q, for this reason or for another:
    1 - s = (1 - q)(1 - r). Both shares are Laplace's, s towards q; so where none was seen, or as
    many are flawed as among all, r is 0, and it is never 1.
    """
    n, k = int(false.sum()), int(flawed[false].sum())
    flawed_share = (int(flawed.sum()) + 1) / (len(flawed) + 2)
    sound = (n - k + 2 * (1 - flawed_share)) / (n + 2)
    return {"believed": max(0.0, 1 - sound / (1 - flawed_share)), "n": n, "k": k}


def domain_certificates(
    p: Floats, domains: Names, every: Names, alpha: float, delta: float
) -> dict[str, dict[str, Any]]:
    """By domain a certificate with delta / #domains, so that all hold together; or what it needs.

    Where a domain has too few items, or none, there is no threshold, but `needed`.

    Args:
        p: of the valid items, (n,).
        domains: of each of them, (n,).
        every: domains of all items, valid or not: all of these are to hold.
        alpha: highest false-positive rate.
        delta: of all domains together.
    """
    names = [str(name) for name in np.unique(every)]
    each = delta / len(names)
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        mine = p[domains == name]
        k = largest_k(len(mine), alpha, each)
        if k is None:
            row: dict[str, Any] = {"needed": items_needed(alpha, each)}
        else:
            row = {"k": k, "threshold": certify(mine, alpha, each).threshold}
        found[name] = {"n": len(mine), "delta": each, **row}
    return found


def family_shift(p: Floats, families: Names, alpha: float, delta: float) -> dict[str, Any]:
    """False positives in each family at a threshold certified on all the others.

    The certificate takes items as independent; this is what it is worth for a scenario that it has
    not seen. `mean` carries Student's interval over the families, each counting once, which is the
    honest unit; families whose others are too few to certify are left out.
    """
    rows: dict[str, dict[str, Any]] = {}
    for family in np.unique(families):
        inside = families == family
        if largest_k(int((~inside).sum()), alpha, delta) is None:
            continue
        limit = certify(p[~inside], alpha, delta).threshold
        rate = wilson(int((p[inside] > limit).sum()), int(inside.sum()))
        rows[str(family)] = {"fpr": rate.value, "low": rate.low, "high": rate.high, "n": rate.n}
    rates = np.array([row["fpr"] for row in rows.values()])
    mean: dict[str, Any] = {"value": float(rates.mean()) if len(rates) else None}
    if len(rates) > 1:
        half = float(stats.t.ppf(0.975, len(rates) - 1) * rates.std(ddof=1) / len(rates) ** 0.5)
        low, high = max(0.0, mean["value"] - half), min(1.0, mean["value"] + half)
        mean |= {"low": low, "high": high}
    return {"families": rows, "mean": mean, "over_alpha": int((rates > alpha).sum())}


def quality(p: Floats, flawed: Bools) -> dict[str, float]:
    """How far p can be believed."""
    return {
        "ece": scores.expected_calibration_error(p, flawed),
        "brier": scores.brier(p, flawed),
        "nll": scores.negative_log_likelihood(p, flawed),
    }


def one_a_group(groups: Sequence[str], keys: Sequence[str]) -> list[int]:
    """Row numbers: of each group the row with the smallest key, in the order of the rows."""
    chosen: dict[str, int] = {}
    for row, group in enumerate(groups):
        best = chosen.get(group)
        if best is None or keys[row] < keys[best]:
            chosen[group] = row
    return sorted(chosen.values())


def _check_shares(alpha: float, delta: float) -> None:
    for name, share in (("alpha", alpha), ("delta", delta)):
        if not 0 < share < 1:
            raise ValueError(f"expected 0 < {name} < 1, got {share:g}; write 8 % as 0.08")
