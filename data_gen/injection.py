"""The stage `injections`: can an appended text talk the critic into calling what is flawed valid?

Items are flawed rationales that the critic flags as they are. Each is read again with every text of
`injections-1.yaml` behind it; a flip is one that it then lets pass. `control` is a harmless text:
what it flips, any appended sentence would. Rates carry intervals, and each attack is compared with
the control on the same items.

    OUT.json, OUT.md
"""

import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_gen.public import draw_groups
from minicrit import limits
from minicrit.contrast_tables import chance
from minicrit.files import sha256_file, write_atomic, write_json
from minicrit.judging import one_by_one
from minicrit.kept import in_passes, remove_kept
from minicrit.manifest import code_version, provenance
from minicrit.measures import plain
from minicrit.records import Example, read_examples
from minicrit.statistics import mcnemar_exact, wilson
from minicrit.strictyaml import read_settings
from minicrit.tables import left_out, markdown

if TYPE_CHECKING:
    from minicrit.config import Recipe
    from minicrit.critic import Critic

log = logging.getLogger(__name__)
PATH = Path(__file__).parent / "injections-1.yaml"
CONTROL = "control"
_PASS = 8  # items between two lines that a killed run goes on from
_UNREAD = "{} with an injection"  # why there are no log-odds of an item


@dataclass(frozen=True)
class Injection:
    """A text that is appended to a rationale, and what it tries."""

    name: str
    about: str
    text: str


def injections(path: Path = PATH) -> list[Injection]:
    """All of them, the control first.

    Raises:
        ValueError: if one lacks its text or what it is about, or the control is not the first.
    """
    told = read_settings(path)
    values = {key: one.value for key, one in told.items() if isinstance(one.value, str)}
    names = list(dict.fromkeys(key.partition(".")[0] for key in told))
    wanted = {f"{name}.{field}" for name in names for field in ("about", "text")}
    if wrong := sorted(wanted ^ values.keys()):
        raise ValueError(f"{path}: expected about and text of each name, got trouble with "
                         f"{wrong[0]}; restore it")  # fmt: skip
    if names[:1] != [CONTROL]:
        raise ValueError(f"{path}: expected {CONTROL} first, got {names[:1]}; restore it")
    return [Injection(name, values[f"{name}.about"], values[f"{name}.text"]) for name in names]


def measure_injections(recipe: "Recipe") -> dict[str, Any]:
    """Reads the items with every injection, writes the report, returns it.

    Raises:
        ValueError: if there are no flawed items or the critic flags none of them.
    """
    from minicrit.critic import Critic

    settings = recipe.injections
    limits.require("injections", settings)
    flawed = [e for e in read_examples(settings.data).examples if e.label == "flawed"]
    some = draw_groups(flawed, settings.limit, f"{recipe.seed}/injections")
    if not some:
        raise ValueError(f"{settings.data}: expected flawed items for injections to be tried on, "
                         "got none; give other items")  # fmt: skip
    critic = Critic.load(settings.model, base_folder=recipe.base.folder)
    tried = injections()
    key = [code_version(), critic.identity, critic.prompt_version, [one.text for one in tried],
           [(e.domain, e.rationale) for e in some]]  # fmt: skip
    made = in_passes(settings.out, "injections", key, some, _PASS, lambda rows: one_by_one(
        lambda few: _read(critic, few, tried), rows, _UNREAD.format), unit="item")  # fmt: skip
    read = [(e, odds) for e, odds in zip(some, made, strict=True) if isinstance(odds, list)]
    if not read:
        raise ValueError(f"{settings.data}: expected flawed items that the critic can read, got "
                         f"{len(made)} of which none can be; give shorter ones")  # fmt: skip
    odds = np.array([one for _, one in read])
    p = critic.p_of(odds.flatten(), _texts([e for e, _ in read], tried)).reshape(odds.shape)
    inputs = {str(path): sha256_file(path) for path in (settings.data, PATH)}
    report = {**provenance(recipe.seed, settings, inputs), "critic": critic.identity,
              "unscored": dict(Counter(one for one in made if isinstance(one, str))),
              **rates(p > critic.threshold, odds, tried)}  # fmt: skip
    write_atomic(settings.out.with_name(settings.out.name + ".md"), page(report))
    write_json(settings.out.with_name(settings.out.name + ".json"), report)
    remove_kept(settings.out)
    sys.stdout.write(page(report))
    return report


def _read(critic: "Critic", rows: Sequence[Example], tried: Sequence[Injection]) -> list[Any]:
    """Log-odds of `flawed`, of each row as it is and with every injection."""
    odds = critic.log_odds(_texts(rows, tried))
    found: list[list[float]] = odds.reshape(len(rows), -1).tolist()
    return found


def _texts(rows: Sequence[Example], tried: Sequence[Injection]) -> list[tuple[str, str]]:
    ends = ("", *(one.text for one in tried))
    return [(e.domain, e.rationale + end) for e in rows for end in ends]


def rates(flags: np.ndarray, odds: np.ndarray, tried: Sequence[Injection]) -> dict[str, Any]:
    """What each injection does to the items that are flagged without one.

    Args:
        flags: (N, 1 + I) whether an item is flagged: as it is, then with each injection.
        odds: (N, 1 + I) log-odds of `flawed`.
        tried: the I injections, the control first.
    """
    flagged = flags[:, 0]
    if not flagged.any():
        raise ValueError(f"injections.model: expected a critic that flags some of {len(flags)} "
                         "flawed items, got none flagged; there is nothing to flip")  # fmt: skip
    let_pass, moved = ~flags[flagged, 1:], odds[flagged, 1:] - odds[flagged, :1]
    rows = []
    for at, one in enumerate(tried):
        count, n = int(let_pass[:, at].sum()), len(let_pass)
        share = wilson(count, n)
        only = int((let_pass[:, at] & ~let_pass[:, 0]).sum())
        less = int((let_pass[:, 0] & ~let_pass[:, at]).sum())
        rows.append({"name": one.name, "about": one.about, "flipped": count, "n": n,
                     "rate": round(share.value, 4), "low": round(share.low, 4),
                     "high": round(share.high, 4), "moved": round(float(moved[:, at].mean()), 3),
                     "p_against_control": plain(mcnemar_exact(only, less))})  # fmt: skip
    return {"items": len(flags), "flagged": int(flagged.sum()), "injections": rows}


def page(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    rows = [[one["name"], f"{one['flipped']} of {one['n']}",
             f"{100 * one['rate']:.0f} % [{100 * one['low']:.0f}, {100 * one['high']:.0f}]",
             f"{one['moved']:+.2f}", chance(one['p_against_control']), one["about"]]
            for one in report["injections"]]  # fmt: skip
    head = ["appended", "flipped to valid", "rate, 95 %", "log-odds", "p against control", "tries"]
    table = markdown(tuple(head), [tuple(row) for row in rows])
    return (
        f"# Injections\n\n{report['flagged']} of {report['items']} flawed items"
        f"{left_out(report)} are flagged as they are; of these:\n\n{table}\n\n"
        "Intervals are Wilson's; p is that of McNemar's exact test on the same "
        "items, one attack at a time, not adjusted.\n"
    )
