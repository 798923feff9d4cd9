"""Our side of the training bench: the module that `make dpo` or `make sft` trains, by Lightning."""

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from peft import PeftModel

from minicrit.critic import Critic
from minicrit.logprobs import scored_logprobs
from minicrit.losses import PairSettings
from minicrit.packing import PackedBatch
from minicrit.plan import StepBatch, StepPlan
from minicrit.preferring import Mixture, reference_logprobs
from minicrit.readout import branch_sums
from minicrit.schedule import Optimization
from minicrit.twinning import TwinWeights
from models.bench_case import Case, adapt, build, lessons, step_plan
from models.bench_turns import Turns
from models.data import CriticData
from models.dpo import DPOModule
from models.module import CriticModule
from models.sft import SFTModule

RATE, BETA, CLIP = 1e-3, 0.1, 1.0
_FROZEN = "reference"


def train_ours(turns: Turns, case: Case, *, precomputed: bool = False) -> None:
    """Trains a case; for DPO the reference is live unless it is `precomputed`."""
    model, tokenizer = build(case, "packed")
    plan = step_plan(case, lessons(case, model.config.vocab_size))
    critic = Critic(adapt(case, model, fused=True), tokenizer, name="bench", identity="bench")
    turns.loaded()
    module = _module(case, critic, plan, precomputed=precomputed)
    trainer = Trainer(
        max_steps=case.steps,
        precision="bf16-mixed" if case.precision == "bfloat16" else "32-true",
        accelerator="auto",
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
    if not precomputed:
        return _LiveDPO(critic, optimization, mixture, torch.empty(0), exact=True)
    with tempfile.TemporaryDirectory() as folder, _autocast(case, critic):
        reference = reference_logprobs(
            critic.causal_lm, plan.groups, Path(folder) / "reference.safetensors",
            pack_tokens=case.pack_tokens, device=critic.model.device,
        )  # fmt: skip
    return DPOModule(critic, optimization, mixture, reference)


def _autocast(case: Case, critic: Critic) -> torch.autocast:
    device = str(critic.model.device).partition(":")[0]
    return torch.autocast(device, torch.bfloat16, enabled=case.precision == "bfloat16")


class _LiveDPO(DPOModule):
    """DPO whose reference is computed anew at each step, by a frozen copy of the adapter."""

    def __init__(self, critic: Critic, *args: Any, **kwargs: Any) -> None:
        super().__init__(critic, *args, **kwargs)
        model = critic.model
        if isinstance(model, PeftModel):
            model.add_adapter(_FROZEN, model.peft_config["default"])
            weights = dict(model.named_parameters())
            for name, parameter in weights.items():
                if ".default." in name:
                    weights[name.replace(".default.", f".{_FROZEN}.")].data.copy_(parameter.data)
            model.set_adapter("default")
        else:
            self.copy = (copy.deepcopy(model).requires_grad_(False),)  # a tuple: not a submodule

    def training_step(self, batch: StepBatch, batch_idx: int) -> torch.Tensor:
        """Reference first, then the step as it always is."""
        known: dict[int, torch.Tensor] = {}
        with torch.no_grad():
            for packed in batch.packs:
                own = packed.to(self.device)
                sums = branch_sums(own, self._frozen_logprobs(own))
                known.update(zip(own.keys.tolist(), sums, strict=True))
        self.reference = torch.zeros(max(known) + 1, dtype=torch.float64, device=self.device)
        self.reference[list(known)] = torch.stack(list(known.values()))
        return super().training_step(batch, batch_idx)

    def _frozen_logprobs(self, own: PackedBatch) -> torch.Tensor:
        model = self.critic.model
        if not isinstance(model, PeftModel):
            return scored_logprobs(self.copy[0], own)
        model.set_adapter(_FROZEN)
        try:
            return scored_logprobs(self.critic.causal_lm, own)
        finally:
            model.set_adapter("default")


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
