"""From trades to returns of periods, by hand."""

from datetime import date, timedelta

import numpy as np
import pytest

from minicrit.book import Book, build_book
from minicrit.trades import Trade


def trade(first: int, last: int, gain: float, *, size: float = 0.5, name: str = "A",
          side: int = 1, line: int = 2) -> Trade:  # fmt: skip
    """A trade from the first to the last day of January 2024 (the 1st is a Monday)."""
    return Trade(line=line, opened=date(2024, 1, first), closed=date(2024, 1, last),
                 instrument=name, side=side, size=size, gain=gain, rationale="x")  # fmt: skip


def book(*trades: Trade, period: str = "day", prices=None) -> Book:
    return build_book(trades, period, prices, "trades.csv")


def test_without_prices_the_return_falls_on_the_exit_day() -> None:
    """Two trades close on Wednesday, one on Friday; Monday, Tuesday and Thursday count as zero."""
    made = book(trade(1, 3, 0.02), trade(2, 3, -0.01, size=0.2), trade(3, 5, 0.04))
    assert made.series(np.ones(3)) == pytest.approx([0, 0, 0.01 - 0.002, 0, 0.02])
    assert made.series(np.array([1, 0, 0.5])) == pytest.approx([0, 0, 0.01, 0, 0.01])
    assert (made.starts[0], len(made.starts)) == (date(2024, 1, 1), 5)
    assert made.years == pytest.approx(5 / 365.25)
    assert made.periods == pytest.approx(5 / made.years)
    assert made.turnover(np.ones(3)) == pytest.approx(2 * 1.2 / made.years)
    assert made.busy(np.ones(3)) == 1
    assert made.busy(np.array([0, 0, 1])) == pytest.approx(3 / 5)


def test_with_prices_a_trade_is_marked_every_day_and_ends_at_its_own_return() -> None:
    """Short at 100, then 90, 99, 80: +10 %, -9 %, +19 % of the entry; costs of 1 % on the last."""
    closes = dict(zip((date(2024, 1, d) for d in (2, 3, 5, 8)), (100, 90, 99, 80), strict=True))
    made = book(trade(2, 8, 0.19, side=-1), prices={"A": closes})
    assert made.starts == list(closes)  # the calendar is that of the prices
    assert made.series(np.ones(1)) == pytest.approx([0, 0.05, -0.045, 0.5 * (0.19 - 0.01)])
    assert made.series(np.ones(1)).sum() == pytest.approx(0.5 * 0.19)


def test_what_the_prices_leave_to_the_last_day_is_known() -> None:
    """Closes of 100, 102 and, split in two, 52: of +4 % they tell +2 % and -50 %; 52 % are left."""
    closes = dict(zip((date(2024, 1, d) for d in (2, 3, 4)), (100, 102, 52), strict=True))
    made = book(trade(2, 4, 0.04), trade(2, 3, 0.019), trade(3, 3, 0.5), prices={"A": closes})
    assert made.rests == pytest.approx([0.52, -0.001, 0])
    assert book(trade(2, 4, 0.04)).rests == pytest.approx([0])


def test_weeks_and_months_hold_the_sum_of_their_days() -> None:
    trades = (trade(1, 3, 0.02), trade(4, 9, 0.04), trade(10, 31, 0.01))
    days, weeks, months = (book(*trades, period=p).series(np.ones(3))
                           for p in ("day", "week", "month"))  # fmt: skip
    assert weeks == pytest.approx([0.01, 0.02, 0, 0, 0.005])
    assert months == pytest.approx([0.035])
    assert days.sum() == pytest.approx(0.035)


def test_a_trade_on_a_saturday_makes_every_day_count() -> None:
    assert len(book(trade(5, 9, 0.1)).starts) == 3
    assert len(book(trade(6, 9, 0.1)).starts) == 4


def test_a_trade_that_the_prices_do_not_cover_is_refused() -> None:
    with pytest.raises(ValueError, match=r"trades.csv:7: expected a price of A on 2024-01-03, got"):
        book(trade(2, 3, 0.1, line=7), prices={"A": {date(2024, 1, 2): 1.0}})


def test_annual_figures_do_not_depend_on_how_empty_days_are_counted() -> None:
    """The same trades on a calendar of weekdays and of all days: mean and sum agree a year."""
    gains = np.random.default_rng(0).normal(0.01, 0.02, 20)
    some = [trade(d, d, g) for d, g in zip([1, 2, 3, 4, 5] * 4, gains, strict=True)]
    weekend = [*some, trade(6, 7, 0.0, size=0.001)]
    one, two = book(*some, trade(8, 8, 0.0)), book(*weekend, trade(8, 8, 0.0))
    means = [b.series(np.ones(b.sizes.size)).mean() * b.periods for b in (one, two)]
    assert means[0] == pytest.approx(means[1])
    assert two.starts[-1] - two.starts[0] == timedelta(days=7)
