"""The critic at inference: one forward pass for a verdict, generation for a whole critique.

critic = Critic.load("checkpoints/cpu/sft")
critic.verdict([("trading", "RSI is oversold, so ...")])[0].p_flawed
"""

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minicrit import manifest
from minicrit.base import EMBEDDED, TINY, Base, load_model, load_tokenizer, prepare_base
from minicrit.calibrated import Calibration, read_calibration
from minicrit.decoding import greedy
from minicrit.encoding import Encoder
from minicrit.files import sha256_file
from minicrit.logprobs import choice_logprobs, scored_logprobs
from minicrit.lora import fuse, refuse_foreign
from minicrit.packing import Tree, pack
from minicrit.prompts import PROMPT_VERSION, Critique, attempt
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
from minicrit.taxonomy import FLAW_TYPES
from minicrit.verdict import Verdict, explained

Item = tuple[str, str]  # (domain, rationale)
BASES = Path("checkpoints/base")
_SCORED = 1024  # scored tokens whose logits exist at once
LONGEST = 4096  # tokens of a prompt, unless an encoder says otherwise


@dataclass(frozen=True)
class Written:
    """A whole critique: the raw text, what it parses to, or why it does not."""

    verdict: Verdict
    text: str
    parsed: Critique | None
    reason: str | None
    tokens: int


