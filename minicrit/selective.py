"""What is left wrong if the critic may abstain where it is least sure.

Sure means far from the threshold: |logit p - logit threshold|. The verdicts are ordered by it, the
surest first; the risk at a coverage is the share of wrong verdicts among that share of the items,
and the area under the curve (AURC) is its mean over all coverages: 0 where nothing is wrong, below
the error rate where the critic knows what it does not know.
"""

# mypy: disable-error-code="import-untyped"
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from minicrit.statistics import wilson

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MIN_P = 1e-15  # log-odds beyond +-34.5 are cut off
MAX_POINTS = 101
WIDTHS = np.arange(0.0, 4.01, 0.1)  # half widths of the abstain band, in log-odds


def logit(p: Floats) -> Floats:
    """Log-odds of p in [0, 1]; finite."""
    return np.asarray(special.logit(np.clip(p, MIN_P, 1 - MIN_P)), dtype=np.float64)


def sureness(p: Floats, threshold: float) -> Floats:
    """Distance of each p from the threshold, in log-odds; p and 1 - p are equally far from 1/2."""
    away = np.abs(logit(p) - logit(np.array(threshold)))
    return np.asarray(np.round(away, 12), dtype=np.float64)


def aurc(p: Floats, flawed: Bools, threshold: float, *, weights: Floats | None = None) -> float:
    """Area under the risk-coverage curve; items that are equally sure enter together.

    Geifman et al. 2019, arXiv 1805.08206. Weights as in `scores`.
    """
    counts = np.ones(len(p)) if weights is None else weights
    mass, risk = _curve(p, flawed, threshold, counts)
    total = float(mass.sum())
    return float(mass @ risk) / total if total else math.nan


def risk_coverage(p: Floats, flawed: Bools, threshold: float) -> list[list[float]]:
    """[coverage, risk] from the surest items on, at most 101 points."""
    mass, risk = _curve(p, flawed, threshold, np.ones(len(p)))
    coverage = np.cumsum(mass) / mass.sum()
    keep = np.unique(np.linspace(0, len(mass) - 1, min(len(mass), MAX_POINTS)).astype(int))
    return [[round(float(coverage[n]), 6), round(float(risk[n]), 6)] for n in keep]


def abstain_band(
    p: Floats, flawed: Bools, threshold: float, max_risk: float
) -> dict[str, Any] | None:
    """The narrowest band around the threshold outside of which few verdicts are wrong.

    Half widths are tried in log-odds from 0 on; the first is taken for which Wilson's upper bound
    (95 %) of the error rate of what is left is at most `max_risk`. It is chosen on the items that
    it is reported on, so it is an estimate, not a guarantee. None if no width will do.
    """
    wrong = (p > threshold) != flawed
    away = sureness(p, threshold)
    middle = float(logit(np.array(threshold)))
    for width in WIDTHS:
        kept = away >= width
        risk = wilson(int(wrong[kept].sum()), int(kept.sum()))
        if risk.n and risk.high <= max_risk:
            low, high = (float(special.expit(middle + side * width)) for side in (-1, 1))
            return {"low": low, "high": high, "coverage": risk.n / len(p), "n": risk.n,
                    "risk": risk.value, "risk_high": risk.high}  # fmt: skip
    return None


def outside(
    p: Floats, flawed: Bools, threshold: float, band: tuple[float, float]
) -> dict[str, Any]:
    """Coverage outside of a band of p (bounds count as outside), and the share wrong there."""
    kept = (p <= band[0]) | (p >= band[1])
    wrong = wilson(int(((p > threshold) != flawed)[kept].sum()), int(kept.sum()))
    rate = {"value": wrong.value, "low": wrong.low, "high": wrong.high, "n": wrong.n}
    return {"coverage": float(kept.mean()), "wrong": rate if wrong.n else None}


def _curve(p: Floats, flawed: Bools, threshold: float, weights: Floats) -> tuple[Floats, Floats]:
    """Weight of the items of each sureness, surest first, and the risk down to there."""
    _, codes = np.unique(-sureness(p, threshold), return_inverse=True)
    wrong = (p > threshold) != flawed
    mass = np.asarray(np.bincount(codes, weights=weights), dtype=np.float64)
    errors = np.cumsum(np.bincount(codes, weights=weights * wrong))
    covered = np.cumsum(mass)
    return mass, np.divide(errors, covered, out=np.zeros_like(mass), where=covered > 0)
