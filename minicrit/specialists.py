"""Specialists: adapters that go on from a general one on the examples of one domain each.

Each is an SFT run of its own, with its folder, manifest and calibration, so a restart skips what is
finished and goes on within what is not. Some rows of other domains are mixed in, as an adapter that
sees one domain alone forgets the others.
"""

# mypy: disable-error-code="import-untyped"
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from minicrit.adapters_config import AdaptersConfig
from minicrit.calibrate import calibrate, check_items
from minicrit.config import Recipe
from minicrit.files import (
    CALIBRATION,
    atomic_folder,
    check_replaceable,
    sha256_file,
    sha256_json,
)
from minicrit.lora import WEIGHTS
from minicrit.manifest import check_outputs, read_manifest, write_manifest
from minicrit.measure_config import CalibrateConfig
from minicrit.processes import first_alone
from minicrit.prompts import PROMPT_VERSION
from minicrit.records import Example, read_examples, write_examples
from minicrit.selection import limited
from minicrit.taxonomy import DOMAINS

log = logging.getLogger(__name__)
Train = Callable[[Recipe], Path]


def train_specialists(recipe: Recipe, train: Train) -> dict[str, Path]:
    """Trains and calibrates a specialist of each domain, one after the other.

    Args:
        recipe: uses `adapters`, `sft` for what that does not say, and `calibrate`.
        train: trains `sft.start` on the folder `data.folder` to `sft.out`; does nothing where that
            is up to date.

    Returns:
        The folder of each domain's adapter.

    Raises:
        ValueError: if the settings name no domain, or one that has no rows, or too few to certify
            its threshold; before anything is trained.
    """
    settings = recipe.adapters
    check_settings(settings)
    for domain in settings.domains:
        check_replaceable(settings.out / domain, settings.start)
    splits = ("train", "validation", *(["calibration"] if settings.calibrated else []))
    rows = {name: read_examples(settings.data / f"{name}.jsonl").examples for name in splits}
    parts = {name: first_alone(partial(write_parts, settings, name, rows, recipe.seed))
             for name in settings.domains}  # fmt: skip
    for folder in parts.values() if settings.calibrated else ():
        check_items(_calibration(recipe, settings.start, folder), recipe.seed)
    found = {}
    for domain in tqdm(settings.domains, unit="adapter", desc="specialists"):
        log.info("specialist of %s", domain)
        found[domain] = train(_told(recipe, domain, parts[domain]))
        if settings.calibrated:
            first_alone(partial(calibrate_once, recipe, found[domain], parts[domain]))
    return found


def check_start(folder: Path) -> None:
    """Refuses a general adapter that is none; that its base fits is seen when it is loaded."""
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"adapters.start: expected the folder of a trained adapter, got {folder}; "
                         "train it first (make sft), or give MODEL")  # fmt: skip


def check_settings(settings: AdaptersConfig) -> None:
    """Refuses settings that no specialist can be made by, before anything is trained."""
    domains = settings.domains
    if not domains or len(set(domains)) < len(domains) or set(domains) - set(DOMAINS):
        raise ValueError(f"adapters.domains: expected one or more of {', '.join(DOMAINS)}, each "
                         f"once, got {', '.join(domains) or 'none'}; name them")  # fmt: skip
    for name, value in (("mixed", settings.mixed), ("bar", settings.bar)):
        if not 0 <= value < 1:
            raise ValueError(f"adapters.{name}: expected a share from 0 to under 1, got {value:g}; "
                             "change it")  # fmt: skip


