"""The answers of an arm, in a file of its own that a killed run goes on from.

`<folder>/<arm>.<key>.jsonl`, a line each time the critic was asked: `ids` of the items, `answers`,
`seconds`. The key is a hash of critic, prompts, code, arm and items, so that answers of another
critic or other data are never taken.
"""

# mypy: disable-error-code="import-untyped"
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from minicrit.arms import Answer, Arm, Asked
from minicrit.critic import Critic
from minicrit.files import open_alone, sha256_json
from minicrit.jsonl import whole_rows
from minicrit.judging import MAX_UNSCORED, item_of
from minicrit.latency import seconds
from minicrit.manifest import code_version
from minicrit.prompts import PROMPT_VERSION
from minicrit.records import Example

_PLAIN = re.compile(r"[^A-Za-z0-9.]+")


@dataclass(frozen=True)
class Answers:
    """What an arm said of its items, in their order, and how long each took in seconds."""

    arm: Arm
    examples: Sequence[Example]
    answers: list[Answer]
    seconds: list[float]

    @property
    def known(self) -> list[tuple[Example, Answer]]:
        """The items that were read, with their answers."""
        pairs = zip(self.examples, self.answers, strict=True)
        return [(e, a) for e, a in pairs if "unscored" not in a]


def answers_of(arm: Arm, asked: Asked, examples: Sequence[Example], folder: Path) -> Answers:
    """Asks about all items, or about those that an earlier run has left.

    Raises:
        ValueError: if more than 5 % of the items cannot be read, or another run writes the file.
    """
    path = path_of(arm, asked.critic, examples, folder)
    parts = [examples[at : at + arm.each] for at in range(0, len(examples), arm.each)]
    with open_alone(path) as file:
        rows = whole_rows(path, [partial(_holds, ids=[e.id for e in part]) for part in parts])
        done = sum(len(row["ids"]) for row in rows)
        with tqdm(total=len(examples), initial=done, unit="item", desc=arm.name) as bar:
            for part in parts[len(rows) :]:
                rows.append(_line(arm, asked, part))
                file.write((json.dumps(rows[-1], ensure_ascii=False) + "\n").encode())
                file.flush()
                bar.update(len(part))
    found = Answers(
        arm,
        examples,
        [a for row in rows for a in row["answers"]],
        [row["seconds"] / len(row["ids"]) for row in rows for _ in row["ids"]],
    )
    _check_unscored(found)
    return found  # fmt: skip


def path_of(arm: Arm, critic: Critic, examples: Sequence[Example], folder: Path) -> Path:
    """Where the answers lie."""
    told = [critic.identity, PROMPT_VERSION, code_version(), arm.name, arm.about, *arm.settings]
    key = sha256_json([*told, *([e.id, *item_of(e)] for e in examples)])
    return folder / f"{_PLAIN.sub('-', arm.name)}.{key[:16]}.jsonl"


def arm_of(path: Path) -> str:
    """The arm that a file of answers is of."""
    return path.name.rsplit(".", 2)[0]


def _line(arm: Arm, asked: Asked, part: Sequence[Example]) -> dict[str, Any]:
    answers: list[Answer] = []
    spent = seconds(lambda: answers.extend(arm.ask(asked, part)))
    return {"ids": [e.id for e in part], "answers": answers, "seconds": round(spent, 6)}


def _holds(row: dict[str, Any], ids: Sequence[str]) -> bool:
    """Whether a line has the answers about these items."""
    answers = row.get("answers")
    timed = isinstance(row.get("seconds"), float)
    return (
        timed and row.get("ids") == ids and isinstance(answers, list) and len(answers) == len(ids)
    )


def _check_unscored(found: Answers) -> None:
    n, lost = len(found.examples), len(found.examples) - len(found.known)
    if lost > MAX_UNSCORED * n:
        raise ValueError(f"{found.arm.name}: expected at most {MAX_UNSCORED:.0%} of the items too "
                         f"long, got {lost} of {n}; shorten them or use a critic with more "
                         "room")  # fmt: skip
