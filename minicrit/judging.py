"""p(flawed) of every item by one critic, batch by batch, in a file from which a killed run goes on.

The file's name holds a hash of critic, prompt, code and items: another model or other data never
meet these scores. An item that cannot be read (too long, or p undefined) is counted, not guessed.
"""

# mypy: disable-error-code="import-untyped"
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from minicrit.encoding import TooLongError
from minicrit.kept import Kept, remove_kept
from minicrit.manifest import code_version

if TYPE_CHECKING:
    from minicrit.critic import Written
    from minicrit.verdict import Verdict

Item = tuple[str, str]  # (domain, rationale)
Row = TypeVar("Row")
Made = TypeVar("Made")
Ask = Callable[[Sequence[Item]], tuple[npt.NDArray[Any], Sequence[str | None]]]
MAX_UNSCORED = 0.05  # of the items; beyond it the numbers describe the easy part only
TOO_LONG = "too long"
UNDEFINED = "undefined p"


class UnreadableError(ValueError):
    """A judge has no answer to an item that could be relied on; to others it may have.

    Attributes:
        reason: why, in a few words.
    """

    def __init__(self, judge: str, reason: str) -> None:
        super().__init__(f"{judge}: expected an item that it can read, got none ({reason}); leave "
                         "it out")  # fmt: skip
        self.reason = reason


class Readable(Protocol):
    """What carries a rationale: an example, a trade, an operator's decision."""

    @property
    def domain(self) -> str:
        """One of the taxonomy's."""

    @property
    def rationale(self) -> str:
        """What is judged."""


class Judge(Protocol):
    """What the benchmark needs of a critic; `minicrit.critic.Critic` is one.

    One that has `p_and_types` (see there) is asked for flaw types too.
    """

    name: str
    identity: str
    adapter: str | None
    prompt_version: str
    threshold: float

    @property
    def trained(self) -> bool:
        """Whether it is known to be more than a base that is read zero-shot."""

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
        """Whole critiques.

        Raises:
            TooLongError, UnreadableError: if one of the items cannot be read.
        """


@dataclass(frozen=True)
class Scores:
    """What a judge said of n items.

    Attributes:
        p: (n,) p(flawed), nan where unscored. unscored: why.
        items_per_second: None where another run had done a part.
        types: the likeliest flaw type of each if it is flawed; None where it was not asked for.
    """

    p: npt.NDArray[np.float64]
    unscored: Counter[str]
    items_per_second: float | None
    types: Sequence[str | None] = ()


def load_judge(path: str, *, base_folder: Path) -> Judge:
    """The critic in a folder, or a base to be read zero-shot."""
    from minicrit.critic import Critic  # slow: not before it is needed

    return Critic.load(path, base_folder=base_folder)


def item_of(example: Readable) -> Item:
    """What a critic may see of an example: nothing else, as id and source tell the label."""
    return example.domain, example.rationale


