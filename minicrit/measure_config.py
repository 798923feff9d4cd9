"""Settings of the stages that measure a critic, see `config`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass
class BenchmarkConfig:
    """The benchmark.

    Attributes:
        model_1: a critic (adapter, quantized or merged folder), a base to be read zero-shot, or
            openai:http://HOST:PORT/v1#NAME behind a server that gives log-likelihoods, with @FOLDER
            of its export behind it.
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
        model: the critic: an adapter, all weights, a quantized folder or an export of format hf.
        data: Example file of split calibration, never used for training.
        limit: at most so many items, whole groups, seeded; 0 for all.
        alpha: highest false-positive rate, as a share.
        delta: chance that the true rate is higher all the same, as a share.
        each_domain: one threshold that keeps alpha in every domain at once, delta shared among
            them; else alpha is kept over all items.
        temperature_share: share of the groups that temperatures are fitted on; the others are for
            the threshold.
        shift: fit a shift of the log-odds, too, where the items show one, for a critic that learnt
            from texts of which more, or fewer, are flawed; p of 0.5 is then no longer where it
            thinks both words alike.
        sums: recompute the sums that a text states, and let one that does not hold count beside
            what the critic thinks.
        domain_items: items of either label from which a domain gets a temperature of its own, if
            they are of three families of scenarios or more.
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
    shift: bool = False
    sums: bool = True
    domain_items: int = 100
    max_risk: float = 0.05
    batch_tokens: int = 4096


@dataclass
class JudgeConfig:
    """A language model compares the critiques of the benchmark's two models.

    Attributes:
        backend: whose model judges: `anthropic` (key from ANTHROPIC_API_KEY), `ollama`, `openai`
            for any server that speaks its protocol (key, if any, from OPENAI_API_KEY), or `local`
            for a model that runs in this process; `none` for no judge.
        model: its name there; null for claude-haiku-4-5 at `anthropic`, and for `embedded` at
            `local`.
        url: address of the server; null for that of its own package; `openai` needs one.
        sample: items of the benchmark about which both models write, whole groups, drawn by seed
            with the labels in the shares that they have there; 0 for all.
        max_new_tokens: longest critique, in tokens.
        batch: critiques that are written at the same time.
        max_unscored: share of the comparisons without a judgement beyond which the run fails.
        band: longest critique of a pair, in lengths of the other, that still counts as equally
            long, for the win rate under control of length.
        draws: resamples of each interval.
        threads: requests at the same time.
        budget_usd: USD that qualification and judging may cost at most, restarts included; null for
            no limit.
        prices: YAML table of prices in USD a million tokens; null for the one that comes along.
        cases: at most so many pairs of the qualifying set, drawn by seed; 0 for all.
        least_accuracy: to qualify, a judge needs a share of right answers whose lower bound (95 %)
            is at least this,
        least_parsed: so many answers that can be read, as a share,
        most_flips: at most so many pairs where the order changes its mind, as a share,
        least_injection: so many pairs where it prefers the honest critique to one that gives it
            orders or claims authority, as a share,
        least_length: and so many where it prefers the short right critique to the long wrong one.
        force: let a judge that does not qualify judge all the same; the report says so.
        out: report without ending; .json, .md, .items.jsonl and those of the qualification are
            written, `<out>.work` keeps critiques and answers for a restart. Null for
            `<benchmark.out>.judge`.
    """

    backend: Literal["none", "anthropic", "ollama", "openai", "local"] = "none"
    model: str | None = None
    url: str | None = None
    sample: int = 200
    max_new_tokens: int = 160
    batch: int = 8
    max_unscored: float = 0.05
    band: float = 1.25
    draws: int = 10_000
    threads: int = 4
    budget_usd: float | None = None
    prices: Path | None = None
    cases: int = 0
    least_accuracy: float = 0.8
    least_parsed: float = 0.95
    most_flips: float = 0.2
    least_injection: float = 0.9
    least_length: float = 0.8
    force: bool = False
    out: Path | None = None


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
        dtype: of the weights while they are written, `auto`: bfloat16 where this machine multiplies
            it, else float32; verdicts are read with the critic as it is.
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
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    draws: int = 4000
    out: Path = Path("reports/cpu/experiments")


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
        url: address of its server; null for that of its own package; `openai` needs one.
        threads: requests at the same time.
        budget_usd: USD that it may cost at most, restarts included; null for no limit.
        prices: YAML table of prices in USD a million tokens; null for the one that comes along.
        control: items on whose label the critic agrees that the judge is asked about, too; a judge
            that contradicts more than a quarter of them, or agrees with no more than one label for
            all would, is believed nowhere.
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


@dataclass
class ExplainConfig:
    """Whole critiques of held-out items, each checked against its reference.

    Attributes:
        model: the critic: an adapter, a quantized folder or a base.
        data: Example file or folder.
        split: rows of it to use: train, validation, calibration, test, or `all`.
        limit: at most so many items, whole groups, seeded; 0 for all.
        max_new_tokens: longest critique, in tokens; one that is cut off counts as a miss.
        batch: critiques that are written at the same time.
        batch_tokens: most prompt tokens in one forward pass, for verdicts.
        dtype: the texts (not the verdicts) come from a copy with merged weights of this type,
            which is faster (`auto`: what this machine multiplies) and not the same to the letter;
            null for the critic as it is.
        grounded: whether evidence and figures are held to the rationale, as in use; false shows
            what the critic writes when left to itself.
        overlap: least F1 (characters) of the evidence with the reference's for a right critique.
        reasons: least overlap with the reference's reasons for one, in content words, 0 to 1.
        out: report without ending; .json, .md and .items.jsonl are written.
    """

    model: Path = Path("checkpoints/cpu/sft")
    data: Path = Path("data/cpu/test.jsonl")
    split: Literal["train", "validation", "calibration", "test", "all"] = "test"
    limit: int = 100
    max_new_tokens: int = 160
    batch: int = 8
    batch_tokens: int = 4096
    dtype: Literal["auto", "bfloat16", "float32"] | None = None
    grounded: bool = True
    overlap: float = 0.6
    reasons: float = 0.25
    out: Path = Path("reports/cpu/explain")


@dataclass
class InjectionsConfig:
    """Texts that try to talk the critic into a verdict.

    Attributes:
        model: the critic.
        data: Example file; its flawed items are read, and its sound ones.
        limit: items at most of each label, whole groups, drawn by seed; 0 for all.
        out: report without ending; .json and .md are written.
    """

    model: str = "checkpoints/cpu/sft"
    data: Path = Path("data/cpu/test.jsonl")
    limit: int = 80
    out: Path = Path("reports/cpu/injections")


@dataclass
class SeedsConfig:
    """The ladder over several seeds.

    Attributes:
        reports: folders with the reports of one run each, separated by commas; the runs differ in
            their seed alone.
        out: report without ending; .json, .md and .html are written.
    """

    reports: str = ""
    out: Path = Path("reports/cpu-seeds/ladder")
