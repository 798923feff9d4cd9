"""What the gate does to a book: figures by hand, worlds, pages, refusals, restarts, the command."""

import csv
import json
import random
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from minicrit.base import Base
from minicrit.cli import main
from minicrit.config import Recipe
from minicrit.files import sha256_file
from minicrit.gate_facts import outcome_facts
from minicrit.gate_page import gate_markdown
from minicrit.gating import block_of, sharpe
from minicrit.targets import MIN_SHARPE, targets
from minicrit.trades import Trade, read_trades
from tests.minicrit.benchmark_case import StandIn, growing

HEAD = ("date", "instrument", "side", "size", "return", "rationale", "label")


def days(count: int) -> list[date]:
    """Weekdays from the first of January 2024, a Monday."""
    return [date(2024, 1, 1) + timedelta(days=7 * (n // 5) + n % 5) for n in range(count)]


def gains(count: int) -> list[tuple[float, bool]]:
    """(return, flawed): flawed trades lose on average."""
    rng = random.Random(1)
    flawed = [rng.random() < 0.4 for _ in range(count)]
    return [(round(rng.gauss(-0.012 if bad else 0.012, 0.02), 6), bad) for bad in flawed]


def made(tmp_path: Path, count: int = 150, p: tuple[float, float] = (0.2, 0.8)) -> Recipe:
    """Trades whose rationale says p(flawed) of critic a: p[0] if valid, p[1] if flawed."""
    path = tmp_path / "trades.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEAD)
        for n, (day, (gain, bad)) in enumerate(zip(days(count), gains(count), strict=True)):
            writer.writerow([day, "XY"[n % 2], "long", 0.1, gain, f"Trade {n} <b> a={p[bad]} .",
                             "flawed" if bad else "valid"])  # fmt: skip
    recipe = Recipe()
    settings = recipe.sharpe
    settings.trades, settings.model, settings.out = path, "a", tmp_path / "out" / "sharpe"
    settings.draws, settings.placebos, settings.blocks = 199, 99, "month"
    return recipe


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, dict]:
    recipe = made(tmp_path_factory.mktemp("gate"))
    return recipe, sharpe(recipe, load=StandIn)


def test_books_by_hand(case: tuple[Recipe, dict]) -> None:
    _, report = case
    returns = np.array([0.1 * gain for gain, _ in gains(150)])
    passed = np.where([bad for _, bad in gains(150)], 0, returns)
    annual = np.sqrt(report["trades"]["periods_a_year"])
    for name, series in (("before", returns), ("after", passed)):
        book = report["books"][name]
        assert book["sharpe"] == pytest.approx(series.mean() / series.std() * annual, abs=1e-5)
        assert book["total"] == pytest.approx(series.sum(), abs=1e-5)
    gap = report["differences"]["after"]
    assert gap["value"] == pytest.approx(
        report["books"]["after"]["sharpe"] - report["books"]["before"]["sharpe"], abs=1e-5
    )
    assert gap["low"] < gap["value"] < gap["high"]
    assert report["books"]["after"]["trades"] == 150 - report["flagged"]
    assert report["books"]["after"]["psr"] == report["books"]["after"]["dsr"]  # of one trial,
    assert "worthless trials: 1)" in gate_markdown(report)  # which the page has to say
    assert report["books"]["after"]["turnover"] < report["books"]["before"]["turnover"]


def test_a_gate_that_is_always_right_is_the_oracle(case: tuple[Recipe, dict]) -> None:
    _, report = case
    assert report["books"]["after"] == report["books"]["oracle"]
    assert report["capture"]["value"] == 1.0
    assert report["capture"]["low"] > 0
    assert (report["verdicts"]["f1"], report["verdicts"]["auroc"]) == (1, 1)
    assert report["verdicts"]["fpr"]["value"] == 0
    assert report["placebo"]["p"] == pytest.approx(0.01)
    assert report["placebo"]["gain"] > 0
    assert report["per_trade"]["difference"]["low"] > 0


@pytest.mark.parametrize(("months", "flagged_months", "p"), [
    (1, 1, None), (2, 2, 0.5), (5, 5, 0.0625), (8, 5, 0.0625), (6, 6, 0.03125),
])  # fmt: skip
def test_few_months_prove_nothing_of_kept_less_flagged(
    months: int, flagged_months: int, p: float | None
) -> None:
    """Each month says the same of its trades, as many coins would with chance 2^(1 - months)."""
    trades, flagged = [], []
    for month in range(1, months + 1):
        for day in range(1, 5):
            bad = month <= flagged_months and day % 2 == 0
            flagged.append(bad)
            when, gain = date(2024, month, day), (-0.02 if bad else 0.01) + month / 1e4
            trades.append(Trade(line=1, opened=when, closed=when, instrument="X", side=1, size=0.1,
                                gain=gain, rationale="why"))  # fmt: skip
    found = outcome_facts(trades, np.array(flagged), seed=0)["difference"]
    assert found["value"] == pytest.approx(0.03, abs=1e-3)
    assert found["p"] == p
    assert (found["low"] is None) == (found["high"] is None) == (flagged_months < 6)
    nothing = outcome_facts(trades, np.zeros(len(trades), dtype=bool), seed=0)["difference"]
    assert set(nothing.values()) == {None}


def test_curves_end_at_the_totals(case: tuple[Recipe, dict]) -> None:
    _, report = case
    for name in ("before", "after"):
        assert report["curves"][name][-1] == pytest.approx(report["books"][name]["total"], abs=1e-5)
    last = [report["curves"][f"placebo{side}"][-1] for side in ("_low", "", "_high")]
    assert last == sorted(last)


def test_an_instrument_computes_nothing_in_a_spreadsheet(tmp_path: Path) -> None:
    recipe = made(tmp_path, 40)
    path = recipe.sharpe.trades
    assert path is not None
    path.write_text(path.read_text().replace(",X,", ",=1+1,"))
    sharpe(recipe, load=StandIn)
    rows = csv.DictReader(Path(f"{recipe.sharpe.out}.trades.csv").read_text().splitlines())
    assert {row["instrument"] for row in rows} == {"'=1+1", "Y"}


def test_everything_is_written_and_text_can_do_nothing(case: tuple[Recipe, dict]) -> None:
    recipe, report = case
    out = recipe.sharpe.out
    page = Path(f"{out}.html").read_text()
    assert "polyline" in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert json.loads(Path(f"{out}.json").read_text()) == report
    assert "| Sharpe ratio, annual |" in Path(f"{out}.md").read_text()
    rows = list(csv.DictReader(Path(f"{out}.trades.csv").read_text().splitlines()))
    assert len(rows) == 150
    assert {row["flagged"] for row in rows if row["label"] == "flawed"} == {"1"}
    assert list(out.parent.glob("*.scores.jsonl")) == []


def test_halving_keeps_half_of_what_is_flagged(tmp_path: Path) -> None:
    recipe = made(tmp_path)
    recipe.sharpe.gate = "halve"
    report = sharpe(recipe, load=StandIn)
    returns = [0.1 * gain * (0.5 if bad else 1) for gain, bad in gains(150)]
    assert report["books"]["after"]["total"] == pytest.approx(sum(returns), abs=1e-5)
    assert report["books"]["after"]["trades"] == 150


@pytest.mark.parametrize(("p", "flagged", "trades"), [((0.1, 0.2), 0, 150), ((0.8, 0.9), 150, 0)])
def test_a_gate_that_flags_nothing_or_everything(
    tmp_path: Path, p: tuple[float, float], flagged: int, trades: int
) -> None:
    report = sharpe(made(tmp_path, p=p), load=StandIn)
    assert (report["flagged"], report["books"]["after"]["trades"]) == (flagged, trades)
    assert report["placebo"] is report["null"] is None
    gap = report["differences"]["after"]
    assert gap["value"] == (None if flagged else 0)
    assert gap["low"] is gap["p"] is None
    assert report["capture"]["why"] == "all trades or none are flagged, or labelled flawed"
    assert targets(None, report)[3]["value"] == "-"


def test_a_book_that_is_halved_as_a_whole_differs_in_nothing(tmp_path: Path) -> None:
    """A Sharpe ratio does not depend on the size of the book; there is nothing to be proved."""
    recipe = made(tmp_path, p=(0.8, 0.9))
    recipe.sharpe.gate = "halve"
    report = sharpe(recipe, load=StandIn)
    gap = report["differences"]["after"]
    assert gap.pop("value") == 0.0
    assert set(gap.values()) == {None}
    assert "- (normal: -)" in Path(f"{recipe.sharpe.out}.md").read_text()


def test_a_gate_that_knows_nothing_gains_nothing_over_chance(tmp_path: Path) -> None:
    recipe = made(tmp_path)
    text = recipe.sharpe.trades.read_text()
    rng = random.Random(5)
    lines = [f"{line.rsplit(' a=', 1)[0]} a={rng.random():.3f} .,valid"
             for line in text.splitlines()[1:]]  # fmt: skip
    recipe.sharpe.trades.write_text("\n".join([",".join(HEAD), *lines]) + "\n")
    report = sharpe(recipe, load=StandIn)
    assert 0.02 < report["placebo"]["p"] < 0.98
    assert report["null"]["alarms"] < 0.1
    assert report["null"]["exchangeable"] == 1
    assert report["capture"]["value"] is None
    assert report["capture"]["why"] == "all trades or none are flagged, or labelled flawed"


def test_a_gate_by_lot_on_a_losing_book_earns_nothing(tmp_path: Path) -> None:
    """Where all lose, dropping any of them raises the ratio: no gain, nor a share of one."""
    recipe = made(tmp_path)
    rng = random.Random(1)
    with recipe.sharpe.trades.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEAD)
        for n, day in enumerate(days(600)):
            flawed, p = rng.random() < 0.5, 0.8 if rng.random() < 0.7 else 0.2
            gain = round(rng.gauss(-0.014 if flawed else -0.006, 0.02), 6)
            writer.writerow([day, "XY"[n % 2], "long", 0.1, gain, f"Trade {n} a={p} .",
                             "flawed" if flawed else "valid"])  # fmt: skip
    recipe.sharpe.draws = 99
    report = sharpe(recipe, load=StandIn)
    assert report["differences"]["after"]["low"] > MIN_SHARPE
    assert report["differences"]["oracle"]["low"] > MIN_SHARPE
    assert report["placebo"]["p"] > 0.1
    assert report["oracle_placebo"]["p"] == pytest.approx(0.01)
    assert targets(None, report)[3]["status"] in ("open", "missed")
    gains = [report[key]["gain"] for key in ("placebo", "oracle_placebo")]
    assert report["capture"]["value"] == pytest.approx(gains[0] / gains[1], abs=1e-5)
    assert abs(report["capture"]["value"]) < 0.35
    spread = [report["placebo"][end] - report["placebo"]["median"] for end in ("high", "low")]
    assert [report["capture"][end] for end in ("low", "high")] == pytest.approx(
        [(gains[0] - one) / gains[1] for one in spread], abs=1e-5)  # fmt: skip
    assert report["capture"]["low"] < 0 < report["capture"]["high"]
    share = f"{report['capture']['value']:.2f} [{report['capture']['low']:.2f}, "
    assert share in Path(f"{recipe.sharpe.out}.md").read_text()


def test_without_labels_there_is_no_oracle(tmp_path: Path) -> None:
    recipe = made(tmp_path)
    rows = [line.rsplit(",", 1)[0] for line in recipe.sharpe.trades.read_text().splitlines()]
    recipe.sharpe.trades.write_text("\n".join(rows) + "\n")
    report = sharpe(recipe, load=StandIn)
    assert report["verdicts"] is report["capture"] is report["oracle_placebo"] is None
    assert set(report["books"]) == {"before", "after"}


def test_what_cannot_be_read_passes_and_is_counted(tmp_path: Path) -> None:
    recipe = made(tmp_path)
    text = recipe.sharpe.trades.read_text()
    recipe.sharpe.trades.write_text(text.replace("Trade 3 ", "Trade 3 is too long "))
    report = sharpe(recipe, load=StandIn)
    assert report["trades"]["unscored"] == {"too long": 1}
    rows = list(csv.DictReader(Path(f"{recipe.sharpe.out}.trades.csv").read_text().splitlines()))
    assert (rows[3]["p_flawed"], rows[3]["flagged"]) == ("", "0")


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole = made(tmp_path)
    sharpe(whole, load=StandIn)
    names = [f"{whole.sharpe.out}{end}" for end in (".json", ".md", ".html", ".trades.csv")]
    wanted = [Path(name).read_bytes() for name in names]
    for name in names:
        Path(name).unlink()
    critic = StandIn("a")
    critic.dies_after = 64
    with pytest.raises(KeyboardInterrupt):
        sharpe(whole, load=lambda _: critic)
    assert not Path(names[0]).exists()
    asked = critic.asked
    critic.dies_after = None
    sharpe(whole, load=lambda _: critic)
    assert critic.asked == 150
    assert asked >= 64
    assert [Path(name).read_bytes() for name in names] == wanted


def test_blocks_have_the_names_of_what_they_hold(tmp_path: Path) -> None:
    trade = read_trades(made(tmp_path, 40).sharpe.trades)[1]
    names = [block_of(trade, kind) for kind in ("instrument", "month", "year", "instrument-year")]
    assert names == ["Y", "2024-01", "2024", "Y 2024"]


def test_too_few_periods_and_no_trades_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected trades over at least 30 periods, got 20"):
        sharpe(made(tmp_path, 20), load=StandIn)
    recipe = Recipe()
    with pytest.raises(ValueError, match=r"expected a CSV, got none; give TRADES=trades.csv"):
        sharpe(recipe, load=StandIn)


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("trials", 0, "1 or more"), ("draws", -1, "1 or more"), ("placebos", 0, "1 or more"),
    ("gain", 0.0, "more than 0"), ("block", -1, "0 or more"), ("cost_bp", -5.0, "0 or more"),
    ("trials_spread", -0.1, "0 or more"), ("block", 11, "at most 10 of 40 periods"),
])  # fmt: skip
def test_settings_are_checked_before_the_critic_is_asked(
    tmp_path: Path, name: str, value: float, expected: str
) -> None:
    recipe = made(tmp_path, 40)
    setattr(recipe.sharpe, name, value)
    critic = StandIn("a")
    with pytest.raises(ValueError, match=rf"sharpe.{name}: expected {expected}, got {value}"):
        sharpe(recipe, load=lambda _: critic)
    assert critic.asked == 0


