"""Lightning's ModelParallelStrategy with this project's checkpoints: a file a process, marker last.

A checkpoint of slices is a folder `step-N.ckpt` of `rank-R-of-W.ckpt`, each written by `DurableIO`
(temporary file, fsync, rename, hash); when all are there, process zero marks the folder with a hash
over theirs. Lightning's own form, torch's distributed checkpoint, keeps its index as a pickle and
marks nothing. Another number of processes reads all files and slices them anew.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from callbacks.resume import DurableIO, seal

_PART = re.compile(r"rank-(\d+)-of-(\d+)\.ckpt")


class SharedOut(ModelParallelStrategy):
    """All processes share out one model, in one dimension; see `models/sharing.py`."""

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1)

    def setup_environment(self) -> None:
        """All processes of all machines are one group."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @property
    def lightning_restore_optimizer(self) -> bool:
        """The optimizer is restored as with any other strategy, from slices."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """This process's slices."""
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """This process's slices of the moments."""
        return Strategy.optimizer_state(self, optimizer)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """From slices."""
        assert self.lightning_module is not None
        self.lightning_module.load_state_dict(checkpoint["state_dict"], strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """From slices."""
        Strategy.load_optimizer_state_dict(self, checkpoint)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """Every process writes its slices; process zero marks the folder when all have.

        Raises:
            OSError, ValueError: in every process, if one of them could not write.
        """
        folder = Path(filepath)
        if self.is_global_zero:  # what a killed run left, perhaps of more processes
            shutil.rmtree(folder, ignore_errors=True)
        self.barrier()
        failed: Exception | None = None
        try:
            local = _local(checkpoint)
            name = f"rank-{self.global_rank}-of-{self.world_size}.ckpt"
            self.checkpoint_io.save_checkpoint(local, folder / name)
        except (OSError, ValueError) as error:
            failed = error
        if not self.reduce_boolean_decision(failed is None):
            raise failed or ValueError(f"{folder}: expected every process to write its slices, got "
                                       "an error in another; see its message")  # fmt: skip
        if self.is_global_zero:
            seal(folder)

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """What this process holds of a checkpoint, whatever number of processes wrote it."""
        files = parts(Path(checkpoint_path))
        same = len(files) == self.world_size
        chosen = [files[self.global_rank]] if same else files
        read = [DurableIO().load_checkpoint(path) for path in chosen]
        rank = 0 if same else self.global_rank
        return self._sliced(read, (rank, 1 if same else self.world_size))

    def _sliced(self, parts: Sequence[dict[str, Any]], place: tuple[int, int]) -> dict[str, Any]:
        """The first part with its tensors as slices of the model's and the optimizers' own form."""
        assert self.lightning_module is not None
        found = dict(parts[0])
        forms = dict(self.lightning_module.named_parameters())
        states = [part["state_dict"] for part in parts]
        found["state_dict"] = {n: _slice([s[n] for s in states], forms[n], place)
                               for n in states[0]}  # fmt: skip
        found["optimizer_states"] = [
            self._moments([part["optimizer_states"][at] for part in parts], optimizer, place)
            for at, optimizer in enumerate(self.optimizers)
        ]
        return found

    def _moments(
        self, states: Sequence[dict[str, Any]], optimizer: Optimizer, place: tuple[int, int]
    ) -> dict[str, Any]:
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        held = {
            number: {
                name: _slice([s["state"][number][name] for s in states], trained[number], place)
                for name in row
            }
            for number, row in states[0]["state"].items()
        }
        return {**states[0], "state": held}


def _local(state: Any) -> Any:
    """The same with this process's slices in the place of tensors of all processes."""
    if isinstance(state, DTensor):
        return state.to_local().cpu()
    if isinstance(state, dict):
        return {key: _local(value) for key, value in state.items()}
    return [_local(value) for value in state] if isinstance(state, list) else state


def parts(folder: Path) -> list[Path]:
    """The files of a checkpoint by rank.

    Raises:
        ValueError: if it is none of slices, or not all are there.
    """
    there = folder.iterdir() if folder.is_dir() else ()
    named = [(m, path) for path in there if (m := _PART.fullmatch(path.name))]
    files = {int(m[1]): path for m, path in named}
    if {int(m[2]) for m, _ in named} != {len(files)} or set(files) != set(range(len(files))):
        raise ValueError(f"{folder}: expected a checkpoint of slices (strategy fsdp), got another; "
                         "go on with the strategy it was written with, or remove the folder to "
                         "start again")  # fmt: skip
    return [files[rank] for rank in sorted(files)]


def dealt(pieces: Sequence[torch.Tensor], place: tuple[int, int]) -> torch.Tensor:
    """One slice of a tensor that is there in pieces, cut as FSDP2 cuts.

    Args:
        pieces: along the first dimension.
        place: (which, of how many); those beyond the last row are empty.
    """
    rank, count = place
    whole = torch.cat(list(pieces)) if len(pieces) > 1 else pieces[0]
    if count == 1:
        return whole
    slices = whole.chunk(count)
    return (slices[rank] if rank < len(slices) else whole[:0]).clone()


def _slice(
    pieces: Sequence[torch.Tensor], form: torch.Tensor, place: tuple[int, int]
) -> torch.Tensor:
    """Pieces of a tensor as the slice that a process holds of one of this form.

    Args:
        pieces: along the first dimension; that of this process alone, or all of them.
        form: a parameter.
        place: see `dealt`.
    """
    if not isinstance(form, DTensor) or not pieces[0].dim():  # the count of steps, say
        return pieces[0]
    return DTensor.from_local(
        dealt(pieces, place).to(form.device), form.device_mesh, form.placements, run_check=False,
        shape=form.shape, stride=form.stride(),
    )  # fmt: skip
