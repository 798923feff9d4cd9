"""The stage `import`: public sets from their published layouts to Example files.

    OUT/<kind>.jsonl                     what `data.public` takes; .jsonl.gz if asked for
    OUT/<kind>.raw.rejected.jsonl        every raw row that gave no example, with the reason
    OUT/<kind>.jsonl.manifest.json       counts, licence, and the raw files by hash

Problems that read the same share a group, across sets too, but in other marks (`$x$` for `x`)
they do not. Where a set has no parts of its own, the part depends on the group alone, so that a
problem has the same part in all such sets. Rows in the Example form keep their groups and parts.
"""

import hashlib
import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from data_gen.importers import IMPORTERS
from data_gen.importers.draft import Draft, Importer, Place, SetApartError
from data_gen.importers.raw import ENDINGS, Record, ending, records
from data_gen.shingles import normalised
from minicrit.config import Recipe
from minicrit.data_config import ImportConfig
from minicrit.files import sha256_file, to_json
from minicrit.jsonl import BadLine, RefusedError, line_of, write_rows
from minicrit.manifest import read_manifest, write_manifest
from minicrit.records import Example, write_examples
from minicrit.taxonomy import renamed, renaming

AUTO = "auto"
#: Rows of a file that are looked at to tell its layout, as the first may be damaged.
_LOOKED_AT = 20
_FIRST = 5  # messages shown of many
_USED = "of an id used before"
#: Later parts win where a problem stands in two of them.
_ORDER = ("train", "validation", "calibration", "test")
_SHARES = (("train", 0.8), ("validation", 0.9), ("test", 1.0))
#: An example, where its raw row stands, and that row.
Found = tuple[Example, Place, bytes]
_log = logging.getLogger(__name__)


@dataclass
class Taken:
    """What one set gave; `counts` has the rows and examples that went, by reason.

    `renamed` has the flaws to which the set gave another name, by both names.
    """

    files: list[Path]
    examples: list[Example] = field(default_factory=list)
    left: list[BadLine] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    renamed: Counter[str] = field(default_factory=Counter)


def import_sets(recipe: Recipe) -> None:
    """Writes one Example file a kind of set found below `imports.source`.

    Raises:
        ValueError: no file fits, a file is damaged, too many rows are refused, or there is a result
            of another source, which would be lost.
    """
    settings = recipe.imports
    fitting, passed = find(settings)
    for kind, files in fitting.items():
        _refuse_another(kind, files, settings)
    taken = {kind: take(IMPORTERS[kind], files, settings) for kind, files in fitting.items()}
    for kind, one in taken.items():
        _write(IMPORTERS[kind], one, settings)
    sys.stdout.write(table(taken))
    sys.stdout.writelines(f"passed over: {line}\n" for line in _told(passed))
    sys.stdout.write(f"written: {settings.out}\n")


def find(settings: ImportConfig) -> tuple[dict[str, list[Path]], dict[Path, str]]:
    """The files of every kind, and those that fit none, with the reason.

    Such a one may be damaged: as long as no row of it fits, it is something else. A fault behind
    one that fits is met by `take`, and ends the import.
    """
    if settings.source is None:
        raise ValueError("imports.source: expected the folder of a public set, got none; give "
                         "--imports.source FOLDER")  # fmt: skip
    kinds = tuple(IMPORTERS) if settings.kind == AUTO else (settings.kind,)
    fitting: defaultdict[str, list[Path]] = defaultdict(list)
    passed: dict[Path, str] = {}
    for path in _files(settings.source, settings.out):
        try:
            kind = layout_of(path, kinds)
        except ValueError as error:
            passed[path] = str(error)
            continue
        if kind is None:
            passed[path] = _why_not(path, kinds)
        else:
            fitting[kind].append(path)
    if not fitting:
        raise _nothing_fits(settings.source, kinds, passed)
    return dict(fitting), passed


def _nothing_fits(source: Path, kinds: Sequence[str], passed: Mapping[Path, str]) -> ValueError:
    first = "".join(f"\n{line}" for line in islice(_told(passed), _FIRST))
    return ValueError(f"{source}: expected files of {', '.join(kinds)}, got none among "
                      f"{len(passed)} files ({', '.join(ENDINGS)}, or .gz of them); check the path "
                      f"and the kind{first}")  # fmt: skip


def _told(passed: Mapping[Path, str]) -> Iterator[str]:
    """A line a file; some reasons name it themselves, with the line in it."""
    for path, why in passed.items():
        yield why if why.startswith(f"{path}:") else f"{path}: {why}"


def layout_of(path: Path, kinds: Sequence[str]) -> str | None:
    """The kind whose keys one of the first rows has; None if there is none."""
    for record in islice(records(path), _LOOKED_AT):
        if not isinstance(record, BadLine):
            for kind in kinds:
                if IMPORTERS[kind].fits(record[1]):
                    return kind
    return None


