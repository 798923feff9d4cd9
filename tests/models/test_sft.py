"""SFT: the loss of a step does not depend on how it is split, shared or interrupted."""

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning import Trainer

from callbacks.bar import Bar
from data_gen.changed import with_changes
from data_gen.compose import compose
from minicrit.config import BaseConfig, Recipe
from minicrit.data_config import DataConfig
from minicrit.encoding import Encoder, TooLongError
from minicrit.files import folder_hashes
from minicrit.lessons import sft_branch, sft_groups, training_groups, validation_examples
from minicrit.logprobs import scored_logprobs
from minicrit.losses import sft_loss
from minicrit.manifest import write_manifest
from minicrit.packing import grow, pack
from minicrit.plan import Group, StepPlan
from minicrit.prompts import PROMPT_VERSION
from minicrit.records import read_examples, write_examples
from minicrit.train import train_dpo, train_kto, train_rsf, train_sft
from minicrit.training_config import LoraConfig, SFTConfig

OPTIONS = {"verdict_weight": 10.0, "explained": True}


@pytest.fixture(scope="module")
def twins():
    return [composed.example for composed in compose(8, 3, "train", squares=True)]


def gradients(model, packs, weight):
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        p.grad = None
    total = 0.0
    for packed in packs:
        loss = sft_loss(scored_logprobs(model.get_base_model(), packed), packed.weights)
        (loss.total / weight).backward()
        total += loss.total.item() / weight
    return total, [p.grad.clone() for p in trained]


def assert_same(a, b):
    assert a[0] == pytest.approx(b[0], rel=1e-9)
    for x, y in zip(a[1], b[1], strict=True):
        torch.testing.assert_close(x, y, atol=1e-10, rtol=1e-7)


def test_a_batch_of_eight_equals_eight_of_one_and_shared_equals_alone(
    tiny_adapted, tiny_encoder, twins
):
    branches = [sft_branch(e, tiny_encoder, **OPTIONS) for e in twins]
    weight = sum(sum(b.weights) for b in branches)
    whole = gradients(tiny_adapted, [pack([grow([b]) for b in branches])], weight)
    single = gradients(tiny_adapted, [pack([grow([b])]) for b in branches], weight)
    shared = gradients(tiny_adapted, [pack([grow(branches[:4]), grow(branches[4:])])], weight)
    assert_same(whole, single)
    assert_same(whole, shared)


def test_two_processes_together_give_the_step_of_one(tiny_adapted, tiny_encoder, twins):
    groups = [
        Group(str(g), (grow([sft_branch(e, tiny_encoder, **OPTIONS) for e in members]),), 4)
        for g, members in enumerate((twins[:4], twins[4:]))
    ]
    plan = StepPlan(groups, epochs=1, batch_examples=8, pack_tokens=600, seed=0)
    one = plan.step(0)
    both = [packed for rank in (0, 1) for packed in plan.step(0, rank, 2).packs]
    assert_same(
        gradients(tiny_adapted, one.packs, one.weight),
        gradients(tiny_adapted, both, one.weight),
    )


def test_loss_falls_on_the_critique_alone(tiny_encoder, twins):
    flawed = next(e for e in twins if e.label == "flawed")
    branch = sft_branch(flawed, tiny_encoder, **OPTIONS)
    decode = tiny_encoder.tokenizer.decode
    scored = [i for i, w in zip(branch.ids, branch.weights, strict=True) if w]
    text = decode(scored[:-1])
    assert text.startswith(f" flawed\nFlaw: {flawed.flaw_type}\n")
    assert text.endswith(f"Fix: {flawed.fix}")
    assert scored[-1] == tiny_encoder.end
    word = len(tiny_encoder.verdict_words["flawed"])
    weights = [w for w in branch.weights if w]
    assert sum(weights[:word]) == pytest.approx(10.0)
    assert set(weights[word:]) == {1.0}
    silent = sft_branch(flawed, tiny_encoder, verdict_weight=10.0, explained=False)
    read = decode([i for i, w in zip(silent.ids, silent.weights, strict=True) if w])
    assert read == f" flawed\nFlaw: {flawed.flaw_type}"
    sound = next(e for e in twins if e.label == "valid")
    silent = sft_branch(sound, tiny_encoder, verdict_weight=10.0, explained=False)
    assert decode([i for i, w in zip(silent.ids, silent.weights, strict=True) if w]) == " valid"


