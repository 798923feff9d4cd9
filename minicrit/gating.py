"""Does the gate earn money: the same trades with and without those that the critic flags.

    minicrit sharpe --sharpe.trades trades.csv --sharpe.model checkpoints/cpu/sft

Writes `<out>.trades.csv` (each trade with its verdict), `<out>.md`, `<out>.html` and, last,
`<out>.json`. Verdicts are kept while they are made, so a killed run goes on; run again, all bytes
are the same.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from minicrit import limits, worlds
from minicrit.book import Book, build_book
from minicrit.config import Recipe
from minicrit.files import sha256_file, write_atomic, write_json
from minicrit.gate_config import SharpeConfig
from minicrit.gate_facts import (
    book_facts,
    difference_facts,
    outcome_facts,
    plain_row,
    verdict_facts,
)
from minicrit.gate_page import gate_html, gate_markdown
from minicrit.judging import Judge, Scores, load_judge, remove_partial, score_items
from minicrit.ledoit_wolf import LEAST_BLOCKS
from minicrit.manifest import provenance
from minicrit.measures import plain
from minicrit.sharpe import sharpe_ratio
from minicrit.tabular import inert, write_table
from minicrit.trades import SLACK, Trade, read_prices, read_trades

Bools = npt.NDArray[np.bool_]
Load = Callable[[str], Judge]

FORM = 2  # of the report; raise it when a key changes its meaning
KEPT = {"drop": 0.0, "halve": 0.5}
LEAST_PERIODS = 30
ALARM_WORLDS = 200
PLOTTED = 240  # points of a curve
_log = logging.getLogger(__name__)


def sharpe(recipe: Recipe, *, load: Load | None = None) -> dict[str, Any]:
    """Judge the trades, measure the gate, write the report, and return what `<out>.json` holds.

    Args:
        recipe: uses `sharpe`, `seed` and `base.folder`.
        load: how a critic is loaded; from its folder unless given.
    """
    settings = recipe.sharpe
    if settings.trades is None:
        raise ValueError("sharpe.trades: expected a CSV, got none; give TRADES=trades.csv")
    limits.require("sharpe", settings)  # now, not after minutes of reading
    trades = read_trades(settings.trades, settings.cost_bp)
    prices = read_prices(settings.prices) if settings.prices else None
    files = [path for path in (settings.trades, settings.prices) if path]
    inputs = {path.as_posix(): sha256_file(path) for path in files}  # now: they may grow meanwhile
    book = build_book(trades, settings.period, prices, str(settings.trades))
    if len(book.starts) < LEAST_PERIODS:
        raise ValueError(f"{settings.trades}: expected trades over at least {LEAST_PERIODS} periods"
                         f", got {len(book.starts)} of a {settings.period}; add trades or choose "
                         "a shorter sharpe.period")  # fmt: skip
    if settings.block > len(book.starts) // LEAST_BLOCKS:
        raise ValueError(f"sharpe.block: expected at most {len(book.starts) // LEAST_BLOCKS} of "
                         f"{len(book.starts)} periods, got {settings.block}; leave it out for the "
                         "default")  # fmt: skip
    judge = (load or partial(load_judge, base_folder=recipe.base.folder))(settings.model)
    scored = score_items(judge, trades, settings.out, batch_tokens=settings.batch_tokens)
    flagged = scored.p > judge.threshold  # what could not be read passes, and is counted
    report = {
        "form": FORM,
        **provenance(recipe.seed, settings, inputs),
        "critic": _critic(judge),
        "trades": _trades(trades, book, settings, scored),
        **_measured(trades, book, flagged, scored, recipe),
    }  # fmt: skip
    _write(settings.out, report, trades, scored, flagged)
    return report


def _critic(judge: Judge) -> dict[str, Any]:
    names = ("name", "identity", "adapter", "prompt_version", "threshold")
    return {name: getattr(judge, name) for name in names}


def _trades(
    trades: Sequence[Trade], book: Book, settings: SharpeConfig, scored: Scores
) -> dict[str, Any]:
    return {
        "n": len(trades),
        "instruments": len({trade.instrument for trade in trades}),
        "first": min(trade.opened for trade in trades).isoformat(),
        "last": max(trade.closed for trade in trades).isoformat(),
        "years": plain(book.years),
        "period": settings.period,
        "periods": len(book.starts),
        "periods_a_year": plain(book.periods),
        "marked": settings.prices is not None,
        "off_prices": _off_prices(trades, book),
        "labelled": trades[0].label is not None,
        "unscored": dict(scored.unscored),
    }


def _off_prices(trades: Sequence[Trade], book: Book) -> dict[str, Any]:
    """Of how many trades the closes leave more to the exit day than costs are, and the worst."""
    found: dict[str, Any] = {"n": int(np.sum(np.abs(book.rests) > SLACK)), "line": None}
    if found["n"]:
        worst = int(np.argmax(np.abs(book.rests)))
        found |= {"line": trades[worst].line, "rest": plain(float(book.rests[worst]))}
    return found


def _measured(
    trades: Sequence[Trade], book: Book, flagged: Bools, scored: Scores, recipe: Recipe
) -> dict[str, Any]:
    """Everything that is computed from the flags."""
    settings = recipe.sharpe
    kept = KEPT[settings.gate]
    gates = {"before": np.zeros_like(flagged), "after": flagged}
    labels = np.array([trade.label == "flawed" for trade in trades])
    if trades[0].label is not None:
        gates["oracle"] = labels
    weights = {name: worlds.weights_of(flags, kept) for name, flags in gates.items()}
    series = {name: book.series(found) for name, found in weights.items()}
    found: dict[str, Any] = {
        "flagged": int(flagged.sum()),
        "verdicts": verdict_facts(scored.p, flagged, labels) if "oracle" in gates else None,
        "books": {name: book_facts(book, weights[name], series[name], settings) for name in gates},
        "differences": {
            name: difference_facts(book, series["before"], series[name], settings, recipe.seed)
            for name in gates if name != "before"
        },
        "per_trade": outcome_facts(trades, flagged, recipe.seed),
    }  # fmt: skip
    found |= _worlds(trades, book, flagged, series, recipe)
    known = "oracle" in gates
    found["oracle_placebo"] = _oracle(book, labels, series["oracle"], recipe) if known else None
    found["capture"] = _capture(found["placebo"], found["oracle_placebo"]) if known else None
    return found


def _worlds(
    trades: Sequence[Trade],
    book: Book,
    flagged: Bools,
    series: dict[str, npt.NDArray[np.float64]],
    recipe: Recipe,
) -> dict[str, Any]:
    """Placebo and null world, and the curves for the page; None where nothing was flagged."""
    settings, kept = recipe.sharpe, KEPT[recipe.sharpe.gate]
    curves = {name: np.cumsum(one) for name, one in series.items()}
    if not flagged.any() or flagged.all():
        return {"placebo": None, "null": None, "curves": _curves(book, curves)}
    annual = np.sqrt(book.periods)
    after = sharpe_ratio(series["after"])
    blocks = [block_of(trade, settings.blocks) for trade in trades]
    draw = partial(worlds.random_gates, book, flagged, kept, draws=settings.placebos)
    rows: dict[str, Any] = {}
    with tqdm(total=2, unit="world", desc="random gates") as bar:
        for name, where in (("placebo", None), ("null", blocks)):
            drawn = draw(blocks=where, seed=recipe.seed)
            rows[name] = plain_row(_against(drawn.ratios, after, annual))
            if name == "placebo":
                lows, middle, highs = drawn.band
                curves |= {"placebo_low": lows, "placebo": middle, "placebo_high": highs}
            bar.update()
    rows["null"] |= plain_row({
        "exchangeable": worlds.exchangeable(flagged, blocks),
        "alarms": worlds.false_alarms(book, flagged, kept, blocks=blocks, draws=ALARM_WORLDS,
                                      seed=recipe.seed),
        "alarm_worlds": ALARM_WORLDS,
    })  # fmt: skip
    return {**rows, "curves": _curves(book, curves)}


def _oracle(
    book: Book, labels: Bools, series: npt.NDArray[np.float64], recipe: Recipe
) -> dict[str, Any] | None:
    """The gate that knows the labels against those that flag as many at random, as `placebo`."""
    if not labels.any() or labels.all():
        return None
    drawn = worlds.random_gates(book, labels, KEPT[recipe.sharpe.gate],
                                draws=recipe.sharpe.placebos, seed=recipe.seed)  # fmt: skip
    annual = float(np.sqrt(book.periods))
    return plain_row(_against(drawn.ratios, sharpe_ratio(series), annual))


def block_of(trade: Trade, blocks: str) -> str:
    """The block of a trade, within which the null world exchanges flags."""
    names = {
        "instrument": trade.instrument,
        "month": f"{trade.opened:%Y-%m}",
        "year": f"{trade.opened:%Y}",
        "instrument-year": f"{trade.instrument} {trade.opened:%Y}",
    }
    return names[blocks]


def _against(ratios: npt.NDArray[np.float64], ratio: float, annual: float) -> dict[str, float]:
    """A gate's Sharpe ratio against those of random gates, annual."""
    defined = ratios[~np.isnan(ratios)]
    if not len(defined):
        return {"draws": len(ratios), "p": worlds.chance(ratios, ratio)}
    low, middle, high = np.quantile(defined, [0.025, 0.5, 0.975]) * annual
    return {
        "draws": len(ratios), "low": low, "median": middle, "high": high,
        "gain": ratio * annual - middle, "p": worlds.chance(ratios, ratio),
    }  # fmt: skip


