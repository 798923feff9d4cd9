"""A causal LM that is read: log-odds of the verdict words after prompts, many in one forward."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np
import torch
from peft import PeftModel
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from minicrit.attention import Memory
from minicrit.encoding import Encoder
from minicrit.impostors import Spread
from minicrit.logprobs import logprobs_beside, scored_logprobs
from minicrit.packing import Tree, pack
from minicrit.processes import device_kind
from minicrit.readout import (
    Judged,
    branch_sums,
    bundles,
    joined,
    judging_tree,
    read_judged,
    reading,
)
from minicrit.records import Example
from minicrit.spans import LONGEST as QUOTED

Item = tuple[str, str]  # (domain, rationale)
_SCORED = 1024  # scored tokens whose logits exist at once
_ROWS = 256  # the same, where their chances of all tokens are looked at
LONGEST = 4096  # tokens of a prompt, unless an encoder or fewer places of the base say otherwise


class Reader:
    """Model, tokenizer and how prompts are encoded for them; no threshold, no calibration."""

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        encoder: Encoder | None = None,
        device: str | None = None,
    ) -> None:
        self.model = torch.nn.Module.to(model, device or device_kind())
        self.tokenizer = tokenizer
        self._places = places(self.causal_lm.config)
        self.encoder = encoder or Encoder(tokenizer, max_tokens=min(LONGEST, self._places))

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The model without peft's wrapper; the adapter stays in its layers."""
        model = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        return cast("PreTrainedModel", model)

    def prompt(self, domain: str, rationale: str, longest: int = 0) -> list[int]:
        """Ids of a prompt behind which `longest` tokens may be written.

        Raises:
            TooLongError: if that is more than the encoder lets in, or than the base has places.
        """
        return self.encoder.prompt(domain, rationale, reserve=self.reserve(longest))

    def reserve(self, longest: int) -> int:
        """Tokens of its limit that a prompt leaves free where the base has few places.

        Behind it come the lead-in, and then a verdict with a flaw type, or a verdict and what is
        written, with a quotation that is looked for at its end.
        """
        encoder = self.encoder
        written = longest + QUOTED + 1 if longest else 0
        verdict = max(map(len, encoder.verdict_words.values()))
        behind = max(verdict + written, *map(len, encoder.flaw_lines))
        return max(0, encoder.max_tokens + len(encoder.lead_in) + behind - self._places)

    def require_room(self, longest: int, setting: str) -> None:
        """For whoever asks for critiques of so many tokens: refuses where no prompt has room then.

        Args:
            longest: tokens that may be written behind a prompt.
            setting: by which that is asked for.

        Raises:
            ValueError: with the most that leaves room for a rationale of one token.
        """
        empty = len(self.encoder.prompt("general", ""))
        lacking = empty + 1 - (self.encoder.max_tokens - self.reserve(longest))
        if lacking > 0:
            raise ValueError(f"{setting}: expected at most {longest - lacking} tokens, as prompt "
                             f"and critique share the base's {self._places} places, got {longest}; "
                             "lower it")  # fmt: skip

    def log_odds(
        self,
        items: Sequence[Item],
        *,
        batch_tokens: int = 4096,
        progress: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """Log p(flawed) - log p(valid) after the lead-in, (N,), in the order of the items.

        As the model says it, whatever the calibration; of a text that speaks as the critic does,
        the reading that is the most flawed (see `impostors`).
        """
        spread = Spread(items)
        prompts = [self.prompt(*item) for item in spread.items]
        odds = self.odds_after(prompts, batch_tokens=batch_tokens, progress=progress)
        return np.asarray(odds[spread.worst(odds)])

    def odds_after(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        batch_tokens: int = 4096,
        progress: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """The same after any prompts, given as token ids without the lead-in."""
        sums = self._ask(prompts, reading(self.encoder), batch_tokens, progress)
        return np.asarray(sums[:, 1] - sums[:, 0])

    def _ask(
        self,
        prompts: Sequence[Sequence[int]],
        tail: Tree,
        batch_tokens: int,
        progress: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """Log-likelihood of every leaf of a tail after each prompt, (N, leaves), in float64.

        What prompts share, as twins do, is computed once.
        """
        found = np.empty((len(prompts), len(tail.leaves)))
        groups = list(bundles(prompts, batch_tokens, tail.tokens))
        trees = [joined([prompts[row] for row in rows], tail) for rows in groups]
        for numbers in batches([tree.tokens for tree in trees], batch_tokens):
            rows = [row for number in numbers for row in groups[number]]
            sums = self._score([trees[number] for number in numbers])
            found[rows] = sums.view(len(rows), -1).cpu().numpy()
            if progress:
                progress(len(rows))
        return found

    def judge(self, examples: Sequence[Example], *, batch_tokens: int = 4096) -> list[Judged]:
        """Log-odds, likeliest flaw type and likelihood of the reference, in one forward an item."""
        trees = [judging_tree(self.encoder, example) for example in examples]
        judged: dict[int, Judged] = {}
        for rows in batches([tree.tokens for tree in trees], batch_tokens):
            chosen = [trees[row] for row in rows]
            judged.update(zip(rows, read_judged(chosen, self._score(chosen)), strict=True))
        return [judged[row] for row in range(len(trees))]

    def read(
        self, trees: Sequence[Tree], also: Sequence[int], *, batch_tokens: int = 4096
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Token by token: log-likelihoods (S,) of each tree's branches, and (S, C) of other ids."""
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for rows in batches([tree.tokens for tree in trees], batch_tokens):
            rows.sort()
            found |= zip(rows, self._read([trees[row] for row in rows], also), strict=True)
        return [found[row] for row in range(len(trees))]

    def _read(
        self, trees: Sequence[Tree], also: Sequence[int]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        with torch.inference_mode():
            batch = pack(trees, ends=False).to(self.causal_lm.device)
            told = logprobs_beside(self.causal_lm, batch, also, chunk=_ROWS)
        lengths = [sum(len(leaf.ids) for leaf in tree.leaves) for tree in trees]
        parts = (found.cpu().double().split(lengths) for found in told)
        return [(said.numpy(), closed.numpy()) for said, closed in zip(*parts, strict=True)]

    def _score(self, trees: Sequence[Tree], memory: Memory | None = None) -> torch.Tensor:
        """Log-likelihood of every branch, in order; `memory` keeps what was read."""
        with torch.inference_mode():
            batch = pack(trees, ends=False).to(self.causal_lm.device)
            found = scored_logprobs(self.causal_lm, batch, chunk=_SCORED, memory=memory)
            return branch_sums(batch, found)


def places(config: PretrainedConfig) -> int:
    """Tokens of the longest text that a language model reads as it reads all others.

    By `longrope` (Phi-3 and its kin) a text beyond the length of pretraining turns the positions of
    everything in the same forward by other angles, and what is held of earlier ones is then wrong.
    Beyond a sliding window (Mistral of 2023) its first tokens are out of sight, but not in `packed`
    attention.
    """
    most = getattr(config, "max_position_embeddings", None) or sys.maxsize
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        most = min(most, rope["original_max_position_embeddings"])
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True):
        most = min(most, window)
    return int(most)


def batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Row numbers in batches of at most `most` tokens, longest first so that memory peaks early."""
    batch: list[int] = []
    total = 0
    for row in sorted(range(len(lengths)), key=lambda r: -lengths[r]):
        if batch and total + lengths[row] > most:
            yield batch
            batch, total = [], 0
        batch.append(row)
        total += lengths[row]
    if batch:
        yield batch