def test_what_twins_teach_needs_their_shared_prefix(tiny_encoder, twins):
    settings = SFTConfig(share_prefix=False)
    with pytest.raises(ValueError, match=r"sft.share_prefix: expected true with sft.coherence"):
        training_groups(twins, tiny_encoder, settings, 0)
    plain = SFTConfig(share_prefix=False, coherence=0, running=0, deep=0)
    alone = training_groups(twins, tiny_encoder, plain, 0)
    assert [len(group.trees) for group in alone] == [4, 4]
    marked = training_groups(twins, tiny_encoder, SFTConfig(), 0)
    assert [tree.departures for group in marked for tree in group.trees] == [4, 4]
    steady = SFTConfig(share_prefix=False, coherence=0, running=0, deep=0, steady=1)
    with pytest.raises(ValueError, match=r"or sft.steady, got false; set these four to 0$"):
        training_groups(twins, tiny_encoder, steady, 0)


def test_a_changed_text_bears_the_key_of_its_text_and_no_departure(tiny_encoder, twins):
    changed = with_changes(twins, 1, 0)
    assert len(changed) == len(twins) + 4
    groups = training_groups(changed[::-1], tiny_encoder, SFTConfig(), 0)
    plain = training_groups(twins, tiny_encoder, SFTConfig(), 0)
    for group, alone in zip(groups, plain, strict=True):
        (tree,), (bare,) = group.trees, alone.trees
        assert (tree.versions, tree.departures) == (2, 4)
        assert (bare.versions, bare.departures) == (0, 4)
        for key, count in Counter(leaf.key for leaf in tree.leaves).items():
            versions = [leaf for leaf in tree.leaves if leaf.key == key]
            assert len({leaf.departure is None for leaf in versions}) == count <= 2
            assert len({leaf.weights[-1] for leaf in versions}) == 1


def test_rows_that_only_bear_such_names_are_no_changes(tiny_encoder, twins):
    """`<id>/flawed` beside `<id>`, and the changed name of a text of the other label."""
    plain = training_groups(twins[:4], tiny_encoder, SFTConfig(), 0)
    valid, *others = twins[:4]
    assert valid.label != others[0].label
    for name in ("flawed", "polite"):
        renamed = [valid, replace(others[0], id=f"{valid.id}/{name}"), *others[1:]]
        (group,) = training_groups(renamed, tiny_encoder, SFTConfig(), 0)
        (tree,), (bare,) = group.trees, plain[0].trees
        assert (tree.versions, tree.departures) == (bare.versions, bare.departures) == (0, 4)


def test_an_example_that_is_too_long_is_named_before_training(tiny_encoder, twins, tmp_path):
    encoder = Encoder(tiny_encoder.tokenizer, max_tokens=60)
    with pytest.raises(
        TooLongError, match=rf"^{twins[0].id}: expected at most .* got \d+; shorten"
    ):
        sft_branch(twins[0], encoder, **OPTIONS)
    path = tmp_path / "validation.jsonl"
    rows = [c.example for c in compose(4, 0, "validation")]
    write_examples(path, rows)
    assert validation_examples(path, tiny_encoder) == rows
    with pytest.raises(TooLongError, match=rf"^{path}: {rows[0].id}: expected at most"):
        validation_examples(path, encoder)


def test_a_flaw_that_would_be_cut_off_is_not_learnt(tiny_encoder, tmp_path, caplog):
    """The label said flawed, and the text that was learnt from was sound."""
    start = "The pump ran for nine days. " * 9
    sound = next(compose(1, 0, "train")).example
    sound = replace(sound, id="a", group="g", rationale=start + "It may run on.", label="valid",
                    flaw_type=None, severity=None, evidence=None, fix=None,
                    strengths=None)  # fmt: skip
    early = replace(sound, id="b", label="flawed", flaw_type="small_sample",
                    evidence="ran for nine days")  # fmt: skip
    late = replace(early, id="c", rationale=start + "It is certain.", evidence="It is certain.")
    twins = [replace(sound, id="d", group="h"), replace(late, id="e", group="h")]
    path = tmp_path / "train.jsonl"
    write_examples(path, [sound, early, *twins])
    room = len(tiny_encoder.prompt(sound.domain, late.rationale))
    encoder = Encoder(tiny_encoder.tokenizer, max_tokens=room, truncate=True)
    whole = training_groups([sound, early], encoder, SFTConfig(), 0)
    assert encoder.ledger["truncated"] == 2
    assert sft_groups(read_examples(path), encoder, SFTConfig(), 0) == whole
    assert encoder.ledger["left_out"] == 2  # a twin alone would teach that to be cut is to be sound
    assert encoder.ledger["truncated"] == 4  # the first two, twice
    assert caplog.messages == [
        f"{path}: expected examples of at most {room} tokens, rationale included, got 2 of 4 that "
        "are longer, or lose evidence, theirs or a twin's, if cut; they are left out; to learn "
        "from them, raise data.max_tokens"
    ]
    assert validation_examples(path, encoder) == [sound, early]
    write_examples(path, twins[1:])
    for read in (partial(sft_groups, read_examples(path), encoder, SFTConfig(), 0),
                 partial(validation_examples, path, encoder)):  # fmt: skip
        with pytest.raises(ValueError, match=r"got 1 of 1 that are longer, .*; raise data.max"):
            read()


