"""The adapter x domain matrix: every adapter on the held-out items of every domain.

A specialist is worth its place if it is better than the general adapter where it is meant for, and
does no harm elsewhere. So each cell is compared with the general adapter's on the same items, by
two tests: exact McNemar on right verdicts at p = 0.5 (items as independent), and the difference in
AUROC, which no threshold moves, resampled by twin group and by family (the less sure counts). All p
values of the matrix are adjusted together (Holm), or one cell in twenty would differ by chance. A
test that so few families can never decide is none of them: it would only take from the others.
Accuracy at 0.5 alone tells little: a critic whose log-odds are all moved by a constant is another
one there, and the same once both are calibrated, so `says` has a word for it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from minicrit import paired
from minicrit.judging import Item, Judge, remove_partial, score_items
from minicrit.measures import HALF, Truth, measure, plain
from minicrit.records import Example
from minicrit.router import FALLBACK, Router
from minicrit.unseen import Side
from minicrit.versus import compare, fewer_of_either

Floats = npt.NDArray[np.float64]
SHOWN = ("accuracy", "fpr", "recall", "auroc")
LEVEL = 0.05
AT_HALF = " at 0.5"  # what accuracy alone says
MARGIN = 0.02  # of accuracy and the like; the matrix only tests for differences


class Through:
    """A router seen as the judge that one of its adapters is, whatever the domain of an item.

    It only gives p: that is all the matrix asks for.
    """

    threshold = HALF
    trained = True

    def __init__(self, router: Router, key: str) -> None:
        self._router, self._key = router, key
        member = router.members.by_key[key]
        self.name = "general" if key == FALLBACK else key
        self.adapter = member.sha256
        self.identity = f"{router.members.base.identity}+{member.sha256}"
        self.prompt_version = router.prompt_version

    def p_flawed(
        self,
        items: Sequence[Item],
        *,
        batch_tokens: int = 4096,
        progress: Callable[[int], object] | None = None,
    ) -> Floats:
        """Before any calibration, so that adapters with and without one compare."""
        odds = self._router.odds_by([self._key] * len(items), items, batch_tokens=batch_tokens)
        return np.asarray(self._router.chances(odds, None))


def score_all(
    router: Router, examples: Sequence[Example], out: Path, batch_tokens: int
) -> dict[str, Floats]:
    """P(flawed) (n,) of all items by every adapter; a killed run goes on."""
    found = {}
    for key in router.members.by_key:
        judge, beside = cast("Judge", Through(router, key)), out.with_name(f"{out.name}-{key}")
        found[key] = score_items(judge, examples, beside, batch_tokens=batch_tokens).p
    return found


def remove_scores(router: Router, out: Path) -> None:
    """Removes what `score_all` has kept."""
    for key in router.members.by_key:
        remove_partial(out.with_name(f"{out.name}-{key}"))


def matrix_of(
    p: Mapping[str, Floats], examples: Sequence[Example], *, draws: int, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Adapter -> domain -> what it is worth there, and whether that is better than the general one.

    Args:
        p: (n,) p(flawed) by each adapter, nan where unscored; `fallback` is the general one.
        examples: the n items.
        draws: bootstrap resamples.
        seed: of them.
    """
    truth, domains = Truth.of(examples), np.array([e.domain for e in examples])
    found: dict[str, dict[str, Any]] = {key: {} for key in p}
    for domain in dict.fromkeys(domains.tolist()):
        inside = domains == domain
        own = truth.only(inside)
        asked = [e for e in examples if e.domain == domain]
        for key, column in p.items():
            if np.isnan(column[inside]).all():
                raise ValueError(f"{domain}: expected test items that {key} can read, got "
                                 "too long ones alone; shorten them")  # fmt: skip
            found[key][domain] = _worth(column[inside], own, draws, seed)
            if key != FALLBACK:
                sides = (
                    Side(key, column[inside], HALF),
                    Side("general", p[FALLBACK][inside], HALF),
                )
                found[key][domain]["against"] = _against(sides, own, asked, draws, seed)
    _adjust([cell["against"] for row in found.values() for cell in row.values()
             if "against" in cell])  # fmt: skip
    return found


def _worth(p: Floats, truth: Truth, draws: int, seed: int) -> dict[str, Any]:
    known = ~np.isnan(p)
    found = measure(p[known], truth.only(known), HALF, draws=draws, seed=seed)
    return {"n": int(known.sum()), **{name: found[name] for name in SHOWN}}


def _against(
    sides: Sequence[Side], truth: Truth, examples: Sequence[Example], draws: int, seed: int
) -> dict[str, Any]:
    """The cell minus the general adapter's, with both p values."""
    first, second = sides
    row = compare(first, second, truth, examples, margin=MARGIN, draws=draws, seed=seed)
    auroc = row["differences"]["auroc"]
    both = truth.only(~np.isnan(first.p) & ~np.isnan(second.p))
    clusters = min(fewer_of_either(both, names) for names in both.units().values())
    gap = (row["only_a_right"] - row["only_b_right"]) / row["n"] if row["n"] else 0.0
    return {
        "n": row["n"],
        "only_it_right": row["only_a_right"],
        "only_general_right": row["only_b_right"],
        "accuracy": plain(gap),
        "mcnemar_p": row["mcnemar_p"],
        "detectable": row["detectable"],
        "auroc": {
            **{key: auroc[key] for key in ("value", "low", "high", "p")},
            "clusters": clusters,
            "testable": paired.least_p(clusters) <= LEVEL,
        },
    }


def _adjust(cells: Sequence[dict[str, Any]]) -> None:
    """Adds the adjusted p values of the tests that can decide, and what they say together."""
    raw = [p for cell in cells for p in (
        cell["mcnemar_p"], cell["auroc"]["p"] if cell["auroc"]["testable"] else None)]  # fmt: skip
    held = iter(paired.holm([p for p in raw if p is not None]))
    adjusted = [None if p is None else plain(next(held)) for p in raw]
    for number, cell in enumerate(cells):
        accuracy, auroc = adjusted[2 * number : 2 * number + 2]
        cell["mcnemar_holm_p"], cell["auroc"]["holm_p"] = accuracy, auroc
        cell["says"] = _says([(accuracy, cell["accuracy"]), (auroc, cell["auroc"]["value"])])


def _says(tests: Sequence[tuple[float | None, float | None]]) -> str:
    """`better`, `worse`, `mixed`, or `open` where neither test tells the two apart.

    Args:
        tests: p and difference of accuracy, then of AUROC; where the first alone tells, `at 0.5`.
    """
    accuracy, auroc = ([gap > 0] if p is not None and p <= LEVEL and gap else []
                       for p, gap in tests)  # fmt: skip
    signs = {*accuracy, *auroc}
    if len(signs) != 1:
        return "mixed" if signs else "open"
    return ("better" if signs.pop() else "worse") + ("" if auroc else AT_HALF)
