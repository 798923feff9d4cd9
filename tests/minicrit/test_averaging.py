"""The mean of adapters."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from minicrit.averaging import average
from minicrit.calibrate import fit
from minicrit.config import Recipe
from minicrit.critic import Critic
from minicrit.export.source import Source
from minicrit.files import FITTED, sha256_file
from minicrit.lora import WEIGHTS
from minicrit.manifest import check_outputs, read_manifest, write_manifest
from minicrit.measure_config import CalibrateConfig
from minicrit.records import Example, write_examples
from minicrit.run import run_of
from tests.minicrit.router_case import ITEMS, save_adapter, sign


@pytest.fixture
def family(tiny, tmp_path):
    """An adapter and two that went on from it."""
    parent = save_adapter(tiny, tmp_path / "parent", 0)
    for seed in (1, 2):
        child = tmp_path / f"child-{seed}"
        shutil.copytree(parent, child)
        generator = torch.Generator().manual_seed(seed)
        moved = {name: tensor + 0.02 * torch.randn(tensor.shape, generator=generator)
                 for name, tensor in load_file(parent / WEIGHTS).items()}  # fmt: skip
        save_file(moved, child / WEIGHTS, metadata={"format": "pt"})
        sign(child, tiny.identity)
    return tmp_path


def asked(root, *names, weights=None):
    recipe = Recipe()
    recipe.base.model, recipe.base.folder = "tiny", root / "base"
    recipe.average.critics = [root / name for name in names]
    recipe.average.weights, recipe.average.out = weights, root / "mean"
    return recipe


@pytest.mark.parametrize(("weights", "shares"), [(None, (0.5, 0.5)), ([3.0, 1.0], (0.75, 0.25))])
def test_each_weight_is_the_weighted_mean(family, tiny_folder, weights, shares):
    recipe = asked(family, "child-1", "child-2", weights=weights)
    folder = average(recipe)
    one, two, mean = (load_file(family / n / WEIGHTS) for n in ("child-1", "child-2", "mean"))
    for name in one:
        torch.testing.assert_close(mean[name], shares[0] * one[name] + shares[1] * two[name])
    record = read_manifest(folder)
    assert check_outputs(folder) == []
    assert record["settings"]["weights"] == list(shares)
    assert sorted(record["inputs"]) == ["critic_1", "critic_2"]
    judged = [Critic.load(family / n, base_folder=tiny_folder).log_odds(ITEMS)
              for n in ("child-1", "mean", "child-2")]  # fmt: skip
    assert not np.array_equal(judged[0], judged[1])
    assert not np.array_equal(judged[1], judged[2])


def test_made_again_with_the_same_bytes_it_keeps_its_calibration_else_not(family):
    recipe = asked(family, "child-1", "child-2")
    folder = average(recipe)
    for name in FITTED:
        (folder / name).write_text(name)
    average(recipe)
    assert [(folder / name).read_text() for name in FITTED] == list(FITTED)
    recipe.average.weights = [3.0, 1.0]
    average(recipe)
    assert not any((folder / name).exists() for name in FITTED)


def test_an_average_can_be_averaged_and_trained_on(family, tiny_folder):
    average(asked(family, "child-1", "child-2"))
    again = asked(family, "mean", "parent")
    again.average.out = family / "more"
    average(again)
    again.base.folder, again.lora.rank, again.lora.alpha = tiny_folder, 4, 8
    for folder in (family / "more", family / "mean"):
        record = json.loads((folder / "manifest.json").read_text())
        record["settings"]["lora"] = {"rank": 4, "alpha": 8}
        (folder / "manifest.json").write_text(json.dumps(record))
    again.sft.start = family / "more"
    run = run_of(again, "sft", again.sft, family / "more" / WEIGHTS)
    assert run.files["start"] == family / "more" / WEIGHTS


def lesson(root, child, text):
    """A file that a child is said to have been trained on; its hash."""
    path = root / f"{child}.jsonl"
    path.write_text(text)
    record = read_manifest(root / child)
    write_manifest(root / child, stage="sft", inputs={"train": path}, settings=record["settings"],
                   facts=record["facts"])  # fmt: skip
    return sha256_file(path)


def test_what_its_critics_were_trained_on_is_known_of_an_average_of_averages(family):
    one, two = lesson(family, "child-1", "one\n"), lesson(family, "child-2", "two\n")
    shutil.copytree(family / "child-1", family / "child-3")
    moved = {n: tensor + 0.01 for n, tensor in load_file(family / "child-1" / WEIGHTS).items()}
    save_file(moved, family / "child-3" / WEIGHTS, metadata={"format": "pt"})
    assert lesson(family, "child-3", "one\n") == one
    first = read_manifest(average(asked(family, "child-1", "child-2", "child-3")))
    assert first["facts"]["trained_on"] == {"critic_1.train": one, "critic_2.train": two}
    again = asked(family, "parent", "mean")
    again.average.out = family / "more"
    record = read_manifest(average(again))
    weights = [sha256_file(family / name / WEIGHTS) for name in ("child-1", "child-2", "child-3")]
    assert record["facts"]["trained_on"] == {
        **{f"critic_2.critic_{n}": digest for n, digest in enumerate(weights, 1)},
        "critic_2.critic_1.train": one, "critic_2.critic_2.train": two,
    }  # fmt: skip
    source = Source(family / "more", family / "base", record, critic=None, facts={}, merged=False)
    assert source.trained_on["critic_2.critic_2.train"] == two


def test_an_average_is_not_calibrated_on_what_its_critics_were_trained_on(family):
    data = family / "child-2.jsonl"
    rows = [Example(id=str(n), domain="general", rationale=f"So {n}.", label="valid", group=str(n),
                    source="hand", split="calibration") for n in range(3)]  # fmt: skip
    write_examples(data, rows)
    lesson(family, "child-2", data.read_text())
    record = read_manifest(average(asked(family, "child-1", "child-2")))
    with pytest.raises(ValueError, match=r"not seen, got its own input critic_2\.train; give"):
        fit(CalibrateConfig(data=data), 0, record, lambda: None, family)


def changed(root, **facts):
    path = root / "child-2" / "manifest.json"
    record = json.loads(path.read_text())
    record["facts"] |= facts
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(("names", "weights", "message"), [
    ((), None, "average.critics: expected two or more folders of adapters, each once, got none"),
    (("child-1",), None, "average.critics: expected two or more"),
    (("child-1", "child-1"), None, "each once, got"),
    (("child-1", "nobody"), None, "nobody: expected what a stage has made, got nothing"),
    (("child-1", "child-2"), [1.0], "average.weights: expected 2 positive numbers, got"),
    (("child-1", "child-2"), [1.0, -1.0], "average.weights: expected 2 positive numbers"),
    (("child-1", "child-2"), [1.0, float("nan")], "average.weights: expected 2 positive numbers"),
    (("child-1", "child-2"), [1.0, float("inf")], "average.weights: expected 2 positive numbers"),
    (("child-1", "stranger"), None, r"got a stranger \(cosine -?0\.\d\d of A"),
    (("child-1", "wide"), None, "wide: expected the layers and the rank of"),
])  # fmt: skip
def test_what_cannot_be_averaged_is_refused(family, tiny, names, weights, message):
    if "stranger" in names:
        save_adapter(tiny, family / "stranger", 5)
    if "wide" in names:
        save_adapter(tiny, family / "wide", 0, rank=8)
    with pytest.raises(ValueError, match=message):
        average(asked(family, *names, weights=weights))
    assert not (family / "mean").exists()


@pytest.mark.parametrize("fact", ["base", "prompt_version"])
def test_another_base_or_prompt_is_refused(family, fact):
    changed(family, **{fact: "another"})
    with pytest.raises(ValueError, match=f"child-2: not of a kind with .*{fact}: expected"):
        average(asked(family, "child-1", "child-2"))


def test_all_weights_are_no_adapter(family):
    changed(family, whole="0" * 64)
    with pytest.raises(ValueError, match="expected an adapter, got a critic of all weights"):
        average(asked(family, "child-1", "child-2"))


@pytest.mark.parametrize("out", ["child-2", ".", "child-1/../child-2"])
def test_no_average_takes_the_place_of_a_critic_that_it_is_made_of(family, out):
    recipe = asked(family, "child-1", "child-2")
    recipe.average.out = family / out
    with pytest.raises(ValueError, match=r"is or holds .*child-.*; name another"):
        average(recipe)
    assert check_outputs(family / "child-2") == []


def test_a_file_that_was_changed_is_refused(family):
    with (family / "child-2" / WEIGHTS).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ValueError, match="child-2: expected the files of its manifest"):
        average(asked(family, "child-1", "child-2"))


def test_what_is_no_adapter_is_refused(family, tiny):
    with pytest.raises(ValueError, match=r"expected an adapter .*got what base made"):
        average(asked(family, "child-1", tiny.folder))
