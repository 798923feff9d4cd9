"""What words alone can do: a baseline for the critic and a probe of the data.

`BagOfWords` is the baseline to beat. `probe` asks whether the words of a rationale give its label
away: on twins that differ only in the flaw, both its numbers should be near .5 (refuse above .65).
Words are lowercased, numbers stay; a punctuation mark is a word too: a stray comma counts.
"""

# mypy: disable-error-code="import-untyped"
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import sparse, special
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from minicrit.resampling import Auroc
from minicrit.statistics import Interval, cluster_bootstrap, mean_over

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.intp]

WORD = r"\w+(?:[-.,:'/]\w+)*|[^\w\s]"  # "3.5", "1,200" and "don't" are one word each
NUM_LENGTHS = 3
DIGITS = 9  # of log-odds beside their mean; less than that is rounding, and would rank the folds
PROBE_C = 0.1  # at 1, rare word pairs drown a tell-tale that is right in 58 % of 2,000 twins


def lengths(texts: Sequence[str]) -> Floats:
    """(n, 3): log(1 + words), log(1 + characters), log(1 + digits) of each text."""
    rows = [(len(text.split()), len(text), len(re.findall(r"\d", text))) for text in texts]
    return np.log1p(np.array(rows, dtype=np.float64))


class BagOfWords:
    """Logistic regression on the TF-IDF of words and word pairs, and on log lengths."""

    def __init__(self, seed: int = 0) -> None:
        """The seed is the solver's."""
        words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORD)
        sizes = make_pipeline(FunctionTransformer(lengths), StandardScaler())
        self._model = make_pipeline(make_union(words, sizes), _classifier(seed))

    def fit(self, texts: Sequence[str], labels: Sequence[bool] | Bools) -> Self:
        """Learn from n texts and whether each is flawed."""
        self._model.fit(texts, _checked(labels, len(texts)))
        return self

    def predict(self, texts: Sequence[str]) -> Floats:
        """(n,) p(flawed)."""
        return np.asarray(self._model.predict_proba(texts)[:, 1], dtype=np.float64)


@dataclass(frozen=True)
class ProbeResult:
    """How well words predict labels of unseen families.

    Bounds: 95 % intervals from resampling families, with the trained probes held fixed.
    """

    auc: float
    """Out-of-fold AUROC over the n items."""
    low: float
    high: float
    n: int
    within_twins_auc: float
    """Share of pairs whose flawed twin scores higher, ties 1/2; nan if one fold has all pairs."""
    within_twins_low: float
    within_twins_high: float
    num_pairs: int
    num_left_out: int
    """Twin groups that are not one flawed and one valid item: no part of the three above."""


def probe(
    texts: Sequence[str],
    flawed: Sequence[bool] | Bools,
    twin_groups: Sequence[str],
    families: Sequence[str],
    *,
    seed: int = 0,
    folds: int = 5,
) -> ProbeResult:
    """Predict labels from words, word pairs and lengths, leaving whole families out.

    Over items, what twins share is noise that can hide a tell-tale; within twins it cancels.

    Args:
        texts: n rationales.
        flawed: their labels.
        twin_groups: twins share one; the twins of a group come from one family.
        families: the template or source of each text; the unit of folds and intervals.
        seed: of solver and bootstrap.
        folds: number of parts, no more than there are families.
    """
    labels = _checked(flawed, len(texts))
    family = _codes(families, len(texts))
    fold = _folds(family, folds)
    pairs, num_left_out = _pairs(_codes(twin_groups, len(texts)), labels)
    if np.any(family[pairs[:, 0]] != family[pairs[:, 1]]):
        raise ValueError("expected twins to share a family, got a pair from two; name the family")
    features = _features(texts)
    p = _out_of_fold(features, labels, fold, _classifier(seed, C=PROBE_C))
    items = cluster_bootstrap(Auroc(p, labels), family, seed=seed)
    wins = _wins(features[pairs[:, 0]] - features[pairs[:, 1]], fold[pairs[:, 0]], seed)
    twins = Interval(math.nan, math.nan, math.nan, len(pairs))
    if len(wins):
        twins = cluster_bootstrap(mean_over(wins), family[pairs[:, 0]], seed=seed)
    return ProbeResult(
        *(items.value, items.low, items.high, items.n),
        *(twins.value, twins.low, twins.high, twins.n),
        num_left_out=num_left_out,
    )


