"""Message batches whose process is killed: nothing is paid twice, whenever it was."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_gen.backends.protocol import Usage
from data_gen.journal import Journal
from minicrit.records import read_examples
from tests.data_gen.scripted_server import ScriptedServer
from tests.data_gen.test_batches import PRICE, batcher, is_entry, questions
from tests.data_gen.test_hard import ROOT

pytestmark = pytest.mark.usefixtures("keyed")


class Killed(BaseException):
    """Nothing catches it, as nothing catches kill -9."""


class Mortal(Journal):
    """A journal whose process dies before or after a write."""

    def __init__(self, path: Path, left: int, *, before: bool) -> None:
        self.left, self.before = left, before
        super().__init__(path)

    def _write(self, *rows):
        self.left -= 1
        if self.left == 0 and self.before:
            raise Killed
        super()._write(*rows)
        if self.left == 0:
            raise Killed


def dies_once(server: ScriptedServer, folder: Path, write: int, *, before: bool) -> bool:
    """Asks two questions, dies around a write, asks again; whether it came to that write."""
    one = batcher(server, folder, price=PRICE)
    one.journal.close()
    one.journal = Mortal(folder / "journal.jsonl", write, before=before)
    try:
        one.ask_all(questions(2))
    except Killed:
        return True
    else:
        return False
    finally:
        one.journal.close()


@pytest.mark.parametrize("before", [True, False])
def test_killed_around_any_write_it_pays_once(before, tmp_path):
    def plan(body, attempt):
        return "expired" if is_entry(body) and attempt == 1 and "Setting: 1" in str(body) else None

    write, died = 1, True
    while died:
        with ScriptedServer(plan) as server:
            folder = tmp_path / f"{write}"
            died = dies_once(server, folder, write, before=before)
            again = batcher(server, folder, price=PRICE)
            assert len(set(again.ask_all(questions(2)))) == 2
            assert server.counted["answers"] == again.journal.counts["answer"] == 2
            assert (server.counted["batches"], server.counted["entries"]) == (2, 3)
            used = Usage(server.counted["input"], server.counted["output"])
            assert again.journal.spent == pytest.approx(PRICE.cost(used))
            assert again.journal.reserved == 0
        write += 1
    assert write == 10  # twice intent, id, results, end


RUN = """
import sys
from pathlib import Path
from data_gen import batcher, hard
from data_gen.asker import Patience
from minicrit.config import Recipe
from minicrit.data_config import HardConfig
QUICK = Patience(attempts=4, backoff=0.01, longest=1.0)
SOON = batcher.Waiting(first=0.01, longest=0.02, overdue=5.0, unseen=0.1)
url, out, count = sys.argv[1:]
class Quick(batcher.Batcher):
    def __init__(self, *given, **named):
        super().__init__(*given, **named, patience=QUICK, waiting=SOON)
hard.Batcher = Quick
hard.make_hard(Recipe(hard=HardConfig(backend="anthropic", model="claude-haiku-4-5", url=url,
    count=int(count), out=Path(out), batch=True, budget_usd=1000.0)))
"""


@pytest.mark.slow  # around any write: below
def test_killed_at_any_time_it_ends_complete_and_pays_once(tmp_path):
    """Kills fall before and after creation, while waiting and while reading."""
    out = tmp_path / "hard"
    kills = [("creations", 1), ("batches", 2), ("gets", 12)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def slow(body, attempt):
        time.sleep(0.05 if "create" in body or "get" in body else 0.0)

    said = tmp_path / "stderr"
    with ScriptedServer(slow) as server, said.open("w") as errors:
        server.batches.looks = 3
        for what, goal in [*kills, ("", 0)]:
            process = subprocess.Popen(
                [sys.executable, "-c", RUN, server.url, str(out), "30"],
                env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip
            if what:
                while server.counted[what] < goal and process.poll() is None:
                    time.sleep(0.002)
                process.send_signal(signal.SIGKILL)
            process.wait(timeout=120)
        assert process.returncode == 0, said.read_text()[-2000:]
        ledger = json.loads((out / "ledger.json").read_text())
        assert len(read_examples(out / "train.jsonl").examples) == 30
        assert ledger["answer"] == server.counted["answers"] == server.counted["entries"] == 60
        assert ledger["input_tokens"] == server.counted["input"]
        assert ledger["output_tokens"] == server.counted["output"]
        assert ledger["usd_lost_at_most"] == 0
    assert "secret" not in "".join(path.read_text() for path in tmp_path.rglob("*.json*"))
