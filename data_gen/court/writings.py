"""Which items both models write about, and their critiques, kept as they are written.

The draw knows nothing of the models. A model writes alone: several critiques at a time, and each
such batch is on disk once it is written, so that a run that was killed repeats one batch, in the
same company.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_gen.public import order_key
from minicrit.judging import Judge, item_of, one_by_one
from minicrit.kept import in_passes
from minicrit.manifest import code_version
from minicrit.records import Example


@dataclass(frozen=True)
class Writing:
    """A critique as it was written; None and why, if there is none.

    Attributes:
        text: it. verdict: of the readout. parsed: whether it is in the fixed form.
    """

    text: str | None
    verdict: str | None = None
    parsed: bool = False
    fault: str = ""


def docket(examples: Sequence[Example], sample: int, seed: int) -> list[Example]:
    """At most `sample` items in whole groups, labels as they are shared in all; all if it is 0.

    Groups come in an order drawn by seed and name; one that does not fit any more is passed over.

    Raises:
        ValueError: if no group fits.
    """
    if not 0 < sample < len(examples):
        return list(examples)
    flawed = round(sample * sum(e.label == "flawed" for e in examples) / len(examples))
    room = {"flawed": flawed, "valid": sample - flawed}
    members: dict[str, list[Example]] = {}
    for example in examples:
        members.setdefault(example.group, []).append(example)
    taken = set()
    for group in sorted(members, key=lambda name: order_key(f"{seed}/judge", name)):
        sizes = Counter(e.label for e in members[group])
        if all(sizes[label] <= left for label, left in room.items()):
            room = {label: left - sizes[label] for label, left in room.items()}
            taken.add(group)
    if not taken:
        raise ValueError(f"judge.sample: expected room for a whole group, got {sample}; the "
                         f"smallest holds {min(map(len, members.values()))} items")  # fmt: skip
    return [e for e in examples if e.group in taken]


def write_about(
    critic: Judge, examples: Sequence[Example], work: Path, *, max_new_tokens: int, batch: int
) -> list[Writing]:
    """A critique of each example, in order.

    Args:
        critic: who writes.
        examples: what about; their labels are not looked at.
        work: folder of what is done so far.
        max_new_tokens: longest critique, in tokens.
        batch: critiques at a time.
    """
    items = [item_of(e) for e in examples]
    key = [critic.identity, critic.prompt_version, critic.threshold, code_version(),
           max_new_tokens, batch, items]  # fmt: skip

    def write(some: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        found = one_by_one(
            lambda items: _written(critic, items, max_new_tokens), some,
            lambda why: Writing(None, fault=why),
        )  # fmt: skip
        return [asdict(one) for one in found]

    rows = in_passes(work / "judge", "critiques", key, items, batch, write, unit="critique")
    return [Writing(**row) for row in rows]


def _written(critic: Judge, items: Sequence[tuple[str, str]], max_new_tokens: int) -> list[Writing]:
    found = critic.critique(items, max_new_tokens=max_new_tokens, batch=len(items))
    return [Writing(w.text, w.verdict.label, w.parsed is not None) for w in found]