def write_parts(
    settings: AdaptersConfig, domain: str, rows: dict[str, list[Example]], seed: int
) -> Path:
    """The files of one domain: its own rows of each split, in training some of the others too.

    They are left alone if they are there: other processes of this run may be reading them.
    """
    folder = settings.parts / domain
    own = {name: [e for e in found if e.domain == domain] for name, found in rows.items()}
    if lacking := [name for name, found in own.items() if not found]:
        raise ValueError(f"{settings.data}: expected rows of domain {domain} in {lacking[0]}, got "
                         "none; make more data, or leave the domain out")  # fmt: skip
    own["train"] = mixture(rows["train"], domain, settings, seed)
    files = {name: settings.data / f"{name}.jsonl" for name in rows}
    told = {"seed": seed, "domain": domain, "limit": settings.limit, "mixed": settings.mixed}
    made_of = {name: sha256_file(path) for name, path in files.items()}
    written = {name: [e.to_row() for e in found] for name, found in own.items()}
    facts = {
        "rows": {name: Counter(e.domain for e in found) for name, found in own.items()},
        "key": sha256_json([told, made_of, written]),
    }
    if not _is_written(folder, facts):
        with atomic_folder(folder) as box:
            for name, found in own.items():
                write_examples(box / f"{name}.jsonl", found)
            write_manifest(box, stage="adapters", inputs=files, settings=told, facts=facts)
    return folder


def _is_written(folder: Path, facts: dict[str, Any]) -> bool:
    if not (folder / "manifest.json").is_file():
        return False
    return read_manifest(folder)["facts"] == facts and not check_outputs(folder)


def mixture(
    rows: Sequence[Example], domain: str, settings: AdaptersConfig, seed: int
) -> list[Example]:
    """Training rows of a domain and a share of others, whole groups, in the order of `rows`."""
    own = [e for e in rows if e.domain == domain]
    if settings.limit:
        own = limited(own, settings.limit, seed)
    others = [e for e in rows if e.domain != domain]
    beside = []
    if settings.mixed and others:
        smallest = min(Counter(e.group for e in others).values())
        room = round(len(own) * settings.mixed / (1 - settings.mixed))
        beside = limited(others, max(room, smallest), seed)
    kept = {e.id for e in (*own, *beside)}
    return [e for e in rows if e.id in kept]


def _told(recipe: Recipe, domain: str, parts: Path) -> Recipe:
    """The recipe of one specialist's training."""
    settings = recipe.adapters
    sft = replace(
        recipe.sft,
        start=None if settings.from_base else settings.start,
        out=settings.out / domain,
        epochs=settings.epochs,
        batch_examples=settings.batch_examples,
        learning_rate=settings.learning_rate,
        log_folder=recipe.sft.log_folder / settings.out.parent.name,
    )
    return replace(recipe, data=replace(recipe.data, folder=parts), sft=sft)


def _calibration(recipe: Recipe, folder: Path, parts: Path) -> CalibrateConfig:
    """How an adapter is calibrated on its domain.

    The limit on false positives is to hold in all domains at once, so they share its delta.
    """
    delta = recipe.calibrate.delta / len(recipe.adapters.domains)
    return replace(recipe.calibrate, model=folder, data=parts / "calibration.jsonl", delta=delta,
                   each_domain=False)  # fmt: skip


def calibrate_once(recipe: Recipe, folder: Path, parts: Path) -> None:
    """Fits an adapter's calibration on its domain, unless that is done already.

    What goes on from a general adapter keeps its temperature where the domain has few families.
    """
    told, settings = _calibration(recipe, folder, parts), recipe.adapters
    lender = None if settings.from_base else settings.start
    if _is_fitted(told, recipe.seed, lender):
        log.info("%s is up to date", folder / CALIBRATION)
        return
    calibrate(replace(recipe, calibrate=told), lender)


def _is_fitted(settings: CalibrateConfig, seed: int, lender: Path | None) -> bool:
    try:
        record = read_manifest(settings.model / CALIBRATION)
    except ValueError:
        return False
    lent = lender and lender / CALIBRATION
    lent_by = sha256_file(lent) if lent and lent.is_file() else None
    asked = {k: v for k, v in asdict(settings).items() if k not in ("model", "data")}
    return bool(
        record["settings"] == {**asked, "seed": seed}
        and record["facts"].get("adapter") == sha256_file(settings.model / WEIGHTS)
        and record["facts"].get("prompt_version") == PROMPT_VERSION
        and record["inputs"]["data"]["sha256"] == sha256_file(settings.data)
        and record["inputs"].get("scale", {}).get("sha256") == lent_by
    )
