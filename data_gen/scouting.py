"""Looking first: one forward a rationale tells what sampling critiques of it would bring.

A critique begins with its verdict, so p(flawed) is also the chance that a sampled critique says so.
Rationales whose samples would all be right, or all be wrong, yield no critique to select
(arXiv 2504.11343) and hardly one to prefer, and need not be sampled at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from data_gen.public import order_key
from minicrit.critic import Critic
from minicrit.judging import score_items
from minicrit.records import Example
from minicrit.sampling import Manner

#: From this chance on, that all samples of a rationale agree is taken for granted.
LIKELY = 0.5
_BATCH_TOKENS = 4096
Chances = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scouted:
    """What was found.

    Attributes:
        undecided: examples whose samples will probably neither be all right nor all wrong.
        unsure: examples whose samples will probably not all have the right verdict.
        sure: all others.
    """

    undecided: list[Example]
    unsure: list[Example]
    sure: list[Example]

    def facts(self) -> dict[str, int]:
        """Counts, for reports."""
        return {f"scouted_{name}": len(some) for name, some in vars(self).items()}


def scout(critic: Critic, examples: Sequence[Example], manner: Manner, work: Path) -> Scouted:
    """Looks at labelled examples; what cannot be read, as it is too long, is in none of the lists.

    Args:
        critic: who would write, as it writes: its chances are those of its samples.
        examples: about what.
        manner: how.
        work: folder where the scores of a killed run lie.
    """
    work.mkdir(parents=True, exist_ok=True)
    p = score_items(critic, examples, work / "scouted", batch_tokens=_BATCH_TOKENS).p
    flawed = np.array([example.label == "flawed" for example in examples], dtype=bool)
    right = np.where(flawed, p, 1 - p)
    heats = manner.heats
    all_right, all_wrong = agreed(right, heats), agreed(1 - right, heats)
    unsure = all_right < LIKELY
    undecided = unsure & (all_wrong < LIKELY)
    return Scouted(*(
        [e for e, one in zip(examples, mask, strict=True) if one]
        for mask in (undecided, unsure, all_right >= LIKELY)
    ))  # fmt: skip


def agreed(chances: Chances, heats: Sequence[float]) -> Chances:
    """Probability that independent samples at these temperatures all say so, (n,).

    Args:
        chances: probability at temperature 1, (n,).
        heats: temperature of each sample; 0 is greedy.
    """
    odds = logit(chances)
    each = [expit(odds / heat) if heat > 0 else (odds > 0).astype(float) for heat in heats]
    return np.asarray(np.prod(each, axis=0), dtype=np.float64)


def drawn(examples: Sequence[Example], limit: int, seed: str) -> list[Example]:
    """At most `limit` of them, one by one, by seed and id; all if the limit is 0."""
    if limit == 0:
        return list(examples)
    chosen = {e.id for e in sorted(examples, key=lambda e: order_key(seed, e.id))[:limit]}
    return [e for e in examples if e.id in chosen]
