"""The stage `constitution`: a critic drafts, revises under the rules, and learns what was better.

    OUT                 adapter of the last good round, report.json, report.md, manifest.json
    OUT-<n>-revisions   what round n made, see `revision`
    OUT-<n>             its adapter
    OUT-<n>-vitals      what that critic writes about the probed rationales; 0 is the start

Each is a finished folder or not there, so a run that was killed repeats at most what it was at. The
loop ends after its rounds, or when a guard stops it: then the critic of the round before is the
result, and report and manifest say why.
"""

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_gen.acceptance import ACCEPTED
from data_gen.asking import Service
from data_gen.materials import WEIGHTS, Materials, is_made, services_of
from data_gen.revision import make_revisions, make_vitals
from data_gen.rules import PATH, VERSION, rules
from data_gen.screen import asked
from data_gen.vitals import SIGNS, Vitals, accepted_less, fallen, rate
from minicrit import limits
from minicrit.files import (
    atomic_folder,
    check_replaceable,
    sha256_file,
    sha256_json,
    write_atomic,
    write_json,
)
from minicrit.manifest import inherited, read_manifest, write_manifest
from minicrit.processes import first_alone
from minicrit.rounds import refuse_untrainable
from minicrit.tables import markdown

if TYPE_CHECKING:
    from minicrit.config import Recipe

#: Trains a recipe and gives the folder of the adapter.
Train = Callable[["Recipe"], Path]
_COMPLETE = "all rounds were run"


@dataclass
class Course:
    """How the rounds went.

    Attributes:
        adapter: of the last good round. first: vitals of the critic that it started from.
        rounds: report and vitals of each round that was learnt from, the good ones.
        refused: the same of the round that was stopped, if it came so far.
        stopped: why the loop ended.
    """

    adapter: Path
    first: Vitals
    rounds: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[str, Any] | None = None
    stopped: str = _COMPLETE


def improve(recipe: "Recipe", train: Mapping[str, Train]) -> Path:
    """Runs all rounds and writes the result.

    Args:
        recipe: uses `constitution`, and `dpo` or `rsf` for what is learnt how.
        train: by `constitution.learn`: trains `dpo.start` on `dpo.pairs`, or `rsf.start` on
            `rsf.data`.

    Raises:
        ValueError: if there are to be no rounds, a row is not for training, a model has no name or
            address, or of what training would refuse.
    """
    settings = recipe.constitution
    limits.require("constitution", settings)
    if not (settings.start / WEIGHTS).is_file():
        raise ValueError(f"constitution.start: expected the folder of a trained adapter, got "
                         f"{settings.start}; train it first")  # fmt: skip
    # What is missing or wrong is said now, not after the sampling.
    check_replaceable(settings.out, settings.start, settings.data)
    if settings.reviser == "self" and not settings.temperatures:
        raise ValueError("constitution.temperatures: expected at least one, got none; 0 is greedy")
    if settings.labels and settings.learn != "targets":
        raise ValueError("constitution.labels: expected learn: targets, got learn: "
                         f"{settings.learn}; pairs hold no labels")  # fmt: skip
    services = services_of(settings)
    first_alone(partial(_refuse_untrainable, recipe))
    materials = Materials.of(recipe)
    course = Course(settings.start, _vitals(materials, settings.start, 0))
    for number in range(1, settings.rounds + 1):
        if not _round(materials, services, number, course, train[settings.learn]):
            break
    first_alone(partial(_finish, recipe, course))
    return settings.out


def _refuse_untrainable(recipe: "Recipe") -> None:
    """As if the first round were to be learnt from already."""
    revisions, out = (_beside(recipe, name) for name in ("1-revisions", "1"))
    told = _told(recipe, recipe.constitution.start, revisions, out)
    if recipe.constitution.learn == "dpo":
        refuse_untrainable(told, "dpo", told.dpo)
    else:
        refuse_untrainable(told, "rsf", told.rsf)


def _vitals(materials: Materials, adapter: Path, number: int) -> Vitals:
    out = _beside(materials.recipe, f"{number}-vitals")
    return first_alone(partial(make_vitals, materials, adapter, out))


def _beside(recipe: "Recipe", name: str) -> Path:
    out = recipe.constitution.out
    return out.with_name(f"{out.name}-{name}")


def _round(
    materials: Materials,
    services: Mapping[str, Service],
    number: int,
    course: Course,
    train: Train,
) -> bool:
    """One round; False if it was not a good one."""
    recipe, floor = materials.recipe, materials.recipe.constitution.floor
    revisions = _beside(recipe, f"{number}-revisions")
    report = first_alone(
        partial(make_revisions, materials, course.adapter, revisions, number, services)
    )
    entry = {"round": number, **report}
    before = course.rounds[0] if course.rounds else entry
    less = accepted_less(_accepted(before), _accepted(entry), floor)
    learnt = "pairs" if recipe.constitution.learn == "dpo" else "targets"
    if less or not report[learnt]:
        return _stop(course, entry, [less or f"nothing to learn from ({_counted(entry)})"])
    adapter = train(_told(recipe, course.adapter, revisions, _beside(recipe, str(number))))
    vitals = _vitals(materials, adapter, number)
    entry["vitals"] = vitals.summary()
    if down := fallen(course.first, vitals, floor, recipe.seed):
        return _stop(course, entry, down)
    course.rounds.append(entry)
    course.adapter = adapter
    return True