def _why_not(path: Path, kinds: Sequence[str]) -> str:
    """The first fault of a file that fits nothing, else what the first row lacks of the nearest."""
    first: Mapping[str, Any] | None = None
    for record in islice(records(path), _LOOKED_AT):
        if isinstance(record, BadLine):
            return str(record)
        first = record[1] if first is None else first
    if first is None:
        return "no rows"
    lacking = {kind: IMPORTERS[kind].lacks(first) for kind in kinds}
    nearest = min(kinds, key=lambda kind: len(lacking[kind]))
    return f"no layout that is asked for; to be of {nearest} it lacks {', '.join(lacking[nearest])}"


def take(importer: Importer, files: Sequence[Path], settings: ImportConfig) -> Taken:
    """Reads all files of one set."""
    taken = Taken(list(files))
    drafts: list[tuple[Draft, Place, bytes]] = []
    for path in files:
        begun: Counter[int] = Counter()  # rows by line: all of a file may stand on one
        for record in records(path):
            taken.counts["rows"] += 1
            line = record.line if isinstance(record, BadLine) else record[0]
            begun[line] += 1
            drafts += _converted(importer, Place(path, line, begun[line]), record, taken)
    keys = importer.keys_of([draft for draft, _, _ in drafts])
    found: list[Found] = []
    for (draft, place, raw), key in zip(drafts, keys, strict=True):
        group = draft.group or f"problem/{_digest(normalised(key))}"
        split = "test" if settings.held_out else draft.split or _drawn(group)
        try:
            example = draft.example(group, split)
            line_of(example.to_row())  # with what it has got it may be too long for one
            found.append((example, place, raw))
            taken.renamed.update(renamed(draft.fields.get("flaw_type"), example.flaw_type))
        except RefusedError as error:
            _leave("refused", place, error, raw, taken)
    sure = list(_one_label(found, taken))
    taken.examples = list(_once(_one_part(sure, taken), taken))
    return taken


def _converted(
    importer: Importer, place: Place, record: Record, taken: Taken
) -> Iterator[tuple[Draft, Place, bytes]]:
    if isinstance(record, BadLine):
        taken.left.append(record)
        taken.counts["refused"] += 1
        return
    _, row = record
    raw = to_json(row).encode()
    try:
        for draft in importer.convert(row, place):
            if draft.apart is None:
                yield draft, place, raw
            else:
                _leave(draft.apart, place, SetApartError(draft.apart), raw, taken)
    except SetApartError as error:
        _leave(error.why, place, error, raw, taken)
    except RefusedError as error:
        _leave("refused", place, error, raw, taken)


def _one_label(found: Sequence[Found], taken: Taken) -> Iterator[Found]:
    """Without the texts that stand there with both labels."""
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for example, _, _ in found:
        labels[normalised(example.rationale)].add(example.label)
    for example, place, raw in found:
        if len(labels[normalised(example.rationale)]) == 1:
            yield example, place, raw
        else:
            error = RefusedError("one label a text", f"both ({example.id})", "ask the source")
            _leave("with both labels", place, error, raw, taken)


def _one_part(found: Sequence[Found], taken: Taken) -> Iterator[Found]:
    """Without examples whose group stands in a later part too."""
    last: dict[str, str] = {}
    for example, _, _ in found:
        last[example.group] = max(last.get(example.group, "train"), example.split, key=_ORDER.index)
    for example, place, raw in found:
        if example.split == last[example.group]:
            yield example, place, raw
        else:
            error = RefusedError(f"a problem of the {example.split} part alone",
                                 f"one of the {last[example.group]} part ({example.id})",
                                 "nothing is to be done")  # fmt: skip
            _leave("in a later part too", place, error, raw, taken)


def _once(found: Iterable[Found], taken: Taken) -> Iterator[Example]:
    """Without repeated texts; the first stays. Another text of an id that was used is set aside."""
    texts: set[str] = set()
    ids: set[str] = set()
    for example, place, raw in found:
        text = normalised(example.rationale)
        if text in texts:
            taken.counts["repeated"] += 1
        elif example.id in ids:
            error = RefusedError("each id once", example.id, "let every row have its own id")
            _leave(_USED, place, error, raw, taken)
        else:
            yield example
        texts.add(text)
        ids.add(example.id)


def _leave(why: str, place: Place, error: RefusedError, raw: bytes, taken: Taken) -> None:
    taken.counts[why] += 1
    taken.left.append(BadLine(place.path, place.line, error.expected, error.got, error.remedy, raw))


def _targets(kind: str, settings: ImportConfig) -> tuple[Path, Path]:
    """Where the examples of a kind lie, plain and zipped."""
    plain = settings.out / f"{kind}.jsonl"
    return plain, plain.with_name(plain.name + ".gz")


