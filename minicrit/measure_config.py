"""Settings of the stages that measure a critic, see `config`."""

from dataclasses import dataclass, field
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
class ExperimentsConfig:
    """Experiments with prompts and sampling.

    Attributes:
        model: a critic (adapter, quantized or merged folder), or a base to be read zero-shot.
        data: Example file, of rows that are not trained on.
        limit: at most so many items of it, whole groups, seeded; 0 for all.
        arms: which experiments: temperature (sampled critiques against greedy), formats (prompt
            styles), thought (reasoning before the verdict), reformatting (ten layouts).
        temperatures: of the sampled critiques.
        samples: critiques of a rationale at each temperature.
        sampled: at most so many of the items have critiques sampled, whole groups; 0 for all.
        max_new_tokens: longest critique, in tokens.
        thought_tokens: longest reasoning before the verdict, in tokens.
        rows: critiques that are written at the same time.
        dtype: of the weights while they are written; verdicts are read with the critic as it is.
        draws: resamples of each interval and test.
        out: report without ending; .json and .md are written, and the folder .rows with every
            answer, from which a killed run goes on.
    """

    model: str = "checkpoints/cpu/sft"
    data: Path = Path("data/cpu/validation.jsonl")
    limit: int = 200
    arms: list[str] = field(
        default_factory=lambda: ["temperature", "formats", "thought", "reformatting"]
    )
    temperatures: list[float] = field(default_factory=lambda: [0.3, 0.5, 0.7, 0.9])
    samples: int = 4
    sampled: int = 16
    max_new_tokens: int = 160
    thought_tokens: int = 120
    rows: int = 64
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    draws: int = 4000
    out: Path = Path("reports/cpu/experiments")
