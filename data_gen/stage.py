"""The data stage: compose every split, mix public rows in, check it all, write it as one folder.

    train.jsonl                  composed and public, shuffled by group, twins side by side
    train-fresh.jsonl            composed in the same manner, for what comes after SFT
    validation|calibration|test.jsonl          composed only
    validation-public|test-public.jsonl        public only, as their verdicts mean other things
    validation-casebook.jsonl                  cases in natural prose that are not trained on
    removed.jsonl                what must not be trained on, with the reason (see `screen`)
    coverage.json, coverage.md, manifest.json

Lines of public sets that are refused lie beside it, in `<folder>.rejected/<set>.rejected.jsonl`.
A kill at any moment leaves the old folder or none; the same recipe gives the same bytes.
"""

import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_gen.casebook import drawn_cases
from data_gen.changed import with_changes
from data_gen.check import faults
from data_gen.compose import VERSION, compose
from data_gen.coverage import coverage, table
from data_gen.focus import shares_of
from data_gen.public import Length, Public, order_key, read_public
from data_gen.screen import Screened, asked, held_out_files, held_out_inputs, screened
from data_gen.shingles import normalised
from minicrit.config import Recipe
from minicrit.files import atomic_folder, check_replaceable, write_atomic, write_json
from minicrit.manifest import write_manifest
from minicrit.prompts import critique_of, render_prompt
from minicrit.records import SPLITS, Example, write_examples
from minicrit.taxonomy import renaming

FRESH = "train-fresh"
CASES_HELD_OUT = 100  # texts of the casebook to validate with
_FIRST = 10  # faults shown of many
_LEAST = 200  # characters of a rationale for which there must be room where training cuts it


def make_data(recipe: Recipe) -> None:
    """Makes `data.folder` anew.

    Raises:
        ValueError: if an item is at fault or two splits share a group or a text.
    """
    told, held_out = recipe.data, held_out_files(recipe.filters)
    check_replaceable(told.folder, *filter(None, (told.public, told.focus)), *held_out)
    with atomic_folder(recipe.data.folder) as box:
        public, identity = _public(recipe)
        splits, screening = _arranged(_composed(recipe), public, recipe)
        for name, examples in splits.items():
            write_examples(box / f"{name}.jsonl", examples)
        screening.write(box)
        write_json(box / "coverage.json", coverage(splits))
        write_atomic(box / "coverage.md", table(splits))
        write_manifest(
            box,
            stage="data",
            inputs=_inputs(recipe, public),
            settings=_settings(recipe),
            facts={
                "composer": VERSION,
                "base": identity,
                "examples": {name: len(examples) for name, examples in splits.items()},
                "public": {name: dict(count) for name, count in public.counts.items()},
                "public_kept": public.kept,
                **screening.facts(),
            },
        )
    sys.stdout.write(table(splits) + _public_lines(public) + screening.lines())
    sys.stdout.write(f"written: {recipe.data.folder}\n")


def checked(splits: Mapping[str, Sequence[Example]]) -> None:
    """Refuses data in which two splits share a group or a text."""
    for what, key in (("group", _group), ("rationale", _text)):
        home: dict[str, str] = {}
        for name, examples in splits.items():
            for example in examples:
                split = name.partition("-")[0]
                if home.setdefault(key(example), split) != split:
                    raise ValueError(
                        f"{name}: expected every {what} in one split, got that of {example.id} in "
                        f"{home[key(example)]} too; draw the splits by group"
                    )


def _group(example: Example) -> str:
    return example.group


def _text(example: Example) -> str:
    return normalised(example.rationale)


def _public(recipe: Recipe) -> tuple[Public, str | None]:
    """The public rows and the identity of the base whose tokens were counted.

    Bad lines go beside the folder, where they stay if there are so many that none is made.
    """
    data = recipe.data
    if data.public is None:
        return Public(), None
    length, identity = _tokens(recipe)
    rejects = data.folder.with_name(f"{data.folder.name}.rejected")
    public = read_public(
        data.public, length=length, max_tokens=data.max_tokens, limit=data.public_limit,
        seed=recipe.seed, max_bad=data.max_bad, rejects=rejects,
    )  # fmt: skip
    with suppress(OSError):  # of an earlier run's lines, mended since
        rejects.rmdir()
    return public, identity


def _tokens(recipe: Recipe) -> tuple[Length, str]:
    """Counts the tokens of prompt and critique as training will."""
    from minicrit.base import load_tokenizer, prepare_base
    from minicrit.encoding import Encoder

    base = prepare_base(recipe.base.model, recipe.base.folder, recipe.base.revision)
    encoder = Encoder(load_tokenizer(base))

    def length(example: Example) -> int:
        kept = example.rationale[:_LEAST] if recipe.data.truncate else example.rationale
        prompt = encoder.whole(render_prompt(example.domain, kept))
        critique = encoder.completion(critique_of(example))
        return len(encoder.opening) + len(prompt) + len(critique)

    return length, base.identity


