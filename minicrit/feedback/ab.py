"""The stage `ab`: begin an experiment, see how it stands, stop it if its rules say so.

minicrit ab --ab.name longer --ab.treatment checkpoints/mine/dpo    # begins it
minicrit ab                                                         # state, page, stop rules
minicrit ab --ab.plan true ; minicrit ab --ab.simulate 2000         # before it
"""

import secrets
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minicrit import limits
from minicrit.feedback.ab_page import ab_html, ab_markdown, plan_markdown, wolf_markdown
from minicrit.feedback.experiment import Experiment
from minicrit.feedback.planning import cry_wolf, plan
from minicrit.feedback.simulated import Assumed
from minicrit.feedback.store import FeedbackStore
from minicrit.feedback_config import ABConfig
from minicrit.files import sha256_file, write_atomic, write_json
from minicrit.manifest import provenance

if TYPE_CHECKING:
    from minicrit.config import Recipe

FORM = 3  # of the report; raise it when a key changes its meaning
#: Settings that the file of an experiment holds: what began is not changed.
HELD = tuple(f.name for f in fields(Experiment) if f.name != "path")


def ab(recipe: "Recipe") -> dict[str, Any]:
    """Prints how the experiment stands and writes the report; returns what `<out>.json` holds.

    One that is begun before anything was asked is begun and no more: the service makes the store.

    Args:
        recipe: uses `ab` and `seed`.

    Raises:
        ValueError: if there is no experiment and none is to begin, or no store of an older one.
    """
    settings = recipe.ab
    if settings.plan or settings.simulate:
        return _before(settings, recipe.seed)
    begins = not settings.experiment.is_file()
    experiment = _begun(settings) if begins else _found(settings)
    if not settings.store.is_file():
        if begins:
            return {}
        raise ValueError(f"ab.store: expected a feedback database, got none at {settings.store}; "
                         "let make serve make one")  # fmt: skip
    with FeedbackStore(settings.store) as store:
        state = experiment.decide(store)
    inputs = {experiment.path.as_posix(): sha256_file(experiment.path)}
    report = {"form": FORM, **provenance(recipe.seed, _held(settings, experiment), inputs), **state,
              "log": [row for row in experiment.entries()]}  # fmt: skip
    page = ab_markdown(report)
    write_atomic(f"{settings.out}.md", page)
    write_atomic(f"{settings.out}.html", ab_html(report))
    write_json(f"{settings.out}.json", report)
    sys.stdout.write(f"{page}\nwritten: {settings.out}.html\n")
    return report


def made(settings: ABConfig) -> Experiment:
    """The experiment that the settings describe, not yet written."""
    names = set(HELD) - {"name", "treatment", "salt", "metrics"}
    return Experiment(
        path=settings.experiment, name=settings.name or "plan",
        treatment=settings.treatment or "plan", salt=settings.salt or secrets.token_hex(8),
        metrics=tuple(settings.metrics), **{name: getattr(settings, name) for name in names},
    )  # fmt: skip


def _found(settings: ABConfig) -> Experiment:
    """The experiment of the file; what is not left at its default has to be as the file says."""
    found, unset = Experiment.load(settings.experiment), ABConfig()
    held = _held(settings, found)
    for key in HELD:
        given, kept = getattr(settings, key), getattr(held, key)
        if given not in (getattr(unset, key), kept):
            raise ValueError(f"ab.{key}: expected {kept}, which {found.path} holds, got {given}; "
                             "give a new one its own file, ab.experiment")  # fmt: skip
    return found


def _held(settings: ABConfig, experiment: Experiment) -> ABConfig:
    """The settings with those that the experiment was begun with in the place of its own."""
    kept = {key: getattr(experiment, key) for key in HELD}
    return replace(settings, **{**kept, "metrics": list(experiment.metrics)})


def _begun(settings: ABConfig) -> Experiment:
    if not settings.name or not settings.treatment:
        raise ValueError(f"ab.experiment: expected {settings.experiment}, got no file; begin one "
                         "with make ab NAME=... MODEL_2=...")  # fmt: skip
    from minicrit.loading import what_is_missing

    found = made(settings)
    for key in ("control", "treatment"):
        if missing := what_is_missing(getattr(found, key)):
            raise ValueError(f"ab.{key}: {missing}")
    _check_new(settings.store, found.name)
    found.write()
    sys.stdout.write(f"begun: {found.path}; serve {found.control} with --serve.experiment "
                     f"{found.path}\n")  # fmt: skip
    return found


def _check_new(path: Path, name: str) -> None:
    """What an older experiment of the same name gathered was drawn otherwise; it would count."""
    if not path.is_file():
        return
    with FeedbackStore(path) as store:
        if any(row["experiment"] == name for row in store.counts()):
            raise ValueError(f"ab.name: expected a new name, got {name}, under which {path} holds "
                             "requests of an older experiment; choose another")  # fmt: skip


def _before(settings: ABConfig, seed: int) -> dict[str, Any]:
    limits.require("ab", settings)
    experiment = made(settings)
    if not 0 < settings.rate < 1:
        raise ValueError(f"ab.rate: expected more than 0 and less than 1, got {settings.rate}; "
                         "make agreement and the console measure it")  # fmt: skip
    if not 0 < settings.valid_share <= 1:
        raise ValueError(f"ab.valid_share: expected more than 0 and at most 1, got "
                         f"{settings.valid_share}; the console's decisions measure it")  # fmt: skip
    report: dict[str, Any] = {}
    if settings.plan:
        assumed = Assumed(settings.rate, settings.discordance, settings.valid_share)
        report["plan"] = plan(experiment, assumed, seed)
        sys.stdout.write(plan_markdown(report["plan"], experiment))
    if settings.simulate:
        report["false_alarms"] = cry_wolf(experiment, settings.rate, settings.discordance,
                                          settings.simulate, seed)  # fmt: skip
        sys.stdout.write(wolf_markdown(report["false_alarms"]))
    inputs: dict[str, str] = {}
    path = Path(f"{settings.out}-plan.json")
    write_json(path, {"form": FORM, **provenance(seed, settings, inputs), **report})
    sys.stdout.write(f"written: {path}\n")
    return report
