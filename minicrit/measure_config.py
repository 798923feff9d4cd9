"""Settings of the stages that measure a critic, see `config`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass
class BenchmarkConfig:
    """The benchmark.

    Attributes:
        model_1: a critic (adapter, quantized or merged folder), a base to be read zero-shot, or
            openai:http://HOST:PORT#MODEL behind a server that gives log-likelihoods.
        model_2: another one to compare with; null for none.
        data: Example files or folders, separated by commas.
        split: which rows to use: train, validation, calibration, test, or `all`.
        limit: at most so many items, whole groups, seeded; 0 for all.
        words: also judge the bag-of-words baseline, trained on `words_data`.
        words_data: training file of the bag-of-words baseline.
        types: also read the likeliest flaw type of every item, in the same forward pass; about
            twice the time of the verdicts alone.
        critiques: items whose whole critique is written, for latency, parsing and reading.
        latency_items: items that are judged one by one for the latency figures.
        max_new_tokens: longest critique, in tokens.
        batch_tokens: most prompt tokens in one forward pass.
        discordance: share of the items on which two judges are assumed to differ in being right;
            before the run it is said which difference in accuracy that many items can find.
        margin: by how much a judge may be worse and still count as no worse, in units of each
            metric.
        log_folder: TensorBoard logs go to <log_folder>/<folder of out>/<name of out>.
        out: report without ending; .json, .md and .items.jsonl are written.
    """

    model_1: str = "checkpoints/cpu/sft"
    model_2: str | None = "embedded"
    data: str = "data/cpu/test.jsonl"
    split: str = "test"
    limit: int = 0
    words: bool = True
    words_data: Path | None = Path("data/cpu/train.jsonl")
    types: bool = True
    critiques: int = 4
    latency_items: int = 10
    max_new_tokens: int = 120
    batch_tokens: int = 4096
    discordance: float = 0.2
    margin: float = 0.02
    log_folder: Path = Path("runs")
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
