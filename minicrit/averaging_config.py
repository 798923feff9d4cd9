"""Settings of the stage that averages critics, see `config`."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class AverageConfig:
    """The average of adapters.

    Attributes:
        critics: folders of adapters that come from one another, or from one start.
        weights: one a critic, positive; they are made to sum to 1. Null for equal ones. Choose them
            by validation items, never by what is tested on.
        out: folder of the averaged adapter.
    """

    critics: list[Path] = field(default_factory=list)
    weights: list[float] | None = None
    out: Path = Path("checkpoints/cpu/average")
