"""Kills eight stages at random moments, starts it again until it is done, and compares the results.

    make test-resume                                  # 240 kills
    make test-resume ARGS="--kills 30 --seed 7 --stage sft"

A course is one command in a folder of its own: harmed up to so many times, started again with the
same words after each, and let finish. Then every file that it has left, temporary ones too, must be
that of an undisturbed run, bit for bit. The seed and the number of a course repeat its mishaps; by
the clock they are as exact as the clock is, before a file operation they are exact.
"""

import argparse
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from minicrit.files import write_json
from minicrit.tables import markdown
from tests.data_gen.scripted_server import ScriptedServer
from tests.resume.forked import Ended, Warm
from tests.resume.harm import EXPECTED, FULL, KINDS, MEMORY, Harm, drawn
from tests.resume.stages import STAGES, Stage, differences, lay_out, make_world, outcome

#: Kills of a course at most.
MOST = 8
#: Python waits for ever for a thread that it had no memory to begin (python/cpython, 140746).
_NEVER_BEGAN = re.compile(r'threading\.py", line \d+ in start$', re.MULTILINE)
Run = Callable[[Sequence[str], Path, Harm | None], Ended]


@dataclass
class Whole:
    """An undisturbed run: what it left, how long it took, in how many file operations."""

    outcome: dict[str, str]
    seconds: float
    operations: int


@dataclass
class Record:
    """What a campaign has seen.

    Attributes:
        kills: by (stage, kind), those that ended a run.
        late: mishaps that came after the end or made no difference.
        statuses: exit statuses of harmed runs by kind.
        failures: one line each.
    """

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    late: int = 0
    courses: int = 0
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def note(self, name: str, harms: Sequence[Harm], wrong: Sequence[str]) -> None:
        """Ends a course; what went wrong is said at once."""
        about = f"course {self.courses} ({name}; {'; '.join(map(str, harms))})"
        self.failures += [f"{about}: {line}" for line in wrong]
        for line in wrong:
            tqdm.write(f"FAILED {about}: {line}", file=sys.stdout)
        self.courses += 1


def undisturbed(run: Run, words: Sequence[str], stage: Stage, folder: Path, world: Path) -> Whole:
    """The result that all courses are compared with."""
    lay_out(folder, world)
    ended = run(words, folder, None)
    assert ended.status == 0, ended.said
    assert not (wrong := stage.check(folder)), wrong
    return Whole(outcome(folder, stage), ended.seconds, ended.operations)


def course(
    run: Run, words: Sequence[str], folder: Path, harms: Sequence[Harm], name: str, record: Record
) -> list[str]:
    """Starts a command again and again, harmed by one mishap after the other; what went wrong."""
    wrong = []
    for harm in harms:
        ended = run(words, folder, harm)
        record.statuses.setdefault(harm.kind, Counter())[ended.status] += 1
        if ended.hung:
            if harm.kind != MEMORY or not _NEVER_BEGAN.search(ended.said):
                wrong.append(f"{harm}: hung: {ended.said[-6000:]}")
        elif ended.status not in EXPECTED[harm.kind]:
            wrong.append(f"{harm}: exit {ended.status}: {ended.said[-1500:]}")
        if ended.status == 0:
            record.late += 1
            if harm.kind != FULL:
                return wrong
            break  # what a full disk kept from being removed goes with the next run
        record.kills[name, harm.kind] += 1
    ended = run(words, folder, None)
    return wrong + ([f"exit {ended.status} undisturbed: {ended.said[-1500:]}"]
                    if ended.status else [])  # fmt: skip


