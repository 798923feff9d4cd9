"""What sampled critiques are worth against greedy ones, by the text alone.

Of each item the mean over its samples counts, so that items, not samples, are what is resampled,
by group and by family; the least sure of both is shown. What does not parse is a miss in every
share, as in `written`. Distinct n-grams are counted in equal amounts of text: one sample of each
item at a time, the mean over samples. They have no interval and no test, as a text that is drawn
twice adds no new n-gram: resampling is biased.
"""

# mypy: disable-error-code="import-untyped"
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from minicrit import measures, paired, wording
from minicrit.arm_answers import Answers
from minicrit.measures import Truth, plain
from minicrit.prompts import Critique, UnparsedError, parse_critique
from minicrit.reading_figures import adjust, intervals
from minicrit.records import Example
from minicrit.statistics import (
    Interval,
    Ratio,
    Statistic,
    mcnemar_exact,
    paired_bootstrap,
    wilson,
)
from minicrit.written import evidence_f1

Floats = npt.NDArray[np.float64]
Score = Callable[[Example, Critique | None], float]


def _verdict_right(example: Example, said: Critique | None) -> float:
    return float(said is not None and said.label == example.label)


def _parsed(_: Example, said: Critique | None) -> float:
    return float(said is not None)


def _type_right(example: Example, said: Critique | None) -> float:
    if example.flaw_type is None:
        return np.nan
    return float(said is not None and said.flaw_type == example.flaw_type)


def _overlap(example: Example, said: Critique | None) -> float:
    if not example.evidence:
        return np.nan
    return evidence_f1(example.rationale, example.evidence, (said and said.evidence) or "")


SCORES: dict[str, Score] = {
    "verdict_right": _verdict_right,
    "parsed": _parsed,
    "flaw_type_right": _type_right,
    "evidence_overlap": _overlap,
}
RATES = ("verdict_right", "parsed", "flaw_type_right", "verdicts_differ")
DISTINCT = (1, 2)


@dataclass(frozen=True)
class Written:
    """The critiques of one arm: `parsed` and `texts` are lists by item of lists by sample."""

    found: Answers
    examples: list[Example]
    texts: list[list[str]]
    parsed: list[list[Critique | None]]

    @property
    def truth(self) -> Truth:
        """About the items."""
        return Truth.of(self.examples)

    def scores(self, name: str) -> Floats:
        """(n, samples) of one score; nan where the item has no such thing."""
        score = SCORES[name]
        return np.array([[score(e, c) for c in said]
                         for e, said in zip(self.examples, self.parsed, strict=True)])  # fmt: skip

    def only(self, ids: set[str]) -> "Written":
        """The items of these ids."""
        kept = [n for n, e in enumerate(self.examples) if e.id in ids]
        return Written(self.found, [self.examples[n] for n in kept],
                       [self.texts[n] for n in kept], [self.parsed[n] for n in kept])  # fmt: skip


def written_of(found: Answers) -> Written:
    """The critiques of an arm, parsed."""
    examples = [e for e, _ in found.known]
    texts = [list(a["texts"]) for _, a in found.known]
    return Written(found, examples, texts, [[_read(text) for text in some] for some in texts])


def _read(text: str) -> Critique | None:
    try:
        return parse_critique(text)
    except UnparsedError:
        return None


def statistics_of(written: Written) -> dict[str, Ratio]:
    """Everything that is compared, as functions of item weights."""
    return {name: _mean(written.scores(name).mean(axis=1)) for name in SCORES}


def _mean(values: Floats) -> Ratio:
    """Weighted mean of what is defined; nan if nothing is."""
    known = ~np.isnan(values)
    return Ratio(np.where(known, values, 0.0), known)


def arm_row(written: Written, *, trained: bool, seed: int, draws: int) -> dict[str, Any]:
    """One arm of the report."""
    found = written.found
    wrote = [sum(a["wrote"]) / len(a["wrote"]) for _, a in found.known]
    finished = [done for _, a in found.known for done in a["finished"]]
    row = {
        "experiment": found.arm.experiment,
        "about": found.arm.about,
        "at_once": found.arm.each,
        "trained": trained,
        "n": len(written.examples),
        "samples": len(written.texts[0]),
        "unscored": len(found.answers) - len(written.examples),
        "tokens_read": plain(float(np.mean([a["read"] for _, a in found.known]))),
        "tokens_written": plain(float(np.mean(wrote))),
        "finished": plain(float(np.mean(finished))),
    }
    for name, statistic in {**statistics_of(written), **_spreads(written)}.items():
        row[name] = _entry(written, name, statistic, seed, draws)
    return {**row, **_distinct(written)}


