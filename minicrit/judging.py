"""p(flawed) of every item by one critic, batch by batch, in a file from which a killed run goes on.

The file's name holds a hash of critic, prompt, code and items: another model or other data never
meet these scores. An item that cannot be read (too long, or p undefined) is counted, not guessed.
"""

# mypy: disable-error-code="import-untyped"
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from minicrit.encoding import TooLongError
from minicrit.files import sha256_json
from minicrit.jsonl import whole_rows
from minicrit.manifest import code_version

if TYPE_CHECKING:
    from minicrit.critic import Written
    from minicrit.verdict import Verdict

Item = tuple[str, str]  # (domain, rationale)
MAX_UNSCORED = 0.05  # of the items; beyond it the numbers describe the easy part only
TOO_LONG = "too long"
UNDEFINED = "undefined p"


class Readable(Protocol):
    """What carries a rationale: an example, a trade, an operator's decision."""

    @property
    def domain(self) -> str:
        """One of the taxonomy's."""

    @property
    def rationale(self) -> str:
        """What is judged."""


class Judge(Protocol):
    """What the benchmark needs of a critic; `minicrit.critic.Critic` is one."""

    name: str
    identity: str
    adapter: str | None
    prompt_version: str
    threshold: float

    def p_flawed(
        self,
        items: Sequence[Item],
        *,
        batch_tokens: int = ...,
        progress: Callable[[int], object] | None = None,
    ) -> npt.NDArray[Any]:
        """(n,) probabilities."""

    def verdict(self, items: Sequence[Item]) -> "list[Verdict]":
        """Verdicts without text."""

    def critique(
        self, items: Sequence[Item], *, max_new_tokens: int = ..., batch: int = ...
    ) -> "list[Written]":
        """Whole critiques."""


@dataclass(frozen=True)
class Scores:
    """p (n,), nan where unscored; why; and the rate, None where another run had done a part."""

    p: npt.NDArray[np.float64]
    unscored: Counter[str]
    items_per_second: float | None


def load_judge(path: str, *, base_folder: Path) -> Judge:
    """The critic in a folder, or a base to be read zero-shot."""
    from minicrit.critic import Critic  # slow: not before it is needed

    return Critic.load(path, base_folder=base_folder)


def item_of(example: Readable) -> Item:
    """What a critic may see of an example: nothing else, as id and source tell the label."""
    return example.domain, example.rationale


def score_items(
    judge: Judge, examples: Sequence[Readable], out: Path, *, batch_tokens: int
) -> Scores:
    """Score all examples in order; the partial scores stay on disk until `remove_partial`."""
    path = _path(judge, examples, out, batch_tokens)
    size = max(32, batch_tokens // 64)
    starts = range(0, len(examples), size)
    sizes = [len(examples[at : at + size]) for at in starts]
    rows = whole_rows(path, [partial(_holds, size=size) for size in sizes])
    resumed = len(rows) > 0
    begin = time.perf_counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    done = sum(len(row["p"]) for row in rows)
    with (
        path.open("a", encoding="utf-8") as file,
        tqdm(total=len(examples), initial=done, unit="item", desc=f"verdicts {judge.name}") as bar,
    ):
        for at in starts[len(rows) :]:
            row = _score(judge, [item_of(e) for e in examples[at : at + size]], batch_tokens)
            file.write(json.dumps(row) + "\n")
            file.flush()
            rows.append(row)
            bar.update(len(row["p"]))
    rate = None if resumed else len(examples) / max(time.perf_counter() - begin, 1e-9)
    p = np.array([x for row in rows for x in row["p"]], dtype=np.float64)  # None becomes nan
    reasons = Counter(reason for row in rows for reason in row["unscored"])
    _check_unscored(judge.name, reasons, len(examples))
    return Scores(p, reasons, rate)


def remove_partial(out: Path) -> None:
    """Remove the partial scores of this benchmark, also those of models or data since changed."""
    ours = re.compile(re.escape(out.name) + r"\.[0-9a-f]{16}\.scores\.jsonl")
    for path in out.parent.iterdir():
        if ours.fullmatch(path.name):
            path.unlink()


def _score(judge: Judge, items: Sequence[Item], batch_tokens: int) -> dict[str, Any]:
    """One line of the file: p of each item (None: unscored) and the reasons."""
    try:
        found = judge.p_flawed(items, batch_tokens=batch_tokens)
    except TooLongError:
        if len(items) == 1:
            return {"p": [None], "unscored": [TOO_LONG]}
        alone = [_score(judge, [item], batch_tokens) for item in items]
        return {key: [x for row in alone for x in row[key]] for key in ("p", "unscored")}
    p = [float(x) if 0 <= x <= 1 else None for x in found]  # nan compares false
    if len(p) != len(items):
        raise ValueError(f"{judge.name}: expected {len(items)} probabilities, got {len(p)}; mend "
                         "its p_flawed")  # fmt: skip
    why = getattr(judge, "reasons", {})  # of a judge that can tell
    lost = [why.get(item, UNDEFINED) for item, x in zip(items, p, strict=True) if x is None]
    return {"p": p, "unscored": lost}


def _path(judge: Judge, examples: Sequence[Readable], out: Path, batch_tokens: int) -> Path:
    content = [judge.identity, judge.prompt_version, code_version(), batch_tokens]
    key = sha256_json([*content, *(item_of(e) for e in examples)])
    return out.with_name(f"{out.name}.{key[:16]}.scores.jsonl")


def _holds(row: dict[str, Any], size: int) -> bool:
    """Whether a line has the scores of so many items."""
    lists = all(isinstance(row.get(key), list) for key in ("p", "unscored"))
    return lists and len(row["p"]) == size


def _check_unscored(name: str, reasons: Counter[str], n: int) -> None:
    if reasons.total() > MAX_UNSCORED * n:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        raise ValueError(f"{name}: expected at most {MAX_UNSCORED:.0%} unscored items, got "
                         f"{reasons.total()} of {n} ({why}); shorten the items or use a critic "
                         "with more room")  # fmt: skip
