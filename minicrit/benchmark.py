"""The benchmark: one or two critics and the baselines on the same items, with uncertainty.

    minicrit benchmark --config recipe.yaml

Writes `<out>.items.jsonl` (p of each judge by item), `<out>.md` (tables) and, last, `<out>.json`
(everything). Run again, all bytes are the same but for times and memory, under `measured`. The
threshold is the critic's own; it is never tuned on these items.
"""

# mypy: disable-error-code="import-untyped"
import gc
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from minicrit import (
    board,
    latency,
    limits,
    metamorphic,
    selective,
    slices,
    tables,
    versus,
    written,
)
from minicrit.bagofwords import BagOfWords
from minicrit.benchmark_page import benchmark_page
from minicrit.config import Recipe
from minicrit.files import write_atomic, write_json
from minicrit.jsonl import write_rows
from minicrit.judging import Judge, load_judge, remove_partial, score_items
from minicrit.manifest import provenance
from minicrit.measures import DRAWS, HALF, Truth, measure, metrics, plain
from minicrit.paired import check_margin
from minicrit.records import Example
from minicrit.selection import facts_of, input_hashes, lessons_of, select
from minicrit.unseen import Side
from minicrit.which_flaw import assess_types

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Load = Callable[[str], Judge]

SIMPLE = ("f1", "fpr", "recall", "precision", "accuracy", "twin_consistency")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What one judge gave: p (n,) with nan where unscored, and its parts of the report."""

    p: Floats
    threshold: float
    row: dict[str, Any]
    measured: dict[str, Any]
    types: Sequence[str | None] = ()


def benchmark(recipe: Recipe, *, load: Load | None = None, draws: int = DRAWS) -> dict[str, Any]:
    """Run it and return what `<out>.json` holds.

    Args:
        recipe: uses `benchmark`, `seed` and `base.folder`.
        load: how a critic is loaded from `model_1` or `model_2`; `Critic.load` unless given.
        draws: resamples of each interval.
    """
    settings = recipe.benchmark
    check_margin("benchmark.margin", settings.margin)
    limits.require("benchmark", settings)
    examples, left_out = select(settings, recipe.seed)
    lessons = lessons_of(settings)
    inputs = input_hashes(settings)  # of what was read: files may change while critics are asked
    truth = Truth.of(examples)
    _log.info("%s", versus.detectable_line(len(examples), settings.discordance))
    load = load or partial(load_judge, base_folder=recipe.base.folder)
    found: dict[str, Outcome] = {}
    for key, model in (("model_1", settings.model_1), ("model_2", settings.model_2)):
        if model:
            found[key] = _run_critic(model, load, examples, recipe)
    if lessons:
        found["words"] = _run_words(lessons, examples, recipe.seed)
    for key, outcome in tqdm(found.items(), unit="judge", desc="metrics and intervals"):
        _measure(key, outcome, examples, truth, seed=recipe.seed, draws=draws)
    report = {
        "form": tables.FORM,
        **provenance(recipe.seed, settings, inputs),
        "draws": draws,
        "items": facts_of(examples, truth, lessons, left_out),
        "judges": {key: outcome.row for key, outcome in found.items()},
        "constants": _constants(truth, lessons),
        "detectable": {
            "discordance": settings.discordance,
            "gap": versus.detectable_gap(len(examples), settings.discordance),
            "power": versus.POWER,
        },
        "pairs": _pairs(found, truth, examples, recipe, draws),
        "measured": {
            "hardware": latency.hardware(),
            **{key: o.measured for key, o in found.items() if o.measured},
        },
    }
    board.log_benchmark(settings.log_folder / settings.out.parent.name / settings.out.name, report,
                        {key: outcome.p for key, outcome in found.items()}, truth)  # fmt: skip
    _write(settings.out, report, examples, found)
    return report


def _run_critic(model: str, load: Load, examples: list[Example], recipe: Recipe) -> Outcome:
    """Load a critic, ask it everything, and let go of it."""
    settings = recipe.benchmark
    memory = latency.PeakMemory()
    critic = load(model)
    scored = score_items(critic, examples, settings.out, batch_tokens=settings.batch_tokens,
                         types=settings.types)  # fmt: skip
    readable = [e for e, p in zip(examples, scored.p, strict=True) if not np.isnan(p)]
    some = written.seeded_order(readable, recipe.seed)[: settings.latency_items]
    alone = latency.verdict_times(critic, some, settings.out)
    texts = written.write_critiques(
        critic,
        written.balanced(readable, settings.critiques, recipe.seed),
        settings.max_new_tokens,
        settings.out,
    )
    spent, tokens = sum(texts.seconds), sum(w.tokens for w in texts.written)
    rate = scored.items_per_second
    asked = "typed_verdicts" if any(scored.types) else "verdicts"  # types take their own time
    measured = {
        "verdict_ms": latency.milliseconds(alone),
        "critique_ms": latency.milliseconds(texts.seconds),
        "tokens_per_second": round(tokens / spent, 1) if spent else None,
        f"batched_{asked}_per_second": None if rate is None else round(rate, 1),
        "device": str(getattr(getattr(critic, "model", None), "device", "unknown")),
        **memory.mib(),
    }
    row = {
        "name": critic.name,
        "identity": critic.identity,
        "adapter": critic.adapter,
        "trained": critic.trained,
        "prompt_version": critic.prompt_version,
        "threshold": critic.threshold,
        "calibration": getattr(critic, "calibration", None),
        "unscored": dict(scored.unscored),
        "critiques": written.assess(texts),
    }
    outcome = Outcome(scored.p, critic.threshold, row, measured, scored.types)
    del critic
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return outcome


def _run_words(lessons: list[Example], examples: list[Example], seed: int) -> Outcome:
    words = BagOfWords(seed)
    words.fit([e.rationale for e in lessons], [e.label == "flawed" for e in lessons])
    p = words.predict([e.rationale for e in examples])
    row = {"name": "bag of words", "threshold": HALF, "unscored": {}, "trained_on": len(lessons)}
    return Outcome(p, HALF, row, {})


def _measure(
    key: str,
    outcome: Outcome,
    examples: list[Example],
    truth: Truth,
    *,
    seed: int,
    draws: int,
) -> None:
    """Add metrics, slices and curves to the judge's part of the report."""
    p, scored = outcome.p, ~np.isnan(outcome.p)
    known = truth.only(scored)
    outcome.row["n"] = int(scored.sum())
    outcome.row["metrics"] = measure(p[scored], known, outcome.threshold, seed=seed, draws=draws)
    outcome.row["slices"] = slices.slice_rates(p, examples, outcome.threshold)
    outcome.row["metamorphic"] = metamorphic.violations(p, examples, outcome.threshold,
                                                        seed=seed, draws=draws)  # fmt: skip
    outcome.row["roc"] = slices.roc(p[scored], known.flawed)
    outcome.row["operating_point"] = slices.operating_point(p[scored], known.flawed,
                                                            outcome.threshold)  # fmt: skip
    outcome.row["risk_coverage"] = selective.risk_coverage(p[scored], known.flawed,
                                                           outcome.threshold)  # fmt: skip
    outcome.row["abstaining"] = _abstaining(outcome, p[scored], known.flawed)
    outcome.row["flaw_types"] = assess_types(outcome.types, p, examples, outcome.threshold,
                                             seed=seed, draws=draws)  # fmt: skip
    outcome.row["reliability"] = slices.reliability(p[scored], known.flawed)
    if outcome.row["unscored"]:
        _log.warning("%s: unscored items: %s of %s", key, len(p) - int(scored.sum()), len(p))