def test_a_validation_example_that_is_too_long_stops_before_the_first_step(
    tiny, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "validation"):
        rows = [c.example for c in compose(4, 0, split)]
        if split == "validation":
            rows[1] = replace(rows[1], rationale=rows[1].rationale + " It is so." * 2000)
        write_examples(tmp_path / "data" / f"{split}.jsonl", rows)
    recipe = Recipe(
        base=BaseConfig(model="tiny", folder=tiny.folder.parent), lora=LoraConfig(rank=4),
        data=DataConfig(folder=Path("data")), sft=SFTConfig(out=Path("run/sft")),
    )  # fmt: skip
    with pytest.raises(TooLongError, match=rf"validation.jsonl: {rows[1].id}: expected at most"):
        train_sft(recipe)
    assert not list(tmp_path.glob("run/*"))


@pytest.mark.parametrize(("stage", "told", "said"), [
    ("sft", {"clip": 0.0}, r"sft.clip: expected more than 0, got 0.0"),
    ("sft", {"clip": -1.0}, r"sft.clip: expected more than 0, got -1.0"),
    ("sft", {"verdict_weight": 0.0}, r"sft.verdict_weight: expected more than 0"),
    ("sft", {"batch_examples": 0}, r"sft.batch_examples: expected 1 or more"),
    ("rsf", {"epochs": 0}, r"rsf.epochs: expected 1 or more, got 0"),
    ("rsf", {"verdict_weight": -1.0}, r"rsf.verdict_weight: expected more than 0"),
    ("kto", {"save_every": 0}, r"kto.save_every: expected 1 or more"),
    ("kto", {"pack_tokens": -1}, r"kto.pack_tokens: expected 1 or more, got -1"),
    ("dpo", {"learning_rate": 0.0}, r"dpo.learning_rate: expected more than 0"),
    ("dpo", {"batch_pairs": 0}, r"dpo.batch_pairs: expected 1 or more"),
    ("dpo", {"beta": 0.0}, r"dpo.beta: expected more than 0, got 0.0"),
    ("sft", {"coherence": -1.0}, r"sft.coherence: expected 0 or more, got -1.0"),
    ("sft", {"deep": math.nan}, r"sft.deep: expected 0 or more, got nan"),
    ("kto", {"bad_weight": -0.5}, r"kto.bad_weight: expected 0 or more, got -0.5"),
    ("kto", {"good_weight": 0.0, "bad_weight": 0.0}, r"kto.good_weight: expected it or kto.bad_w"),
    ("dpo", {"flips": 0.5}, r"dpo.flips: expected a share from 0 to under 0.5, got 0.5"),
    ("dpo", {"flips": -0.1}, r"dpo.flips: expected 0 or more, got -0.1"),
    ("lora", {"alpha": 0.0}, r"lora.alpha: expected more than 0, got 0.0"),
    ("dpo", {"loss_chunk": -1}, r"dpo.loss_chunk: expected 0 or more, got -1"),
    ("lora", {"rank": -1}, r"lora.rank: expected 0 or more, got -1"),
])  # fmt: skip
def test_settings_that_teach_nothing_are_refused_before_anything_is_loaded(stage, told, said):
    recipe = Recipe(base=BaseConfig(model="none/such", folder=Path("nowhere")))
    recipe = replace(recipe, **{stage: replace(getattr(recipe, stage), **told)})
    train = {"rsf": train_rsf, "kto": train_kto, "dpo": train_dpo}.get(stage, train_sft)
    with pytest.raises(ValueError, match=said):
        train(recipe)


