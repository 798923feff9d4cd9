"""Trades and prices as people keep them, read strictly from CSV.

A trade needs date, instrument, side, size, rationale, and either its return or entry and exit
price; a file of prices (date, instrument, close) marks it to market on the days in between.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NoReturn

from minicrit.jsonl import shown
from minicrit.tabular import table_rows
from minicrit.taxonomy import DOMAINS, LABELS

REQUIRED = ("date", "instrument", "side", "size", "rationale")
OPTIONAL = ("exit_date", "entry", "exit", "return", "label", "domain", "id", "strategy",
            "flaw_type")  # fmt: skip
PRICE_COLUMNS = ("date", "instrument", "close")
SIDES = {"long": 1, "buy": 1, "short": -1, "sell": -1}
_MAX_SIZE, _MAX_RETURN = 10.0, 10.0
SLACK = 0.05  # between a return and that of its prices: costs, and dividends of a long holding

Prices = dict[str, dict[date, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One closed trade.

    Attributes:
        line: where it stands in its file.
        opened: day of the entry.
        closed: day of the exit, the same or a later one.
        instrument: what was traded.
        side: 1 long, -1 short.
        size: position as a share of the capital.
        gain: return on the position after costs, 0.012 for 1.2 %.
        rationale: why it was entered.
        domain: of the rationale.
        label: valid or flawed, if known.
    """

    line: int
    opened: date
    closed: date
    instrument: str
    side: int
    size: float
    gain: float
    rationale: str
    domain: str = "trading"
    label: str | None = None


def read_trades(path: Path, cost_bp: float = 0.0) -> list[Trade]:
    """The trades of a file in its order; every fault is a ValueError with file and line.

    Args:
        path: a .csv or .csv.gz file.
        cost_bp: basis points of the position that a round trip costs, taken off returns that are
            computed from entry and exit; a given return is after costs already.
    """
    seen: dict[str | frozenset[tuple[str, str]], int] = {}
    trades: list[Trade] = []
    for line, row in table_rows(path, REQUIRED, OPTIONAL):
        where = f"{path}:{line}"
        trades.append(_trade(where, line, row, cost_bp))
        first = seen.setdefault(row.get("id") or frozenset(row.items()), line)
        if first != line:
            remedy = "take it out, or give trades that are two an id each"
            _refuse(where, "each trade once", f"that of line {first} again", remedy)
    if not trades:
        raise ValueError(f"{path}:2: expected at least one trade, got none; check the file")
    labelled = sum(trade.label is not None for trade in trades)
    if 0 < labelled < len(trades):
        line = next(trade.line for trade in trades if trade.label is None)
        raise ValueError(f"{path}:{line}: expected a label on every trade or on none, got "
                         f"{labelled} of {len(trades)}; fill them in or remove the column"
                         )  # fmt: skip
    return trades


def read_prices(path: Path) -> Prices:
    """Closing prices by instrument and day; every fault is a ValueError with file and line."""
    found: Prices = {}
    for line, row in table_rows(path, PRICE_COLUMNS):
        where = f"{path}:{line}"
        day, close = _day(where, "date", row["date"]), _number(where, "close", row["close"])
        if close <= 0:
            _refuse(where, "close above 0", row["close"], "leave days without a price out")
        series = found.setdefault(_text(where, "instrument", row["instrument"]), {})
        if day in series:
            _refuse(where, "each day of an instrument once", row["date"], "keep one of them")
        series[day] = close
    return found


def _trade(where: str, line: int, row: Mapping[str, str], cost_bp: float) -> Trade:
    opened = _day(where, "date", row["date"])
    closed = _day(where, "exit_date", row["exit_date"]) if row.get("exit_date") else opened
    if closed < opened:
        _refuse(where, "exit_date on or after date", row["exit_date"], "check the two days")
    side = SIDES.get(row["side"].lower())
    if side is None:
        _refuse(where, f"side of {', '.join(SIDES)}", row["side"], "write one of them")
    size = _number(where, "size", row["size"])
    if not 0 < size <= _MAX_SIZE:
        _refuse(where, "size as a share of the capital", row["size"], "write 5 % as 0.05")
    return Trade(
        line=line, opened=opened, closed=closed, side=side, size=size,
        instrument=_text(where, "instrument", row["instrument"]),
        gain=_gain(where, row, side, cost_bp),
        rationale=_text(where, "rationale", row["rationale"]),
        domain=_choice(where, "domain", row.get("domain") or "trading", DOMAINS),
        label=_choice(where, "label", row["label"], LABELS) if row.get("label") else None,
    )  # fmt: skip


def _gain(where: str, row: Mapping[str, str], side: int, cost_bp: float) -> float:
    """The return as given, else that of the prices less costs."""
    given = _number(where, "return", row["return"]) if row.get("return") else None
    if given is not None and abs(given) > _MAX_RETURN:
        _refuse(where, "return as a share of the position", row["return"], "write 1.2 % as 0.012")
    if not row.get("entry") or not row.get("exit"):
        if given is None:
            _refuse(where, "return, or entry and exit", "none", "fill them in")
        return given
    entry, out = _number(where, "entry", row["entry"]), _number(where, "exit", row["exit"])
    if entry <= 0 or out < 0:
        _refuse(where, "entry above 0 and exit not below", f"{entry:g} and {out:g}", "check them")
    gross = side * (out / entry - 1)
    if given is None:
        return gross - cost_bp / 1e4
    if abs(given - gross) > SLACK:
        _refuse(where, f"return within {SLACK} of entry and exit ({gross:.4f})", f"{given:g}",
                "correct one of them")  # fmt: skip
    return given


def _day(where: str, name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        _refuse(where, f"{name} as YYYY-MM-DD", text or "nothing", "write the day that way")


def _number(where: str, name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or "_" in text:
        _refuse(where, f"{name} as a finite number", text or "nothing", "write 0.012, not 1,2 %")
    return number


def _text(where: str, name: str, text: str) -> str:
    if not text:
        _refuse(where, f"{name} with something in it", "nothing", "fill it in or remove the row")
    return text


def _choice(where: str, name: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        _refuse(where, f"{name} of {', '.join(choices)}", text, "write one of them")
    return text


def _refuse(where: str, expected: str, got: str, remedy: str) -> NoReturn:
    raise ValueError(f"{where}: expected {expected}, got {shown(got)}; {remedy}")
