"""The critic at inference: one forward pass for a verdict, generation for a whole critique.

critic = Critic.load("checkpoints/cpu/sft")
critic.verdict([("trading", "RSI is oversold, so ...")])[0].p_flawed
"""

import copy
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minicrit.calibrated import Calibration
from minicrit.encoding import Encoder
from minicrit.grounding import MANNER, Asked, Pen
from minicrit.grounding import write as write_grounded
from minicrit.impostors import Spread
from minicrit.jsonl import readable
from minicrit.judging import UNDEFINED, UnreadableError
from minicrit.logprobs import choice_logprobs
from minicrit.pens import Alone, Together
from minicrit.prompts import PROMPT_VERSION, Critique, attempt, render_critique
from minicrit.reader import LONGEST, Item, Reader
from minicrit.readout import joined, reading
from minicrit.recount import miscounts
from minicrit.scribe import Scribe
from minicrit.speculation import Tally
from minicrit.taxonomy import FLAW_TYPES
from minicrit.verdict import Verdict, explained

__all__ = ["BASES", "LONGEST", "Critic", "Item", "Written"]

BASES = Path("checkpoints/base")


@dataclass(frozen=True)
class Written:
    """A whole critique: the raw text, what it parses to, or why it does not."""

    verdict: Verdict
    text: str
    parsed: Critique | None
    reason: str | None
    tokens: int