def _capture(gate: dict[str, Any] | None, oracle: dict[str, Any] | None) -> dict[str, Any]:
    """Which share of the oracle's gain over random gates the gate gets; None if that is not sure.

    Each is held against gates that flag as many trades as it does. The bounds are those of the
    gate's gain, by the spread of random gates: where these get a large share by luck, so may it.
    """
    if gate is None or oracle is None:
        return _no_share("all trades or none are flagged, or labelled flawed")
    if oracle["p"] > worlds.SURE:
        return _no_share("the oracle's own gain over random gates is not sure")
    if gate.get("gain") is None:
        return _no_share("the gated book has no Sharpe ratio")
    gain, whole = gate["gain"], oracle["gain"]
    low, high = (gain + gate["median"] - gate[end] for end in ("high", "low"))
    return {**plain_row({"value": gain / whole, "low": low / whole, "high": high / whole}),
            "why": None}  # fmt: skip


def _no_share(why: str) -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "why": why}


def _curves(book: Book, curves: dict[str, Any]) -> dict[str, Any]:
    """Thinned running sums, in years since the first day."""
    at = np.unique(np.linspace(0, len(book.starts) - 1, PLOTTED).round().astype(int))
    years = [(book.starts[i] - book.starts[0]).days / 365.25 for i in at]
    return {"years": [plain(y) for y in years],
            **{name: [plain(y) for y in values[at]] for name, values in curves.items()}
            }  # fmt: skip


def _write(
    out: Path, report: dict[str, Any], trades: Sequence[Trade], scored: Scores, flagged: Bools
) -> None:
    header = ("line", "date", "exit_date", "instrument", "side", "size", "return", "p_flawed",
              "flagged", "label")  # fmt: skip
    rows = (
        (t.line, t.opened, t.closed, inert(t.instrument), "long" if t.side > 0 else "short", t.size,
         round(t.gain, 6), None if np.isnan(p) else round(float(p), 6), int(flag), t.label)
        for t, p, flag in zip(trades, scored.p, flagged, strict=True)
    )  # fmt: skip
    write_table(Path(f"{out}.trades.csv"), header, rows)
    page = gate_markdown(report)
    write_atomic(f"{out}.md", page)
    write_atomic(f"{out}.html", gate_html(report))
    write_json(f"{out}.json", report)
    remove_partial(out)
    _log.info("%s.html", out)
    sys.stdout.write(page)
