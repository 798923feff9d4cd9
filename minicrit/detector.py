"""Which domain a text is of, where nobody has said so: words counted, one logistic regression.

TF-IDF of single words and the softmax of a linear function, learnt by scikit-learn from training
texts, kept as plain words (JSON) and numbers (safetensors), and applied without scikit-learn.
It is cheap and knows little: its probability decides whether it is believed (`adapters.bar`).
"""

# mypy: disable-error-code="import-untyped"
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save
from scipy import sparse, special
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from minicrit.files import sha256_file, sha256_json, write_atomic, write_json
from minicrit.jsonl import parse_object

Floats = npt.NDArray[np.float64]

WORDS, NUMBERS = "detector.json", "detector.safetensors"
_WORD = r"[^\W\d_]{2,}"  # letters alone: figures say nothing of the domain
_PATTERN = re.compile(_WORD)
_MOST_WORDS = 20_000


@dataclass(frozen=True)
class Detector:
    """P(domain) of texts.

    Attributes:
        domains: (D,) names. words: number of each known word, W in all.
        idf: (W,) weight of each word. weights: (D, W). bias: (D,).
    """

    domains: tuple[str, ...]
    words: dict[str, int]
    idf: Floats
    weights: Floats
    bias: Floats

    @classmethod
    def learnt(cls, texts: Sequence[str], domains: Sequence[str], seed: int = 0) -> "Detector":
        """From texts and the domain of each.

        Raises:
            ValueError: if they are all of one domain.
        """
        if len(set(domains)) < 2:  # noqa: PLR2004
            raise ValueError("expected texts of two domains at least to tell them apart, got "
                             f"{', '.join(set(domains)) or 'none'}; give more data")  # fmt: skip
        counter = TfidfVectorizer(token_pattern=_WORD, max_features=_MOST_WORDS)
        columns = counter.fit_transform(texts)
        # Two domains would be one function and its negative; a softmax has one of each.
        # Of a seed scikit-learn takes 32 bits.
        model = LogisticRegression(max_iter=1000, random_state=seed % 2**32, C=10.0)
        model.fit(columns, list(domains))
        weights, bias = model.coef_, model.intercept_
        if len(weights) == 1:
            weights, bias = np.vstack([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
        words = {str(word): int(at) for word, at in counter.vocabulary_.items()}
        names = tuple(str(name) for name in model.classes_)
        return cls(names, words, np.asarray(counter.idf_), np.asarray(weights), np.asarray(bias))

    def chances(self, texts: Sequence[str]) -> Floats:
        """(n, D) P(domain) of each text; of a text without a known word, what the bias says."""
        return np.asarray(special.softmax(self._counted(texts) @ self.weights.T + self.bias, 1))

    def detect(self, text: str) -> tuple[str, float]:
        """The likeliest domain of a text, and its probability."""
        chances = self.chances([text])[0]
        best = int(chances.argmax())
        return self.domains[best], float(chances[best])

    def _counted(self, texts: Sequence[str]) -> sparse.csr_array:
        """(n, W) TF-IDF, each row of length 1."""
        rows, columns, values = [], [], []
        for row, text in enumerate(texts):
            counts = Counter(w for w in _PATTERN.findall(text.lower()) if w in self.words)
            at = np.array([self.words[word] for word in counts], dtype=np.intp)
            found = np.array(list(counts.values()), dtype=np.float64) * self.idf[at]
            rows.append(np.full(len(at), row))
            columns.append(at)
            values.append(found / (np.linalg.norm(found) or 1.0))
        cells = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        return sparse.csr_array(cells, shape=(len(texts), len(self.words)))

    def save(self, folder: Path) -> None:
        """Its two files."""
        words = sorted(self.words, key=self.words.__getitem__)
        write_json(folder / WORDS, {"domains": list(self.domains), "words": words})
        numbers = {"idf": self.idf, "weights": self.weights, "bias": self.bias}
        write_atomic(
            folder / NUMBERS, save({k: np.ascontiguousarray(v) for k, v in numbers.items()})
        )

    @classmethod
    def load(cls, folder: Path) -> "Detector":
        """Reads it back; ValueError if the files are not of one detector."""
        told, numbers = parse_object((folder / WORDS).read_bytes()), load_file(folder / NUMBERS)
        domains, words = told.get("domains"), told.get("words")
        if not isinstance(domains, list) or not isinstance(words, list):
            raise ValueError(f"{folder / WORDS}: expected lists of domains and words, got others; "
                             "make the router again (make adapters)")  # fmt: skip
        expected = {"idf": (len(words),), "weights": (len(domains), len(words)),
                    "bias": (len(domains),)}  # fmt: skip
        if (got := {name: value.shape for name, value in numbers.items()}) != expected:
            raise ValueError(f"{folder / NUMBERS}: expected {expected}, got {got}; make the router "
                             "again (make adapters)")  # fmt: skip
        number = {str(word): at for at, word in enumerate(words)}
        return cls(tuple(map(str, domains)), number, **numbers)


def identity_of(folder: Path) -> str:
    """Hash over the two files of a detector."""
    return sha256_json([sha256_file(folder / name) for name in (WORDS, NUMBERS)])