def test_a_file_where_the_adapter_should_be_stops_before_the_first_step(
    tiny, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_examples(tmp_path / "data" / "train.jsonl", [c.example for c in compose(4, 0, "train")])
    write_examples(tmp_path / "data" / "validation.jsonl", [])
    (tmp_path / "sft").write_text("mine")
    recipe = Recipe(
        base=BaseConfig(model="tiny", folder=tiny.folder.parent), lora=LoraConfig(rank=4),
        data=DataConfig(folder=Path("data")), sft=SFTConfig(out=Path("sft")),
    )  # fmt: skip
    with pytest.raises(
        ValueError, match=r"^sft: expected a folder or nothing, got a file; move it away"
    ):
        train_sft(recipe)
    assert (tmp_path / "sft").read_text() == "mine"


def test_the_bar_is_on_standard_error_and_leaves_standard_output_alone(capsys):
    bar = Bar()
    bar._trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    capsys.readouterr()
    for begin in (bar.init_train_tqdm, bar.init_validation_tqdm):
        drawn = begin()
        drawn.update(1)
        drawn.refresh()
        drawn.close()
    found = capsys.readouterr()
    assert found.out == ""
    assert "\r" in found.err


RUN = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from minicrit.config import Recipe
from minicrit.train import train_sft
out, bases = Path(sys.argv[1]), Path(sys.argv[2])
recipe = Recipe()
recipe.base.model, recipe.base.folder = "tiny", bases
recipe.data.folder = Path("data")
recipe.lora.rank, recipe.lora.dropout = 4, 0.1
sft = recipe.sft
sft.out, sft.log_folder = out / "sft", out / "logs"
sft.precision, sft.batch_examples, sft.validate_every, sft.save_every = "32-true", 8, 5, 2
sft.samples, sft.epochs = 1, 2
train_sft(recipe)
"""


def test_only_a_whole_adapter_of_this_base_is_gone_on_from(tiny, tmp_path):
    recipe = Recipe(
        base=BaseConfig(model="tiny", folder=tiny.folder.parent),
        data=DataConfig(folder=tmp_path / "data"),
        sft=SFTConfig(out=tmp_path / "sft", start=tmp_path / "other"),
    )
    with pytest.raises(ValueError, match=r"sft.start: expected the folder of a trained adapter"):
        train_sft(recipe)
    recipe.sft.start.mkdir()
    weights = recipe.sft.start / "adapter_model.safetensors"
    weights.write_bytes(b"weights")
    facts = {"base": "another", "prompt_version": PROMPT_VERSION}
    settings = {"lora": {"rank": 16, "alpha": 16.0}}
    write_manifest(recipe.sft.start, stage="sft", inputs={}, settings=settings, facts=facts)
    with pytest.raises(ValueError, match="base: expected"):
        train_sft(recipe)
    facts["base"] = tiny.identity
    write_manifest(recipe.sft.start, stage="sft", inputs={}, settings=settings, facts=facts)
    with pytest.raises(ValueError, match=r"set 16.0 / 16"):
        train_sft(recipe)
    weights.write_bytes(b"changed")
    with pytest.raises(ValueError, match="expected the files of its manifest"):
        train_sft(recipe)


def start(folder: Path, name: str, bases: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, name, str(bases)],
        cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]


def killed_and_restarted(folder: Path, bases: Path, moments: list[float], how: int) -> None:
    """Stops a run so many seconds after its first checkpoint each time, then lets it finish."""
    for wait in moments:
        process = start(folder, "killed", bases)
        work = folder / "killed" / "sft.work"
        before = set(work.glob("*.sha256"))
        deadline = time.monotonic() + 120
        while set(work.glob("*.sha256")) <= before and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(wait)
        process.send_signal(how)
        process.communicate()
    finish(start(folder, "killed", bases))


@pytest.mark.parametrize(
    ("kills", "how"),
    [
        pytest.param(1, signal.SIGKILL, id="killed", marks=pytest.mark.slow),
        pytest.param(1, signal.SIGINT, id="ctrl-c", marks=pytest.mark.slow),
        pytest.param(1, signal.SIGTERM, id="terminated", marks=pytest.mark.slow),
        pytest.param(6, signal.SIGKILL, id="killed-six-times", marks=pytest.mark.slow),
    ],
)
def test_stopped_at_any_moment_ends_in_the_same_bytes(tmp_path, tiny, kills, how):
    (tmp_path / "data").mkdir()
    for split, count in (("train", 48), ("validation", 8)):
        rows = [c.example for c in compose(count, 0, split)]
        write_examples(tmp_path / "data" / f"{split}.jsonl", rows)
    bases = tiny.folder.parent
    finish(start(tmp_path, "whole", bases))
    rng = random.Random(kills)
    killed_and_restarted(tmp_path, bases, [rng.uniform(0, 0.5) for _ in range(kills)], how)
    whole, again = (folder_hashes(tmp_path / name / "sft") for name in ("whole", "killed"))
    assert whole == again
    assert not (tmp_path / "killed" / "sft.work").exists()
