"""Settings of the stage that makes a specialist of each domain, see `config`."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class AdaptersConfig:
    """One adapter a domain on one base, a router over them, and what each is worth where.

    Attributes:
        start: the general adapter, which every specialist goes on from and the router falls back
            to.
        from_base: let specialists begin with fresh adapters on the base instead.
        domains: each gets a specialist, in this order.
        data: folder of the files train, validation, calibration and test .jsonl, of all domains.
        parts: folder of what is taken from it for each domain.
        out: folder of the specialists, one folder a domain.
        router: folder of the router; a critic like any other.
        limit: at most so many training examples of its own domain for each, whole groups; 0 for
            all.
        mixed: share of the training examples of each that are of other domains, so that it does
            not forget them.
        epochs: passes over these examples.
        batch_examples: examples an optimizer step; whole groups.
        learning_rate: peak learning rate of AdamW.
        calibrated: fit temperature and threshold of each on items of its domain.
        bar: least probability of a detected domain for its specialist; below it the general
            adapter judges.
        tested: at most so many test items a domain for the matrix, whole groups; 0 for all.
        elsewhere: have domains without a specialist in the matrix too.
        draws: bootstrap resamples of the matrix.
        batch_tokens: most prompt tokens in one forward pass.
        report: the matrix without ending; .json and .md are written.
    """

    start: Path = Path("checkpoints/cpu/sft")
    from_base: bool = False
    domains: list[str] = field(
        default_factory=lambda: ["trading", "defense", "cybersecurity", "medical"]
    )
    data: Path = Path("data/cpu")
    parts: Path = Path("data/cpu-adapters")
    out: Path = Path("checkpoints/cpu/adapters")
    router: Path = Path("checkpoints/cpu/router")
    limit: int = 0
    mixed: float = 0.2
    epochs: int = 1
    batch_examples: int = 8
    learning_rate: float = 3e-4
    calibrated: bool = True
    bar: float = 0.7
    tested: int = 0
    elsewhere: bool = True
    draws: int = 2000
    batch_tokens: int = 4096
    report: Path = Path("reports/cpu/adapters")
