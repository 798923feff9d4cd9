"""The average of critics: one adapter of several trainings (model soups, arXiv 2203.05482).

    minicrit average --average.critics "[checkpoints/a/sft, checkpoints/b/sft]"

What several runs from one start have learnt differently is partly noise, and averaging takes that
out as an ensemble does, at the price of one critic. A and B are averaged each by itself: with
weights w and 1 - w the update misses w (1 - w) (B_1 - B_2)(A_1 - A_2), which is small between
adapters that come from one another, and makes no sense between strangers; those are refused.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from minicrit.averaging_config import AverageConfig
from minicrit.config import Recipe
from minicrit.files import atomic_file, atomic_folder, check_replaceable
from minicrit.lora import ADAPTERS, WEIGHTS, refuse_foreign
from minicrit.manifest import (
    carry_calibration,
    check_outputs,
    inherited,
    read_manifest,
    require,
    write_manifest,
)

#: Least cosine between the A of two adapters of one descent. Strangers have about 0, as A begins at
#: random; the released critics, some thousand steps apart, have 0.95.
RELATED = 0.5
_META = {"format": "pt"}  # as peft writes it
_HANDED_ON = ("base", "base_model", "base_revision", "prompt_version", "critique_version")


def average(recipe: Recipe) -> Path:
    """Writes the mean of adapters, weighted, as an adapter of its own.

    Raises:
        ValueError: if they are fewer than two, of different bases, prompts or shapes, changed since
            they were made, or of no common descent; or if the weights are not one a critic,
            positive.
    """
    settings = recipe.average
    weights = _weights(settings)
    check_replaceable(settings.out, *settings.critics)
    told, lora = _in_common(settings.critics)
    told["trained_on"] = inherited(
        {f"critic_{i}": read_manifest(folder) for i, folder in enumerate(settings.critics, 1)}
    )
    mean = _mean(settings.critics, weights)
    inputs = {f"critic_{i}": folder / WEIGHTS for i, folder in enumerate(settings.critics, 1)}
    with atomic_folder(settings.out) as box:
        config = (settings.critics[0] / "adapter_config.json").read_bytes()
        for name, content in (("adapter_config.json", config), (WEIGHTS, save(mean, _META))):
            with atomic_file(box / name) as file:
                file.write(content)
        asked = {"weights": weights, "lora": lora}
        write_manifest(box, stage="average", inputs=inputs, settings=asked, facts=told)
        carry_calibration(settings.out, box)
    return settings.out


def _weights(settings: AverageConfig) -> list[float]:
    """One a critic, with sum 1."""
    number = len(settings.critics)
    if number < 2 or len(set(settings.critics)) < number:  # noqa: PLR2004
        got = ", ".join(map(str, settings.critics)) or "none"
        raise ValueError("average.critics: expected two or more folders of adapters, each once, "
                         f"got {got}; name them")  # fmt: skip
    given = settings.weights or [1.0] * number
    if len(given) != number or not all(0 < weight < float("inf") for weight in given):
        raise ValueError(f"average.weights: expected {number} positive numbers, got {given}; give "
                         "one a critic, or none for equal ones")  # fmt: skip
    return [weight / sum(given) for weight in given]


def _in_common(folders: list[Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Facts, and settings of LoRA, that all the adapters share."""
    first, *others = (_checked(folder) for folder in folders)
    told = {name: first["facts"][name] for name in _HANDED_ON if name in first["facts"]}
    lora: dict[str, Any] = first["settings"]["lora"]
    for folder, record in zip(folders[1:], others, strict=True):
        try:
            require(record, **told, lora=lora)
        except ValueError as error:
            raise ValueError(f"{folder}: not of a kind with {folders[0]}: {error}") from error
    return told, lora


def _checked(folder: Path) -> dict[str, Any]:
    """The manifest of an adapter whose files are as they were made."""
    record = read_manifest(folder)
    if record["stage"] not in ADAPTERS:
        raise ValueError(f"{folder}: expected an adapter ({', '.join(ADAPTERS)}), got what "
                         f"{record['stage']} made; give the adapter it was made of")  # fmt: skip
    if "whole" in record["facts"]:
        raise ValueError(f"{folder}: expected an adapter, got a critic of all weights; train an "
                         "adapter (lora.rank above 0)")  # fmt: skip
    if faults := check_outputs(folder):
        raise ValueError(f"{folder}: expected the files of its manifest, got {faults[0]}; restore "
                         "the folder")  # fmt: skip
    refuse_foreign(folder)
    return record


def _mean(folders: list[Path], weights: list[float]) -> dict[str, torch.Tensor]:
    """Sum of the weighted tensors, in float64, in the precision of the first."""
    first = load_file(folders[0] / WEIGHTS)
    total = {name: weights[0] * tensor.double() for name, tensor in first.items()}
    for folder, weight in zip(folders[1:], weights[1:], strict=True):
        other = load_file(folder / WEIGHTS)
        if {k: v.shape for k, v in other.items()} != {k: v.shape for k, v in first.items()}:
            raise ValueError(f"{folder}: expected the layers and the rank of {folders[0]}, got "
                             "others; average critics of one recipe")  # fmt: skip
        if (related := _cosine(first, other)) < RELATED:
            raise ValueError(
                f"{folder}: expected an adapter that has its start in common with {folders[0]}, "
                f"got a stranger (cosine {related:.2f} of A, at least {RELATED}); train both from "
                "one sft.start"
            )
        for name, tensor in other.items():
            total[name] += weight * tensor.double()
    return {name: tensor.to(first[name].dtype) for name, tensor in total.items()}


def _cosine(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    """Of all A of two adapters, as one vector each."""
    a, b = (torch.cat([t.double().flatten() for n, t in sorted(ts.items()) if "lora_A" in n])
            for ts in (one, two))  # fmt: skip
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))
