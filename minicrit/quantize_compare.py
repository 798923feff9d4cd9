"""A quantized critic beside the float one: size, speed, flipped verdicts, scores, perplexity.

The float critic runs with its adapter merged, which is as fast as float gets. Speeds are measured
turn by turn in one run; what is claimed is the median of the ratios, as times differ between runs.
"""

# mypy: disable-error-code="import-untyped"
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from peft import PeftModel
from tqdm import tqdm

from minicrit import scores
from minicrit.base import PARAGRAPH, perplexity
from minicrit.config import Recipe
from minicrit.critic import Critic, Item
from minicrit.measures import Bools, Floats, Truth, entry, plain
from minicrit.records import Example
from minicrit.statistics import Weights, cluster_bootstrap, paired_bootstrap, wilson

LATENCY_ITEMS = 30
BATCH_ITEMS = 64
ROUNDS = 3
METRICS = {"f1": scores.f1, "fpr": scores.false_positive_rate}


@dataclass(frozen=True)
class Sizes:
    """Bytes on disk.

    Attributes:
        quantized: weights of the small critic. folder: all its files (with the tokenizer).
        bfloat16: 2 bytes for each parameter of the base. float_critic: float32 base and adapter.
    """

    quantized: int
    folder: int
    bfloat16: int
    float_critic: int

    @classmethod
    def of(cls, folder: Path, num_parameters: int, float_files: Sequence[Path]) -> "Sizes":
        """Sizes of a quantized folder and of what it was made from."""
        files = [path for path in folder.rglob("*") if path.is_file()]
        weights = sum(p.stat().st_size for p in files if p.suffix == ".safetensors")
        return cls(weights, sum(p.stat().st_size for p in files), 2 * num_parameters,
                   sum(p.stat().st_size for p in float_files))  # fmt: skip

    def table(self) -> dict[str, Any]:
        """For the report."""
        return {**vars(self), "ratio_to_bfloat16": plain(self.quantized / self.bfloat16),
                "ratio_to_float_critic": plain(self.quantized / self.float_critic)}  # fmt: skip


def compare_critics(
    recipe: Recipe, folder: Path, sizes: Sizes, examples: Sequence[Example]
) -> dict[str, Any]:
    """Everything the report says of the two critics; times are under `measured`."""
    items = [(e.domain, e.rationale) for e in examples]
    critics = (
        load_float(recipe.quantize.model, recipe.base.folder),
        Critic.load(folder, calibrated=False),
    )
    p = _scores(critics[0], items, "float"), _scores(critics[1], items, "quantized")
    texts = [perplexity(c.causal_lm, c.tokenizer, PARAGRAPH) for c in critics]
    return {
        "size": sizes.table(),
        **agreement(p, [c.threshold for c in critics]),
        "metrics": {
            name: _metric(name, p, Truth.of(examples), critics[0].threshold, recipe.seed)
            for name in METRICS
        },
        "perplexity": {"float": plain(texts[0]), "quantized": plain(texts[1])},
        "measured": speeds(critics, items),
    }


def load_float(folder: Path, base_folder: Path) -> Critic:
    """The float critic, merged."""
    critic = Critic.load(folder, base_folder=base_folder, calibrated=False)
    if isinstance(critic.model, PeftModel):
        critic.model = critic.model.merge_and_unload()
    return critic


def whole_groups(examples: Sequence[Example], limit: int) -> list[Example]:
    """The first groups that hold at most `limit` items together; all for 0."""
    ordered = sorted(examples, key=lambda e: e.group)
    chosen: list[Example] = []
    for _, group in groupby(ordered, key=lambda e: e.group):
        members = list(group)
        if limit and len(chosen) + len(members) > limit:
            break
        chosen += members
    if not chosen:
        raise ValueError(f"expected at least one group within quantize.limit, got {limit}; raise "
                         "it")  # fmt: skip
    return chosen


def agreement(p: tuple[Floats, Floats], thresholds: Sequence[float]) -> dict[str, Any]:
    """How often, and how far, the second critic departs from the first."""
    flipped = (p[0] > thresholds[0]) != (p[1] > thresholds[1])
    count, gap = int(flipped.sum()), np.abs(p[0] - p[1])
    share = wilson(count, len(gap))
    return {
        "flips": {"count": count, **entry(share.value, share.n, {"wilson": share})},
        "p_difference": {"max": plain(gap.max()), "mean": plain(gap.mean())},
    }


def speeds(critics: tuple[Critic, Critic], items: Sequence[Item]) -> dict[str, Any]:
    """Latency one by one and throughput of a batch, float (first) against quantized."""
    for critic in critics:
        critic.p_flawed(items[:2])
    single = _turns([(c, [i]) for i in items[:LATENCY_ITEMS] for c in critics])
    batch = list(items[:BATCH_ITEMS])
    whole = _turns([(c, batch) for _ in range(ROUNDS) for c in critics])
    latency = {
        name: {f"p{q}_ms": plain(1000 * float(np.percentile(column, q))) for q in (50, 95)}
        for name, column in zip(("float", "quantized"), single.T, strict=True)
    }
    rates = len(batch) / np.median(whole, axis=0)
    return {
        "latency": {**latency, "speedup": plain(median(single[:, 0] / single[:, 1])),
                    "n": len(single)},
        "items_per_second": {"float": plain(rates[0]), "quantized": plain(rates[1]),
                             "speedup": plain(median(whole[:, 0] / whole[:, 1])),
                             "n": len(batch), "rounds": ROUNDS},
    }  # fmt: skip


def _turns(calls: Sequence[tuple[Critic, list[Item]]]) -> Floats:
    """Seconds of each call, (turns, 2): float and quantized alternate."""
    spent = []
    for critic, items in tqdm(calls, unit="call", desc="speed"):
        start = time.perf_counter()
        critic.p_flawed(items)
        spent.append(time.perf_counter() - start)
    return np.array(spent).reshape(-1, 2)


def _scores(critic: Critic, items: Sequence[Item], name: str) -> Floats:
    with tqdm(total=len(items), unit="item", desc=f"verdicts, {name}") as bar:
        return critic.p_flawed(items, progress=bar.update)


def _metric(
    name: str, p: tuple[Floats, Floats], truth: Truth, threshold: float, seed: int
) -> dict[str, Any]:
    """Both critics' metric with intervals, and quantized minus float, resampled by family."""
    floating, small = (partial(_at, METRICS[name], column, truth.flawed, threshold) for column in p)
    gap = paired_bootstrap(small, floating, truth.families, seed=seed)
    rows: dict[str, Any] = {}
    for key, statistic in (("float", floating), ("quantized", small)):
        found = cluster_bootstrap(statistic, truth.families, seed=seed)
        rows[key] = entry(found.value, found.n, {"by family": found})
    bounds = {key: plain(getattr(gap, key)) for key in ("value", "low", "high", "p")}
    return {**rows, "difference": bounds}


def _at(
    metric: Callable[..., float], p: Floats, flawed: Bools, threshold: float, weights: Weights
) -> float:
    return metric(p, flawed, threshold, weights=weights)
