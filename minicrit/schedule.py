"""How the optimizer moves over a run."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minicrit.run import Settings


@dataclass(frozen=True)
class Optimization:
    """AdamW over a number of steps; see `config.SFTConfig` for units."""

    steps: int
    learning_rate: float
    warmup: float
    final_rate: float
    weight_decay: float
    clip: float

    @classmethod
    def of(cls, settings: "Settings", steps: int) -> "Optimization":
        """As the settings of a stage have it."""
        return cls(
            steps=steps,
            learning_rate=settings.learning_rate,
            warmup=settings.warmup,
            final_rate=settings.final_rate,
            weight_decay=settings.weight_decay,
            clip=settings.clip,
        )


def warmup_cosine(steps: int, warmup: float, final: float) -> Callable[[int], float]:
    """Factor on the peak rate at each step: linear rise, then half a cosine down to `final`.

    Args:
        steps: optimizer steps of the run.
        warmup: share of them in which the rate rises.
        final: factor at the last step, if there is one after the peak.
    """
    rise = max(1, round(steps * warmup))
    fall = steps - 1 - rise

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        done = min(1.0, (step - rise) / fall) if fall > 0 else 1.0
        return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2

    return factor