def _stop(course: Course, entry: dict[str, Any], why: list[str]) -> bool:
    kept = f"round {len(course.rounds)}" if course.rounds else "the start"
    course.refused = entry
    course.stopped = (
        f"stopped in round {entry['round']}: {'; '.join(why)}. The critic of {kept} is kept"
    )
    return False


def _accepted(entry: Mapping[str, Any]) -> tuple[int, int]:
    return entry["outcomes"][ACCEPTED], entry["revised"]


def _told(recipe: "Recipe", start: Path, revisions: Path, out: Path) -> "Recipe":
    if recipe.constitution.learn == "dpo":
        pairs = revisions / "pairs.jsonl"
        return replace(recipe, dpo=replace(recipe.dpo, start=start, pairs=pairs, out=out))
    targets = revisions / "targets.jsonl"
    return replace(recipe, rsf=replace(recipe.rsf, start=start, data=targets, out=out))


_FATES = ("applies", "broken", "mended")
#: Settings that change where and how something is done, not what comes out.
_NOT_PART = {"start", "data", "out", "url", "judge_url", "threads", "budget_usd"}


def _finish(recipe: "Recipe", course: Course) -> None:
    """Adapter, report and manifest, all or nothing; left alone if they are there already."""
    settings = recipe.constitution
    report = {"rounds": course.rounds, "refused": course.refused, "stopped": course.stopped,
              "first": course.first.summary()}  # fmt: skip
    page = page_of(report)
    weights = course.adapter / WEIGHTS
    record = read_manifest(course.adapter)
    told = {k: str(v) for k, v in vars(settings).items() if k not in _NOT_PART}
    key = sha256_json([report, told, sha256_file(weights)])
    if not is_made(settings.out, key):
        with atomic_folder(settings.out) as box:
            for name in record["outputs"]:
                if name not in ("report.json", "report.md"):
                    shutil.copyfile(course.adapter / name, box / name)
            write_json(box / "report.json", report)
            write_atomic(box / "report.md", page)
            write_manifest(
                box, stage="constitution",
                inputs={"data": settings.data, "rules": PATH, "adapter": weights,
                        "start": settings.start / WEIGHTS},
                settings={**record["settings"], "constitution": told,
                          "filters": asked(recipe.filters)},
                facts={**record["facts"], "trained_on": inherited({"round": record}), "key": key,
                       "rules_version": VERSION, "good_rounds": len(course.rounds),
                       "stopped": course.stopped},
            )  # fmt: skip
    sys.stdout.write(f"{page}\nwritten: {settings.out}\n")


def page_of(report: Mapping[str, Any]) -> str:
    """The report, for people."""
    refused = [report["refused"]] if report["refused"] else []
    entries = [*report["rounds"], *refused]
    signs = [name.replace("_", "-") for name in SIGNS]
    rows = [("0", "-", *(f"{value:.3f}" for value in report["first"].values()))]
    for entry in entries:
        vitals = entry.get("vitals", {})
        shown = [f"{value:.3f} ({100 * value / report['first'][name]:.0f} %)"
                 if report["first"][name] else f"{value:.3f}"
                 for name, value in vitals.items()] or ["-"] * len(signs)  # fmt: skip
        mark = " (refused)" if entry in refused else ""
        rows.append((f"{entry['round']}{mark}", rate(*_accepted(entry)), *shown))
    parts = ["# Constitution", f"The loop: {report['stopped']}.",
             markdown(("round", "accepted of revised", *signs), rows)]  # fmt: skip
    for entry in entries:
        fates = [(rule.id, *(str(entry["rules"][rule.id][name]) for name in _FATES))
                 for rule in rules()]  # fmt: skip
        parts += [f"## Round {entry['round']}", f"{entry['rationales']} rationales "
                  f"({entry['drafts_unread']} drafts could not be read): {_counted(entry)}. To "
                  f"learn from: {entry['pairs']} pairs, {entry['targets']} targets.",
                  markdown(("rule", *_FATES), fates)]  # fmt: skip
    return "\n\n".join([*parts, _ABOUT])


_ABOUT = (
    "Signs of round 0 are those of the critic that the loop started from; those of a round are of "
    "the critic that came out, about the same rationales, at temperature 1. A revision is accepted "
    "if its verdict is right, it breaks no rule that code can see, and the scorer prefers it.\n"
)


def _counted(entry: Mapping[str, Any]) -> str:
    return ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in entry["outcomes"].items() if n)
