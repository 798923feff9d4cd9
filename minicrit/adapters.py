"""The stage `adapters`: a specialist a domain, a router over them, and what each is worth where.

    minicrit adapters --config cpu --adapters.start checkpoints/cpu/sft

Learns the detector of domains; trains the specialists one after the other, each resumable; writes
the router; judges the test items of every domain by every adapter, in one process on one base. A
restart goes on where it stopped.
"""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from minicrit.adapter_page import page
from minicrit.adapter_report import report_adapters, tested
from minicrit.config import Recipe
from minicrit.detector import Detector
from minicrit.files import check_replaceable
from minicrit.processes import first_alone, leads
from minicrit.records import read_examples
from minicrit.router_folder import write_router
from minicrit.specialists import Train, check_start, train_specialists


def make_adapters(recipe: Recipe, train: Train) -> None:
    """Everything of the stage, in order; `train` as in `train_specialists`."""
    settings = recipe.adapters
    check_start(settings.start)
    check_replaceable(settings.router, settings.start, settings.out)
    # What comes after hours of training is refused before it, so the detector is learnt first.
    tested(settings, recipe.seed)
    detector = _detector(settings.data / "train.jsonl", recipe.seed)
    adapters = train_specialists(recipe, train)
    first_alone(partial(_finish, recipe, adapters, detector))


def _finish(recipe: Recipe, adapters: Mapping[str, Path], detector: Detector) -> None:
    """Router and report, by the first of several processes; nobody else needs them."""
    if not leads():
        return
    settings = recipe.adapters
    write_router(settings, adapters, detector)
    found = report_adapters(recipe)
    sys.stdout.write(page(found) + f"written: {settings.router} and {settings.report}.json\n")


def _detector(path: Path, seed: int) -> Detector:
    lessons = read_examples(path).examples
    try:
        return Detector.learnt([e.rationale for e in lessons], [e.domain for e in lessons], seed)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
