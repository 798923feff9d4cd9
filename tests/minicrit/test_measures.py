"""What is said of one judge: rates over the right items, at its threshold and at one half."""

import numpy as np
import pytest

from minicrit.measures import Truth, measure
from minicrit.statistics import wilson

P = np.array([0.9, 0.6, 0.2, 0.7, 0.4, 0.1, 0.3, 0.55])
TRUTH = Truth(
    flawed=np.array([True, True, True, False, False, False, False, False]),
    groups=np.array(list("aabbccdd")), families=np.array(list("xxxxyyyy")), costs=np.ones(8),
)  # fmt: skip


def test_rates_at_both_thresholds_by_hand():
    """Above 0.65 are 1 of 5 valid and 1 of 3 flawed ones, above a half 2 and 2."""
    found = measure(P, TRUTH, 0.65, draws=50)
    for name, hits, n in (("fpr", 1, 5), ("fpr_threshold_half", 2, 5), ("recall", 1, 3),
                          ("recall_threshold_half", 2, 3)):  # fmt: skip
        assert (found[name]["value"], found[name]["n"]) == (pytest.approx(hits / n, abs=1e-6), n)
        limits = wilson(hits, n)
        assert found[name]["intervals"]["wilson"] == pytest.approx(
            [limits.low, limits.high], abs=1e-6
        )
    assert "fpr_threshold_half" not in measure(P, TRUTH, 0.5, draws=50)