def test_the_command_with_a_real_critic(tmp_path: Path, tiny: Base, capsys) -> None:
    """The tiny base reads the trades; the same command gives the same report."""
    recipe = made(tmp_path, 40)
    out = tmp_path / "cli" / "sharpe"
    command = ["sharpe", "--config", "tiny", "--base.folder", str(tiny.folder.parent),
               "--sharpe.model", "tiny", "--sharpe.trades", str(recipe.sharpe.trades),
               "--sharpe.out", str(out), "--sharpe.draws", "99",
               "--sharpe.placebos", "50"]  # fmt: skip
    assert main(command) == 0
    assert "What the gate does to the book" in capsys.readouterr().out
    report = json.loads(Path(f"{out}.json").read_text())
    assert report["critic"]["identity"] == tiny.identity
    assert report["trades"]["n"] == 40
    recipe.sharpe.trades.write_text("date,instrument\n")
    assert main(command) == 1
    assert "trades.csv:1: expected columns date, instrument, side" in capsys.readouterr().err


def test_closes_that_miss_a_split_are_told(tmp_path: Path) -> None:
    """Trade 40 is held over night: its closes fall by half, its return is given as +1 %."""
    recipe = made(tmp_path)
    path, held = recipe.sharpe.trades, days(42)[40:]
    assert path is not None
    body = [f",{line}" for line in path.read_text().splitlines()[1:]]
    body[40] = f"{held[1]},{held[0]},X,long,0.1,0.01,Trade 40 a=0.2 .,valid"
    path.write_text("\n".join(["exit_date," + ",".join(HEAD), *body]) + "\n")
    recipe.sharpe.prices = tmp_path / "prices.csv"
    closes = [f"{day},X,{100 if day <= held[0] else 50}" for day in days(150)]
    recipe.sharpe.prices.write_text("\n".join(["date,instrument,close", *closes]) + "\n")
    report = sharpe(recipe, load=StandIn)
    assert report["trades"]["off_prices"] == {"n": 1, "line": 42, "rest": 0.51}
    page = Path(f"{recipe.sharpe.out}.md").read_text()
    assert "Of 1 of them the closes leave more than 5 % of the position to the exit day" in page
    assert "most of that in line 42 (+51.0 %): are splits taken into account?" in page
    assert sharpe(made(tmp_path), load=StandIn)["trades"]["off_prices"] == {"n": 0, "line": None}


def test_the_hash_of_the_trades_is_that_of_what_was_read(tmp_path: Path) -> None:
    recipe = made(tmp_path)
    path = tmp_path / "trades.csv"
    before = sha256_file(path)
    report = sharpe(recipe, load=growing(path))
    assert report["inputs"] == {path.as_posix(): before} != {path.as_posix(): sha256_file(path)}
