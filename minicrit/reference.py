"""The reference of preference learning: the adapter that training starts from, frozen.

Either its likelihoods are computed once, before the first step, and kept (`precomputed`: a step
costs one forward pass less), or it stays in memory as a second adapter on the one base (`live`:
nothing to compute beforehand, a few MB more). Both are the start's own weights, in the precision in
which the policy is trained; so at the first step every margin is zero.

Shapes: S scored tokens of a packed batch; P pairs.
"""

# mypy: disable-error-code="import-untyped"
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save
from tqdm import tqdm

from minicrit.critic import Critic
from minicrit.files import atomic_file, sha256_file, sha256_json
from minicrit.logprobs import scored_logprobs
from minicrit.lora import POLICY, REFERENCE, attach_reference
from minicrit.packing import PackedBatch
from minicrit.plan import Group, StepPlan
from minicrit.prompts import PROMPT_VERSION
from minicrit.run import Run
from minicrit.trainee import precise

#: Log-probabilities (S,) of the scored tokens of a batch under the reference, without gradient.
Reference = Callable[[PackedBatch], torch.Tensor]


class KeptReference:
    """Log-probabilities that were computed before, token by token, found by the keys of a batch."""

    def __init__(self, logprobs: torch.Tensor, lengths: torch.Tensor) -> None:
        """`logprobs` (tokens,) of all completions in the order of their keys; `lengths` of each."""
        self.pieces = logprobs.split(lengths.tolist())

    def __call__(self, batch: PackedBatch) -> torch.Tensor:
        """(S,) of a batch of those completions; 0 for what has no key."""
        known = [
            self.pieces[key] if key >= 0 else self.pieces[0].new_zeros(count)
            for key, count in zip(batch.keys.tolist(), batch.lengths.tolist(), strict=True)
        ]
        return torch.cat(known).to(batch.targets.device)

    def means(self) -> torch.Tensor:
        """Log-likelihood a token of each completion, by key."""
        return torch.stack([piece.double().mean() for piece in self.pieces])


class LiveReference:
    """The start adapter beside the policy, on the same base (`lora.attach_reference`)."""

    def __init__(self, adapted: PeftModel, *, chunk: int = 0) -> None:
        self.model = adapted.get_base_model()
        self.layers = [m for m in adapted.modules() if isinstance(m, BaseTunerLayer)]
        self.chunk = chunk

    def __call__(self, batch: PackedBatch) -> torch.Tensor:
        """(S,): one more forward pass over the same batch, in the same precision."""
        with self._acting(), torch.no_grad():
            return scored_logprobs(self.model, batch, chunk=self.chunk)

    @contextmanager
    def _acting(self) -> Iterator[None]:
        """The reference answers, the policy waits."""
        for layer in self.layers:
            layer.set_adapter(REFERENCE, inference_mode=True)
        try:
            yield
        finally:
            for layer in self.layers:
                layer.set_adapter(POLICY)


def reference_logprobs(
    model: Callable[..., object],
    groups: Sequence[Group],
    store: Path,
    *,
    pack_tokens: int,
    chunk: int = 0,
    device: torch.device | str = "cpu",
) -> KeptReference:
    """Log-probabilities of all completions; read from `store` if they are there.

    Args:
        model: the policy before its first step, in the precision in which it will be trained.
        groups: of `comparisons.comparison_groups`, with all pairs, or of `thumbs.thumb_groups`.
        store: file named by the hash of all that decides them.
        pack_tokens: most tokens of a forward pass.
        chunk: see `logprobs.scored_logprobs`.
        device: of the model.
    """
    completions = sum(len(tree.leaves) for group in groups for tree in group.trees)
    if store.is_file():
        found = load_file(store)
        if found["lengths"].shape == (completions,):
            return KeptReference(found["logprobs"], found["lengths"])
    plan = StepPlan(groups, epochs=1, batch_examples=1, pack_tokens=pack_tokens, seed=0)
    known: dict[int, torch.Tensor] = {}
    with torch.no_grad():
        for number in tqdm(range(len(plan)), unit="group", desc="reference"):
            for packed in plan.step(number).packs:
                scored = scored_logprobs(model, packed.to(device), chunk=chunk).cpu()
                pieces = scored.split(packed.lengths.tolist())
                known |= zip(packed.keys.tolist(), pieces, strict=True)
    ordered = [known[key] for key in range(completions)]
    lengths = torch.tensor([len(piece) for piece in ordered])
    logprobs = torch.cat(ordered)
    with atomic_file(store) as file:
        file.write(save({"logprobs": logprobs, "lengths": lengths}))
    return KeptReference(logprobs, lengths)


def kept_reference(
    run: Run, critic: Critic, groups: Sequence[Group], how: float | str
) -> KeptReference:
    """Likelihoods of completions under the adapter that training starts from.

    Args:
        run: the training.
        critic: what is trained, before its first step.
        groups: see `reference_logprobs`.
        how: they are encoded, or which they are, where the same file gives several.
    """
    settings = run.settings
    counted = [f"{group.name} {group.examples}" for group in groups]
    decides = [sha256_file(run.files["start"]), sha256_file(run.files["train"]), run.base.identity,
               PROMPT_VERSION, settings.precision, how, run.recipe.seed,
               run.relevant["max_tokens"], run.relevant["truncate"], run.relevant["dtype"],
               counted, "by token, room for what is compared"]  # fmt: skip
    store = run.work / f"reference-{sha256_json(decides)[:16]}.safetensors"
    model = critic.causal_lm.eval()
    with precise(model, settings.precision):
        found = reference_logprobs(
            model, groups, store, pack_tokens=settings.pack_tokens, chunk=settings.loss_chunk,
            device=model.device,
        )  # fmt: skip
    critic.model.train()
    return found


def live_reference(run: Run, critic: Critic) -> LiveReference:
    """The adapter that training starts from, put beside the one that is trained."""
    settings = run.settings
    assert settings.start is not None
    attach_reference(critic.model, settings.start)  # type: ignore[arg-type]
    return LiveReference(critic.model, chunk=settings.loss_chunk)  # type: ignore[arg-type]
