"""How the critic stands with its operators: agreement, false positives, the second critic.

Decisions are no random sample of the requests. The queue shows the least certain ones first, and
people react to what annoys them, so over all decisions the critic looks worse than it is, by an
amount that nobody knows. What is said of *all* rationales therefore rests on the audit alone: a
fifth of them, drawn by the hash of the random id of the first request, which come up in every
other place of the queue in the order of the draw (`waiting`), whatever the critic says. Over these
the plain share is unbiased and its interval an ordinary one. (Weighting the other decisions by the
inverse of their probability would need that probability; for what a queue shows by rank it is zero
or one.) What it cannot see: operators know the verdict while they decide, and may pass an item of
the audit over, which is harmless only if they do so whatever the right answer is; those not reached
yet do no harm. `audit` says how many of how many are decided.

A rationale counts once however often it was asked (in an experiment, once in each arm that is
shown), an operator's last decision on it counts, the majority of the operators decides, and a tie
is no majority. Agreement and false positives are of one critic: what was said by the one before it,
of other weights or another threshold, or by the one on trial says nothing of it. The intervals are
for one look; who watches two critics until they differ needs `experiment`, whose bounds hold at
every look.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minicrit.feedback.entries import AUDIT_SHARE
from minicrit.measures import plain
from minicrit.statistics import Interval, wilson

if TYPE_CHECKING:
    from minicrit.feedback.store import FeedbackStore


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A rationale that operators have decided on, and what was answered.

    Attributes:
        unit: the rationale.
        arm: experiment and arm that answered; (None, None) without one.
        flawed: what most operators say.
        answered: what the critic said, True for flawed.
        shadowed: what the one that was not heard said; None if none was asked.
    """

    unit: str
    arm: tuple[str | None, str | None]
    flawed: bool
    answered: bool
    shadowed: bool | None


def settled(judged: Iterable[Mapping[str, Any]], *, by_arm: bool = False) -> list[Settled]:
    """The rationales with a majority, in the order in which they were first decided on.

    Args:
        judged: rows of `FeedbackStore.judged`. Of several requests of one rationale, the first that
            was decided on says what was answered.
        by_arm: whether a rationale counts in each experiment and arm, not once.
    """
    first: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    said: dict[tuple[Any, ...], dict[str, bool]] = {}
    for row in judged:
        key = (row["unit"], *((row["experiment"], row["arm"]) if by_arm else ()))
        first.setdefault(key, row)
        said.setdefault(key, {})[row["operator"]] = row["label"] == "flawed"
    found = []
    for key, row in first.items():
        twice = 2 * sum(said[key].values()) - len(said[key])
        if twice:
            shadowed = None if row["shadowed"] is None else row["shadowed"] == "flawed"
            found.append(Settled(unit=row["unit"], arm=(row["experiment"], row["arm"]),
                                 flawed=twice > 0, answered=row["answered"] == "flawed",
                                 shadowed=shadowed))  # fmt: skip
    return found


def standing(
    store: "FeedbackStore", critic: str | None = None, experiment: str | None = None
) -> dict[str, Any]:
    """The state of a store as JSON values.

    Args:
        store: to look into.
        critic: whose `agreement` and `fpr`, as in `Request`; None for answers of an unknown one.
        experiment: whose `shadow`; None for what was asked in none.

    Returns:
        requests, decisions; `agreement` over all rationales decided on, and over the audit alone;
        `fpr` among the audit's rationales that operators call valid; `audit`, `experiments` (what
        each arm has) and `shadow` (None if no second critic was asked).
    """
    judged = list(store.judged())
    counts = store.counts()
    drawn = [row for row in judged if row["audit"]]
    found, audit = (
        settled(row for row in rows if row["critic"] == critic) for rows in (judged, drawn)
    )
    asked = [row for row in counts if row["experiment"] == experiment]
    both = (r for r in drawn if r["experiment"] == experiment and r["shadowed"] is not None)
    return {
        "requests": sum(row["requests"] for row in counts),
        "decisions": len(judged),
        "decided": len(settled(judged)),
        "agreement": {
            **agreement(found),
            "of": "rationales decided on, the least certain first",
            "audit": agreement(audit),
        },
        "fpr": {**false_positives(audit), "of": "valid rationales of the audit"},
        "audit": {
            "share": AUDIT_SHARE,
            "rationales": store.audited(),
            "decided": len({row["unit"] for row in drawn}),
        },
        "experiments": _experiments(counts, settled(drawn, by_arm=True)),
        "shadow": _shadow(asked, settled(both)),
    }


def agreement(found: Sequence[Settled]) -> dict[str, Any]:
    """Share of the rationales on which the critic says what the operators say (Wilson, 95 %)."""
    return _shown(wilson(sum(one.answered == one.flawed for one in found), len(found)))


def false_positives(found: Sequence[Settled]) -> dict[str, Any]:
    """Share of the rationales that operators call valid and the critic flagged (Wilson, 95 %)."""
    valid = [one for one in found if not one.flawed]
    return _shown(wilson(sum(one.answered for one in valid), len(valid)))


def _experiments(
    counts: Sequence[Mapping[str, Any]], audit: Sequence[Settled]
) -> list[dict[str, Any]]:
    arms: dict[tuple[str, str], int] = {}
    for row in counts:
        if row["experiment"] is not None:
            key = (row["experiment"], row["arm"])
            arms[key] = arms.get(key, 0) + row["requests"]
    told: dict[str, dict[str, Any]] = {}
    for (experiment, arm), requests in sorted(arms.items()):
        mine = [one for one in audit if one.arm == (experiment, arm)]
        told.setdefault(experiment, {})[arm] = {
            "requests": requests, "agreement": agreement(mine), "fpr": false_positives(mine)
        }  # fmt: skip
    return [{"name": name, "arms": arms_of} for name, arms_of in told.items()]


def _shadow(counts: Sequence[Mapping[str, Any]], both: Sequence[Settled]) -> dict[str, Any] | None:
    """Flips over all rationales, the rest over the audit: the queue's others are one's doubts."""
    asked = [row for row in counts if row["shadowed"] is not None]
    if not asked:
        return None
    flips = sum(row["rationales"] for row in asked if row["shadowed"] != row["answered"])
    heard = sum(one.answered == one.flawed != one.shadowed for one in both)
    shadow = sum(one.shadowed == one.flawed != one.answered for one in both)
    return {
        "requests": sum(row["requests"] for row in asked),
        "flips": _shown(wilson(flips, sum(row["rationales"] for row in asked))),
        "agreement": agreement(both),
        "shadow_agreement": _shown(wilson(sum(one.shadowed == one.flawed for one in both),
                                          len(both))),
        "only_heard_right": heard,
        "only_shadow_right": shadow,
    }  # fmt: skip


def _shown(rate: Interval) -> dict[str, Any]:
    return {"value": plain(rate.value), "low": plain(rate.low), "high": plain(rate.high),
            "n": rate.n}  # fmt: skip
