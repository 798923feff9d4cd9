"""From the steps of both sides of the training bench to figures and a table."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from models.bench_case import Case
from models.bench_turns import Step

#: Dense bfloat16 TFLOP/s of data sheets, by what the GPU's name holds; the first that fits.
PEAKS = {"H100 PCIe": 756.0, "H100": 989.0, "H200": 989.0, "GH200": 989.0, "A100": 312.0,
         "L40S": 362.0, "4090": 165.0}  # fmt: skip
#: What is compared: (name, our side, TRL's sides of which the fastest counts).
COMPARISONS = {
    "dpo": (
        ("DPO, live reference", "ours live", ("trl live",)),
        ("DPO, precomputed reference", "ours precomputed", ("trl precomputed",)),
        ("DPO, ours precomputed, TRL live", "ours precomputed", ("trl live",)),
    ),
    "sft": (("SFT", "ours", ("trl padded", "trl padding-free")),),
}


@dataclass(frozen=True)
class Ran:
    """What a side did: its steps, the first of them a warm-up, or how it failed."""

    steps: tuple[Step, ...] = field(default=())
    failure: str | None = None


def figures_of(
    case: Case, ran: Mapping[str, Ran], weights: tuple[int, int, int], gpu: str | None
) -> dict[str, Any]:
    """Figures of one case.

    Args:
        case: what was run.
        ran: what each side did.
        weights: of the layers, of the head, and the tokens scored in a step (for the MFU).
        gpu: name of the GPU; without one, times are seconds of processors.
    """
    sides = {name: _side(case, name, one, weights, gpu) for name, one in ran.items()}
    losses = [[step.loss for step in one.steps] for one in ran.values() if not one.failure]
    apart = [max(row) - min(row) for row in zip(*losses, strict=True)]
    return {
        "sides": sides,
        "compared": _compared(case, ran, sides, gpu),
        "first_loss_apart": apart[0] if apart else None,
        "most_loss_apart": max(apart, default=None),
    }


def _seconds(one: Ran, gpu: str | None) -> list[float]:
    return [step.wall if gpu else step.cpu for step in one.steps[1:]]


def _side(
    case: Case, name: str, one: Ran, weights: tuple[int, int, int], gpu: str | None
) -> dict[str, Any]:
    if one.failure:
        return {"failure": one.failure}
    seconds = median(_seconds(one, gpu))
    last = one.steps[-1]
    tokens = median(step.tokens for step in one.steps[1:])
    found = {
        "seconds": seconds,
        "wall_seconds": median(step.wall for step in one.steps[1:]),
        "memory_mib": last.gpu_memory if gpu else last.memory,
        "tokens_computed": tokens,
        "losses": [step.loss for step in one.steps],
    }
    peak = next((p for part, p in PEAKS.items() if gpu and part in gpu), None)
    if peak:
        body, head, scored = weights
        operations = flops(case, tokens * body + scored * head, live="live" in name)
        found["mfu"] = operations / seconds / (peak * 1e12)
    return found


def flops(case: Case, products: float, *, live: bool) -> float:
    """Operations of a step's products with weights; attention and recomputation do not count.

    Args:
        case: with a frozen base the gradients of its weights are not computed.
        products: sum over tokens of the weights that each is multiplied with.
        live: whether the reference is computed too, forward only.
    """
    passes = (3 if case.adapter == "full" else 2) + live
    return 2 * passes * products


def _compared(
    case: Case, ran: Mapping[str, Ran], sides: Mapping[str, dict[str, Any]], gpu: str | None
) -> list[dict[str, Any]]:
    found = []
    for name, ours, theirs in COMPARISONS[case.task]:
        well = [side for side in theirs if "seconds" in sides.get(side, {})]
        if "seconds" not in sides.get(ours, {}) or not well:
            continue
        best = min(well, key=lambda side: sides[side]["seconds"])
        pairs = zip(_seconds(ran[best], gpu), _seconds(ran[ours], gpu), strict=True)
        times = [other / own for other, own in pairs]
        own, other = sides[ours]["memory_mib"], sides[best]["memory_mib"]
        known = own is not None and other
        found.append({
            "what": name, "against": best,
            "times_as_fast": {"median": median(times), "low": min(times), "high": max(times)},
            "memory": own / other if known else None,
        })  # fmt: skip
    return found


def page(found: Mapping[str, Any]) -> str:
    """The table to read."""
    machine, versions = found["hardware"], found["versions"]
    rows = ["| model | training | batch | prompt : completion | step | times as fast (range) | "
            "peak memory above the model |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    rows += [row for one in found["cases"] for row in _rows(one)]
    told = [f"{name} {number}" for name, number in versions.items()]
    unit = "seconds" if machine["gpu"] else "seconds of a processor"
    return "\n".join([
        "# A training step against TRL", "", *rows, "", "Median and range of rounds in turns.", "",
        f"| case | side | {unit} | peak MiB above the model | tokens a second | MFU |",
        "|---|---|---|---|---|---|",
        *(row for one in found["cases"] for row in _side_rows(one)), "",
        f"{machine['gpu'] or machine['cpu']}, {found['threads']} threads a process; "
        f"{', '.join(told)}, minicrit {found['code']}.", "",
    ])  # fmt: skip


def _rows(one: Mapping[str, Any]) -> list[str]:
    case = one["case"]
    head = f"| {case['model']} | {case['adapter']} | {case['batch']} | {case['ratio']:g} : 1 "
    rows = []
    for row in one["compared"]:
        speed = row["times_as_fast"]
        memory = "" if row["memory"] is None else f"{row['memory']:.2f}"
        rows.append(f"{head}| {row['what']} | {speed['median']:.2f} ({speed['low']:.2f} to "
                    f"{speed['high']:.2f}) | {memory} |")  # fmt: skip
    return rows


def _side_rows(one: Mapping[str, Any]) -> list[str]:
    rows = []
    for side, found in one["sides"].items():
        head = f"| {one['name']} | {side} "
        if "failure" in found:
            rows.append(f"{head}| failed: {found['failure']} | | | |")
            continue
        memory, mfu = found["memory_mib"], found.get("mfu")
        speed = one["sequence_tokens"] / found["seconds"] if found["seconds"] else math.nan
        rows.append(f"{head}| {found['seconds']:.3f} | {'' if memory is None else round(memory)} | "
                    f"{speed:.0f} | {'' if mfu is None else f'{mfu:.3f}'} |")  # fmt: skip
    return rows
