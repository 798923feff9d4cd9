"""How varied a set of texts is: shares of n-grams of words, and how far two texts are apart."""

from collections.abc import Callable, Sequence

import numpy as np

from minicrit.statistics import Weights


def grams(text: str, n: int) -> list[tuple[str, ...]]:
    """All n-grams of its words, in order, without case."""
    words = text.lower().split()
    return list(zip(*(words[at:] for at in range(n)), strict=False))


def distinct(texts: Sequence[str], n: int) -> Callable[[Weights], float]:
    """Different n-grams over all n-grams of texts with a weight; 0 where there is none.

    Li et al. 2016 (arXiv 1510.03055). It falls with the amount of text, so compare equal amounts.
    """
    found = [grams(text, n) for text in texts]
    lengths = np.array([len(some) for some in found], dtype=float)
    # Number of each n-gram, and which text it stands in.
    known = {gram: number for number, gram in enumerate(sorted({g for s in found for g in s}))}
    numbers = np.array([known[g] for some in found for g in some], dtype=int)
    owners = np.repeat(np.arange(len(found)), [len(some) for some in found])

    def value(weights: Weights) -> float:
        total = float(weights @ lengths)
        present = numbers[weights[owners] > 0]
        return len(np.unique(present)) / total if total else 0.0

    return value


def apart(one: str, other: str, n: int = 2) -> float:
    """1 - the Jaccard index of the n-grams of two texts; 0 for equal ones, 1 if none is shared."""
    a, b = set(grams(one, n)), set(grams(other, n))
    if not a | b:
        return float(one.lower().split() != other.lower().split())
    return 1 - len(a & b) / len(a | b)
