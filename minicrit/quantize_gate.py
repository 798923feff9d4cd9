"""The gate of a quantized critic: released if its verdicts stay and it is shown to be as good.

Two conditions, both of them needed. Few verdicts may flip; and F1 and the false-positive rate must
be shown, one-sided and paired on the same items, to be no worse than the float critic's by a
margin.

Few items cannot prove that few verdicts flip: none of 80 leaves up to 3.7 % possible. So a release
says what it stands on: `certified`, if the bar holds with 95 % confidence, or `point`, if only the
share that was seen is below it. Twins share their wording and may flip together, so the bound
(Clopper and Pearson) is that of the share of groups with any flip. The share of verdicts is no
larger where groups are of one size; else a group that flips may be the largest, so the bound is
that many times as large as the largest is against their mean.
"""

# mypy: disable-error-code="import-untyped"
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from minicrit.measures import entry, plain
from minicrit.statistics import clopper_pearson, wilson

#: Most verdicts that may flip, as a share, by bits.
MOST_FLIPS = {16: 0.005, 8: 0.005, 4: 0.015}
CHANCE = 0.05
#: Name for people, the one-sided p value of `versus`, and which way is worse.
JUDGED = {"f1": ("F1", "p_below"), "fpr": ("false-positive rate", "p_above")}


def flip_facts(
    flipped: npt.NDArray[np.bool_], groups: npt.NDArray[np.str_], bits: int
) -> dict[str, Any]:
    """The flips of n verdicts, (n,), of items of these groups: share, bounds, what would certify.

    `groups` are all of them, `apart` those with a flip. `upper` is the one-sided bound (95 %) of
    the share of verdicts: the exact one of the share apart, times the largest group over the mean;
    `needed` the groups, of these sizes, with which as many apart would certify the bar.
    """
    count, n, bar = int(flipped.sum()), len(flipped), MOST_FLIPS[bits]
    sizes = np.unique(groups, return_counts=True)[1]
    apart, over = len(set(groups[flipped])), len(sizes)
    share, uneven = wilson(count, n), float(sizes.max() / sizes.mean())
    upper = min(1.0, uneven * clopper_pearson(apart, over, 1 - 2 * CHANCE).high)
    return {"count": count, **entry(share.value, n, {"wilson": share}), "bar": bar,
            "groups": over, "apart": apart, "upper": plain(upper), "certified": bool(upper <= bar),
            "needed": certifying_groups(apart, bar / uneven)}  # fmt: skip


def certifying_groups(count: int, bar: float) -> int:
    """The least n for which `count` of n apart certify the bar: P(Bin(n, bar) <= count) <= 5 %."""
    low, high = count, max(1, count)
    while stats.binom.cdf(count, high, bar) > CHANCE:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        short = stats.binom.cdf(count, middle, bar) > CHANCE
        low, high = (middle, high) if short else (low, middle)
    return high


def gate(
    flips: Mapping[str, Any], differences: Mapping[str, Mapping[str, Any]], margin: float
) -> dict[str, Any]:
    """Status, basis and reason of a quantized critic.

    Args:
        flips: of `flip_facts`.
        differences: quantized minus float by metric, of `versus.compare` with this margin.
        margin: how much worse it may be, as a share.

    Returns:
        status: `released` or `not released`. basis: `certified`, `point` or None. reason: all that
        was looked at, what failed first. no_worse: p by metric, None where it is undefined.
    """
    few = flips["value"] is not None and flips["value"] <= flips["bar"]
    chances = {name: differences[name].get(key) for name, (_, key) in JUDGED.items()}
    said = [(few, _flips_in_words(flips))]
    for name, (label, _) in JUDGED.items():
        p = chances[name]
        shown = p is not None and p <= CHANCE
        word = "is" if shown else "is not shown to be"
        said.append((shown, f"{label} {word} no worse by {margin:g} "
                     f"({'undefined' if p is None else f'p = {p:.4f}'})"))  # fmt: skip
    released = all(passed for passed, _ in said)
    basis = ("certified" if flips["certified"] else "point") if released else None
    return {
        "status": "released" if released else "not released",
        "basis": basis,
        "reason": "; ".join(text for _, text in sorted(said, key=lambda one: one[0])),
        "no_worse": chances,
        "margin": margin,
    }


def _flips_in_words(flips: Mapping[str, Any]) -> str:
    text = (f"{flips['count']} of {flips['n']} verdicts flipped, at most {flips['bar']:.1%} may; "
            f"with a flip in {flips['apart']} of {flips['groups']} groups up to "
            f"{flips['upper']:.1%} are possible (95 %)")  # fmt: skip
    if flips["certified"]:
        return f"{text}: certified"
    return f"{text}, and {flips['needed']} groups with as many would certify it"
