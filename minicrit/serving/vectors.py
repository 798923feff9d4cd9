"""Vectors of texts in one file, by the hash of the text and for one model."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from minicrit.files import write_atomic
from minicrit.serving.embedding import Vectors

log = logging.getLogger(__name__)


class Kept:
    """Vectors read back, by the hash of their text."""

    def __init__(self, keys: Sequence[bytes] = (), vectors: Vectors | None = None) -> None:
        self._places = {key: place for place, key in enumerate(keys)}
        self._vectors = vectors

    def get(self, key: bytes) -> Vectors | None:
        """The vector of a text; None if it was not kept."""
        place = self._places.get(key)
        return None if place is None or self._vectors is None else self._vectors[place]

    def __len__(self) -> int:
        return len(self._places)


def write_vectors(path: Path, identity: str, keys: Sequence[bytes], vectors: Vectors) -> None:
    """Write vectors (N, size), as float16, with the hashes of their texts, all at once."""
    digests = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), -1)
    told = {"model": identity}
    write_atomic(path, save({"keys": digests, "vectors": vectors.astype(np.float16)}, told))


def read_vectors(path: Path, identity: str) -> Kept:
    """What was written; nothing if there is no such file, or if it is another model's or broken.

    Nothing is lost with it but the time to embed the texts again.
    """
    if not path.is_file():
        return Kept()
    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("model") != identity:
                log.warning("%s: vectors of another model; they are made again", path)
                return Kept()
            keys = [row.tobytes() for row in file.get_tensor("keys")]
            return Kept(keys, file.get_tensor("vectors").astype(np.float32))
    except (SafetensorError, OSError) as error:
        log.warning("%s: %s; the vectors are made again", path, error)
        return Kept()
