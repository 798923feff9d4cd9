"""Trains all weights of tiny critics in so many processes; run by test_whole_ranks.py.

python whole_ranks.py FOLDER BASES NAME ...
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from callbacks import sharing  # noqa: F401 - what a fork should not have to load again
from callbacks.stopping import Stopping
from callbacks.throughput import Throughput
from minicrit.stopping import SIGNALS, Stopped
from minicrit.train import train_sft
from minicrit.training_config import LoraConfig
from tests.models.ranks import in_processes, prepare, recipe


@dataclass(frozen=True)
class Way:
    """How many processes, by which strategy, with which settings; stopped after which steps.

    Or what goes wrong in the last process at its second step, and what all of them say then.
    """

    processes: int = 1
    strategy: str = "auto"
    told: dict[str, Any] = field(default_factory=dict)
    stops: tuple[tuple[int, int], ...] = ()  # (step, processes of that part)
    wrong: Callable[[Any], None] | None = None
    said: str = ""


def full_disk(trainer: Any) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    trainer.strategy.checkpoint_io.save_checkpoint = fail


def no_number(trainer: Any) -> None:
    weight = next(iter(trainer.lightning_module.trained()))
    weight.to_local().detach().fill_(torch.nan)


WAYS = {
    "one": Way(),
    "two": Way(2, "fsdp"),
    "ddp": Way(2, "ddp"),
    "three": Way(3, "fsdp"),
    "three-ddp": Way(3, "ddp"),
    "alone": Way(1, "fsdp"),
    "recomputed": Way(2, "fsdp", {"gradient_checkpointing": True, "loss_chunk": 16}),
    "best-one": Way(told={"best": "val/accuracy", "patience": 1, "validate_every": 1}),
    "best-two": Way(2, "fsdp", {"best": "val/accuracy", "patience": 1, "validate_every": 1}),
    "stopped": Way(2, "fsdp", stops=((1, 2), (2, 2))),
    "resliced": Way(2, "fsdp", stops=((1, 3), (2, 1))),
    "full": Way(
        2,
        "fsdp",
        {"validate_every": 1},
        wrong=full_disk,
        said="No space left|every process to write its slices",
    ),
    "spoilt": Way(2, "fsdp", wrong=no_number, said="expected finite weights"),
}


def watched(folder: Path, stop: int, wrong: Callable[[Any], None] | None) -> None:
    """Writes down the length of each gradient; asks process 1 alone to stop after a step."""
    before: Callable[..., None] = Throughput.on_train_batch_end

    def end(self: Throughput, trainer: Any, *rest: Any) -> None:
        before(self, trainer, *rest)
        if trainer.global_rank == 0:
            with (folder / "norms").open("a") as file:
                file.write(f"{float(trainer.callback_metrics['train/grad_norm'])!r}\n")
        last = trainer.global_rank == trainer.world_size - 1
        if wrong and last and trainer.global_step == 2:
            wrong(trainer)
        if trainer.global_step == stop and last:
            (stopping,) = (c for c in trainer.callbacks if isinstance(c, Stopping))
            stopping.asked = SIGNALS[0]

    Throughput.on_train_batch_end = end  # type: ignore[method-assign]


def train(folder: Path, bases: Path, name: str, way: Way, stop: int) -> None:
    told = recipe(folder, bases, name, way.processes)
    settings = {"best": None, "epochs": 1, "validate_every": 0, "pack_tokens": 700, **way.told}
    sft = replace(told.sft, strategy=way.strategy, learning_rate=1e-3, **settings)
    (folder / name).mkdir(exist_ok=True)
    watched(folder / name, stop, way.wrong)
    asked = replace(told, lora=LoraConfig(rank=0), sft=sft)
    if not stop and not way.wrong:
        train_sft(asked)
        return
    try:
        train_sft(asked)
    except Stopped:
        return
    except (OSError, ValueError) as error:
        if way.said and re.search(way.said, str(error)):
            return
        raise
    raise AssertionError("neither stopped nor failed")


def main(folder: Path, bases: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    prepare(folder)
    for name in names:
        way = WAYS[name]
        for stop, processes in (*way.stops, (0, way.processes)):
            part = replace(way, processes=processes)
            in_processes(processes, lambda n=name, w=part, s=stop: train(folder, bases, n, w, s))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
