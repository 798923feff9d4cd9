"""A critic that is named counts as it is: what asks about it never makes it again."""

from pathlib import Path

import pytest

from tests.make_project import NEEDS_MAKE, make, redone, trains_more

pytestmark = NEEDS_MAKE


@pytest.fixture
def trained(project):
    """A run whose other critics were made with variables that later goals do not have."""
    trains_more("dpo", "rsf")
    assert redone("dpo", "ROUNDS=2")[-2:] == ["dpo", "calibrate"]
    assert redone("rsf", "N=4", "KEEP=0.25")[-2:] == ["rsf", "calibrate"]
    Path("thumbs.jsonl").write_text("{}")
    assert redone("kto", "THUMBS=thumbs.jsonl")[-2:] == ["kto", "calibrate"]


@pytest.mark.parametrize(("words", "stages"), [
    (("benchmark", "MODEL_2=checkpoints/mine/dpo"), ["benchmark"]),
    (("benchmark", "MODEL_1=checkpoints/mine/rsf"), ["benchmark"]),
    (("export", "MODEL=checkpoints/mine/kto/"), ["export"]),
    (("explain", "MODEL=checkpoints/mine/rsf"), ["explain"]),
    (("errors", "MODEL=checkpoints/mine/dpo"), ["errors"]),
    (("quantize", "MODEL=checkpoints/mine/dpo"), ["quantize"]),
    (("experiments", "MODEL=checkpoints/mine/kto"), ["experiments"]),
    (("speculative", "TARGET=checkpoints/mine/rsf"), ["speculative"]),
    (("pairs", "MODEL=checkpoints/mine/kto"), ["pairs"]),
])  # fmt: skip
def test_what_asks_about_a_critic_of_the_run_does_not_train_it(trained, words, stages):
    assert redone(*words) == stages
    assert "dropped" not in make(*words).stderr


def test_a_quantized_critic_is_looked_at_and_not_quantized(trained):
    redone("quantize")
    for goal in ("errors", "explain", "export"):
        assert redone(goal, "MODEL=checkpoints/mine/int8") == [goal]
    assert redone("quantize") == []


def test_what_was_said_of_a_critic_is_stale_when_it_or_its_calibration_is_another(trained):
    asked = ("explain", "MODEL=checkpoints/mine/dpo")
    assert redone(*asked) == ["explain"]
    assert redone(*asked) == []
    for name in ("manifest.json", "calibration.json"):
        Path("checkpoints/mine/dpo", name).write_text(name)
        assert redone(*asked) == ["explain"]
        assert redone(*asked) == []
