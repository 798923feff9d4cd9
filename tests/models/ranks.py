"""Trains tiny critics in one process and in two; run by test_processes.py.

    python ranks.py FOLDER BASES STAGE ...

Everything is imported once; then each process is a fork, started as torchrun starts them.
"""

import os
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

# What a fork should not have to load again.
from callbacks import alarms, best, health, history, samples, throughput  # noqa: F401
from data_gen.compose import compose
from data_gen.preferences import preference, twin_pairs
from data_gen.rejection import Kept
from minicrit.config import BaseConfig, Recipe
from minicrit.data_config import DataConfig
from minicrit.jsonl import write_rows
from minicrit.plan import grouped
from minicrit.prompts import critique_of, render_critique
from minicrit.records import write_examples
from minicrit.train import train_dpo, train_kto, train_rsf, train_sft
from minicrit.training_config import DPOConfig, KTOConfig, LoraConfig, RSFConfig, SFTConfig
from models import data, dpo, kto, rsf, sft  # noqa: F401

TRAIN = {"sft": train_sft, "dpo": train_dpo, "rsf": train_rsf, "kto": train_kto}


def prepare(folder: Path) -> None:
    """Data of odd sizes, so that no step and no validation divides by two."""
    (folder / "data").mkdir()
    examples = [c.example for c in compose(14, 0, "train")]
    write_examples(folder / "data" / "train.jsonl", examples)
    validation = [c.example for c in compose(6, 0, "validation")][:5]
    write_examples(folder / "data" / "validation.jsonl", validation)
    pairs = [pair for group in grouped(examples) for pair in twin_pairs(group)]
    pairs += [preference(e, render_critique(critique_of(e)), f"Verdict: {e.label}", (1.0, 0.4),
                         "oracle") for e in examples[:3]]  # fmt: skip
    write_rows(folder / "pairs.jsonl", [pair.to_row() for pair in pairs])
    kept = [Kept(e, render_critique(critique_of(e)), 0.5 + n / 30) for n, e in enumerate(examples)]
    write_rows(folder / "selected.jsonl", [one.to_row() for one in kept[:-1]])


def recipe(folder: Path, bases: Path, name: str, processes: int) -> Recipe:
    shared = {
        "precision": "64-true", "log_folder": folder / name / "logs", "samples": 1,
        "validate_every": 2, "save_every": 1, "devices": processes, "strategy": "auto",
    }  # fmt: skip
    if processes > 1:
        shared["strategy"] = "ddp"
    start = {"start": folder / "alone" / "sft"}
    return Recipe(
        base=BaseConfig(model="tiny", folder=bases), lora=LoraConfig(rank=4),
        data=DataConfig(folder=folder / "data"),
        sft=SFTConfig(out=folder / name / "sft", batch_examples=5, epochs=2, best="val/accuracy",
                      **shared),
        dpo=DPOConfig(out=folder / name / "dpo", pairs=folder / "pairs.jsonl", batch_pairs=5,
                      pack_tokens=700, **start, **shared),
        rsf=RSFConfig(out=folder / name / "rsf", data=folder / "selected.jsonl", weighted=True,
                      batch_examples=5, **start, **shared),
        kto=KTOConfig(out=folder / name / "kto", thumbs=folder / "pairs.jsonl", batch_examples=5,
                      learning_rate=1e-3, pack_tokens=700, **start, **shared),
    )  # fmt: skip


def in_processes(count: int, work: Callable[[], object]) -> None:
    """Runs `work` in so many forks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(count):
        if not (child := os.fork()):
            if count > 1:
                os.environ |= {
                    "TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "RANK": str(rank),
                    "LOCAL_RANK": str(rank), "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": str(count),
                }  # fmt: skip
            try:
                work()
            except BaseException:  # noqa: BLE001 - a fork must not go on as its parent
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    if any(os.waitpid(child, 0)[1] for child in children):
        sys.exit(1)


def main(folder: Path, bases: Path, stages: list[str]) -> None:
    torch.set_num_threads(1)
    prepare(folder)
    alone, both = (recipe(folder, bases, n, c) for n, c in (("alone", 1), ("both", 2)))
    if "sft" not in stages:
        # What the others start from; how it was trained does not matter.
        quick = replace(alone, sft=replace(alone.sft, epochs=1, batch_examples=14))
        in_processes(1, lambda: train_sft(quick))
    for name in stages:
        stage, _, live = name.partition("-")
        for told, count in ((alone, 1), (both, 2)):
            if live:
                other = replace(told.dpo, reference="live", out=told.dpo.out.with_name(name))
                told = replace(told, dpo=other)  # noqa: PLW2901
            in_processes(count, lambda stage=stage, told=told: TRAIN[stage](told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
