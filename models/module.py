"""What all training modules of the critic share: the optimizer, validation, what is kept."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim.lr_scheduler import LambdaLR

from minicrit.critic import Critic
from minicrit.metrics import FlawTypeF1, TokenPerplexity, VerdictMetrics
from minicrit.plan import StepBatch
from minicrit.records import Example
from minicrit.schedule import Optimization, warmup_cosine
from models.sharing import Root, plain


class CriticModule(LightningModule):
    """Trains the adapter of a critic, or all of it, and validates it.

    It is validated on the base that is trained on, which `base.dtype` may have rounded; later the
    critic is loaded in float32.

    One batch is one optimizer step, made of one or more packed forward passes, so a restart never
    finds half-accumulated gradients.
    """

    def __init__(self, critic: Critic, optimization: Optimization, *, seed: int = 0) -> None:
        super().__init__()
        self.optimization, self.seed = optimization, seed
        self.automatic_optimization = False
        self.strict_loading = False
        self.critic = critic
        self.model = critic.model
        self.verdicts, self.flaw_types = VerdictMetrics(), FlawTypeF1()
        self.critique_perplexity = TokenPerplexity()
        self.root: Root | None = None  # if weights are shared out over processes
        self._reading: AbstractContextManager[None] = nullcontext()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What AdamW trains and how fast."""
        return [{"params": self.trained(), "lr": self.optimization.learning_rate}]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; linear warm-up, then cosine."""
        o = self.optimization
        groups = self.parameter_groups()
        optimizer = torch.optim.AdamW(groups, weight_decay=o.weight_decay, fused=True)
        shape = warmup_cosine(o.steps, o.warmup, o.final_rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": LambdaLR(optimizer, shape),
        }

    def on_train_batch_start(self, batch: StepBatch, batch_idx: int) -> None:
        """Randomness of a step depends on seed, step and process alone, never on the past."""
        torch.manual_seed(hash((self.seed, self.global_step, self.global_rank)) % 2**63)

    def take_step(self, parts: dict[str, torch.Tensor]) -> torch.Tensor:
        """Ends an optimizer step whose gradients are there; logs it; the whole loss.

        Args:
            parts: this process's part of each term of the loss.
        """
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer)
        assert isinstance(scheduler, LambdaLR)
        total = torch.stack(list(parts.values())).sum()
        norm = plain(torch.nn.utils.clip_grad_norm_(self.trained(), self.optimization.clip))
        rate = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        self.log("train/loss", total, prog_bar=True, sync_dist=True, reduce_fx="sum")
        self.log_dict({"train/grad_norm": norm, "train/learning_rate": rate})
        shown = {f"train/{name}": value for name, value in parts.items()}
        self.log_dict(shown, sync_dist=True, reduce_fx="sum")
        return total

    def readable(self) -> AbstractContextManager[None]:
        """While it is entered the critic can be asked in any process without the others.

        All processes enter and leave it together.
        """
        return self.root.whole() if self.root else nullcontext()

    def on_validation_epoch_start(self) -> None:
        """Gathers what is shared out, as processes validate on different numbers of items."""
        self._reading = self.readable()
        self._reading.__enter__()

    def validation_step(self, examples: Sequence[Example], batch_idx: int) -> None:
        """Reads verdict, flaw type and perplexity of the reference in one forward an item.

        A chunk may be empty, where another process has one more; it is counted like any other, so
        that all metrics have something to bring together.
        """
        judged = self.critic.judge(examples)
        chances = torch.tensor([j.log_odds for j in judged], dtype=torch.float64).sigmoid()
        labels = torch.tensor([e.label == "flawed" for e in examples], dtype=torch.bool)
        self.verdicts.update(chances, labels, [e.group for e in examples])
        pairs = zip(judged, examples, strict=True)
        typed = [(j.flaw_type, e.flaw_type) for j, e in pairs if e.flaw_type]
        self.flaw_types.update([said for said, _ in typed], [true for _, true in typed])
        self.critique_perplexity.update(
            torch.tensor(sum(j.nll for j in judged), dtype=torch.float64),
            torch.tensor(sum(j.tokens for j in judged)),
        )

    def on_validation_epoch_end(self) -> None:
        """Logs what the critic is judged by."""
        self._reading.__exit__(None, None, None)
        scores = {
            **self.verdicts.compute(),
            "flaw_type_f1": self.flaw_types.compute(),
            "perplexity": self.critique_perplexity.compute(),
        }
        self.log_scores(scores)
        for metric in (self.verdicts, self.flaw_types, self.critique_perplexity):
            metric.reset()

    def log_scores(self, scores: Mapping[str, torch.Tensor]) -> None:
        """Logs scores of a validation, which are the same in every process."""
        self.log_dict({f"val/{name}": value.float() for name, value in scores.items()})

    def trained(self) -> list[torch.nn.Parameter]:
        """The parameters of the adapter, or all."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps what is trained alone; the base is on disk already."""
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: state[name] for name in state if name in trained}
