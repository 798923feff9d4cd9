"""The data module: steps of a plan for training, examples for validation."""

from collections.abc import Iterator, Sequence

from lightning import LightningDataModule

from minicrit.plan import StepBatch, StepPlan
from minicrit.records import Example


class StepLoader:
    """Yields the steps of a plan from a given one on; its length is that of the whole plan."""

    def __init__(self, plan: StepPlan, *, rank: int, world: int) -> None:
        self.plan, self.rank, self.world = plan, rank, world
        self.first = 0

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[StepBatch]:
        for number in range(self.first, len(self.plan)):
            yield self.plan.step(number, self.rank, self.world)


class ExampleLoader:
    """Validation examples of one process, in chunks."""

    def __init__(self, examples: Sequence[Example], chunk: int) -> None:
        self.chunks = [examples[at : at + chunk] for at in range(0, len(examples), chunk)]

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[Sequence[Example]]:
        return iter(self.chunks)


class CriticData(LightningDataModule):
    """Training steps and validation examples. Knows where to go on after a restart."""

    def __init__(
        self, plan: StepPlan, validation: Sequence[Example], *, fingerprint: str, chunk: int = 32
    ) -> None:
        super().__init__()
        self.plan = plan
        self.validation = validation
        self.fingerprint = fingerprint
        self.chunk = chunk
        self.first = 0

    def train_dataloader(self) -> StepLoader:
        """The rest of the plan for this process."""
        assert self.trainer is not None
        loader = StepLoader(self.plan, rank=self.trainer.global_rank, world=self.trainer.world_size)
        loader.first = self.first
        return loader

    def val_dataloader(self) -> ExampleLoader:
        """This process's validation examples."""
        assert self.trainer is not None
        mine = self.validation[self.trainer.global_rank :: self.trainer.world_size]
        return ExampleLoader(mine, self.chunk)

    def transfer_batch_to_device(
        self, batch: object, device: object, dataloader_idx: int
    ) -> object:
        """Leaves batches where they are: a step moves each of its packs when it needs it."""
        return batch

    def state_dict(self) -> dict[str, int | str]:
        """Where the run stands, and on which data."""
        assert self.trainer is not None
        return {"step": self.trainer.global_step, "fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, int | str]) -> None:
        """Goes on after the last finished step; other data than before are refused."""
        if state["fingerprint"] != self.fingerprint:
            raise ValueError(
                "checkpoint: expected the data and settings it was made with, got others; remove "
                "the checkpoints of this run to start again"
            )
        self.first = int(state["step"])