def campaign(kills: int, seed: int, names: Sequence[str], folder: Path, record: Record) -> None:
    """As many kills, evenly over stages and kinds."""
    world = folder / "world"
    if not (world / "made").is_file():
        shutil.rmtree(world, ignore_errors=True)
        make_world(world)
        (world / "made").touch()
    with ScriptedServer() as server:
        told = {name: [w.replace("%s", server.url) for w in STAGES[name].words.split()]
                for name in names}  # fmt: skip
        with Warm(hashes=1) as warm:
            whole = {n: undisturbed(warm.run, told[n], STAGES[n], folder / "whole" / n, world)
                     for n in names}  # fmt: skip
        for name, one in whole.items():
            sys.stdout.write(f"{name}: {one.seconds:.1f} s, {one.operations} file operations\n")
        with Warm(hashes=2) as warm, tqdm(total=kills, unit="kill", file=sys.stdout) as bar:
            while record.kills.total() < kills:
                name = min(names, key=lambda n: sum(record.kills[n, k] for k in KINDS))
                dice = random.Random(f"{seed}/{record.courses}")
                harms = _harms(dice, name, whole[name], record)
                at = folder / f"course-{record.courses}"
                lay_out(at, world)
                wrong = course(warm.run, told[name], at, harms, name, record)
                wrong += judged(STAGES[name], at, whole[name], wrong)
                record.note(name, harms, wrong)
                if not wrong:
                    shutil.rmtree(at)
                bar.n = record.kills.total()
                bar.set_postfix_str(f"{name}, {len(record.failures)} failures")


def _harms(dice: random.Random, name: str, whole: Whole, record: Record) -> list[Harm]:
    """Up to so many, of the kinds that this stage has seen least."""
    seen = Counter({kind: record.kills[name, kind] for kind in KINDS})
    kinds = []
    for _ in range(dice.randint(1, MOST)):
        kind = min(KINDS, key=lambda k: (seen[k], dice.random()))
        seen[kind] += 1
        kinds.append(kind)
    return [drawn(dice, kind, whole.seconds, whole.operations) for kind in kinds]


def judged(stage: Stage, folder: Path, whole: Whole, wrong: Sequence[str] = ()) -> list[str]:
    """What differs from the undisturbed run, unless the last run did not finish."""
    if any("undisturbed" in line for line in wrong):
        return []
    found = differences(whole.outcome, outcome(folder, stage))
    return found + ([also] if (also := stage.check(folder)) else [])


def page(record: Record, seed: int, seconds: float) -> str:
    """Kinds by stages, statuses, failures."""
    names = [n for n in STAGES if any(record.kills[n, k] for k in KINDS)]
    rows = [[n, *(record.kills[n, k] for k in KINDS), sum(record.kills[n, k] for k in KINDS)]
            for n in names]  # fmt: skip
    total = [sum(record.kills[n, k] for n in names) for k in KINDS]
    rows.append(["all", *total, sum(total)])
    statuses = ", ".join(f"{kind}: {dict(sorted(found.items()))}"
                         for kind, found in record.statuses.items())  # fmt: skip
    return "\n".join([
        markdown(["stage", *KINDS, "all"], [[str(cell) for cell in row] for row in rows]), "",
        f"{record.kills.total()} kills in {record.courses} courses, {record.late} mishaps too late "
        f"to end a run, {len(record.failures)} failures; seed {seed}, {seconds / 60:.1f} min",
        f"exit statuses: {statuses}", *record.failures, "",
    ])  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 1 if anything was lost, doubled, different or left over."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", action="append", choices=list(STAGES))
    parser.add_argument("--out", type=Path, default=Path("reports/resume"))
    parser.add_argument("--keep", type=Path, help="folder for what failed; default: a new one")
    told = parser.parse_args(argv)
    folder = (told.keep or Path(tempfile.mkdtemp(prefix="minicrit-resume-"))).absolute()
    sys.stdout.write(f"seed {told.seed}, in {folder}\n")
    started = time.monotonic()
    record = Record()
    try:
        campaign(told.kills, told.seed, told.stage or list(STAGES), folder, record)
    except KeyboardInterrupt:
        sys.stdout.write("\ninterrupted; so far:\n")
    text = page(record, told.seed, time.monotonic() - started)
    told.out.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{told.out}.md").write_text(text)
    write_json(f"{told.out}.json", {
        "seed": told.seed, "courses": record.courses, "late": record.late,
        "kills": {n: {k: record.kills[n, k] for k in KINDS} for n in STAGES},
        "statuses": {k: {str(s): n for s, n in c.items()} for k, c in record.statuses.items()},
        "failures": record.failures,
    })  # fmt: skip
    sys.stdout.write("\n" + text)
    return int(bool(record.failures))


if __name__ == "__main__":
    sys.exit(main())