def _abstaining(outcome: Outcome, p: Floats, flawed: Bools) -> dict[str, Any] | None:
    """What is left outside of the band that calibration found, and wrong; None without a band."""
    band = (outcome.row.get("calibration") or {}).get("abstain")
    if not band:
        return None
    return selective.outside(p, flawed, outcome.threshold, (band["low"], band["high"]))


def _constants(truth: Truth, lessons: list[Example]) -> dict[str, Any]:
    """What costs nothing: the more frequent label (of the training rows), and `flawed` always."""
    labels = [e.label == "flawed" for e in lessons] or truth.flawed.tolist()
    votes = {"majority": float(2 * sum(labels) > len(labels)), "always_flawed": 1.0}
    found = {}
    for name, vote in votes.items():
        said = np.full(len(truth.flawed), vote)
        known = metrics(HALF)
        found[name] = {key: plain(known[key](said, truth)) for key in SIMPLE}
    return found


def _pairs(
    found: dict[str, Outcome], truth: Truth, examples: list[Example], recipe: Recipe, draws: int
) -> list[dict[str, Any]]:
    """Each critic against the other and against the bag of words."""
    asked = (("model_1", "model_2"), ("model_1", "words"), ("model_2", "words"))
    sides = {key: Side(key, found[key].p, found[key].threshold) for key in found}
    settings: dict[str, Any] = {
        "margin": recipe.benchmark.margin,
        "seed": recipe.seed,
        "draws": draws,
    }
    return [
        versus.compare(sides[a], sides[b], truth, examples, **settings)
        | {"metamorphic": metamorphic.contrast(sides[a], sides[b], examples)}
        for a, b in asked
        if a in found and b in found
    ]


def _write(
    out: Path, report: dict[str, Any], examples: list[Example], found: dict[str, Outcome]
) -> None:
    rows = (
        {"id": e.id, "group": e.group, "label": e.label}
        | {
            name: None if np.isnan(found[key].p[at]) else float(found[key].p[at])
            for key, name in (("model_1", "p_1"), ("model_2", "p_2"), ("words", "p_words"))
            if key in found
        }
        for at, e in enumerate(examples)
    )
    write_rows(f"{out}.items.jsonl", rows)
    write_atomic(f"{out}.md", benchmark_page(report))
    write_json(f"{out}.json", report)
    remove_partial(out)
