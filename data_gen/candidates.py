"""Candidates: several critiques of each rationale by the critic itself, kept as they come.

Each pass over some rationales ends in one synced line. A run that was killed repeats the pass it
was in and nothing else, in the same company, so that it ends in the same critiques.
"""

# mypy: disable-error-code="import-untyped"
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from minicrit.critic import Critic
from minicrit.files import open_alone, sha256_json, to_json
from minicrit.jsonl import parse_object
from minicrit.records import Example
from minicrit.sampling import Manner, Sample, passes, sample_pass


def make_candidates(
    critic: Critic,
    examples: Sequence[Example],
    manner: Manner,
    work: Path,
    openings: Sequence[str] | None = None,
) -> list[list[Sample]]:
    """`manner.copies` critiques of each example, in order.

    Args:
        critic: who writes.
        examples: what about; their labels are not looked at.
        manner: how.
        work: folder of what is done so far.
        openings: what the critiques of each begin with; None: the lead-in alone.
    """
    items = [(example.domain, example.rationale) for example in examples]
    writer = manner.writer(critic)
    plan = passes(critic, items, manner)
    given = [] if openings is None else [list(openings)]
    key = sha256_json([critic.identity, critic.prompt_version, asdict(manner), items, *given])
    path = work / f"candidates-{key[:16]}.jsonl"
    with open_alone(path) as file, tqdm(total=len(items), unit="rationale", desc="sample") as bar:
        done = _done(file, path)
        bar.update(sum(map(len, plan[: len(done)])))
        for rows in plan[len(done) :]:
            begun = None if openings is None else [openings[row] for row in rows]
            written = sample_pass(writer, [items[row] for row in rows], manner, begun)
            line = [[asdict(one) for one in group] for group in written]
            file.write(to_json({"written": line}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            done.append(written)
            bar.update(len(rows))
    found = {row: samples for rows, written in zip(plan, done, strict=True)
             for row, samples in zip(rows, written, strict=True)}  # fmt: skip
    return [found[row] for row in range(len(items))]


def _done(file: BinaryIO, path: Path) -> list[list[list[Sample]]]:
    """The passes of an earlier run; a line that a kill cut off is removed."""
    passes_done = []
    good = 0
    for raw in file.read().splitlines(keepends=True):
        if not raw.endswith(b"\n"):
            break
        try:
            written = parse_object(raw)["written"]
            passes_done.append([[_sample(one) for one in group] for group in written])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{len(passes_done) + 1}: expected a line of candidates, got "
                             f"{error}; remove the file") from error  # fmt: skip
        good += len(raw)
    file.truncate(good)
    return passes_done


def _sample(row: dict[str, Any]) -> Sample:
    return Sample(**{**row, "ids": tuple(row["ids"])})
