"""The stages that are harmed, what they work on, and what must come out the same."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data_gen.compose import compose
from data_gen.preferences import twin_pairs
from minicrit.base import prepare_base
from minicrit.jsonl import read_lines, write_rows
from minicrit.plan import grouped
from minicrit.records import write_examples
from tests.data_gen.writing_critic import examples, writing_recipe

_TRAINING = "--{0}.validate_every 3 --{0}.save_every 2 --{0}.samples 0 --{0}.log_folder logs " \
            "--{0}.out out/{0} --lora.dropout 0.1"  # fmt: skip
_BASE = "--config tiny --base.model world/base --base.folder world"


@dataclass(frozen=True)
class Stage:
    """A command, told in words; `%s` in them is the address of the scripted server.

    Attributes:
        words: of the command line.
        timed: files of which only a part is the same each time: a part of a JSON file that is
            left out, or "" where the whole file is.
        check: more that must hold of the folder afterwards; what is wrong.
    """

    words: str
    timed: dict[str, str]
    check: Callable[[Path], str] = lambda folder: ""


def _answered_once(folder: Path) -> str:
    """No request that has an answer was sent again, and every answer is in the result once."""
    answered: set[str] = set()
    for _, row in read_lines(folder / "out" / "hard.work" / "journal.jsonl"):
        if row["key"] in answered:
            return f"{row['event']} of a request that was answered"
        if row["event"] == "answer":
            answered.add(row["key"])
    ids = [row["id"] for _, row in read_lines(folder / "out" / "hard" / "train.jsonl")]
    return "" if len(ids) == len(set(ids)) == 24 else f"{len(ids)} rows, {len(set(ids))} ids"


#: By name. Sampling is in float32: in bfloat16 a run that met its memory limit once wrote the same
#: texts with other log-likelihoods (probably other kernels of oneDNN). The ledger counts what was
#: sent, also where a kill took the answer: it may differ, and with it the manifest that holds its
#: hash; `_answered_once` looks at what must not.
STAGES = {
    "sft": Stage(f"sft {_BASE} --data.folder world/data {_TRAINING.format('sft')} "
                 "--sft.batch_examples 4 --sft.best val/accuracy", {}),
    "dpo": Stage(f"dpo {_BASE} --data.folder world/data {_TRAINING.format('dpo')} "
                 "--dpo.start world/sft --dpo.pairs world/pairs.jsonl --dpo.batch_pairs 4 "
                 "--dpo.epochs 2", {}),
    "rsf": Stage(f"rsf {_BASE} --data.folder world/data {_TRAINING.format('rsf')} "
                 "--rsf.start world/sft --rsf.data world/writing.jsonl --rsf.batch_examples 4 "
                 "--rsf.scouted 0 --rsf.rationales 6 --rsf.drawn 4 --rsf.max_new_tokens 48 "
                 "--rsf.rows 12 --rsf.precision 32-true --rsf.dtype float32", {}),
    "data": Stage("data --config tiny --data.folder out/data --data.train 32 --data.fresh 8 "
                  "--data.calibration 24", {}),
    "hard, composer": Stage("hard --config tiny --hard.out out/hard --hard.count 48", {}),
    "hard, server": Stage("hard --config tiny --hard.out out/hard --hard.backend openai "
                          "--hard.model m --hard.url %s --hard.threads 4 --hard.count 24",
                          {"hard/ledger.json": "", "hard/manifest.json": "outputs",
                           "hard.work/journal.jsonl": ""}, _answered_once),
    "benchmark": Stage(f"benchmark {_BASE} --benchmark.model_1 world/sft --benchmark.model_2 null "
                       "--benchmark.data world/data/validation.jsonl --benchmark.split all "
                       "--benchmark.words false --benchmark.critiques 2 "
                       "--benchmark.latency_items 4 "
                       "--benchmark.out out/benchmark --benchmark.log_folder logs",
                       {"benchmark.json": "measured", "benchmark.md": ""}),
    "quantize": Stage(f"quantize {_BASE} --quantize.model world/sft --quantize.out out/int8 "
                      "--quantize.data world/data/validation.jsonl "
                      "--quantize.report out/quantize",
                      {"quantize.json": "measured", "quantize.md": ""}),
}  # fmt: skip


def make_world(folder: Path) -> None:
    """A critic that writes, its data and its pairs: made once, only read afterwards."""
    tiny = prepare_base("tiny", folder / "bases")
    writing_recipe(tiny, folder)
    for split, count in (("train", 16), ("validation", 4)):
        rows = [c.example for c in compose(count, 0, split, squares=split == "train")]
        write_examples(folder / "data" / f"{split}.jsonl", rows)
        if split == "train":
            pairs = [pair for group in grouped(rows) for pair in twin_pairs(group)]
            write_rows(folder / "pairs.jsonl", [pair.to_row() for pair in pairs])
    write_examples(folder / "writing.jsonl", examples("train", 12))


def lay_out(folder: Path, world: Path) -> None:
    """An empty working folder in which the world can be read."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("out", "tmp"):
        (folder / name).mkdir(parents=True)
    (folder / "world").symlink_to(world)


def outcome(folder: Path, stage: Stage) -> dict[str, str]:
    """Hash of everything that a stage has left, hidden and temporary files as well, by name."""
    found = {}
    for part in ("out", "tmp"):
        for parent, folders, files in os.walk(folder / part):
            here = Path(parent)
            names = [here / name for name in files] + [here / f for f in folders if f[0] == "."]
            for path in names:
                name = path.relative_to(folder / part).as_posix()
                found[name if part == "out" else f"tmp/{name}"] = _hash(path, stage.timed.get(name))
    return dict(sorted(found.items()))


def _hash(path: Path, but: str | None) -> str:
    if path.is_dir() or but == "":
        return "there"
    content = path.read_bytes()
    if but:
        rows = json.loads(content)
        rows.pop(but)
        content = json.dumps(rows, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """What is missing, left over or different."""
    wrong = [f"missing: {name}" for name in expected if name not in found]
    wrong += [f"left over: {name}" for name in found if name not in expected]
    return wrong + [f"different: {n}" for n in expected if found.get(n, expected[n]) != expected[n]]
