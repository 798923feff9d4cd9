"""From operators' decisions to a critic that went on from another one, on the tiny base."""

from pathlib import Path

from data_gen.feedback import make_feedback
from data_gen.stage import make_data
from minicrit.base import Base
from minicrit.calibrate import calibrate
from minicrit.comparisons import read_preferences
from minicrit.critic import Critic
from minicrit.feedback.store import FeedbackStore
from minicrit.manifest import read_manifest
from minicrit.records import read_examples
from minicrit.settings import load_recipe
from minicrit.train import train_sft
from tests.data_gen.test_feedback import TRAIN, WRITTEN, text_of
from tests.minicrit.test_calibrate import save_adapter


def test_a_critic_goes_on_from_another_with_what_operators_decided(
    tmp_path: Path, tiny: Base, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folder, start = tiny.folder.parent, Path("checkpoints/start")
    save_adapter(tiny, start)
    told = ["--base.folder", str(folder), "--lora.rank", "2", "--lora.alpha", "4",
            "--sft.start", str(start), "--sft.validate_every", "0", "--sft.samples", "0",
            "--data.train", "16", "--data.fresh", "8", "--data.validation", "8",
            "--data.calibration", "32", "--data.test", "8", "--data.folder", "data/again",
            "--data.public", "data/operators/examples", "--sft.out", "checkpoints/again/sft",
            "--calibrate.model", "checkpoints/again/sft", "--calibrate.alpha", "0.3",
            "--calibrate.data", "data/again/calibration.jsonl"]  # fmt: skip
    recipe = load_recipe(["tiny"], told)
    with FeedbackStore(recipe.feedback.store) as store:
        for n in TRAIN[:8]:
            store.add_request(f"r{n}", "general", text_of(n), WRITTEN)
            if n % 2:
                store.add_decision(f"r{n}", "disagree", "ann")
            else:
                store.add_decision(f"r{n}", "correct", "ann", critique=f"Week {n} is not a year.")
    make_feedback(recipe)
    make_data(recipe)
    rows = read_examples("data/again/train.jsonl").examples
    assert sum(e.source == "feedback" for e in rows) == 8
    assert len(rows) >= 16 + 8
    train_sft(recipe)
    calibrate(recipe)
    manifest = read_manifest(recipe.sft.out)
    assert manifest["inputs"]["start"]["path"].startswith(str(start))
    critic = Critic.load(recipe.sft.out, base_folder=folder)
    before = Critic.load(start, base_folder=folder)
    assert critic.identity != before.identity
    assert critic.calibration is not None
    assert before.calibration is None
    pairs = read_preferences(recipe.feedback.out / "pairs.jsonl")
    assert {pair.scorer for pair in pairs} == {"operator-rewrite", "operator-verdict"}
