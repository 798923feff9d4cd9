"""A critic that is named counts as it is: what asks about it never makes it again."""

import subprocess
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


def test_a_run_remembers_what_its_data_and_base_were_made_with(project):
    """Later goals need not say it; what is taken back, or another, is heard."""
    Path("own").mkdir()
    Path("own/desk.jsonl").write_text("{}")
    told = ("RUN=desk", "DATA=own", "SEED=3", "BASE=tiny")
    assert redone("benchmark", *told)[:2] == ["base", "data"]
    assert redone("benchmark", "RUN=desk") == []
    assert redone("calibrate", "RUN=desk") == ["calibrate"]
    (line,) = Path("log").read_text().splitlines()
    assert "--base.model tiny" in line
    assert line.endswith("--seed 3")
    assert redone("data", "RUN=desk", "DATA=") == ["data"]
    assert "--data.public" not in Path("log").read_text()
    assert redone("data", "RUN=desk") == []
    assert redone("data", "RUN=desk", "SEED=4", "BASE=tiny") == ["data"]
    assert redone("data") == ["base", "data"]  # another run
    assert "tiny" not in Path("log").read_text()


def test_a_run_that_is_named_remembers_its_recipe(project):
    Path("other.yaml").write_text(Path("mine.yaml").read_text().replace("seed: 1", "seed: 2"))
    assert redone("data", "RECIPE=other.yaml", "RUN=desk") == ["base", "data"]
    done = subprocess.run(["make", "data", "RUN=desk"], capture_output=True, text=True, check=True)
    assert "minicrit data" not in done.stdout
    assert (Path(".make/desk/told/RECIPE").read_text()) == "other.yaml\n"