def score_items(
    judge: Judge,
    examples: Sequence[Readable],
    out: Path,
    *,
    batch_tokens: int,
    types: bool = False,
) -> Scores:
    """Score all examples in order; the partial scores stay on disk until `remove_partial`.

    Args:
        judge: who is asked.
        examples: what about.
        out: the report that the partial scores lie beside.
        batch_tokens: most prompt tokens in one forward pass.
        types: also ask for the likeliest flaw type of each, if the judge can say.
    """
    size = max(32, batch_tokens // 64)
    starts = range(0, len(examples), size)
    sizes = [len(examples[at : at + size]) for at in starts]
    ask = _ask(judge, batch_tokens, types)

    fits = [partial(_holds, size=size) for size in sizes]
    begin = time.perf_counter()
    key = [*_key(judge, examples), batch_tokens, types]
    with Kept(out, "scores", key, fits) as kept, _bar(judge, examples, kept) as bar:
        for at in starts[len(kept.rows) :]:
            kept.add(_score(judge, [item_of(e) for e in examples[at : at + size]], ask))
            bar.update(len(kept.rows[-1]["p"]))
    rate = None if kept.resumed else len(examples) / max(time.perf_counter() - begin, 1e-9)
    columns = {key: [x for row in kept.rows for x in row[key]] for key in ("p", "types")}
    p = np.array(columns["p"], dtype=np.float64)  # None becomes nan
    reasons = Counter(reason for row in kept.rows for reason in row["unscored"])
    _check_unscored(judge.name, reasons, len(examples))
    return Scores(p, reasons, rate, columns["types"])


def one_by_one(
    write: Callable[[Sequence[Row]], list[Made]],
    rows: Sequence[Row],
    lost: Callable[[str], Made],
) -> list[Made]:
    """What is written of each row; if one of them stops the others, each is tried by itself.

    A text that could be read may still leave no room for what is written behind it.

    Args:
        write: gives one thing a row.
        rows: what about.
        lost: makes what stands for a row of which nothing can be written, given why.
    """
    try:
        return write(rows)
    except (TooLongError, UnreadableError) as error:
        if len(rows) == 1:
            return [lost(getattr(error, "reason", TOO_LONG))]
        return [one for row in rows for one in one_by_one(write, [row], lost)]


def remove_partial(out: Path) -> None:
    """Remove the partial results of this report, also those of models or data since changed."""
    remove_kept(out)


def keep(judge: Judge, examples: Sequence[Readable], out: Path, part: str, *more: object) -> Kept:
    """Where a step that asks about one item after the other keeps its lines, each with `item`."""
    fits = [partial(_is_of, item=item) for item in range(len(examples))]
    return Kept(out, part, [*_key(judge, examples), *more], fits)


def _holds(row: dict[str, Any], size: int) -> bool:
    """Whether a line has the scores of so many items."""
    lists = all(isinstance(row.get(key), list) for key in ("p", "types", "unscored"))
    return lists and len(row["p"]) == len(row["types"]) == size


def _is_of(row: dict[str, Any], item: int) -> bool:
    return row.get("item") == item


def _key(judge: Judge, examples: Sequence[Readable]) -> list[Any]:
    content = [judge.identity, judge.prompt_version, judge.threshold, code_version()]
    return [*content, *(item_of(e) for e in examples)]


def _bar(judge: Judge, examples: Sequence[Readable], kept: Kept) -> "tqdm[Any]":
    done = sum(len(row["p"]) for row in kept.rows)
    return tqdm(total=len(examples), initial=done, unit="item", desc=f"verdicts {judge.name}")


def _ask(judge: Judge, batch_tokens: int, types: bool) -> Ask:
    """P of each item, and its likeliest flaw type or None."""
    typed = getattr(judge, "p_and_types", None) if types else None
    if typed is not None:
        return lambda items: typed(items, batch_tokens=batch_tokens)
    return lambda items: (judge.p_flawed(items, batch_tokens=batch_tokens), [None] * len(items))


def _score(judge: Judge, items: Sequence[Item], ask: Ask) -> dict[str, Any]:
    """One line of the file: p of each item (None: unscored), its flaw type and the reasons."""
    try:
        found, types = ask(items)
    except TooLongError:
        if len(items) == 1:
            return {"p": [None], "types": [None], "unscored": [TOO_LONG]}
        alone = [_score(judge, [item], ask) for item in items]
        return {key: [x for row in alone for x in row[key]] for key in ("p", "types", "unscored")}
    p = [float(x) if 0 <= x <= 1 else None for x in found]  # nan compares false
    if len(p) != len(items):
        raise ValueError(f"{judge.name}: expected {len(items)} probabilities, got {len(p)}; mend "
                         "its p_flawed")  # fmt: skip
    why = getattr(judge, "reasons", {})  # of a judge that can tell
    lost = [why.get(item, UNDEFINED) for item, x in zip(items, p, strict=True) if x is None]
    return {"p": p, "types": list(types), "unscored": lost}


def _check_unscored(name: str, reasons: Counter[str], n: int) -> None:
    if reasons.total() > MAX_UNSCORED * n:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        raise ValueError(f"{name}: expected at most {MAX_UNSCORED:.0%} unscored items, got "
                         f"{reasons.total()} of {n} ({why}); shorten the items or use a critic "
                         "with more room")  # fmt: skip
