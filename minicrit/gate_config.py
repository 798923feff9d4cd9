"""Settings of the stages that ask whether a gate is worth its place, see `config`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass
class SharpeConfig:
    """What the gate does to a book of trades.

    Attributes:
        trades: CSV of trades: date, instrument, side (long, short), size (share of the capital),
            rationale, and return (after costs) or entry and exit; if there are any: exit_date,
            label (valid, flawed), domain, id, strategy, flaw_type.
        prices: CSV of closing prices (date, instrument, close) that marks trades to market between
            entry and exit; null books each return on its exit day.
        model: the critic that is the gate: an adapter, a quantized folder or a base.
        gate: what becomes of flagged trades: `drop`, or `halve` their size.
        period: of the returns that the Sharpe ratios are of.
        cost_bp: basis points a round trip costs, where returns are computed from entry and exit.
        trials: rules, settings and gates that were tried before these trades were kept; deflates.
        trials_spread: standard deviation of their annual Sharpe ratios; null for that of pure
            estimation error.
        block: periods a block of the bootstrap; 0 for the cube root of their number.
        draws: bootstrap resamples.
        placebos: gates that drop as many trades at random.
        blocks: within which the null world exchanges flags: trades of one instrument, of one
            month, of one year, or of one instrument in one year.
        gain: gain in annual Sharpe ratio that is to be proved.
        batch_tokens: most prompt tokens in one forward pass.
        out: report without ending; .json, .md, .html and .trades.csv are written.
    """

    trades: Path | None = None
    prices: Path | None = None
    model: str = "checkpoints/cpu/sft"
    gate: Literal["drop", "halve"] = "drop"
    period: Literal["day", "week", "month"] = "day"
    cost_bp: float = 0.0
    trials: int = 1
    trials_spread: float | None = None
    block: int = 0
    draws: int = 4999
    placebos: int = 2000
    blocks: Literal["instrument", "month", "year", "instrument-year"] = "year"
    gain: float = 0.4
    batch_tokens: int = 4096
    out: Path = Path("reports/cpu/sharpe")


@dataclass
class SharpeDemoConfig:
    """Trades on real prices, with rationales whose label is known.

    Attributes:
        count: trades.
        flawed: share of them whose entry rests on bad reasoning.
        size: share of the capital that each takes.
        cost_bp: basis points that a round trip costs.
        out: folder of trades.csv and prices.csv.
    """

    count: int = 250
    flawed: float = 0.5
    size: float = 0.1
    cost_bp: float = 10.0
    out: Path = Path("data/sharpe-demo")


@dataclass
class AgreementConfig:
    """How far the critic and operators agree.

    Attributes:
        log: CSV of decisions: rationale, domain, operator, decision; if there are any: request_id,
            time. Several operators may decide on one rationale.
        model: the critic: an adapter, a quantized folder or a base.
        valid: words for "valid" in the column decision, separated by commas.
        flawed: words for "flawed" there.
        target: rate of agreement that is to be proved.
        draws: bootstrap resamples.
        batch_tokens: most prompt tokens in one forward pass.
        out: report without ending; .json, .md, .html and .disagreements.csv are written.
    """

    log: Path | None = None
    model: str = "checkpoints/cpu/sft"
    valid: str = "valid,accept,accepted,approve,approved"
    flawed: str = "flawed,reject,rejected,decline,declined"
    target: float = 0.98
    draws: int = 2000
    batch_tokens: int = 4096
    out: Path = Path("reports/cpu/agreement")