def _refuse_another(kind: str, files: Sequence[Path], settings: ImportConfig) -> None:
    """Refuses to replace what was made from a raw file that is none of these.

    The same raw file has the same place, as it may be a newer version, or the same content.
    """
    for target in _targets(kind, settings):
        if not (target.is_file() and target.with_name(f"{target.name}.manifest.json").is_file()):
            continue
        places = {path.resolve() for path in files}
        hashes = {sha256_file(path) for path in files}
        for made in read_manifest(target)["inputs"].values():
            if Path(made["path"]).resolve() not in places and made["sha256"] not in hashes:
                raise ValueError(
                    f"{target}: expected no result or one of {settings.source}, got one of "
                    f"{made['path']}; name another OUT (imports.out), or move it away")  # fmt: skip


def _write(importer: Importer, taken: Taken, settings: ImportConfig) -> None:
    plain, zipped = _targets(importer.kind, settings)
    target, other = (zipped, plain) if settings.zip else (plain, zipped)
    rejected = settings.out / f"{importer.kind}.raw.rejected.jsonl"
    if taken.left:
        write_rows(
            rejected, [{"file": _name(bad.path, settings), **bad.to_row()} for bad in taken.left]
        )
    else:
        rejected.unlink(missing_ok=True)  # of an earlier import
    _judge(importer, taken, settings.max_bad, rejected)
    write_examples(target, taken.examples)
    write_manifest(
        target, stage="import", inputs={_name(path, settings): path for path in taken.files},
        settings={"kind": importer.kind, "held_out": settings.held_out},
        facts={"home": importer.home, "licence": importer.licence, "valid": importer.valid,
               "examples": _by_split(taken.examples), "left_out": dict(taken.counts)},
    )  # fmt: skip
    for old in (other, other.with_name(other.name + ".manifest.json")):
        old.unlink(missing_ok=True)


def _judge(importer: Importer, taken: Taken, max_bad: float, rejected: Path) -> None:
    """Shows what was refused; ValueError if it was too much, or if nothing is left."""
    rows, bad = taken.counts["rows"], taken.counts["refused"] + taken.counts[_USED]
    first = [str(line) for line in taken.left[:_FIRST]]
    if bad > max_bad * rows or not taken.examples:
        raise ValueError("\n".join([
            f"{importer.kind}: expected at most {max_bad:.1%} refused rows and some to take, got "
            f"{bad} of {rows} refused or {_USED} and {len(taken.examples)} examples; mend them, "
            f"all are in {rejected}, or allow more (imports.max_bad)", *first]))  # fmt: skip
    for message in first:
        _log.warning("%s", message)


def table(taken: Mapping[str, Taken]) -> str:
    """What was taken by set and part, and what was not."""
    head = ("set", "part", "valid", "flawed", "groups", "evidence", "critique", "fix")
    lines = [" | ".join(head).join(("| ", " |")), "|---|---|" + "---:|" * (len(head) - 2)]
    for kind, one in taken.items():
        for split in _by_split(one.examples):
            rows = [e for e in one.examples if e.split == split]
            labels = Counter(e.label for e in rows)
            cells = (labels["valid"], labels["flawed"], len({e.group for e in rows}),
                     *(sum(getattr(e, what) is not None for e in rows)
                       for what in ("evidence", "critique", "fix")))  # fmt: skip
            lines.append(" | ".join([kind, split, *map(str, cells)]).join(("| ", " |")))
    for kind, one in taken.items():
        went = [f"{n} {why}" for why, n in sorted(one.counts.items()) if why != "rows" and n]
        lines += [f"{kind}: {one.counts['rows']} raw rows, files: {len(one.files)}; "
                  + (", ".join(went) or "nothing left out"),
                  f"{kind}: valid says: {IMPORTERS[kind].valid}; licence: "
                  f"{IMPORTERS[kind].licence}"]  # fmt: skip
        if one.renamed:
            lines.append(f"{kind}: flaw types: {renaming(one.renamed)}")
    return "\n".join(lines) + "\n"


def _by_split(examples: Sequence[Example]) -> dict[str, int]:
    counts = Counter(example.split for example in examples)
    return {split: counts[split] for split in _ORDER if counts[split]}


def _name(path: Path, settings: ImportConfig) -> str:
    source = settings.source
    inside = source is not None and path != source
    return path.relative_to(source).as_posix() if source and inside else path.name


def _files(source: Path, out: Path) -> list[Path]:
    """What is to be read: not what an earlier import has written below the source."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise ValueError(f"{source}: expected a folder or a file, got none; check the path")
    if source.resolve() == out.resolve():
        raise ValueError(f"imports.out: expected another folder than imports.source, got {out} for "
                         "both; its results would be read as a set")  # fmt: skip
    made = out.resolve() if source.resolve() in out.resolve().parents else None
    found = (p for p in source.rglob("*") if p.is_file() and ending(p) in ENDINGS)
    return sorted(p for p in found
                  if not _hidden(p.relative_to(source)) and made not in p.resolve().parents
                  )  # fmt: skip


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts) or path.stem.endswith(".rejected")


def _drawn(group: str) -> str:
    place = int(_digest(f"part/{group}"), 16) / 16**24
    return next(split for split, until in _SHARES if place < until)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
