"""What of a file of preference pairs is learnt from, what is held out, what is left out and why."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from minicrit.comparisons import compared_whole, scorers
from minicrit.goal import PAIRED
from minicrit.records import Preference
from minicrit.training_config import DPOConfig

#: More groups than this say little more about reward accuracy, and every validation reads them.
MOST_HELD_OUT = 64


@dataclass(frozen=True)
class Choice:
    """Numbers of pairs: learnt from, validated on (whole groups), left out as too hard."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]
    hardest: tuple[int, ...]

    def facts(self, pairs: Sequence[Preference]) -> dict[str, Any]:
        """Counts, for the log and the manifest."""
        return {
            "trained": scorers([pairs[n] for n in self.train]),
            "held_out": len(self.held_out),
            "hardest": len(self.hardest),
        }


def wide_enough(pairs: Sequence[Preference], settings: DPOConfig) -> list[Preference]:
    """The pairs whose scores differ by `least_margin` or more.

    Raises:
        ValueError: if there are none.
    """
    wide = [pair for pair in pairs if pair.margin >= settings.least_margin]
    if not wide:
        raise ValueError(f"{settings.pairs}: expected pairs with a margin of at least "
                         f"{settings.least_margin}, got none; lower dpo.least_margin")  # fmt: skip
    return wide


def choose_pairs(
    pairs: Sequence[Preference],
    settings: DPOConfig,
    likelihoods: Callable[[], torch.Tensor],
    seed: int,
) -> Choice:
    """Splits pairs by group and leaves out those that `hardest` names.

    What is held out is not filtered: it should say how hard pairs fare, too.

    Args:
        pairs: of one file.
        settings: uses `held_out_pairs`, `hardest` and `explained`.
        likelihoods: gives, if it is asked, the log-likelihood a token of every completion under the
            reference, (2 P,), by key.
        seed: of the run.

    Raises:
        ValueError: if a share is none, or nothing is held out for `best` to be decided by.
    """
    _check(settings)
    aside = held_out_groups((pair.group for pair in pairs), settings.held_out_pairs, seed)
    if settings.best in PAIRED and not aside:
        raise ValueError(f"dpo.best: expected pairs of two groups or more for {settings.best}, got "
                         "one group, and none held out; take val/f1, or more pairs")  # fmt: skip
    train = [n for n, pair in enumerate(pairs) if pair.group not in aside]
    hard: set[int] = set()
    if settings.hardest:
        chosen = likelihoods()[0::2].tolist()
        whole = [compared_whole(pair, settings.explained, seed) for pair in pairs]
        for kind in (True, False):  # a word and a whole critique are not as likely a token
            alike = [n for n in train if whole[n] is kind]
            hard |= _hardest(alike, settings.hardest, chosen)
    return Choice(
        train=tuple(n for n in train if n not in hard),
        held_out=tuple(n for n, pair in enumerate(pairs) if pair.group in aside),
        hardest=tuple(sorted(hard)),
    )


def _check(settings: DPOConfig) -> None:
    for name in ("held_out_pairs", "hardest"):
        share = getattr(settings, name)
        if not 0 <= share < 1:
            raise ValueError(f"dpo.{name}: expected a share from 0 to under 1, got {share}; "
                             "0 is none")  # fmt: skip


def held_out_groups(groups: Iterable[str], share: float, seed: int) -> set[str]:
    """The groups whose hash falls under `share`; at least one of several, at most MOST_HELD_OUT.

    A group's hash depends on the seed alone, so one that comes again in a later round of pairs is
    held out again; but not where it was the one of several, as none fell under `share`, nor in the
    surplus where there are more than MOST_HELD_OUT.
    """
    chances = {group: _chance(group, seed) for group in groups}
    ranked = sorted(chances, key=lambda group: chances[group])
    if not share or len(ranked) < 2:  # noqa: PLR2004
        return set()
    below = [group for group in ranked if chances[group] < share] or ranked[:1]
    return set(below[: min(MOST_HELD_OUT, len(ranked) - 1)])


def _chance(group: str, seed: int) -> float:
    digest = hashlib.blake2b(f"{seed}/held out/{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def _hardest(train: Sequence[int], share: float, chosen: Sequence[float]) -> set[int]:
    """The share whose chosen critique the reference finds least likely, a token.

    Pairs beyond the reach of a model harm it (arXiv 2502.09650, which ranks by the loss of models
    trained on other pairs; the likelihood of the chosen under the start costs nothing more here).
    """
    return set(sorted(train, key=lambda n: (chosen[n], n))[: int(share * len(train))])
