"""Settings of the stages that make data, see `config`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass
class DataConfig:
    """Composed data and what is mixed in.

    Attributes:
        folder: where the data files go (train, validation, calibration, test .jsonl).
        train: composed training examples (rounded up to whole twins).
        fresh: as many more that SFT does not see, in `train-fresh.jsonl`: for preference pairs,
            rejection sampling and revision. Of what a critic was trained on it is sure.
        validation: composed validation examples, from families of their own.
        calibration: composed calibration examples, from families of their own.
        test: composed test examples, from families of their own.
        squares: compose training data as squares, all four corners of an argument in one group,
            instead of pairs of twins.
        alone: of each training group keep one text only, so that none has its twin: plain data, the
            control that twins are held against. As many texts, from as many more groups.
        terse: share of the training groups that say nothing but premise and conclusion: fewer
            tokens for the same relation.
        mechanisms: mechanisms of reasoning that the composed training data are about, by name; null
            for all. The other splits always hold all of them.
        focus: JSON report of a benchmark on validation or calibration items, or of its errors; the
            less a mechanism was judged rightly there, the more training groups it gets. Null for
            even shares.
        bank: whether training texts draw facts, options and the like from the bank of their domain
            too: 955 plain facts in place of 235.
        casebook: texts of the casebook (cases in natural prose, written by hand) in the training
            data, as a share of the composed ones; a tenth of its cases is kept apart, and 100 of
            their texts are in `validation-casebook.jsonl`.
        changed: share of the training groups, composed, of the casebook and public, behind which a
            sound and a flawed text stand a second time with the same harmless change, such as a
            slip of the pen, a word of thanks or an instruction to the critic: it must not move the
            verdict (see `sft.steady`).
        public: folder with public sets (*.jsonl, *.jsonl.gz in the Example form); null for none.
            Their train, validation and test parts join ours; see `public_limit`.
        public_limit: at most so many public rows a set and split, drawn by group; 0 for all.
        max_tokens: longest prompt plus critique, in tokens; longer public rows are left out and
            counted.
        truncate: cut rationales that are too long at their end instead, and count them; the answer
            marker and the end token always stay. One whose evidence would be cut off is neither
            learnt nor validated on, nor are its twins: what is left may be without a flaw.
        max_bad: share of bad lines in an input file above which the stage stops.
    """

    folder: Path = Path("data/cpu")
    train: int = 2400
    fresh: int = 800
    validation: int = 48
    calibration: int = 600
    test: int = 400
    squares: bool = True
    alone: bool = False
    terse: float = 0.9
    mechanisms: list[str] | None = None
    focus: Path | None = None
    bank: bool = False
    casebook: float = 0.0
    changed: float = 0.0
    public: Path | None = None
    public_limit: int = 0
    max_tokens: int = 1024
    truncate: bool = False
    max_bad: float = 0.01


@dataclass
class FilterConfig:
    """What keeps a row out of training data.

    Attributes:
        near: Jaccard index of word trigrams from which a text is a near-copy of another one with
            the same label and figures, 0 to 1; of near-copies one group stays. 0 for copies only.
        min_words: fewest words of a rationale.
        max_words: most words of a rationale; 0 for any number.
        english: leave out rationales that are not in English.
        balance: most rows of one label for each row of the other in a public set; the surplus goes
            by whole groups. 0 for any number.
        held_out: evaluation files, or folders with some in them, separated by commas: no training
            row may hold their items, nor those of its own run or of the adversarial suite.
    """

    near: float = 0.8
    min_words: int = 3
    max_words: int = 0
    english: bool = True
    balance: float = 0.0
    held_out: str = ""


@dataclass
class ImportConfig:
    """Public sets in their published layouts, brought to the Example form.

    Attributes:
        source: folder (or file) as published: .json, .jsonl, .csv, each also .gz.
        kind: which set it is; `auto` tells by the keys of the rows.
        out: folder of the Example files, one a set; `data.public` takes it.
        zip: write .jsonl.gz.
        held_out: everything becomes test, for a score on a set published as a benchmark; else the
            set's own parts, or 80, 10 and 10 % of its problems for train, validation and test.
        max_bad: share of rows of a set that are refused, or of an id used before, above which the
            stage stops.
    """

    source: Path | None = None
    kind: Literal[
        "auto", "mr-ben", "medec", "prmbench", "big-bench-mistake", "processbench", "stepverify",
        "missci", "example",
    ] = "auto"  # fmt: skip
    out: Path = Path("data/public")
    zip: bool = False
    held_out: bool = False
    max_bad: float = 0.05


@dataclass
class HardConfig:
    """Hard examples: sound texts that look suspicious, and flawed twins that look careful.

    Attributes:
        backend: `composer` (no model), `anthropic` (key from ANTHROPIC_API_KEY), `ollama`, `openai`
            for any server that speaks its protocol (key, if any, from OPENAI_API_KEY), or `local`
            for a model that runs in this process.
        model: name of the model at the back end; for `local` what base.model may be; the composer
            needs none.
        url: address of the server; null for that of its own package; `openai` needs one.
        count: examples (whole twins).
        out: folder of the examples; beside it, OUT.work keeps every answer for a restart.
        threads: requests at the same time.
        batch: ask `anthropic` in message batches: half the price, but each step of all pairs may
            take an hour, and a day at most.
        budget_usd: USD that a run may cost at most, restarts included; null for no limit. Where it
            ends first, the whole pairs are written and the run fails; more of it goes on from them.
        prices: YAML table of prices in USD a million tokens; null for the one that comes along.
        focus: JSON report of a benchmark on validation or calibration items, or a list of errors
            there: mechanisms (for the composer), domains and flaw types to spend the count on.
        dry_run: only estimate what it would cost, and how long it would take.
    """

    backend: Literal["composer", "anthropic", "ollama", "openai", "local"] = "composer"
    model: str | None = None
    url: str | None = None
    count: int = 1000
    out: Path = Path("data/hard")
    threads: int = 4
    batch: bool = False
    budget_usd: float | None = None
    prices: Path | None = None
    focus: Path | None = None
    dry_run: bool = False


@dataclass
class AdversarialConfig:
    """The adversarial suite; what is in it is fixed by its version.

    Attributes:
        out: folder of the suite and of what it covers.
    """

    out: Path = Path("data/adversarial")


@dataclass
class PairsConfig:
    """Preference pairs.

    Attributes:
        model: the critic that writes the candidates.
        data: labelled training examples; rows of other splits are refused.
        out: folder of the pairs and of the scored candidates.
        rationales: rationales to criticize, drawn by seed; 0 for all.
        scouted: so many are looked at first, by one forward each; criticized are those alone whose
            candidates will probably differ in their verdict, and twins make pairs where the critic
            is not sure of the right one. 0 for none: all rationales count alike.
        sure: share of the scouted rationales that it is sure of whose twins make pairs all the
            same, so that it does not unlearn them.
        candidates: critiques of each; 0 for none, so that twins alone make pairs.
        temperatures: they are sampled at, in turn; 0 is greedy.
        max_new_tokens: longest critique, in tokens.
        rows: critiques that are written at the same time.
        dtype: of the weights while they are written; `auto`: bfloat16 where this machine
            multiplies it, else float32. Other types, other texts.
        scorer: `oracle` (labels are known), or a back end whose model judges in both orders:
            `anthropic`, `ollama`, `openai`.
        gate: with a judge, a critique whose verdict is wrong scores 0 whatever it says.
        margin: least difference of the scores of a pair.
        references: let the reference critique of a rationale, where it has one, be a candidate,
            too; with the oracle alone, as a judge has not read it. It has full marks, so it is what
            is preferred, and the critic's own critiques only lose.
        twins: also make pairs of the reference critiques of twins, one a rationale.
        judge_model: name of the model that judges.
        url: address of its server; null for that of its own package; `openai` needs one.
        threads: requests at the same time.
        budget_usd: USD that judging may cost at most, restarts included; null for no limit.
        prices: YAML table of prices in USD a million tokens; null for the one that comes along.
    """

    model: Path = Path("checkpoints/cpu/sft")
    data: Path = Path("data/cpu/train-fresh.jsonl")
    out: Path = Path("data/cpu-pairs")
    rationales: int = 64
    scouted: int = 600
    sure: float = 0.2
    candidates: int = 4
    temperatures: list[float] = field(default_factory=lambda: [0.7, 1.0])
    max_new_tokens: int = 160
    rows: int = 64
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    scorer: Literal["oracle", "anthropic", "ollama", "openai"] = "oracle"
    gate: bool = True
    margin: float = 0.1
    references: bool = True
    twins: bool = True
    judge_model: str | None = None
    url: str | None = None
    threads: int = 4
    budget_usd: float | None = None
    prices: Path | None = None


@dataclass
class ProbeConfig:
    """The probe.

    Attributes:
        data: Example file whose labels are guessed; null for the training file.
    """

    data: Path | None = None


@dataclass
class BenchFiltersConfig:
    """The benchmark of the filters.

    Attributes:
        rows: rows that are made and seen, two a group.
    """

    rows: int = 1_000_000
