"""The data module: steps of a plan for training, examples and pairs for validation.

Loaders yield how a batch is made, not the batch: in some precisions Lightning would walk through
it and cast whatever is a float, and our batches know their own types.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from lightning import LightningDataModule

from minicrit.packing import PackedBatch
from minicrit.plan import StepBatch, StepPlan
from minicrit.records import Example

Batch = StepBatch | PackedBatch | Sequence[Example]
Make = Callable[[], Batch]


class StepLoader:
    """Yields the steps of a plan from a given one on; its length is that of the whole plan."""

    def __init__(self, plan: StepPlan, *, rank: int, world: int) -> None:
        self.plan, self.rank, self.world = plan, rank, world
        self.first = 0

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Make]:
        for number in range(self.first, len(self.plan)):
            yield partial(self.plan.step, number, self.rank, self.world)


class ValidationLoader:
    """What one process validates: examples in chunks, then packs of held-out pairs.

    Every process gets the same number of batches, as some strategies meet at each; one that has
    fewer gets empty chunks.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        packs: Sequence[PackedBatch],
        chunk: int,
        *,
        rank: int,
        world: int,
    ) -> None:
        mine = examples[rank::world]
        self.batches: list[Sequence[Example] | PackedBatch] = [
            mine[at : at + chunk] for at in range(0, math.ceil(len(examples) / world), chunk)
        ]
        own = packs[rank::world]
        self.batches += [*own, *[()] * (math.ceil(len(packs) / world) - len(own))]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Make]:
        for number in range(len(self)):
            yield partial(self.batches.__getitem__, number)


class CriticData(LightningDataModule):
    """Training steps, validation examples and held-out pairs. Knows where to go on."""

    def __init__(
        self,
        plan: StepPlan,
        validation: Sequence[Example],
        *,
        fingerprint: str,
        held_out: Sequence[PackedBatch] = (),
        chunk: int = 32,
    ) -> None:
        super().__init__()
        self.plan = plan
        self.validation, self.held_out = validation, held_out
        self.fingerprint = fingerprint
        self.chunk = chunk
        self.first = 0

    def train_dataloader(self) -> StepLoader:
        """The rest of the plan for this process."""
        assert self.trainer is not None
        loader = StepLoader(self.plan, rank=self.trainer.global_rank, world=self.trainer.world_size)
        loader.first = self.first
        return loader

    def val_dataloader(self) -> ValidationLoader:
        """This process's share of what is validated on."""
        assert self.trainer is not None
        rank, world = self.trainer.global_rank, self.trainer.world_size
        return ValidationLoader(self.validation, self.held_out, self.chunk, rank=rank, world=world)

    def transfer_batch_to_device(self, batch: Make, device: object, dataloader_idx: int) -> Batch:
        """Makes the batch and leaves it where it is: a step moves each of its packs in its turn."""
        return batch()

    def state_dict(self) -> dict[str, int | str]:
        """Where the run stands, and on which data."""
        assert self.trainer is not None
        return {"step": self.trainer.global_step, "fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, int | str]) -> None:
        """Goes on after the last finished step; other data than before are refused."""
        if state["fingerprint"] != self.fingerprint:
            assert self.trainer is not None
            # Its folder is named: that of the run, beside it, holds what is finished.
            work = Path(self.trainer.ckpt_path or "checkpoint").parent
            raise ValueError(
                f"{work}: expected checkpoints of these data and settings, got those of others; "
                f"rm -r {work} to start again (a finished critic beside it stays), or if it began "
                "on another machine, where precision auto meant another one, name that precision"
            )
        self.first = int(state["step"])