def shortcuts(
    texts: Sequence[str],
    flawed: Sequence[bool] | Bools,
    sources: Sequence[str],
    clusters: Sequence[str],
    *,
    seed: int = 0,
    folds: int = 5,
    draws: int = 500,
) -> dict[str, Interval]:
    """How well two things that are no reasoning predict the label, out of fold; words: see `probe`.

    `length`: log words, characters and digits, and their squares. `source`: the parts of its path
    (set, domain, mechanism, ...).

    Args:
        texts: n rationales.
        flawed: their labels.
        sources: where each comes from, parts separated by slashes.
        clusters: what must not be torn apart by folds; the unit of the intervals.
        seed: of solver and bootstrap.
        folds: number of parts, at most; fewer if there are fewer clusters.
        draws: resamples of the intervals.
    """
    labels, cluster = _checked(flawed, len(texts)), _codes(clusters, len(texts))
    fold = _folds(cluster, min(folds, int(cluster.max()) + 1))
    parts = CountVectorizer(analyzer=lambda source: source.split("/"), binary=True)
    sizes = StandardScaler().fit_transform(lengths(texts))
    features = {
        "length": sparse.csr_array(np.hstack([sizes, sizes**2])),
        "source": sparse.csr_array(parts.fit_transform(sources).astype(np.float64)),
    }
    found = {}
    for name, columns in features.items():
        p = _out_of_fold(columns, labels, fold, _classifier(seed, C=PROBE_C))
        found[name] = cluster_bootstrap(Auroc(p, labels), cluster, draws=draws, seed=seed)
    return found


def _classifier(seed: int, **options: float) -> LogisticRegression:
    # Of a seed scikit-learn takes 32 bits.
    return LogisticRegression(solver="liblinear", max_iter=1000, random_state=seed % 2**32,
                              **options)  # fmt: skip


def _features(texts: Sequence[str]) -> sparse.csr_array:
    """(n, words + 3): presence of each n-gram that two texts hold, then standardised lengths."""
    words = CountVectorizer(ngram_range=(1, 2), token_pattern=WORD, binary=True, min_df=2)
    sizes = StandardScaler().fit_transform(lengths(texts))
    presence = words.fit_transform(texts).astype(np.float64)
    return sparse.csr_array(sparse.hstack([presence, sizes], format="csr"))


def _folds(family: Numbers, folds: int) -> Numbers:
    """(n,) the part in which each item is predicted; a family is in one part."""
    most = int(family.max()) + 1
    if not 1 < folds <= most:
        raise ValueError(f"expected 2 to {most} folds (families), got {folds}; change folds")
    fold = np.empty_like(family)
    for number, (_, test) in enumerate(GroupKFold(folds).split(family, groups=family)):
        fold[test] = number
    return fold


def _pairs(group: Numbers, labels: Bools) -> tuple[Numbers, int]:
    """(pairs, 2) item numbers, flawed twin first; and how many groups are no such pair."""
    num_flawed, num_valid = (np.bincount(group, weights=y) for y in (labels, ~labels))
    is_pair = (num_flawed == 1) & (num_valid == 1)
    items = np.lexsort((~labels, group))
    items = items[is_pair[group[items]]]
    return items.reshape(-1, 2), int(np.sum(~is_pair))


def _wins(differences: sparse.csr_array, fold: Numbers, seed: int) -> Floats:
    """(pairs,) 1 where the flawed twin scores higher, 1/2 for a tie; empty if it cannot be asked.

    Twins centred on their mean are +d/2 and -d/2, so the probe learns from d as flawed and -d as
    valid, and needs no intercept.
    """
    if not len(fold) or np.all(fold == fold[0]):
        return np.empty(0)
    # Against all texts the twins' lengths hardly differ: give them a scale that the penalty sees.
    scale = np.ones(differences.shape[1])
    spread = np.sqrt((differences[:, -NUM_LENGTHS:] ** 2).mean(axis=0))
    scale[-NUM_LENGTHS:] = np.where(spread > 0, spread, 1)
    differences = differences @ sparse.diags_array(1 / scale)
    both_signs = sparse.vstack([differences, -differences], format="csr")
    flawed = np.repeat([True, False], len(fold))
    model = _classifier(seed, C=PROBE_C, fit_intercept=False)
    p = _out_of_fold(both_signs, flawed, np.tile(fold, 2), model)
    wins: Floats = (1 + np.sign(p[: len(fold)] - 1 / 2)) / 2
    return wins


def _out_of_fold(
    features: sparse.csr_array, flawed: Bools, fold: Numbers, model: LogisticRegression
) -> Floats:
    """(n,) p(flawed), each from a model that was trained on the other parts, centred on its own.

    The log-odds are those beside the mean of what it has learnt from: a part with more flawed items
    than the rest is judged by a model that has seen fewer of them, so noise would else be ranked
    below chance (0.16 to 0.34 where families are 10 to 90 % flawed).
    """
    p = np.empty(len(fold))
    for number in np.unique(fold):
        train, test = fold != number, fold == number
        odds = model.fit(features[train], flawed[train]).decision_function(features)
        centred = np.round(odds[test] - odds[train].mean(), DIGITS)
        p[test] = special.expit(centred)
    return p


def _codes(names: Sequence[str], n: int) -> Numbers:
    if len(names) != n:
        raise ValueError(f"expected {n} group names, got {len(names)}; give each text its own")
    return np.unique(np.array(names), return_inverse=True)[1]


def _checked(labels: Sequence[bool] | Bools, n: int) -> Bools:
    flawed = np.asarray(labels)
    if flawed.shape != (n,) or flawed.dtype != np.bool_ or flawed.all() or not flawed.any():
        raise ValueError(
            f"expected {n} bools, both true and false among them, got {flawed.dtype} of shape "
            f"{flawed.shape} with {int(np.sum(flawed == 1))} true; compare with the label"
        )
    return flawed
