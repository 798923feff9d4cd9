"""Our side of the training bench: the module that `make dpo` or `make sft` trains, by Lightning."""

import copy
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer
from peft import PeftModel

from minicrit.critic import Critic
from minicrit.logprobs import scored_logprobs
from minicrit.lora import attach_reference, save_lora
from minicrit.losses import PairSettings
from minicrit.packing import PackedBatch
from minicrit.plan import StepBatch, StepPlan
from minicrit.preferring import Mixture, slack_of
from minicrit.processes import device_kind
from minicrit.reference import LiveReference, Reference, reference_logprobs
from minicrit.schedule import Optimization
from minicrit.twinning import TwinWeights
from models.bench_case import Case, adapt, build, lessons, step_plan
from models.bench_turns import Turns
from models.data import CriticData
from models.dpo import DPOModule
from models.module import CriticModule
from models.sft import SFTModule

RATE, BETA, CLIP = 1e-3, 0.1, 1.0


def train_ours(turns: Turns, case: Case, *, precomputed: bool = False) -> None:
    """Trains a case; for DPO the reference is live unless it is `precomputed`."""
    model, tokenizer = build(case, "packed")
    plan = step_plan(case, lessons(case, model.config.vocab_size))
    critic = Critic(adapt(case, model, fused=True), tokenizer, name="bench", identity="bench")
    turns.loaded()
    module = _module(case, critic, plan, precomputed=precomputed)
    trainer = Trainer(
        max_steps=case.steps,
        precision=_precision(case),
        accelerator=device_kind(),
        devices=1,
        logger=False,
        callbacks=[_Beat(turns)],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, CriticData(plan, [], fingerprint="bench"))


def _module(case: Case, critic: Critic, plan: StepPlan, *, precomputed: bool) -> CriticModule:
    optimization = Optimization(case.steps, RATE, 0.0, 1.0, 0.0, CLIP)
    if case.task == "sft":
        return SFTModule(critic, optimization, TwinWeights(0.0, 0.0, 0.0))
    mixture = Mixture({"dpo": 1.0}, PairSettings(BETA))
    reference = _kept(case, critic, plan) if precomputed else _live(critic)
    slack = slack_of(_precision(case), dropout=False)
    return DPOModule(critic, optimization, mixture, reference, slack=slack)


def _precision(case: Case) -> Literal["bf16-mixed", "32-true"]:
    """Lightning's name of it."""
    return "bf16-mixed" if case.precision == "bfloat16" else "32-true"


def _kept(case: Case, critic: Critic, plan: StepPlan) -> Reference:
    with tempfile.TemporaryDirectory() as folder, _autocast(case, critic):
        return reference_logprobs(
            critic.causal_lm, plan.groups, Path(folder) / "reference.safetensors",
            pack_tokens=case.pack_tokens, device=critic.model.device,
        )  # fmt: skip


def _live(critic: Critic) -> Reference:
    """As the policy is now: a second adapter, or after all a second model."""
    if isinstance(critic.model, PeftModel):
        with tempfile.TemporaryDirectory() as folder:
            save_lora(critic.model, Path(folder))
            attach_reference(critic.model, Path(folder))
        return LiveReference(critic.model)
    frozen = copy.deepcopy(critic.causal_lm).requires_grad_(False)

    def answer(batch: PackedBatch) -> torch.Tensor:
        with torch.no_grad():
            return scored_logprobs(frozen, batch)

    return answer


def _autocast(case: Case, critic: Critic) -> torch.autocast:
    device = str(critic.model.device).partition(":")[0]
    return torch.autocast(device, torch.bfloat16, enabled=case.precision == "bfloat16")


class _Beat(Callback):
    """Tells the clock."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: StepBatch,
        batch_idx: int,
    ) -> None:
        """A batch is an optimizer step."""
        self.turns.seen(outputs["loss"], batch.tokens)
        self.turns.beat()
