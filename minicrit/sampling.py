"""Samples critiques: several of each rationale, from one pass over it, reproducible one by one.

Each sample draws from a generator of its own, seeded by the run's seed, the rationale and the
sample's number. So it does not matter what else is in the batch, nor in which order it comes, but
for what rounding makes of another batch.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import torch

from minicrit.critic import Critic, Item
from minicrit.decoding import Decoder
from minicrit.jsonl import readable
from minicrit.logprobs import token_logprobs
from minicrit.precision import Written, settled
from minicrit.prompts import LEAD_IN


@dataclass(frozen=True)
class Manner:
    """How to sample.

    Attributes:
        copies: samples of a rationale.
        temperatures: of the samples, in turn; 0 is greedy.
        max_new_tokens: longest critique, without what it was given to begin with.
        seed: of the draws.
        rows: samples that are written at the same time.
        dtype: of the weights while they are written; `auto` becomes what this machine multiplies.
    """

    copies: int = 4
    temperatures: tuple[float, ...] = (0.7, 1.0)
    max_new_tokens: int = 160
    seed: int = 0
    rows: int = 64
    dtype: Written = "auto"

    def __post_init__(self) -> None:
        """Settles the type; a ValueError for a manner in which nothing could be drawn."""
        object.__setattr__(self, "dtype", settled(self.dtype))
        for name in ("copies", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}; raise "
                                 "it")  # fmt: skip
        heats = [f"{heat:g}" for heat in self.temperatures]
        if not heats or not all(0 <= heat < math.inf for heat in self.temperatures):
            raise ValueError("temperatures: expected numbers from 0 on, got "
                             f"{', '.join(heats) or 'none'}; 0 is greedy")  # fmt: skip

    @property
    def heats(self) -> list[float]:
        """The temperature of each copy."""
        return list(islice(cycle(self.temperatures), self.copies))

    def writer(self, critic: Critic) -> Critic:
        """The critic as it writes: merged, in `dtype`; a ValueError for a router."""
        critic.require_one_adapter()
        return critic.merged(getattr(torch, self.dtype))


@dataclass(frozen=True)
class Sample:
    """One critique.

    Attributes:
        text: from the verdict's lead-in on, without the end token.
        ids: the tokens drawn after the opening, the end token included.
        temperature: they were drawn at.
        finished: whether it ended by itself.
        logprob: log-likelihood of its tokens at temperature 1, in nats.
    """

    text: str
    ids: tuple[int, ...]
    temperature: float
    finished: bool
    logprob: float


def sample(critic: Critic, items: Sequence[Item], manner: Manner) -> list[list[Sample]]:
    """`manner.copies` critiques of each item, in the order of the items."""
    found: dict[int, list[Sample]] = {}
    for rows in passes(critic, items, manner):
        found.update(zip(rows, sample_pass(critic, [items[r] for r in rows], manner), strict=True))
    return [found[row] for row in range(len(items))]


def passes(critic: Critic, items: Sequence[Item], manner: Manner) -> list[list[int]]:
    """The numbers of the items that are written at the same time, alike in length."""
    lengths = [len(critic.encoder.prompt(*item)) for item in items]
    order = sorted(range(len(items)), key=lambda row: (-lengths[row], row))
    size = max(1, manner.rows // manner.copies)
    return [order[start : start + size] for start in range(0, len(order), size)]


def sample_pass(
    critic: Critic, items: Sequence[Item], manner: Manner, openings: Sequence[str] | None = None
) -> list[list[Sample]]:
    """`manner.copies` critiques of each item, all written at the same time.

    Args:
        critic: who writes.
        items: what about.
        manner: how.
        openings: what those of each item begin with (see `prompts.begun`); None: the lead-in.
    """
    encoder = critic.encoder
    given = openings or [LEAD_IN] * len(items)
    prompts = [[*encoder.prompt(*item), *encoder.begun(opening)]
               for item, opening in zip(items, given, strict=True)]  # fmt: skip
    draws = [[_Draw(critic, item, copy, manner, opening) for copy in range(manner.copies)]
             for item, opening in zip(items, given, strict=True)]  # fmt: skip
    _write(critic, prompts, draws, manner)
    return [[draw.sample() for draw in group] for group in draws]


class _Draw:
    """One critique while it is written."""

    def __init__(self, critic: Critic, item: Item, copy: int, manner: Manner, opening: str) -> None:
        self.critic = critic
        self.begun = critic.encoder.begun(opening)
        self.temperature = manner.heats[copy]
        given = () if opening == LEAD_IN else (opening,)
        name = "\0".join((str(manner.seed), *item, str(copy), *given))
        seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest())
        generator = torch.Generator().manual_seed(seed)
        self.chances = torch.rand(manner.max_new_tokens, generator=generator, dtype=torch.float64)
        self.ids: list[int] = []
        self.logprob = 0.0

    @property
    def finished(self) -> bool:
        return bool(self.ids) and self.ids[-1] == self.critic.encoder.end

    def take(self, token: int, logprob: float) -> None:
        """Goes on by one token, unless the critique has ended."""
        if not self.finished:
            self.ids.append(token)
            self.logprob += logprob

    def sample(self) -> Sample:
        kept = self.ids[:-1] if self.finished else self.ids
        text = str(self.critic.tokenizer.decode([*self.begun, *kept])).lstrip()
        return Sample(
            readable(text),
            tuple(self.ids),
            self.temperature,
            self.finished,
            self.logprob,
        )


def _write(
    critic: Critic, prompts: Sequence[Sequence[int]], draws: list[list[_Draw]], manner: Manner
) -> None:
    """Writes the critiques of some prompts; a prompt whose critiques are all done is let go."""
    decoder = Decoder(critic.causal_lm, prompts, manner.copies, manner.max_new_tokens)
    groups = draws
    for step in range(manner.max_new_tokens):
        live = [draw for group in groups for draw in group]
        tokens = _next(decoder.logits, live, step)
        logprobs = token_logprobs(decoder.logits, tokens).tolist()
        for draw, token, logprob in zip(live, tokens.tolist(), logprobs, strict=True):
            draw.take(token, logprob)
        going = [n for n, group in enumerate(groups) if not all(d.finished for d in group)]
        if not going or step + 1 == manner.max_new_tokens:
            return
        decoder.step(tokens)
        if len(going) < len(groups):
            decoder.select(torch.tensor(going))
            groups = [groups[n] for n in going]


def _next(logits: torch.Tensor, live: Sequence[_Draw], step: int) -> torch.Tensor:
    """The next token (rows,) of each: where the summed probabilities pass the row's own chance."""
    heats = [draw.temperature for draw in live]
    heat = torch.tensor(heats, dtype=torch.float32, device=logits.device)
    shares = (logits.float() / heat.clamp(min=1e-6)[:, None]).softmax(-1).double().cumsum(-1)
    chances = torch.stack([draw.chances[step] for draw in live]).to(shares.device)
    drawn = torch.searchsorted(shares, (chances * shares[:, -1])[:, None], right=True)[:, 0]
    return torch.where(heat > 0, drawn.clamp(max=logits.shape[1] - 1), logits.argmax(-1))