class Critic(Reader):
    """A causal LM that reads rationales. Build it with `Critic.load`."""

    def __init__(  # noqa: PLR0913
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        identity: str,
        adapter: str | None = None,
        encoder: Encoder | None = None,
        calibration: Calibration | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(model, tokenizer, encoder, device)
        self.name = name
        self.identity = identity
        self.adapter = adapter
        self.prompt_version = PROMPT_VERSION
        self.fitted_to = {"prompt_version": PROMPT_VERSION}  # what a calibration of it holds for
        self.threshold = 0.5
        self.grounded = True
        """Whether what it writes quotes and counts only what the rationale holds (`grounding`)."""
        self._calibration: Calibration | None = None
        self._lent: Calibration | None = None  # of whose merged copy this is, for its sums alone
        self.bits = 32  # of a weight; as its folder says if that is of a quantized critic
        self.released = True
        """Whether its quality was shown to be that of the float critic; only a quantized critic,
        which is compared, can lack it. Who hands verdicts on asks `require_released`."""
        self.release = "float"
        if calibration:
            self.calibrate(calibration)

    @classmethod
    def load(
        cls, path: str | Path, *, base_folder: Path = BASES, calibrated: bool = True
    ) -> "Critic":
        """Loads an adapter, a whole, quantized or exported critic, a router, or a base, zero-shot.

        Args:
            path: the folder, or `embedded`, `tiny` or a Hugging Face id.
            base_folder: where bases are kept.
            calibrated: use the calibration in the folder, if there is one.

        Raises:
            ValueError: if nothing is there, if prompt, base or files are not the recorded ones, or
                if the calibration was fitted to another critic.
        """
        from minicrit.loading import load_critic  # it builds on this class

        return load_critic(path, base_folder, calibrated=calibrated)

    def calibrate(self, calibration: Calibration) -> None:
        """Takes over a calibration that was fitted to this critic."""
        assert self._calibration is None
        self._calibration, self.threshold = calibration, calibration.threshold
        self.identity += f"+{calibration.facts['sha256']}"

    def require_released(self, unless: str) -> None:
        """For whoever hands verdicts on: refuses a critic that lost quality, or was not compared.

        Args:
            unless: the setting or flag with which the caller would not have asked.

        Raises:
            ValueError: with what its comparison found.
        """
        if not self.released:
            raise ValueError(f"{self.name}: expected a released critic, got one of {self.bits} "
                             f"bits that was not: {self.release}; use the float critic, or "
                             f"set {unless}")  # fmt: skip

    def require_one_adapter(self) -> None:
        """For whoever reads and writes past `routes`: refuses a router.

        Raises:
            ValueError: as such figures would be those of one adapter under the router's name.
        """

    @property
    def trained(self) -> bool:
        """Whether it has an adapter or trained weights of its own; else a base, read zero-shot."""
        return self.adapter is not None or self.fitted_to.keys() > {"prompt_version"}

    def merged(self, dtype: torch.dtype) -> "Critic":
        """A copy with the adapter merged into weights of this type: writes faster than it is exact.

        A quantized critic is given back as it is; the copy is not calibrated.
        """
        if self.bits < 16:  # noqa: PLR2004
            return self
        model = copy.deepcopy(self.model)
        if isinstance(model, PeftModel):
            model = model.merge_and_unload()
        for parameter in model.parameters():  # not buffers: rotary frequencies stay exact
            parameter.data = parameter.data.to(dtype)
        identity = f"{self.identity}+merged-{dtype}"
        merged = Critic(model, self.tokenizer, name=self.name, identity=identity,
                        adapter=self.adapter, encoder=self.encoder)  # fmt: skip
        merged.grounded, merged._lent = self.grounded, self._calibration
        return merged

    @property
    def manner(self) -> str:
        """How it writes: together with weights and prompt it decides every letter of a text."""
        return MANNER if self.grounded else "greedy"

    @property
    def calibration(self) -> dict[str, Any] | None:
        """What the threshold is certified for, in short; None without a calibration."""
        return dict(self._calibration.facts) if self._calibration else None

    @property
    def calibrated(self) -> bool:
        """Whether any of its verdicts are."""
        return self._calibration is not None

    def certificate(self, item: Item) -> dict[str, Any] | None:
        """`calibration`, as it holds for this item."""
        return self.calibration

    def p_flawed(
        self,
        items: Sequence[Item],
        *,
        batch_tokens: int = 4096,
        progress: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """Probability of `flawed` against `valid`, (N,), calibrated if the critic is."""
        odds = self.log_odds(items, batch_tokens=batch_tokens, progress=progress)
        return self.p_of(odds, items)

    def p_of(self, odds: np.ndarray, items: Sequence[Item]) -> np.ndarray:
        """`p_flawed` of items whose log-odds (N,) are known."""
        return self.chances(odds, items)

    def p_and_types(
        self, items: Sequence[Item], *, batch_tokens: int = 4096
    ) -> tuple[np.ndarray, list[str]]:
        """`p_flawed`, and the flaw type likeliest of each if it is flawed, in one forward."""
        spread = Spread(items)
        prompts = [self.prompt(*item) for item in spread.items]
        sums = self._ask(prompts, reading(self.encoder, types=True), batch_tokens)
        sums = sums[spread.worst(sums[:, 1] - sums[:, 0])]
        names = list(FLAW_TYPES)
        types = [names[at] for at in sums[:, 2:].argmax(axis=1)]
        return self.chances(sums[:, 1] - sums[:, 0], items), self._types(types, items)

    def _types(self, read: Sequence[str], items: Sequence[Item]) -> list[str]:
        """The flaw types of items as read, or that of a sum that a program found to be false."""
        counted = [self._recounted(item) for item in items]
        return [told.flaw_type if told and told.flaw_type else one
                for one, told in zip(read, counted, strict=True)]  # fmt: skip

    def _recounted(self, item: Item) -> Critique | None:
        """The critique of a false sum in an item, if sums count and it does not write freely."""
        if not (self.grounded and miscounts(item[1])):  # hardly ever: only then is it routed again
            return None
        found = self._fitted(item) or self._lent
        return found.recounted(item[1]) if found else None

    def _fitted(self, item: Item) -> Calibration | None:
        """The calibration that holds for an item."""
        return self._calibration

    def chances(self, odds: np.ndarray, items: Sequence[Item] | None) -> np.ndarray:
        """P(flawed) of log-odds (N,); calibrated if the critic is and the items are given."""
        if self._calibration and items is not None:
            odds = self._calibration.scaled(odds, items)
        pairs = torch.from_numpy(np.stack([np.zeros_like(odds), odds], axis=1))
        return choice_logprobs(pairs)[:, 1].exp().numpy()

    def verdict(self, items: Sequence[Item], *, batch_tokens: int = 4096) -> list[Verdict]:
        """Verdicts without a written critique: one batched forward.

        Raises:
            TooLongError, UnreadableError: if one of the items has none.
        """
        start = time.perf_counter()
        chances = self.p_flawed(items, batch_tokens=batch_tokens)
        spent = 1000 * (time.perf_counter() - start) / max(1, len(items))
        return self.verdicts(items, chances, spent)

    def verdicts(
        self, items: Sequence[Item], chances: Sequence[float] | np.ndarray, latency_ms: float = 0.0
    ) -> list[Verdict]:
        """What `verdict` makes of P(flawed) of each item, as `p_flawed` gives it."""
        return [self._verdict(i, p, latency_ms) for i, p in zip(items, chances, strict=True)]

    def critique(
        self,
        items: Sequence[Item],
        *,
        max_new_tokens: int = 160,
        batch: int = 8,
        drafts: bool = True,
    ) -> list[Written]:
        """Verdicts with a written critique (see `write`) that begins with the readout's verdict.

        Args:
            items: (domain, rationale) each.
            max_new_tokens: longest critique, without what it begins with.
            batch: items that are written together.
            drafts: whether one that is written alone may be drafted (`scribe`), where that changes
                no text: not in bfloat16, nor in int8.

        Raises:
            TooLongError, UnreadableError: if one of the items has none.
        """
        alone = min(batch, len(items)) == 1 and len(Spread(items).items) == len(items)
        if drafts and alone and self.drafts_are_exact:
            return [self._critique_alone(item, max_new_tokens) for item in items]
        start = time.perf_counter()
        chances = self.p_flawed(items)
        read = (time.perf_counter() - start) / max(1, len(items))
        written: list[Written] = []
        for at in range(0, len(items), batch):
            start = time.perf_counter()
            chunk = items[at : at + batch]
            labels = [self._label(p) for p in chances[at : at + batch]]
            texts = self.write(chunk, labels, max_new_tokens)
            spent = 1000 * (read + (time.perf_counter() - start) / len(chunk))
            for item, p, (text, tokens) in zip(chunk, chances[at:], texts, strict=False):
                written.append(self._written(item, float(p), text, tokens, spent))
        return written

    @cached_property
    def scribe(self) -> Scribe:
        """Who writes what is written alone; it remembers what it wrote."""
        return Scribe(self.causal_lm, self.encoder)

    @cached_property
    def drafts_are_exact(self) -> bool:
        """Whether drafts change no text: with rounder weights than float32 they would."""
        wide = {torch.float32, torch.float64}
        model = self.causal_lm  # not its state_dict: that would part weights that are shared out
        return {value.dtype for value in (*model.parameters(), *model.buffers())} <= wide

    def _critique_alone(self, item: Item, max_new_tokens: int) -> Written:
        """The same of one item; what is read for the verdict is not read again for the text."""
        start, encoder = time.perf_counter(), self.encoder
        prompt = self.prompt(*item, max_new_tokens)
        asked = [*prompt, *encoder.lead_in]
        longest = max(len(word) for word in encoder.verdict_words.values())
        decoder = self.scribe.start([asked], max_new_tokens + longest)
        with decoder.shelf.keeping(len(asked)):
            sums = self._score([joined([prompt], reading(encoder))], decoder.shelf).cpu().numpy()
        p = float(self.chances(np.array([sums[1] - sums[0]]), [item])[0])
        if told := self._by_count(item, self._label(p)):
            return self._written(item, p, told, 0, 1000 * (time.perf_counter() - start))
        pen = Alone(self, self.scribe, decoder, len(prompt), Tally(forwards=1))
        ((text, tokens),) = self._write(pen, [prompt], [item], [self._label(p)], max_new_tokens)
        # Quoted tokens are not written by the scribe, and where it stops for them is no end.
        pen.cost.tokens = tokens + (tokens < max_new_tokens)
        return self._written(item, p, text, tokens, 1000 * (time.perf_counter() - start))

    def _written(self, item: Item, p: float, text: str, tokens: int, spent: float) -> Written:
        parsed, reason = attempt(text)
        verdict = self._verdict(item, p, spent, parsed)
        return Written(verdict, text, parsed, reason, tokens)

    def write(
        self, items: Sequence[Item], labels: Sequence[str], max_new_tokens: int
    ) -> list[tuple[str, int]]:
        """Critiques that begin with these verdicts: (text, new tokens) each.

        Greedy, and `grounded` unless that is switched off. What has `max_new_tokens` was cut off.
        What is flagged and states a false sum is told so by a program, where sums count
        (`recount`), with no token written.
        """
        told = [self._by_count(item, label) for item, label in zip(items, labels, strict=True)]
        left = [row for row, text in enumerate(told) if text is None]
        texts = iter(self._write_all([items[row] for row in left], [labels[row] for row in left],
                                     max_new_tokens) if left else [])  # fmt: skip
        return [next(texts) if text is None else (text, 0) for text in told]

    def _by_count(self, item: Item, label: str) -> str | None:
        """What a program says of an item with this verdict; None where it is the critic's turn."""
        told = self._recounted(item) if label == "flawed" else None
        return render_critique(told) if told else None

    def _write_all(
        self, items: Sequence[Item], labels: Sequence[str], longest: int
    ) -> list[tuple[str, int]]:
        prompts = [self.prompt(*item, longest) for item in items]
        return self._write(Together(self), prompts, items, labels, longest)

    def _write(
        self,
        pen: Pen,
        prompts: Sequence[list[int]],
        items: Sequence[Item],
        labels: Sequence[str],
        longest: int,
    ) -> list[tuple[str, int]]:
        encoder = self.encoder
        heads = [[*encoder.lead_in, *encoder.verdict_words[label]] for label in labels]
        texts = [prompt + head for prompt, head in zip(prompts, heads, strict=True)]
        if self.grounded:
            asked = [
                Asked(ids, rationale) for ids, (_, rationale) in zip(texts, items, strict=True)
            ]
            rows = write_grounded(pen, encoder, asked, longest)
        else:
            rows = pen.write(range(len(texts)), texts, None, longest)
        return [(readable(str(self.tokenizer.decode(head + row)).strip()), len(row))
                for head, row in zip(heads, rows, strict=True)]  # fmt: skip

    def _label(self, p: float) -> str:
        if not 0 <= p <= 1:  # nan is above no threshold, so who has no answer would say valid
            raise UnreadableError(self.name, UNDEFINED)
        return "flawed" if p > self.threshold else "valid"

    def _verdict(
        self, item: Item, p: float, spent: float, parsed: Critique | None = None
    ) -> Verdict:
        domain, rationale = item
        asked = "\0".join((self.identity, self.prompt_version, domain, rationale))
        return Verdict(
            label=self._label(p), p_flawed=float(p), threshold=self.threshold, domain=domain,
            model=self.name, adapter=self.adapter, prompt_version=self.prompt_version,
            calibrated=self._calibration is not None,
            unsure=self._calibration is not None and self._calibration.is_unsure(p, self.threshold),
            latency_ms=spent, request_id=hashlib.sha256(asked.encode()).hexdigest()[:32],
            **explained(parsed, rationale),
        )  # fmt: skip
