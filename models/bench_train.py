"""A training step of ours against TRL's: time, memory and losses, in one run.

minicrit bench-train                                  # minutes to hours on a CPU
minicrit bench-train --config vista                   # on a data-centre GPU
minicrit bench-train --bench_train.models 30m         # a part of it

Both sides train the same model from the same weights on the same token ids with the same optimizer,
each in its own process, a step at a time in turns. On a CPU the seconds of the process are
compared, not those of the clock, so that other work on the machine does not count. Cases that are
done are kept: the same command goes on where it was stopped, unless the code has changed since.
"""

# mypy: disable-error-code="import-untyped"
import json
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM

from minicrit import limits
from minicrit.config import Recipe
from minicrit.files import write_atomic, write_json
from minicrit.latency import hardware
from minicrit.manifest import code_version
from minicrit.training_config import BenchTrainConfig
from models.bench_case import (
    FROM_RECIPE,
    SHAPES,
    Adapter,
    Case,
    Task,
    config_of,
    lessons,
    sequence_tokens,
)
from models.bench_figures import Ran, figures_of, page
from models.bench_turns import Side, Step, Turns

log = logging.getLogger(__name__)
WARM_UP = 1
PACKAGES = ("torch", "transformers", "peft", "trl", "lightning")


def bench_train(recipe: Recipe) -> dict[str, Any]:
    """Measures, writes `bench_train.out` .json and .md, returns the figures.

    Raises:
        ValueError: if a setting is none that can be measured.
    """
    told = recipe.bench_train
    todo = cases(recipe)
    out, about = told.out, _about(told)
    done = _done(out.with_suffix(".json"), about)
    kept = []
    out.parent.mkdir(parents=True, exist_ok=True)
    for case in tqdm(todo, unit="case", desc="bench"):
        key = _plain(case)
        one = done.get(key) or {"name": case.name, "case": json.loads(key), **_measured(case)}
        kept.append(one)
        found = {**about, "cases": kept}
        write_json(out.with_suffix(".json"), found)
        write_atomic(out.with_suffix(".md"), page(found))
    sys.stdout.write(page(found))
    return found


def cases(recipe: Recipe) -> list[Case]:
    """The first of each list, and the others of each in its place, one at a time.

    A task of which no side is to be run has none, but one has.

    Raises:
        ValueError: with the setting, what was expected, and what to do.
    """
    told, lora = recipe.bench_train, recipe.lora
    _check(told, lora.dropout)
    ratio, batch, adapter = told.ratios[0], told.batches[0], told.adapters[0]
    star = [
        (ratio, batch, adapter),
        *((other, batch, adapter) for other in told.ratios[1:]),
        *((ratio, other, adapter) for other in told.batches[1:]),
        *((ratio, batch, other) for other in told.adapters[1:]),
    ]
    found = [
        Case(
            task=cast("Task", task), model=model, ratio=one[0], batch=one[1],
            adapter=cast("Adapter", one[2]),
            completion=told.completion, steps=WARM_UP + told.rounds, sides=tuple(told.sides),
            rank=lora.rank,
            alpha=lora.alpha, targets=lora.targets, pack_tokens=told.pack_tokens,
            precision=told.precision, checkpointing=told.gradient_checkpointing,
            threads=told.threads, seed=recipe.seed, base=recipe.base.model,
            base_revision=recipe.base.revision, base_folder=recipe.base.folder,
        )
        for model in told.models for one in star for task in told.tasks
    ]  # fmt: skip
    kept = [case for case in found if _sides(case)]
    if not kept:
        known = dict.fromkeys(name for case in found for name in _sides(replace(case, sides=())))
        raise ValueError(f"bench_train.sides: expected one at least of {', '.join(known)}, got "
                         f"{', '.join(told.sides)}; name one, or none for all")  # fmt: skip
    return kept


_NAMES = {
    "models": (*SHAPES, FROM_RECIPE),
    "adapters": ("lora", "full"),
    "tasks": ("dpo", "sft"),
    "sides": ("ours live", "ours precomputed", "trl live", "trl precomputed", "ours", "trl padded",
              "trl padding-free"),
}  # fmt: skip


