"""What the best adapter of a run is the best by: a score of its validations, higher or lower."""

import math
from dataclasses import dataclass

from minicrit.training_config import DPOConfig, TrainingConfig

#: Scores of every validation, and whether more of them is better.
_CRITIC = {
    "val/f1": True, "val/precision": True, "val/recall": True, "val/fpr": False,
    "val/auroc": True, "val/ece": False, "val/brier": False, "val/accuracy": True,
    "val/twin_consistency": True, "val/flaw_type_f1": True, "val/perplexity": False,
}  # fmt: skip
#: Scores of held-out pairs. Not the KL: it is least where least was learnt.
PAIRED = {"val/reward_accuracy": True, "val/reward_margin": True}
SCORES = _CRITIC | PAIRED


@dataclass(frozen=True)
class Goal:
    """A score by which one adapter is better than another."""

    score: str

    def better(self, new: float, old: float | None) -> bool:
        """Whether `new` beats `old` (None for nothing yet); what is not a number never does."""
        if math.isnan(new):
            return False
        return old is None or (new > old if SCORES[self.score] else new < old)


def goal_of(stage: str, settings: TrainingConfig) -> Goal | None:
    """The goal that a stage is given; None for its last adapter.

    Raises:
        ValueError: if no validation of the stage gives that score, or patience has nothing to
            wait for.
    """
    if settings.patience < 0:
        raise ValueError(f"{stage}.patience: expected 0 or more validations, got "
                         f"{settings.patience}; 0 is never to stop early")  # fmt: skip
    if settings.best is None:
        if settings.patience:
            raise ValueError(f"{stage}.patience: expected {stage}.best with it, got none; name "
                             "the score that is waited for")  # fmt: skip
        return None
    paired = isinstance(settings, DPOConfig)
    known = SCORES if paired else _CRITIC
    if settings.best not in known:
        raise ValueError(f"{stage}.best: expected one of {', '.join(known)}, got "
                         f"{settings.best!r}; pick one, or null for the last adapter")  # fmt: skip
    if settings.best in PAIRED and isinstance(settings, DPOConfig) and not settings.held_out_pairs:
        raise ValueError(f"{stage}.best: expected held-out pairs for {settings.best}, got none; "
                         f"raise {stage}.held_out_pairs")  # fmt: skip
    return Goal(settings.best)
