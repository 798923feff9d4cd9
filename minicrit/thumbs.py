"""Thumbs up and down: critiques that somebody liked or did not, each by itself, to learn from.

rows of `domain, rationale, text, good` and perhaps `group`, or preference pairs taken apart.

KTO (arXiv 2402.01306) weighs a critique by how much more the policy than the reference likes it,
compared with how far the two are apart altogether. That distance z is estimated from critiques of
other rationales: each rationale is joined with the critique of another group that fits behind it,
drawn once, so that the reference has to read it once (TRL does the same within its batches).
"""

import hashlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from minicrit.comparisons import completion_branch
from minicrit.encoding import Encoder, TooLongError, naming, quoted_by, said
from minicrit.fields import AllRefusedError
from minicrit.jsonl import BadLine, RefusedError, read_lines
from minicrit.logprobs import scored_logprobs
from minicrit.losses import kto
from minicrit.packing import PackedBatch, grow
from minicrit.plan import Group
from minicrit.readout import branch_sums
from minicrit.records import Preference
from minicrit.reference import Reference
from minicrit.taxonomy import DOMAINS

_FIELDS = ("domain", "rationale", "text", "good", "group")


@dataclass(frozen=True)
class Thumb:
    """A critique of a rationale, and whether it was good. `group`: as of its rationale.

    A row without a group is of one with those of the same domain and rationale.
    """

    domain: str
    rationale: str
    text: str
    good: bool
    group: str

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Thumb":
        """Checks a row.

        Raises:
            RefusedError: what is wrong with it.
        """
        if row.get("group") is None:
            asked = f"{row.get('domain')}\0{row.get('rationale')}"
            row = {**row, "group": hashlib.sha256(asked.encode()).hexdigest()[:16]}
        if faults := list(_faults(row)):
            raise AllRefusedError([RefusedError(*fault) for fault in faults])
        try:
            said(row["text"])
        except ValueError as error:
            raise RefusedError(
                "text that begins with its verdict", repr(row["text"][:40]), "leave it out"
            ) from error
        return cls(**row)