def _check(told: BenchTrainConfig, dropout: float) -> None:
    for name, known in _NAMES.items():
        if strange := sorted(set(getattr(told, name)) - set(known)):
            raise ValueError(f"bench_train.{name}: expected names of {', '.join(known)}, got "
                             f"{strange[0]}; pick one")  # fmt: skip
    for name in ("models", "adapters", "tasks", "ratios", "batches"):
        if not getattr(told, name):
            raise ValueError(f"bench_train.{name}: expected at least one, got none; name one")
    limits.require("bench_train", told)
    if dropout:
        raise ValueError(f"lora.dropout: expected 0 on both sides, got {dropout}; random steps "
                         "cannot be compared")  # fmt: skip


def _about(told: BenchTrainConfig) -> dict[str, Any]:
    machine = {name: value for name, value in hardware().items() if name != "torch_threads"}
    versions = {name: version(name) for name in PACKAGES}
    return {"hardware": machine, "versions": versions, "code": code_version(),
            "threads": told.threads}  # fmt: skip


def _plain(case: Case) -> str:
    """As it stands in the file."""
    return json.dumps({**asdict(case), "base_folder": str(case.base_folder)}, sort_keys=True)


def _done(path: Path, about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Cases of a former run on this machine with this code in which no side failed."""
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    if {name: found.get(name) for name in about} != dict(about):
        return {}
    whole = [one for one in found["cases"]
             if not any("failure" in side for side in one["sides"].values())]  # fmt: skip
    return {json.dumps(one["case"], sort_keys=True): one for one in whole}


def _sides(case: Case) -> dict[str, Callable[[Turns], None]]:
    """What is measured in a case, by name. Each imports what it needs, in its own process."""
    if case.task == "sft":
        found = {
            "ours": partial(_ours, case=case),
            "trl padded": partial(_trl, case=case),
            "trl padding-free": partial(_trl, case=case, padding_free=True),
        }
    else:
        found = {
            "ours live": partial(_ours, case=case),
            "ours precomputed": partial(_ours, case=case, precomputed=True),
            "trl live": partial(_trl, case=case),
            "trl precomputed": partial(_trl, case=case, precomputed=True),
        }
    return {name: run for name, run in found.items() if name in case.sides or not case.sides}


def _ours(turns: Turns, case: Case, **options: bool) -> None:
    from models.bench_ours import train_ours

    train_ours(turns, case, **options)


def _trl(turns: Turns, case: Case, **options: bool) -> None:
    from models.bench_trl import train_trl

    train_trl(turns, case, **options)


def _measured(case: Case) -> dict[str, Any]:
    """Runs all sides of a case in turns."""
    body, head, vocabulary = _weights(case)
    some = lessons(case, vocabulary)
    scored = sum(len(c) for one in some for c in one.completions) // case.steps
    sides = {name: Side(train, steps=case.steps, threads=case.threads)
             for name, train in _sides(case).items()}  # fmt: skip
    steps: dict[str, list[Step]] = {name: [] for name in sides}
    try:
        for _ in range(case.steps):
            for name, side in sides.items():
                if step := side.step():
                    steps[name].append(step)
    finally:
        for side in sides.values():
            side.close()
    for name, side in sides.items():
        if side.failure:
            log.warning("%s, %s: %s; if memory is short, run fewer at once: bench_train.sides",
                        case.name, name, side.failure)  # fmt: skip
    ran = {name: Ran(tuple(steps[name]), side.failure) for name, side in sides.items()}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    figures = figures_of(case, ran, (body, head, scored), gpu)
    return {"sequence_tokens": sequence_tokens(case, some), **figures}


def _weights(case: Case) -> tuple[int, int, int]:
    """Numbers of weights in the layers and in the head, and of words."""
    config = config_of(case)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    body = sum(p.numel() for p in model.model.layers.parameters())
    return body, model.get_output_embeddings().weight.numel(), config.vocab_size
