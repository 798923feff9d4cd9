"""The training texts that are most like an item: was it taught, and taught otherwise?

Cosine of TF-IDF over words and pairs of words, hashed to numbers, so that memory does not grow with
the vocabulary. The training file is read twice, in blocks: once for how many texts hold a word,
once to compare. Nothing but the best few of each item is kept.
"""

# mypy: disable-error-code="import-untyped"
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import normalize
from tqdm import tqdm

from minicrit.jsonl import BadLine, RefusedError, read_lines
from minicrit.records import Example, labelled
from minicrit.row_files import example_files, split_of, stem_of

FEATURES = 1 << 18
_BLOCK = 2048  # training texts that are in memory at once
_WORD = r"(?u)\b\w+\b"  # also of one letter or digit
_HASHES = HashingVectorizer(n_features=FEATURES, ngram_range=(1, 2), alternate_sign=False,
                            norm=None, token_pattern=_WORD)  # fmt: skip


@dataclass(frozen=True)
class Neighbour:
    """A training text and its cosine with the item, 0 to 1."""

    similarity: float
    id: str
    label: str
    flaw_type: str | None
    rationale: str


def nearest(
    texts: Sequence[str], training: Sequence[Path], count: int
) -> tuple[list[list[Neighbour]], int]:
    """For each text its `count` nearest training rows, nearest first; and how many there are.

    Args:
        texts: of the items.
        training: Example files or folders.
        count: of neighbours.
    """
    seen = np.zeros(FEATURES)
    rows = 0
    for block in _blocks(training):
        counts = _HASHES.transform([str(row["rationale"]) for row in block])
        seen += np.bincount(counts.indices, minlength=FEATURES)
        rows += len(block)
    found: list[list[Neighbour]] = [[] for _ in texts]
    if not rows or not texts:
        return found, rows
    weight = np.log((1 + rows) / (1 + seen)) + 1  # smoothed, as sklearn's TfidfTransformer
    asked = _weighted(list(texts), weight)
    with tqdm(total=rows, unit="row", desc="nearest training rows") as bar:
        for block in _blocks(training):
            known = _weighted([str(row["rationale"]) for row in block], weight)
            cosine = np.asarray((asked @ known.T).todense())
            _keep(found, cosine, block, count)
            bar.update(len(block))
    return found, rows


def _keep(
    found: list[list[Neighbour]],
    cosine: npt.NDArray[np.float64],
    block: Sequence[dict[str, object]],
    count: int,
) -> None:
    """Merge the best of a block into the best so far; of equals, what came first stays."""
    for known, row in zip(found, cosine, strict=True):
        best = np.argsort(-row, kind="stable")[:count]
        known += [
            Neighbour(round(float(row[at]), 6), str(block[at]["id"]), str(block[at]["label"]),
                      None if (flaw := block[at].get("flaw_type")) is None else str(flaw),
                      str(block[at]["rationale"]))
            for at in best
        ]  # fmt: skip
        known.sort(key=lambda one: -one.similarity)
        del known[count:]


def _weighted(texts: list[str], weight: npt.NDArray[np.float64]) -> sparse.csr_matrix:
    """(texts, FEATURES) rows of length 1: (1 + log count) times the weight of the word."""
    counts = _HASHES.transform(texts)
    counts.data = 1 + np.log(counts.data)
    return normalize(counts @ sparse.diags(weight))


def _blocks(training: Sequence[Path]) -> Iterator[list[dict[str, object]]]:
    """Rows that are for training, some thousand at a time; what is no example is passed over."""
    block: list[dict[str, object]] = []
    for path in training:
        for file in example_files(path) if path.is_dir() else [path]:
            for found in read_lines(file):
                row = None if isinstance(found, BadLine) else _training(found[1], file)
                if row is None:
                    continue
                block.append(row)
                if len(block) == _BLOCK:
                    yield block
                    block = []
    if block:
        yield block


def _training(given: dict[str, object], file: Path) -> dict[str, object] | None:
    """The row under today's names; None if it is no example, or not for training."""
    try:
        row = labelled(given) or {}
    except RefusedError:
        return None
    whole = all(isinstance(row.get(name), str) for name in ("id", "label", "rationale"))
    return row if whole and row.get("split", split_of(stem_of(file))) == "train" else None


def taught_otherwise(example: Example, near: Sequence[Neighbour]) -> bool:
    """Whether every one of the nearest training rows bears the other label."""
    return bool(near) and all(one.label != example.label for one in near)
