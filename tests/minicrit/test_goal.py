"""The best by what, and what cannot be asked for."""

import pytest

from minicrit.goal import SCORES, Goal, goal_of
from minicrit.training_config import DPOConfig, RSFConfig, SFTConfig


@pytest.mark.parametrize(
    ("score", "new", "old", "expected"),
    [
        ("val/f1", 0.1, None, True), ("val/f1", 0.6, 0.5, True), ("val/f1", 0.5, 0.5, False),
        ("val/fpr", 0.1, 0.2, True), ("val/fpr", 0.3, 0.2, False),
        ("val/f1", float("nan"), None, False), ("val/fpr", float("nan"), 0.2, False),
        ("val/perplexity", 3.0, float("inf"), True),
    ],
)  # fmt: skip
def test_better_is_higher_or_lower_and_never_undefined(score, new, old, expected):
    assert Goal(score).better(new, old) is expected


def test_lower_is_better_only_for_errors():
    lower = {name for name, up in SCORES.items() if not up}
    assert lower == {"val/fpr", "val/ece", "val/brier", "val/perplexity"}


def test_no_goal_is_the_last_adapter():
    assert goal_of("sft", SFTConfig()) is None
    assert goal_of("rsf", RSFConfig(best="val/ece", patience=2)) == Goal("val/ece")
    assert goal_of("dpo", DPOConfig(best="val/reward_accuracy")) == Goal("val/reward_accuracy")


@pytest.mark.parametrize(
    ("stage", "settings", "message"),
    [
        ("sft", SFTConfig(best="f1"), r"sft.best: expected one of val/f1, .*got 'f1'; pick one"),
        ("sft", SFTConfig(best="val/reward_margin"), r"sft.best: .*got 'val/reward_margin'"),
        ("dpo", DPOConfig(best="val/kl"), r"dpo.best: expected one of val/f1, .*got 'val/kl'"),
        ("dpo", DPOConfig(best="val/reward_margin", held_out_pairs=0.0), r"raise dpo.held_out"),
        ("rsf", RSFConfig(patience=2), r"rsf.patience: expected rsf.best with it, got none"),
        ("rsf", RSFConfig(best="val/f1", patience=-1), r"rsf.patience: expected 0 or more"),
    ],
)
def test_what_cannot_be_asked_for_names_what_can(stage, settings, message):
    with pytest.raises(ValueError, match=message):
        goal_of(stage, settings)