def _composed(recipe: Recipe) -> dict[str, list[Example]]:
    """All composed splits, every item checked, and texts of the casebook if they are wanted."""
    counts = {name: int(getattr(recipe.data, name)) for name in SPLITS}
    counts["train"] += recipe.data.fresh
    if recipe.data.alone:
        counts["train"] *= 4 if recipe.data.squares else 2
    splits: dict[str, list[Example]] = {name: [] for name in SPLITS}
    found: list[str] = []
    with tqdm(total=sum(counts.values()), unit="example", desc="compose") as bar:
        for name in (name for name, count in counts.items() if count):
            for composed in compose(counts[name], recipe.seed, name, **_manner(recipe, name)):
                found += faults(composed)
                splits[name].append(composed.example)
                bar.update()
    if found:
        shown = "\n".join(found[:_FIRST])
        raise ValueError(f"expected no faults, got {len(found)}; mend the mechanism:\n{shown}")
    if recipe.data.alone:
        splits["train"] = _alone(splits["train"], recipe.seed)
    splits["train"], splits[FRESH] = _parted(splits["train"], recipe.data.train)
    if share := recipe.data.casebook:
        cases = drawn_cases(round(share * recipe.data.train), recipe.seed, "train")
        splits["train"] += cases
        held_out = drawn_cases(CASES_HELD_OUT, recipe.seed, "validation")
        splits["validation-casebook"] = held_out
    return splits


def _alone(examples: list[Example], seed: int) -> list[Example]:
    """One text of each group, valid and flawed in turn."""
    kept = []
    for number, (name, members) in enumerate(groupby(examples, key=_group)):
        wanted = ("valid", "flawed")[number % 2]
        those = [example for example in members if example.label == wanted]
        kept.append(random.Random(f"{seed}/{name}").choice(those))  # noqa: S311 - not for secrets
    return kept


def _parted(examples: list[Example], count: int) -> tuple[list[Example], list[Example]]:
    """The first groups with at least `count` examples, and the others."""
    first: list[Example] = []
    for _, members in groupby(examples, key=_group):
        if len(first) >= count:
            break
        first += members
    return first, examples[len(first) :]


def _manner(recipe: Recipe, split: str) -> dict[str, Any]:
    """Training data may be squares and terse; what is measured on are twins, as people write."""
    if split != "train":
        return {}
    data = recipe.data
    shares = shares_of(data.mechanisms, data.focus)
    return {"squares": data.squares, "terse": data.terse, "shares": shares, "bank": data.bank}


def _arranged(
    composed: Mapping[str, list[Example]], public: Public, recipe: Recipe
) -> tuple[dict[str, list[Example]], Screened]:
    """The files to write, by name: public train rows join ours, the others stay apart."""
    splits = dict(composed)
    for name in reversed(SPLITS):  # a row that stands in two splits stays in the later one
        rows = public.splits.get(name, [])
        others = {k for other in splits if other not in ("train", FRESH)
                  for k in _keys(splits[other])}  # fmt: skip
        alone = [e for e in rows if others.isdisjoint(_keys([e]))]
        splits[f"{name}-public"] = alone
        if len(alone) < len(rows):
            count = public.counts.setdefault("all sets", Counter())
            count["in_another_split"] += len(rows) - len(alone)
    foreign = splits.pop("train-public")
    measured = {name: rows for name, rows in splits.items() if name not in ("train", FRESH)}
    own = [*composed["train"], *composed[FRESH]]
    screening = screened(own, foreign, measured, recipe.filters, recipe.seed)
    later = {example.group for example in composed[FRESH]}
    kept = [e for e in screening.composed if e.group not in later]
    rows = _shuffled([*kept, *screening.others], recipe.seed)
    splits["train"] = with_changes(rows, recipe.data.changed, recipe.seed, public.fits)
    splits[FRESH] = _shuffled([e for e in screening.composed if e.group in later], recipe.seed)
    checked(splits)
    return {name: rows for name, rows in splits.items() if rows}, screening


def _keys(examples: Iterable[Example]) -> Iterator[tuple[str, str]]:
    for example in examples:
        yield "group", example.group
        yield "text", normalised(example.rationale)


def _shuffled(examples: Iterable[Example], seed: int) -> list[Example]:
    """In an order drawn by group; the members of a group stay neighbours, in their order."""
    return sorted(examples, key=lambda e: order_key(f"{seed}/order", e.group))


def _settings(recipe: Recipe) -> dict[str, Any]:
    """What decides the bytes: everything but where they go and where public files lie."""
    data = {k: v for k, v in asdict(recipe.data).items() if k not in ("folder", "public", "focus")}
    return {"seed": recipe.seed, "data": data, "filters": asked(recipe.filters)}


def _inputs(recipe: Recipe, public: Public) -> dict[str, Path]:
    files = {f"public/{path.name}": path for path in public.files}
    files |= held_out_inputs(recipe.filters)
    return files | ({"focus": recipe.data.focus} if recipe.data.focus else {})


def _public_lines(public: Public) -> str:
    lines = [f"public {name}: {_taken(public.kept.get(name, {}))}"
             + ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in sorted(count.items()) if n)
             for name, count in public.counts.items()]  # fmt: skip
    lines += [f"public {name}: flaw types: {renaming(counts)}"
              for name, counts in public.renamed.items() if counts]  # fmt: skip
    return "".join(f"{line}\n" for line in lines)


def _taken(kept: Mapping[str, Mapping[str, int]]) -> str:
    """What was taken of a set, by split and label."""
    parts = (f"{split} {labels.get('valid', 0)} valid {labels.get('flawed', 0)} flawed"
             for split in SPLITS if (labels := kept.get(split)))  # fmt: skip
    return "".join(f"{part}; " for part in parts)