class Critic:
    """A causal LM that reads rationales. Build it with `Critic.load`."""

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        identity: str,
        adapter: str | None = None,
        encoder: Encoder | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = torch.nn.Module.to(model, device)
        self.tokenizer = tokenizer
        self.encoder = encoder or Encoder(tokenizer, max_tokens=LONGEST)
        self.name = name
        self.identity = identity
        self.adapter = adapter
        self.prompt_version = PROMPT_VERSION
        self.fitted_to = {"prompt_version": PROMPT_VERSION}  # what a calibration of it holds for
        self.threshold = calibration.threshold if calibration else 0.5
        self._calibration = calibration
        if calibration:
            self.identity += f"+{calibration.facts['sha256']}"

    @classmethod
    def load(
        cls, path: str | Path, *, base_folder: Path = BASES, calibrated: bool = True
    ) -> "Critic":
        """Loads an adapter folder, a quantized folder, or a base for zero-shot reading.

        Args:
            path: the folder, or `embedded`, `tiny` or a Hugging Face id.
            base_folder: where bases are kept.
            calibrated: use the calibration in the folder, if there is one.

        Raises:
            ValueError: if nothing is there, if prompt, base or files are not the recorded ones, or
                if the calibration was fitted to another critic.
        """
        folder = Path(path)
        if str(path) in (EMBEDDED, TINY) or not (folder / "manifest.json").is_file():
            return cls._from_base(prepare_base(str(path), base_folder), str(path))
        record = manifest.read_manifest(folder)
        if record["stage"] == "base":
            return cls._from_base(Base(folder, record["facts"]["identity"]), str(path))
        if faults := manifest.check_outputs(folder):
            raise ValueError(f"{folder}: expected the files of its manifest, got {faults[0]}; "
                             "restore the folder or make it again")  # fmt: skip
        manifest.require(record, prompt_version=PROMPT_VERSION)
        if record["stage"] == "quantize":
            return cls._from_quantized(folder, record, calibrated)
        return cls._from_adapter(folder, record, base_folder, calibrated)

    @classmethod
    def _from_base(cls, base: Base, name: str) -> "Critic":
        return cls(load_model(base), load_tokenizer(base), name=name, identity=base.identity)

    @classmethod
    def _from_adapter(
        cls, folder: Path, record: dict[str, Any], base_folder: Path, calibrated: bool
    ) -> "Critic":
        facts = record["facts"]
        base = prepare_base(facts["base_model"], base_folder, facts.get("base_revision"))
        manifest.require(record, base=base.identity)
        refuse_foreign(folder)
        adapter = sha256_file(folder / "adapter_model.safetensors")
        fitted_to = {"base": base.identity, "adapter": adapter}
        calibration = _calibration(folder, fitted_to) if calibrated else None
        model = PeftModel.from_pretrained(load_model(base), folder, is_trainable=False)
        fuse(model)
        critic = cls(model.eval(), load_tokenizer(base), name=str(folder),
                     identity=f"{base.identity}+{adapter}", adapter=adapter,
                     calibration=calibration)  # fmt: skip
        critic.fitted_to |= fitted_to
        critic._probe(model)
        return critic

    @classmethod
    def _from_quantized(cls, folder: Path, record: dict[str, Any], calibrated: bool) -> "Critic":
        from minicrit.quantize import load_quantized

        outputs = sorted(record["outputs"].items())
        identity = hashlib.sha256(repr(outputs).encode()).hexdigest()
        fitted_to = {"quantized": identity}
        calibration = _calibration(folder, fitted_to) if calibrated else None
        model, tokenizer = load_quantized(folder)
        critic = cls(model, tokenizer, name=str(folder), identity=identity,
                     adapter=record["facts"].get("adapter"), calibration=calibration)  # fmt: skip
        critic.fitted_to |= fitted_to
        return critic

    def _probe(self, model: PeftModel) -> None:
        """An adapter that changes nothing was not applied: refuse it, never serve the base."""
        item = [("general", "Three of three swans were white, so all swans are white.")]
        with_adapter = self.log_odds(item)
        with model.disable_adapter():
            without = self.log_odds(item)
        if np.array_equal(with_adapter, without):
            raise ValueError(f"{self.name}: expected an adapter that changes the answer of its "
                             "base, got none; train it or load the base itself")  # fmt: skip

    def merged(self, dtype: torch.dtype) -> "Critic":
        """A copy with the adapter merged into weights of this type: writes faster than it is exact.

        A quantized critic is given back as it is; the copy is not calibrated.
        """
        if not all(p.is_floating_point() for p in self.model.state_dict().values()):
            return self
        model = copy.deepcopy(self.model)
        if isinstance(model, PeftModel):
            model = model.merge_and_unload()
        torch.nn.Module.to(model, dtype)
        return Critic(model, self.tokenizer, name=self.name, encoder=self.encoder,
                      identity=f"{self.identity}+merged-{dtype}", adapter=self.adapter)  # fmt: skip

    @property
    def causal_lm(self) -> PreTrainedModel:
        """The model without peft's wrapper; the adapter stays in its layers."""
        model = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        return cast("PreTrainedModel", model)

    @property
    def calibration(self) -> dict[str, Any] | None:
        """What the threshold is certified for, in short; None without a calibration."""
        return dict(self._calibration.facts) if self._calibration else None

    def log_odds(
        self,
        items: Sequence[Item],
        *,
        batch_tokens: int = 4096,
        progress: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """Log p(flawed) - log p(valid) after the lead-in, (N,), in the order of the items.

        As the model says it, whatever the calibration.
        """
        prompts = [self.encoder.prompt(*item) for item in items]
        return self.odds_after(prompts, batch_tokens=batch_tokens, progress=progress)

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
        groups = list(bundles(prompts))
        trees = [joined([prompts[row] for row in rows], tail) for rows in groups]
        for numbers in _batches([tree.tokens for tree in trees], batch_tokens):
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
        for rows in _batches([tree.tokens for tree in trees], batch_tokens):
            chosen = [trees[row] for row in rows]
            judged.update(zip(rows, read_judged(chosen, self._score(chosen)), strict=True))
        return [judged[row] for row in range(len(trees))]

    def _score(self, trees: Sequence[Tree]) -> torch.Tensor:
        """Log-likelihood of every branch, in order."""
        with torch.inference_mode():
            batch = pack(trees, ends=False).to(self.causal_lm.device)
            return branch_sums(batch, scored_logprobs(self.causal_lm, batch, chunk=_SCORED))

    def p_flawed(
        self,
        items: Sequence[Item],
        *,
        batch_tokens: int = 4096,
        progress: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """Probability of `flawed` against `valid`, (N,), calibrated if the critic is."""
        odds = self.log_odds(items, batch_tokens=batch_tokens, progress=progress)
        return self.chances(odds, [domain for domain, _ in items])

    def p_and_types(
        self, items: Sequence[Item], *, batch_tokens: int = 4096
    ) -> tuple[np.ndarray, list[str]]:
        """`p_flawed`, and the flaw type likeliest of each if it is flawed, in one forward."""
        prompts = [self.encoder.prompt(*item) for item in items]
        sums = self._ask(prompts, reading(self.encoder, types=True), batch_tokens)
        names = list(FLAW_TYPES)
        types = [names[at] for at in sums[:, 2:].argmax(axis=1)]
        return self.chances(sums[:, 1] - sums[:, 0], [domain for domain, _ in items]), types

    def chances(self, odds: np.ndarray, domains: Sequence[str] | None) -> np.ndarray:
        """P(flawed) of log-odds (N,); calibrated if the critic is and the domains are given."""
        if self._calibration and domains is not None:
            odds = odds / self._calibration.temperatures(domains)
        pairs = torch.from_numpy(np.stack([np.zeros_like(odds), odds], axis=1))
        return choice_logprobs(pairs)[:, 1].exp().numpy()

    def verdict(self, items: Sequence[Item], *, batch_tokens: int = 4096) -> list[Verdict]:
        """Verdicts without a written critique: one batched forward."""
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
        self, items: Sequence[Item], *, max_new_tokens: int = 160, batch: int = 8
    ) -> list[Written]:
        """Verdicts with a written critique, greedy, that begins with the readout's verdict."""
        chances = self.p_flawed(items)
        written: list[Written] = []
        for at in range(0, len(items), batch):
            start = time.perf_counter()
            chunk = items[at : at + batch]
            labels = [self._label(p) for p in chances[at : at + batch]]
            texts = self._write(chunk, labels, max_new_tokens)
            spent = 1000 * (time.perf_counter() - start) / len(chunk)
            for item, p, (text, tokens) in zip(chunk, chances[at:], texts, strict=False):
                written.append(self._written(item, float(p), text, tokens, spent))
        return written

    def _written(self, item: Item, p: float, text: str, tokens: int, spent: float) -> Written:
        parsed, reason = attempt(text)
        verdict = self._verdict(item, p, spent, parsed)
        return Written(verdict, text, parsed, reason, tokens)

    def _write(
        self, items: Sequence[Item], labels: Sequence[str], max_new_tokens: int
    ) -> list[tuple[str, int]]:
        """Greedy continuations of prompt + lead-in + verdict word: (text, new tokens) each."""
        encoder = self.encoder
        heads = [[*encoder.lead_in, *encoder.verdict_words[label]] for label in labels]
        prompts = [encoder.prompt(*item) + head for item, head in zip(items, heads, strict=True)]
        rows = greedy(self.causal_lm, prompts, longest=max_new_tokens, end=encoder.end)
        return [
            (str(self.tokenizer.decode(head + row)).lstrip(), len(row))
            for head, row in zip(heads, rows, strict=True)
        ]

    def _label(self, p: float) -> str:
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
            unsure=self._calibration is not None and self._calibration.is_unsure(p),
            latency_ms=spent, request_id=hashlib.sha256(asked.encode()).hexdigest()[:32],
            **explained(parsed, rationale),
        )  # fmt: skip


def _calibration(folder: Path, fitted_to: dict[str, str]) -> Calibration | None:
    return read_calibration(folder, prompt_version=PROMPT_VERSION, **fitted_to)


def _batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
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
