"""The other side of the training bench: TRL's trainers, set as fast as they go.

As they come they use bfloat16 and gradient checkpointing, both slower on a CPU. They get the very
token ids that we get, in the same order, the same first weights and the same optimizer.
"""

# mypy: disable-error-code="import-untyped"
import tempfile
from typing import Any

import torch
from datasets import Dataset
from transformers import Trainer, TrainerCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from models.bench_case import Case, Lesson, adapt, build, lessons, step_plan
from models.bench_turns import Turns

ATTENTION = "sdpa"


def train_trl(
    turns: Turns, case: Case, *, precomputed: bool = False, padding_free: bool = False
) -> None:
    """Trains a case.

    Args:
        turns: see `bench_turns`.
        case: what is trained.
        precomputed: DPO with `precompute_ref_log_probs` instead of a live reference.
        padding_free: SFT in one flat sequence, DPO has no such thing at present.
    """
    from models.bench_ours import BETA, CLIP, RATE

    model, tokenizer = build(case, ATTENTION)
    some = lessons(case, model.config.vocab_size)
    ordered = [some[number] for step in step_plan(case, some).steps for number in step]
    adapted = adapt(case, model, fused=False)
    turns.loaded()
    with tempfile.TemporaryDirectory() as folder:
        told: dict[str, Any] = {
            "output_dir": folder, "max_steps": case.steps, "max_length": None,
            "per_device_train_batch_size": case.batch, "learning_rate": RATE, "weight_decay": 0.0,
            "lr_scheduler_type": "constant", "max_grad_norm": CLIP,
            "bf16": case.precision == "bfloat16", "gradient_checkpointing": case.checkpointing,
            "gradient_checkpointing_kwargs": {"use_reentrant": False},
            "train_sampling_strategy": "sequential", "save_strategy": "no", "report_to": [],
            "logging_strategy": "no", "disable_tqdm": True, "seed": case.seed,
            "dataloader_pin_memory": torch.cuda.is_available(),
            "use_cpu": not torch.cuda.is_available(),
        }  # fmt: skip
        shared: dict[str, Any] = {
            "model": adapted,
            "processing_class": tokenizer,
            "callbacks": [_Beat(turns)],
        }
        if case.task == "sft":
            sft = SFTConfig(**told, padding_free=padding_free, completion_only_loss=True)
            trainer: Any = _SFT(turns, **shared, args=sft, train_dataset=_examples(ordered))
        else:
            dpo = DPOConfig(**told, precompute_ref_log_probs=precomputed, beta=BETA)
            whole = case.adapter == "full" and not precomputed
            reference = build(case, ATTENTION)[0].requires_grad_(False) if whole else None
            trainer = _DPO(turns, **shared, args=dpo, train_dataset=_pairs(ordered),
                           ref_model=reference)  # fmt: skip
        trainer.train()


def _pairs(some: list[Lesson]) -> Dataset:
    return Dataset.from_list([
        {"prompt_ids": list(one.prompt), "chosen_ids": list(one.completions[0]),
         "rejected_ids": list(one.completions[1])} for one in some
    ])  # fmt: skip


def _examples(some: list[Lesson]) -> Dataset:
    rows = []
    for one in some:
        silent, scored = len(one.prompt), one.completions[0]
        mask = [0] * silent + [1] * len(scored)
        rows.append({"input_ids": [*one.prompt, *scored], "completion_mask": mask})
    return Dataset.from_list(rows)


class _Seen(Trainer):
    """Notes the loss of each step."""

    def __init__(self, turns: Turns, **kwargs: Any) -> None:
        self.turns = turns
        super().__init__(**kwargs)

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """As it is, and noted."""
        mask = inputs.get("attention_mask")
        tokens = inputs["input_ids"].numel() if mask is None else int(mask.sum())
        loss: torch.Tensor = super().training_step(model, inputs, *args, **kwargs)
        self.turns.seen(loss, tokens)
        return loss


class _DPO(_Seen, DPOTrainer):
    """Takes token ids instead of texts."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any) -> Dataset:
        return dataset


class _SFT(_Seen, SFTTrainer):
    """Takes token ids already."""


class _Beat(TrainerCallback):
    """Tells the clock."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """The optimizer has stepped."""
        self.turns.beat()
