"""Settings of the stages that measure a critic, see `config`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass
class BenchmarkConfig:
    """The benchmark.

    Attributes:
        model_1: a critic (adapter, quantized or merged folder), or a base to be read zero-shot.
        model_2: another one to compare with; null for none.
        data: Example files or folders, separated by commas.
        split: which rows to use: train, validation, calibration, test, or `all`.
        limit: at most so many items, whole groups, seeded; 0 for all.
        words: also judge the bag-of-words baseline, trained on `words_data`.
        words_data: training file of the bag-of-words baseline.
        critiques: items whose whole critique is written, for latency, parsing and reading.
        latency_items: items that are judged one by one for the latency figures.
        max_new_tokens: longest critique, in tokens.
        batch_tokens: most prompt tokens in one forward pass.
        discordance: share of the items on which two judges are assumed to differ in being right;
            before the run it is said which difference in accuracy that many items can find.
        margin: by how much a judge may be worse and still count as no worse, in units of each
            metric.
        out: report without ending; .json, .md and .items.jsonl are written.
    """

    model_1: str = "checkpoints/cpu/sft"
    model_2: str | None = "embedded"
    data: str = "data/cpu/test.jsonl"
    split: str = "test"
    limit: int = 0
    words: bool = True
    words_data: Path | None = Path("data/cpu/train.jsonl")
    critiques: int = 4
    latency_items: int = 10
    max_new_tokens: int = 120
    batch_tokens: int = 4096
    discordance: float = 0.2
    margin: float = 0.02
    out: Path = Path("reports/cpu/benchmark")


@dataclass
class CalibrateConfig:
    """Calibration of a finished critic; the result lies in its folder.

    Attributes:
        model: the critic: an adapter or a quantized folder.
        data: Example file of split calibration, never used for training.
        limit: at most so many items, whole groups, seeded; 0 for all.
        alpha: highest false-positive rate, as a share.
        delta: chance that the true rate is higher all the same, as a share.
        each_domain: one threshold that keeps alpha in every domain at once, delta shared among
            them; else alpha is kept over all items.
        temperature_share: share of the groups that temperatures are fitted on; the others are for
            the threshold.
        domain_items: items of either label from which a domain gets a temperature of its own.
        max_risk: highest error rate outside of the band in which the critic abstains.
        batch_tokens: most prompt tokens in one forward pass.
    """

    model: Path = Path("checkpoints/cpu/sft")
    data: Path = Path("data/cpu/calibration.jsonl")
    limit: int = 0
    alpha: float = 0.08
    delta: float = 0.05
    each_domain: bool = False
    temperature_share: float = 0.3
    domain_items: int = 100
    max_risk: float = 0.05
    batch_tokens: int = 4096


@dataclass
class ErrorsConfig:
    """What a critic gets wrong, and why.

    Attributes:
        model: the critic: an adapter, a quantized folder or a base.
        data: Example file or folder.
        split: rows of it to use: validation or calibration steer training (FOCUS), test and train
            do not.
        limit: at most so many items, whole groups, seeded; 0 for all.
        train: training files or folders, separated by commas, among which the texts most like each
            item are looked for; null for none.
        neighbours: training texts shown of each item.
        critiques: items that are right by verdict and flaw type whose whole critique is written,
            drawn by seed; those of misses are all written.
        max_new_tokens: longest critique, in tokens; one that is cut off counts as harness.
        batch: critiques that are written at the same time.
        batch_tokens: most prompt tokens in one forward pass, for verdicts.
        overlap: least F1 (characters) of the evidence with that of the reference.
        reasons: least overlap with the reference's reasons, in content words, 0 to 1.
        confident: probability of a verdict from which it counts as sure: a label that a sure
            verdict is against is doubtful.
        judge: who is asked about doubtful labels: `none`, or a back end: `anthropic` (key from
            ANTHROPIC_API_KEY), `ollama`, `openai`, `local`.
        judge_model: name of the model there.
        url: address of its server; null for that of the back end's own package.
        threads: requests at the same time.
        budget_usd: USD that it may cost at most, restarts included; null for no limit.
        prices: YAML table of prices in USD a million tokens; null for the one that comes along.
        control: items on whose label the critic agrees that the judge is asked about, too; a judge
            that contradicts more than a quarter of them is believed nowhere.
        opinions: file of earlier opinions on labels (id, verdict) in place of a judge; null for
            none.
        slice_items: fewest items of a slice.
        slices: worst slices that are shown.
        cards: examples on the page.
        out: report without ending; .json (FOCUS reads it), .md, .html and .items.jsonl are written.
    """

    model: str = "checkpoints/cpu/sft"
    data: Path = Path("data/cpu/validation.jsonl")
    split: Literal["train", "validation", "calibration", "test"] = "validation"
    limit: int = 0
    train: str | None = "data/cpu/train.jsonl"
    neighbours: int = 3
    critiques: int = 16
    max_new_tokens: int = 160
    batch: int = 8
    batch_tokens: int = 4096
    overlap: float = 0.3
    reasons: float = 0.25
    confident: float = 0.9
    judge: Literal["none", "anthropic", "ollama", "openai", "local"] = "none"
    judge_model: str | None = None
    url: str | None = None
    threads: int = 4
    budget_usd: float | None = None
    prices: Path | None = None
    control: int = 20
    opinions: Path | None = None
    slice_items: int = 10
    slices: int = 8
    cards: int = 24
    out: Path = Path("reports/cpu/errors")
