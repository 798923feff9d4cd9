"""A few kills at chosen moments, every time; hundreds at random ones by make test-resume."""

import random
from collections import Counter
from pathlib import Path

import pytest

from data_gen.compose import compose
from minicrit.records import write_examples
from tests.data_gen.scripted_server import ScriptedServer
from tests.resume.campaign import Record, course, judged, main, page, undisturbed
from tests.resume.forked import Ended, Warm
from tests.resume.harm import EXPECTED, FULL, KINDS, MEMORY, Harm, drawn
from tests.resume.stages import STAGES, differences, lay_out


@pytest.fixture(scope="module")
def run():
    """Runs a command from a process of its own: forks of this one would hang in torch's pools."""
    with Warm(hashes=1) as warm:
        yield warm.run


@pytest.fixture(scope="module")
def make():
    """The same for the stages that make data."""
    with Warm(hashes=1, data_alone=True) as warm:
        yield warm.run


@pytest.fixture
def world(tiny, tmp_path) -> Path:
    """The tiny base and a little data."""
    folder = tmp_path / "world"
    for split, count in (("train", 16), ("validation", 4)):
        rows = [c.example for c in compose(count, 0, split)]
        write_examples(folder / "data" / f"{split}.jsonl", rows)
    (folder / "base").symlink_to(tiny.folder)
    return folder


def harmed(run, name: str, words: list[str], world: Path, folder: Path, moments) -> Record:
    """A course of mishaps at shares of the file operations of an undisturbed run."""
    stage, record = STAGES[name], Record()
    whole = undisturbed(run, words, stage, folder / "whole", world)
    harms = [Harm(kind, operation=max(1, round(share * whole.operations)), size=size)
             for kind, share, size in moments]  # fmt: skip
    lay_out(folder / "killed", world)
    wrong = course(run, words, folder / "killed", harms, name, record)
    assert wrong + judged(stage, folder / "killed", whole) == []
    return record


@pytest.mark.parametrize(("kind", "said", "failures"), [
    (MEMORY, 'File "/lib/threading.py", line 969 in start\n', 0),
    (MEMORY, 'File "/lib/threading.py", line 1002 in _bootstrap\n', 1),
    ("SIGTERM", 'File "/lib/threading.py", line 969 in start\n', 1),
])  # fmt: skip
def test_what_hangs_is_a_failure_but_for_a_thread_that_python_could_not_begin(
    kind, said, failures, tmp_path
):
    ends = iter([Ended(-9, 300.0, 0, hung=True, said=said), Ended(0, 1.0, 9, hung=False, said="")])
    record = Record()
    wrong = course(lambda *_: next(ends), [], tmp_path, [Harm(kind, seconds=0.1)], "sft", record)
    assert len(wrong) == failures
    assert record.kills == {("sft", kind): 1}


@pytest.mark.slow
def test_training_killed_while_it_saves_and_after_its_last_step(run, world, tmp_path):
    moments = [("SIGKILL", 0.3, 0), (FULL, 0.15, 1001), (MEMORY, 0.1, 0), ("SIGKILL", 0.15, 0)]
    words = [*STAGES["sft"].words.split(), "--sft.epochs", "2"]
    record = harmed(run, "sft", words, world, tmp_path, moments)
    assert record.statuses == {"SIGKILL": Counter({-9: 2}), FULL: Counter({1: 1}),
                               MEMORY: Counter({1: 1})}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("before_the_end", "left"), [
    (5, "sft.work"), (2, "sft.work"), (1, ".sft.work.lock"),
])  # fmt: skip
def test_killed_while_it_clears_up_it_clears_up_the_next_time(
    run, world, tmp_path, before_the_end, left
):
    stage, words = STAGES["sft"], [*STAGES["sft"].words.split(), "--sft.epochs", "1"]
    whole = undisturbed(run, words, stage, tmp_path / "whole", world)
    lay_out(tmp_path / "killed", world)
    late = Harm("SIGKILL", operation=whole.operations - before_the_end + 1)
    assert run(words, tmp_path / "killed", late).status == -9
    assert (tmp_path / "killed/out/sft/manifest.json").is_file()
    assert (tmp_path / "killed/out" / left).exists()
    assert run(words, tmp_path / "killed").status == 0
    assert judged(stage, tmp_path / "killed", whole) == []


def test_making_data_is_killed_in_its_folder_and_by_a_full_disk(make, world, tmp_path):
    moments = [("SIGKILL", 0.5, 0), (FULL, 0.7, 0), ("SIGKILL", 1.0, 0), ("SIGINT", 0.9, 0)]
    record = harmed(make, "data", STAGES["data"].words.split(), world, tmp_path, moments)
    assert record.kills.total() == len(moments)


def test_answers_of_a_server_are_asked_for_once(make, world, tmp_path):
    with ScriptedServer() as server:
        words = [word.replace("%s", server.url) for word in STAGES["hard, server"].words.split()]
        record = harmed(make, "hard, server", words, world, tmp_path, [("SIGKILL", 0.5, 0)])
    assert record.kills.total() == 1


def test_moments_are_drawn_alike_for_a_seed_and_everywhere():
    def some(seed):
        dice = random.Random(seed)
        return [drawn(dice, kind, 3.0, 40) for kind in KINDS * 20]

    assert some(1) == some(1) != some(2)
    for harm in some(1):
        assert (harm.seconds is None) != (harm.operation is None)
        assert harm.seconds is None or 0 <= harm.seconds <= 3
        assert harm.operation is None or 1 <= harm.operation <= 40
    assert {harm.operation for harm in some(1)} > {1, None}
    assert set(EXPECTED) == set(KINDS)


def test_what_is_lost_left_over_or_different_is_named():
    found = differences({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "x", ".d.tmp": "4"})
    assert found == ["missing: c", "left over: .d.tmp", "different: b"]


def test_the_table_counts_kinds_by_stages():
    record = Record(kills=Counter({("sft", "SIGKILL"): 2, ("sft", FULL): 1, ("dpo", MEMORY): 4}))
    record.note("sft", [Harm("SIGKILL", seconds=1.25)], ["left over: x"])
    text = page(record, 7, 120.0)
    assert "| sft | 2 | 0 | 0 | 0 | 1 | 0 | 3 |" in text
    assert "| all | 2 | 0 | 0 | 0 | 1 | 4 | 7 |" in text
    assert "7 kills in 1 courses, 0 mishaps too late to end a run, 1 failures; seed 7" in text
    assert "course 0 (sft; SIGKILL after 1.25 s): left over: x" in text


@pytest.mark.slow
def test_two_hundred_kills(tmp_path):
    told = ["--kills", "200", "--out", str(tmp_path / "report"), "--keep", str(tmp_path / "work")]
    assert main(told) == 0
