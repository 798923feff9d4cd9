"""Bases: made once, the same everywhere, and never with code of their own."""

import json
import math
import shutil

import pytest
import torch

from minicrit.base import (
    PARAGRAPH,
    identity_of,
    load_model,
    load_tokenizer,
    perplexity,
    prepare_base,
)


def test_tiny_base_is_the_same_every_time(tiny, tmp_path):
    again = prepare_base("tiny", tmp_path)
    assert again.identity == tiny.identity
    assert again.folder != tiny.folder


def test_prepared_base_is_not_made_again(tiny):
    stamp = (tiny.folder / "model.safetensors").stat().st_mtime_ns
    assert prepare_base("tiny", tiny.folder.parent) == tiny
    assert (tiny.folder / "model.safetensors").stat().st_mtime_ns == stamp


def test_a_folder_is_a_base_and_its_identity_follows_its_content(tiny, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(tiny.folder, copy)
    (copy / "manifest.json").unlink()
    base = prepare_base(str(copy), tmp_path)
    assert base.identity == tiny.identity
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-5}))
    assert identity_of(copy) != tiny.identity


def test_folder_with_code_of_its_own_or_pickled_weights_is_refused(tiny, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(tiny.folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(ValueError, match="needs no code of its own"):
        prepare_base(str(copy), tmp_path)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"expected \*.safetensors"):
        identity_of(copy)


def test_unknown_name_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="use BASE=embedded"):
        prepare_base("no-such-owner/no-such-model", tmp_path)


def test_perplexity_of_a_uniform_model_is_its_vocabulary(tiny):
    model, tokenizer = load_model(tiny), load_tokenizer(tiny)
    torch.nn.init.zeros_(model.model.norm.weight)
    assert perplexity(model, tokenizer, PARAGRAPH) == pytest.approx(len(tokenizer), rel=1e-4)
    assert math.isfinite(perplexity(load_model(tiny), tokenizer, PARAGRAPH))