def _entry(
    written: Written, name: str, statistic: Statistic, seed: int, draws: int
) -> dict[str, Any]:
    """With Wilson's interval beside the bootstrap's, which has no width where all are equal.

    Wilson's takes as many items as have the thing, each right or wrong.
    """
    found = intervals(statistic, written.truth, seed=seed, draws=draws)
    value, n = next(iter(found.values())).value, len(written.examples)
    if name in SCORES:
        n = int((~np.isnan(written.scores(name)[:, 0])).sum())
    if name in RATES and n:
        bounds = wilson(round(value * n), n)
        found["wilson"] = Interval(value, bounds.low, bounds.high, n)
    return measures.entry(value, n, found)


def _distinct(written: Written) -> dict[str, Any]:
    alike = np.ones(len(written.examples))
    columns = list(zip(*written.texts, strict=True))
    return {
        f"distinct_{n}": {
            "value": plain(float(np.mean([wording.distinct(c, n)(alike) for c in columns]))),
            "n": len(written.examples),
        }
        for n in DISTINCT
    }


def _spreads(written: Written) -> dict[str, Ratio]:
    """How far two samples of one rationale differ: in verdict, and in word pairs (Jaccard)."""
    if len(written.texts[0]) == 1:
        return {}
    labels = [[c.label if c else None for c in said] for said in written.parsed]
    verdicts = [[float(a != b) for a, b in combinations(some, 2)] for some in labels]
    words = [[wording.apart(a, b) for a, b in combinations(some, 2)] for some in written.texts]
    return {
        "verdicts_differ": _mean(np.array(verdicts).mean(axis=1)),
        "texts_apart": _mean(np.array(words).mean(axis=1)),
    }


def comparisons(every: Sequence[Written], *, seed: int, draws: int) -> list[dict[str, Any]]:
    """Each temperature against greedy, the first arm, on the items that both wrote about.

    McNemar asks about the first sample alone; the differences are of means over the samples. The p
    values of all of them are adjusted together (Holm).
    """
    greedy, *heated = every
    rows = [_compared(arm, greedy, seed, draws) for arm in heated]
    adjust(rows)
    return rows


def _compared(arm: Written, greedy: Written, seed: int, draws: int) -> dict[str, Any]:
    ids = {e.id for e in arm.examples} & {e.id for e in greedy.examples}
    a, b = arm.only(ids), greedy.only(ids)
    first = [w.scores("verdict_right")[:, 0] > 0 for w in (a, b)]
    only_a, only_b = int(np.sum(first[0] & ~first[1])), int(np.sum(first[1] & ~first[0]))
    sides = statistics_of(a), statistics_of(b)
    gaps = {name: _gap(sides[0][name], sides[1][name], a.truth, seed, draws) for name in sides[0]}
    return {
        "experiment": arm.found.arm.experiment,
        "a": arm.found.arm.name,
        "b": greedy.found.arm.name,
        "n": len(ids),
        "only_a_right": only_a,
        "only_b_right": only_b,
        "mcnemar_p": plain(mcnemar_exact(only_a, only_b)),
        "differences": gaps,
    }


def _gap(
    first: Ratio, second: Ratio, truth: Truth, seed: int, draws: int
) -> dict[str, float | None]:
    """A difference with the widest bounds and the largest p of all units, no p below `least_p`.

    That is of the clusters in which the two differ; so p is 1 where all of them are of one family,
    and None where nothing is defined. Where it lifts p above 5 % the bounds are drawn out to zero.
    """
    units = truth.units().values()
    found = [paired_bootstrap(first, second, clusters, draws=draws, seed=seed)
             for clusters in units]  # fmt: skip
    known = [gap for gap in found if not math.isnan(gap.p)]
    row: dict[str, float | None] = {"value": plain(found[0].value), "low": None, "high": None,
                                    "p": None}  # fmt: skip
    if known:
        apart = first.part != second.part
        least = min(1.0, max(paired.least_p(len(set(clusters[apart]))) for clusters in units))
        none = [0.0] if least > 1 - paired.LEVEL else []
        row |= {"low": plain(min([*none, *(gap.low for gap in known)])),
                "high": plain(max([*none, *(gap.high for gap in known)])),
                "p": plain(max(least, *(gap.p for gap in known)))}  # fmt: skip
    return row