def _faults(row: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """All that is wrong with the keys of a row: expected, got and remedy of each."""
    if unknown := ", ".join(sorted(set(row) - set(_FIELDS))):
        yield f"no keys but {', '.join(_FIELDS)}", unknown, f"leave out {unknown}"
    for name in _FIELDS:
        value = row.get(name)
        got = f"{name} {value!r}" if name in row else f"no {name}"
        if name == "good":
            if not isinstance(value, bool):
                yield "good as true or false", got, "write good so"
        elif not isinstance(value, str) or not value.strip():
            yield f"{name} as text", got, f"fill in {name}"
        elif name == "domain" and value not in DOMAINS:
            yield f"domain of {', '.join(DOMAINS)}", value, "take one of them"


def read_thumbs(path: Path) -> list[Thumb]:
    """The thumbs of a file; a row with `chosen` is a preference pair, and two of them.

    Raises:
        ValueError: `file:line: expected ..., got ...; remedy`.
    """
    thumbs: list[Thumb] = []
    for found in read_lines(path):
        if isinstance(found, BadLine):
            raise ValueError(str(found))
        line, row = found
        try:
            new = unpaired(Preference.from_row(row)) if "chosen" in row else [Thumb.from_row(row)]
        except RefusedError as error:
            raise ValueError(error.at(f"{path}:{line}")) from error
        thumbs += new
    return _of_several(path, thumbs)


def fitting(path: Path, thumbs: Sequence[Thumb], encoder: Encoder) -> list[Thumb]:
    """Those of a file that fit behind their rationale; how many do not is said and counted.

    Raises:
        ValueError: if those that fit are of fewer than two groups.
    """
    measure = _uncounted(encoder)
    fit = [thumb for thumb in thumbs if _fits(thumb, measure)]
    encoder.leave_out(path, "thumbs", len(thumbs) - len(fit), of=len(thumbs))
    return _of_several(path, fit)


def _fits(thumb: Thumb, encoder: Encoder) -> bool:
    quoted = quoted_by(thumb.text) if thumb.good else None
    try:
        encoder.prompt(thumb.domain, thumb.rationale, len(encoder.written(thumb.text)), quoted)
    except TooLongError:
        return False
    return True


def _of_several(path: Path, thumbs: list[Thumb]) -> list[Thumb]:
    if len({thumb.group for thumb in thumbs}) < 2:  # noqa: PLR2004
        raise ValueError(f"{path}: expected thumbs of at least two groups, got fewer; how far a "
                         "critic has moved is measured on critiques of other texts")  # fmt: skip
    return thumbs


def unpaired(pair: Preference) -> list[Thumb]:
    """The chosen critique as a good one, the rejected as a bad one."""
    shared = {"domain": pair.domain, "rationale": pair.rationale, "group": pair.group}
    return [Thumb(text=pair.chosen, good=True, **shared),
            Thumb(text=pair.rejected, good=False, **shared)]  # fmt: skip


def mismatched(thumbs: Sequence[Thumb], seed: int, encoder: Encoder) -> list[Thumb]:
    """Each rationale with the critique of another group, drawn by seed and place.

    It is drawn again, among those that fit behind the rationale, where the first does not: so all
    that fit are equally likely, and where all do, all others in the order of the file.

    Raises:
        ValueError: if there is a rationale behind which none fits, with its group.
    """
    encoder = _uncounted(encoder)
    lengths = [len(encoder.written(thumb.text)) for thumb in thumbs]
    by_length = sorted(range(len(thumbs)), key=lengths.__getitem__)
    places = {number: place for place, number in enumerate(by_length)}
    members: dict[str, list[int]] = defaultdict(list)
    for number, thumb in enumerate(thumbs):
        members[thumb.group].append(number)
    found = []
    for number, thumb in enumerate(thumbs):
        own, room = members[thumb.group], _room(thumb, encoder)
        digest = hashlib.sha256(f"{seed}\0{number}".encode()).digest()
        other = _drawn(digest[:8], len(thumbs), own)
        if lengths[other] > room:
            fitting = bisect_right(by_length, room, key=lengths.__getitem__)
            aside = sorted(places[one] for one in own if places[one] < fitting)
            if len(aside) == fitting:
                raise ValueError(
                    f"a thumb of group {thumb.group}: expected a critique of another group of at "
                    f"most {room} tokens, got none; raise data.max_tokens or set data.truncate"
                )
            other = by_length[_drawn(digest[8:16], fitting, aside)]
        found.append(replace(thumb, text=thumbs[other].text))
    return found


def mismatched_groups(thumbs: Sequence[Thumb], encoder: Encoder, seed: int) -> list[Group]:
    """`thumb_groups` of `mismatched`: by these z is measured, and nothing of them is learnt."""
    return thumb_groups(mismatched(thumbs, seed, encoder), _uncounted(encoder))


def _uncounted(encoder: Encoder) -> Encoder:
    """The same with a ledger of its own: what is only measured is not counted."""
    return replace(encoder, ledger=Counter())


def _room(thumb: Thumb, encoder: Encoder) -> int:
    """Tokens for a critique behind a rationale; one that may be cut makes room for any."""
    if encoder.truncate:
        return encoder.max_tokens
    return encoder.max_tokens - len(encoder.prompt(thumb.domain, thumb.rationale))


def _drawn(chance: bytes, count: int, aside: Sequence[int]) -> int:
    """A number under `count` that is none of `aside`, which ascend."""
    number = int.from_bytes(chance) % (count - len(aside))
    # Before the nth of them are aside[n] - n others: it is passed unless these are more.
    return number + bisect_right(range(len(aside)), number, key=lambda n: aside[n] - n)


def thumb_groups(thumbs: Sequence[Thumb], encoder: Encoder) -> list[Group]:
    """One tree a group; thumb n has the key n."""
    numbered = sorted(enumerate(thumbs), key=lambda t: (t[1].group, t[0]))
    groups = []
    for name, members in groupby(numbered, key=lambda t: t[1].group):
        branches = []
        for number, thumb in members:
            ids = encoder.written(thumb.text)
            with naming(f"a thumb of group {name}"):
                prompt = encoder.prompt(thumb.domain, thumb.rationale, reserve=len(ids))
            branches.append(replace(completion_branch(encoder, prompt, ids, 1.0), key=number))
        groups.append(Group(name, (grow(branches),), len(branches)))
    return groups


def log_ratios(
    model: Callable[..., object],
    batch: PackedBatch,
    reference: Reference,
    *,
    chunk: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """H = log p - log p_ref of the N critiques of a batch, (N,), and their numbers, (N,).

    Args:
        model: a causal LM with `packed` attention.
        batch: of `thumb_groups`.
        reference: gives the log-probabilities of the same tokens.
        chunk: see `logprobs.scored_logprobs`.
    """
    before = branch_sums(batch, reference(batch))
    sums = branch_sums(batch, scored_logprobs(model, batch, chunk=chunk))
    named = torch.nonzero(batch.keys >= 0)[:, 0]
    return (sums - before)[named], batch.keys[named]


@dataclass(frozen=True)
class Opinions:
    """What is known of P critiques before training, by number, and what KTO is told.

    Attributes:
        good: (P,) bool.
        reference: of these critiques.
        reference_others: of those that stand for critiques of other rationales.
        beta, good_weight, bad_weight: see `losses.kto`.
    """

    good: torch.Tensor
    reference: Reference
    reference_others: Reference
    beta: float
    good_weight: float = 1.0
    bad_weight: float = 1.0

    def losses(
        self, ratios: torch.Tensor, numbers: torch.Tensor, divergence: torch.Tensor
    ) -> torch.Tensor:
        """The losses (N,) of critiques with these log-ratios and numbers."""
        good = self.good.to(ratios.device)[numbers]
        return kto(ratios, good, divergence, beta=self.beta, good_weight=self.good_weight,
                   bad_weight=self.bad_weight)  # fmt: skip


def counted(thumbs: Sequence[Thumb]) -> dict[str, int]:
    """How many are good and bad."""
    found = Counter("good" if thumb.good else "bad" for thumb in thumbs)
    return {name: found[name] for name in ("good", "bad")}
