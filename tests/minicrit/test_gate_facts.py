"""The figures of a gate's report, by hand."""

# mypy: disable-error-code="import-untyped"
import math
from datetime import date

import numpy as np
import pytest
from scipy import sparse

from minicrit.book import Book
from minicrit.gate_config import SharpeConfig
from minicrit.gate_facts import book_facts, difference_facts, verdict_facts
from minicrit.gating import _against
from minicrit.sharpe import best_of_trials, probabilistic_sharpe

#: Of two trades in four quarters of two years; the second is open in one of them.
BOOK = Book(
    starts=[date(2024, month, 1) for month in (1, 4, 7, 10)],
    earned=sparse.csr_array(np.zeros((4, 2))),
    open=sparse.csr_array(np.array([[0.5, 0], [0.5, 0], [0, 0.25], [0, 0]])),
    sizes=np.array([0.5, 0.25]), rests=np.zeros(2), periods=4.0, years=2.0,
)  # fmt: skip


def test_a_book_by_hand() -> None:
    """Quarters of 3, -1, 1 and 1: mean 1, deviation sqrt(2), twice as much a year as a quarter.

    Sums 3, 2, 3, 4 fall by 1. All of half the capital and half of a quarter are bought and sold
    within two years: 2 (0.5 + 0.125) / 2.
    """
    series = np.array([3.0, -1.0, 1.0, 1.0])
    settings = SharpeConfig(trials=7, trials_spread=0.6)
    found = book_facts(BOOK, np.array([1.0, 0.5]), series, settings)
    assert found["sharpe"] == pytest.approx(2 / math.sqrt(2), abs=1e-6)
    assert (found["mean"], found["total"], found["drawdown"]) == (4, 4, 1)
    assert found["volatility"] == pytest.approx(2 * math.sqrt(2), abs=1e-6)
    assert (found["trades"], found["turnover"], found["busy"]) == (2, 0.625, 0.75)
    assert found["psr"] == pytest.approx(probabilistic_sharpe(series), abs=1e-6)
    best = best_of_trials(7, 0.3)  # 0.6 a year is 0.3 a quarter
    assert found["dsr"] == pytest.approx(probabilistic_sharpe(series, best), abs=1e-6)
    alone = book_facts(BOOK, np.array([1.0, 0.0]), series, settings)
    assert (alone["trades"], alone["turnover"], alone["busy"]) == (1, 0.5, 0.5)


def test_the_difference_of_two_books_by_hand() -> None:
    """Before 1 +- 1, after 1 +- 1/2, each pair of signs 18 times: ratios 1 and 2, correlation 0.

    Memmel: T Var = 2 + (1 + 4) / 2 = 4.5, so of 72 quarters an error of 1/4 around 1, four of which
    are two-sided 0.000063. A gain of 0.5 a year needs (1.644854 + 0.841621)^2 4.5 / 0.25 years.
    """
    signs = np.random.default_rng(0).permutation(np.tile([[1, 1], [1, -1], [-1, 1], [-1, -1]],
                                                         (18, 1)))  # fmt: skip
    before, after = (1 + signs * [1.0, 0.5]).T
    settings = SharpeConfig(gain=0.5, draws=200)
    found = difference_facts(BOOK, before, after, settings, 0)
    assert (found["value"], found["rho"]) == pytest.approx((2, 0))
    limits = [2 * (1 + side * 1.959964 / 4) for side in (-1, 1)]
    assert [found["memmel_low"], found["memmel_high"]] == pytest.approx(limits, abs=1e-5)
    assert found["memmel_p"] == pytest.approx(0.000063, abs=1e-6)
    proof = 2.486475**2 / 0.5**2
    assert found["years_memmel"] == pytest.approx(4.5 * proof, rel=1e-5)
    assert found["years"] == pytest.approx((found["error"] / 2) ** 2 * 72 * proof, rel=1e-4)
    back = difference_facts(BOOK, after, before, settings, 0)
    assert [back[key] for key in ("value", "low", "high", "memmel_low", "memmel_p")] == (
        pytest.approx([-2, -found["high"], -found["low"], -limits[1], found["memmel_p"]], abs=1e-5)
    )


def test_what_could_not_be_read_passed_and_has_no_place_among_the_probabilities() -> None:
    """Of three flawed trades one is flagged, of four valid ones one; of each one is unread."""
    p = np.array([0.9, 0.2, np.nan, 0.8, 0.1, 0.1, np.nan])
    found = verdict_facts(p, p > 0.5, np.arange(7) < 3)
    assert (found["f1"], found["auroc"]) == (0.4, pytest.approx(5 / 6, abs=1e-6))
    assert (found["recall"]["value"], found["recall"]["n"]) == (pytest.approx(1 / 3, abs=1e-6), 3)
    assert (found["fpr"]["value"], found["fpr"]["n"]) == (0.25, 4)
    unread = verdict_facts(np.full(2, np.nan), np.zeros(2, dtype=bool), np.array([True, False]))
    assert (unread["auroc"], unread["recall"]["value"], unread["fpr"]["value"]) == (None, 0, 0)


def test_a_gate_against_random_ones_by_hand() -> None:
    """Ratios of 0 to 4 a quarter, twice as much a year; 4 and what is undefined are as good."""
    found = _against(np.array([3.0, math.nan, 0.0, 4.0, 1.0, 2.0]), 4.0, 2.0)
    assert [found[key] for key in ("low", "median", "high", "gain", "draws")] == (
        pytest.approx([0.2, 4, 7.8, 4, 6])
    )
    assert found["p"] == pytest.approx(3 / 7)
