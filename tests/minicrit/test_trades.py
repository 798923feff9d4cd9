"""Trades and prices: figures by hand, and every refusal with its line."""

from datetime import date
from pathlib import Path

import pytest

from minicrit import decisions, trades
from minicrit.trades import read_prices, read_trades

HEAD = "date,instrument,side,size,rationale,exit_date,entry,exit,return,label\n"
GOOD = "2024-01-02,XOM,long,0.1,because,2024-01-05,100,103,,valid\n"


def written(tmp_path: Path, *lines: str, head: str = HEAD) -> Path:
    path = tmp_path / "trades.csv"
    path.write_text(head + "".join(lines))
    return path


def test_returns_by_hand(tmp_path: Path) -> None:
    """103 / 100 - 1 less 10 bp; a short gains what falls; a given return is after costs already."""
    path = written(
        tmp_path, GOOD,
        "2024-01-02,XOM,sell,0.5,because,,100,90,,valid\n",
        "2024-01-02,XOM,Buy,0.5,because,,100,103,0.0285,flawed\n",
    )  # fmt: skip
    trades = read_trades(path, cost_bp=10)
    assert [t.gain for t in trades] == pytest.approx([0.029, 0.099, 0.0285])
    assert [t.side for t in trades] == [1, -1, 1]
    assert (trades[0].opened, trades[0].closed) == (date(2024, 1, 2), date(2024, 1, 5))
    assert trades[1].closed == trades[1].opened
    assert [t.label for t in trades] == ["valid", "valid", "flawed"]
    assert trades[0].domain == "trading"


def test_prices_below_one_and_a_whole_loss_are_prices(tmp_path: Path) -> None:
    """A currency at 0.85, a position of ten times the capital, and what is worth nothing now."""
    trades = read_trades(written(
        tmp_path, GOOD.replace("XOM,long,0.1", "EUR,long,10").replace("100,103", "0.85,0.884"),
        GOOD.replace("100,103", "0.5,0"), GOOD.replace("100,103,,", ",,10,"),
        GOOD.replace("100,103,,", "100,103,-0.01,"),
    ))  # fmt: skip
    assert [t.gain for t in trades] == pytest.approx([0.04, -1.0, 10.0, -0.01])
    assert trades[0].size == 10
    path = tmp_path / "prices.csv"
    path.write_text("date,instrument,close\n2024-01-02,EUR,0.85\n")
    assert read_prices(path) == {"EUR": {date(2024, 1, 2): 0.85}}


@pytest.mark.parametrize(("line", "message"), [
    (GOOD.replace("2024-01-02", "02.01.2024"), "expected date as YYYY-MM-DD, got 02.01.2024"),
    (GOOD.replace("2024-01-05", "2024-01-01"), "expected exit_date on or after date"),
    (GOOD.replace("long", "up"), "expected side of long, buy, short, sell, got up"),
    (GOOD.replace("0.1,", "5 %,"), "expected size as a finite number, got 5 %"),
    (GOOD.replace("0.1,", "50,"), "expected size as a share of the capital, got 50; write 5 %"),
    (GOOD.replace("0.1,", "0,"), "expected size as a share of the capital, got 0"),
    (GOOD.replace("100,103", "100,"), "expected return, or entry and exit, got none"),
    (GOOD.replace("100,103", "0,103"), "expected entry above 0 and exit not below, got 0 and 103"),
    (GOOD.replace("103,,", "103,0.3,"), "expected return within 0.05 of entry and exit (0.0300)"),
    (GOOD.replace("103,,", "103,-0.3,"), "expected return within 0.05 of entry and exit (0.0300)"),
    (GOOD.replace("100,103,,", ",,12.5,"), "expected return as a share of the position, got 12.5"),
    (GOOD.replace("100,103,,", ",,nan,"), "expected return as a finite number, got nan"),
    (GOOD.replace("because", " "), "expected rationale with something in it, got nothing"),
    (GOOD.replace("XOM", ""), "expected instrument with something in it, got nothing"),
    (GOOD.replace("valid", "good"), "expected label of valid, flawed, got good"),
    (GOOD.replace(",valid", ","), "expected a label on every trade or on none, got 1 of 2"),
])  # fmt: skip
def test_a_bad_trade_is_refused_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"trades.csv:3: ") as error:
        read_trades(written(tmp_path, GOOD, line))
    assert message in str(error.value)


def test_no_trades_and_a_missing_column_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r":2: expected at least one trade, got none"):
        read_trades(written(tmp_path))
    with pytest.raises(
        ValueError, match=r":1: .*; symbol: rename .*; instrument: it .*; size: it "
    ):
        read_trades(written(tmp_path, head="date,symbol,side,rationale\n"))


def test_a_trade_listed_twice_is_refused_unless_ids_tell_two_apart(tmp_path: Path) -> None:
    """By its id, whatever else differs; without one by all columns."""
    again = r"trades.csv:3: expected each trade once, got that of line 2 again; take it out"
    with pytest.raises(ValueError, match=again):
        read_trades(written(tmp_path, GOOD, GOOD))
    head = "id," + HEAD
    with pytest.raises(ValueError, match=again):
        read_trades(written(tmp_path, f"t1,{GOOD}", f"t1,{GOOD.replace('0.1', '0.2')}", head=head))
    assert len(read_trades(written(tmp_path, f"t1,{GOOD}", f"t2,{GOOD}", head=head))) == 2


def test_prices_and_their_refusals(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("date,instrument,close\n2024-01-02,A,1.5\n2024-01-03,A,2\n")
    assert read_prices(path) == {"A": {date(2024, 1, 2): 1.5, date(2024, 1, 3): 2.0}}
    for row, message in (
        ("2024-01-03,A,3", "expected each day of an instrument once, got 2024-01-03"),
        ("2024-01-04,A,0", "expected close above 0, got 0"),
        ("2024-01-04,A,x", "expected close as a finite number, got x"),
    ):
        path.write_text(f"date,instrument,close\n2024-01-03,A,2\n{row}\n")
        with pytest.raises(ValueError, match=r"prices.csv:3") as error:
            read_prices(path)
        assert message in str(error.value)


def test_the_readme_names_every_column_of_the_tables() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rest = readme.partition("Columns of LOG:")[2]
    log, _, rest = rest.partition("Of TRADES:")
    book, _, rest = rest.partition("Of PRICES:")
    closes = rest.partition("\n\n")[0]
    for said, columns in (
        (log, decisions.REQUIRED + decisions.OPTIONAL),
        (book, trades.REQUIRED + trades.OPTIONAL),
        (closes, trades.PRICE_COLUMNS),
    ):
        assert [name for name in columns if f"`{name}`" not in said] == []
