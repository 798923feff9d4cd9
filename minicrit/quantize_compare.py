"""A quantized critic beside the float one: size, flipped verdicts, scores, perplexity.

The float critic runs with its adapter merged, which is as fast as float gets. Each critic flags at
a threshold of its own: 0.5, or with a calibration the one that is certified for it, on its own
temperature. A flip is a verdict that changes from the one to the other, or that the small critic
does not give at all where the float one does. Scores compare what both have judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from peft import PeftModel

from minicrit.config import Recipe
from minicrit.critic import Critic
from minicrit.embedded import PARAGRAPH, perplexity
from minicrit.judging import item_of, score_items
from minicrit.measures import Truth, measure, plain
from minicrit.quantize_gate import flip_facts
from minicrit.quantize_speed import speeds
from minicrit.records import Example
from minicrit.unseen import Side
from minicrit.versus import compare

METRICS = ("f1", "fpr", "recall", "auroc")
TOKENS = 4096  # of prompts in one forward pass


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
    recipe: Recipe, critics: tuple[Critic, Critic], sizes: Sizes, examples: Sequence[Example]
) -> dict[str, Any]:
    """Everything the report says of the float and the small critic; times are under `measured`."""
    settings = recipe.quantize
    works = float_work(settings.report), settings.report.with_name(f".{settings.report.name}")
    p = [score_items(critic, examples, work, batch_tokens=TOKENS).p
         for critic, work in zip(critics, works, strict=True)]  # fmt: skip
    judged = ~np.isnan(p[0])
    known = judged & ~np.isnan(p[1])
    kept = [e for e, both in zip(examples, known, strict=True) if both]
    whole = tuple(
        Side(name, one[judged], critic.threshold)
        for name, one, critic in zip(("float", "quantized"), p, critics, strict=True)
    )
    sides = tuple(replace(side, p=side.p[known[judged]]) for side in whole)
    texts = [perplexity(c.causal_lm, c.tokenizer, PARAGRAPH) for c in critics]
    return {
        "size": sizes.table(),
        "unscored": int((~known).sum()),
        **agreement(whole[0], whole[1], Truth.of(examples).only(judged).groups, settings.bits),
        "thresholds": {side.name: plain(side.threshold) for side in sides},
        **scored(sides[0], sides[1], kept, recipe),
        "perplexity": {"float": plain(texts[0]), "quantized": plain(texts[1])},
        "measured": speeds(critics, [item_of(e) for e in kept], settings),
    }


def float_work(report: Path) -> Path:
    """What the scores of the float critic lie beside, for all that are made of it."""
    return report.with_name(".quantize-float")


def load_float(folder: Path, base_folder: Path, *, calibrated: bool = False) -> Critic:
    """The float critic, merged."""
    critic = Critic.load(folder, base_folder=base_folder, calibrated=calibrated)
    if isinstance(critic.model, PeftModel):
        critic.model = critic.model.merge_and_unload()
    return critic


def agreement(
    floating: Side, small: Side, groups: npt.NDArray[np.str_], bits: int
) -> dict[str, Any]:
    """How often, and how far, the second critic departs from the first.

    Args:
        floating: the first, on what it has judged.
        small: the second, nan where it could not read what the first one could: these are flips.
        groups: of the items.
        bits: of its weights.
    """
    flagged = [side.p > side.threshold for side in (floating, small)]
    lost = np.isnan(small.p)
    gap = np.abs(floating.p - small.p)[~lost]
    flipped = (flagged[0] != flagged[1]) | lost
    return {
        "flips": {**flip_facts(flipped, groups, bits), "not_judged": int(lost.sum())},
        "p_difference": {"max": plain(gap.max()), "mean": plain(gap.mean())},
    }


def scored(
    floating: Side, small: Side, examples: Sequence[Example], recipe: Recipe
) -> dict[str, Any]:
    """Metrics of both with intervals, and quantized minus float, paired, clustered, tested."""
    settings, truth = recipe.quantize, Truth.of(examples)
    options = {"seed": recipe.seed, "draws": settings.draws}
    both = {side.name: measure(side.p, truth, side.threshold, **options)
            for side in (floating, small)}  # fmt: skip
    pair = compare(small, floating, truth, examples, margin=settings.margin, **options)
    return {
        "metrics": {name: {**{side: rows[name] for side, rows in both.items()},
                           "difference": pair["differences"][name]} for name in METRICS},
        "mcnemar_p": pair["mcnemar_p"],
    }  # fmt: skip
