"""Experiments with prompts and sampling, all on the same items, with paired tests and their cost.

    minicrit experiments --experiments.model checkpoints/cpu/sft

    temperature     sampled critiques against greedy ones: verdict in the text, parse rate, flaw
                    type, evidence, variety
    formats         other prompt styles against the trained one, by the verdict's readout
    thought         reasoning written before the verdict, against the verdict at once
    reformatting    ten harmless layouts of the trained prompt: how far they move verdicts

Writes `<out>.rows/` (every answer, see `arm_answers`), `<out>.md` and, last, `<out>.json`. Run
again, all bytes of the last are the same but for times, under `measured`.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from minicrit import latency, limits, reading_figures, sampling_figures
from minicrit.arm_answers import Answers, answers_of, arm_of, path_of
from minicrit.arms import EXPERIMENTS, TEMPERATURE, THOUGHT, Asked, reading_arms, sampling_arms
from minicrit.config import Recipe
from minicrit.critic import Critic
from minicrit.experiments_page import experiments_markdown
from minicrit.files import sha256_file, sha256_json, write_atomic, write_json
from minicrit.manifest import provenance
from minicrit.measure_config import ExperimentsConfig
from minicrit.measures import Truth
from minicrit.precision import settled
from minicrit.records import Example, read_examples
from minicrit.selection import limited

Load = Callable[[str], Critic]

FORM = 1  # of the report; raise it when a key changes its meaning
_log = logging.getLogger(__name__)


def experiments(recipe: Recipe, *, load: Load | None = None) -> dict[str, Any]:
    """Ask every arm, compare, write the report, and return what `<out>.json` holds.

    Args:
        recipe: uses `experiments`, `seed` and `base.folder`.
        load: how the critic is loaded; `Critic.load` unless given.

    Raises:
        ValueError: if a setting is no use, the critic is a router, or the items were trained on.
    """
    settings = recipe.experiments
    _check(settings)
    examples = _items(settings, recipe.seed)
    few = limited(examples, settings.sampled, recipe.seed) if settings.sampled else examples
    critic = (load or partial(Critic.load, base_folder=recipe.base.folder))(settings.model)
    critic.require_one_adapter()
    asked = _asked(critic, settings)
    folder = Path(f"{settings.out}.rows")
    arms = [(arm, examples) for arm in reading_arms(settings)]
    arms += [(arm, few) for arm in sampling_arms(settings, recipe.seed)]
    critic.p_flawed([("general", "x")])  # warms up; an item may be too long to be read
    found = [answers_of(arm, asked, some, folder) for arm, some in arms]
    report = {
        "form": FORM,
        **provenance(recipe.seed, settings, {settings.data.as_posix(): sha256_file(settings.data)}),
        "model": _model(critic),
        "items": {"all": _facts(examples), "sampled": _facts(few)},
        **_figures(found, critic, recipe),
        "measured": {
            "hardware": latency.hardware(),
            "arms": {f.arm.name: _times(f) for f in found},
        },
    }
    _write(settings.out, report)
    _remove_stale({path_of(arm, critic, some, folder) for arm, some in arms})
    return report


def _check(settings: ExperimentsConfig) -> None:
    unknown = [name for name in settings.arms if name not in EXPERIMENTS]
    if unknown or not settings.arms:
        raise ValueError(f"experiments.arms: expected some of {', '.join(EXPERIMENTS)}, got "
                         f"{', '.join(unknown) or 'none'}; name what to try")  # fmt: skip
    names = [f"{heat:g}" for heat in settings.temperatures]
    if not names or min(settings.temperatures) < 0 or len(set(names)) < len(names):
        raise ValueError("experiments.temperatures: expected different numbers from 0 on, got "
                         f"{', '.join(names) or 'none'}; 0 is greedy")  # fmt: skip
    limits.require("experiments", settings)


def _asked(critic: Critic, settings: ExperimentsConfig) -> Asked:
    """With a copy that writes, if an arm writes."""
    writes = {TEMPERATURE, THOUGHT} & set(settings.arms)
    dtype = getattr(torch, settled(settings.dtype))
    return Asked(critic, critic.merged(dtype) if writes else critic)


def _items(settings: ExperimentsConfig, seed: int) -> list[Example]:
    examples = read_examples(settings.data).examples
    if not examples:
        raise ValueError(f"{settings.data}: expected examples, got none; change experiments.data")
    if learnt := sum(e.split == "train" for e in examples):
        raise ValueError(f"{settings.data}: expected rows that are not trained on, got {learnt} of "
                         "split train; take validation or test rows")  # fmt: skip
    return limited(examples, settings.limit, seed) if settings.limit else examples


def _model(critic: Critic) -> dict[str, Any]:
    told = {name: getattr(critic, name) for name in ("name", "identity", "adapter",
            "prompt_version", "threshold", "calibration")}  # fmt: skip
    return {**told, "zero_shot": not critic.trained}


def _facts(examples: Sequence[Example]) -> dict[str, Any]:
    truth = Truth.of(examples)
    return {
        "n": len(examples),
        "flawed": int(truth.flawed.sum()),
        "groups": len(set(truth.groups)),
        "families": len(set(truth.families)),
        "sha256": sha256_json([e.to_row() for e in examples]),
    }


def _figures(found: Sequence[Answers], critic: Critic, recipe: Recipe) -> dict[str, Any]:
    told: dict[str, Any] = {"seed": recipe.seed, "draws": recipe.experiments.draws}
    own, trained = critic.threshold, critic.trained
    reading = [f for f in found if f.arm.experiment != TEMPERATURE]
    written = [sampling_figures.written_of(f) for f in found if f.arm.experiment == TEMPERATURE]
    arms = {f.arm.name: reading_figures.arm_row(f, own, trained=trained, **told) for f in reading}
    arms |= {w.found.arm.name: sampling_figures.arm_row(w, trained=trained, **told)
             for w in written}  # fmt: skip
    tests = reading_figures.comparisons(reading, own, **told)
    if written:
        tests += sampling_figures.comparisons(written, **told)
    return {
        "arms": arms,
        "comparisons": tests,
        "spread": reading_figures.spread(reading, own, **told),
    }


def _times(found: Answers) -> dict[str, Any]:
    """Milliseconds an item; where it samples, all its samples."""
    return latency.milliseconds(found.seconds)


def _remove_stale(current: set[Path]) -> None:
    """Removes answers that the same arms gave of other critics, code or data."""
    names = {arm_of(path) for path in current}
    for path in {p for here in {c.parent for c in current} for p in here.glob("*.jsonl")} - current:
        if arm_of(path) in names:
            path.unlink()


def _write(out: Path, report: dict[str, Any]) -> None:
    page = experiments_markdown(report)
    write_atomic(f"{out}.md", page)
    write_json(f"{out}.json", report)
    _log.info("%s.md", out)
    sys.stdout.write(page)
