"""A benchmark that was killed goes on, item by item in every part, and gives the same report."""

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minicrit.benchmark import benchmark
from minicrit.config import Recipe
from minicrit.critic import Written
from minicrit.encoding import TooLongError
from minicrit.judging import UnreadableError
from minicrit.records import write_examples
from minicrit.verdict import Verdict
from tests.minicrit.benchmark_case import StandIn, lasting, many, recipe, twins

PARTS = ("scores", "times", "critiques")


def run(made: Recipe, load: Any = StandIn) -> dict[str, Any]:
    return benchmark(made, load=load, draws=30)


class Slow(StandIn):
    """Takes its time, so that it can be killed between any two lines."""

    def p_and_types(
        self, items: Sequence[tuple[str, str]], *, batch_tokens: int = 4096
    ) -> tuple[np.ndarray, list[str]]:
        time.sleep(0.05)
        return super().p_and_types(items, batch_tokens=batch_tokens)

    def verdict(self, items: Sequence[tuple[str, str]]) -> list[Verdict]:
        time.sleep(0.03)
        return super().verdict(items)

    def critique(
        self, items: Sequence[tuple[str, str]], *, max_new_tokens: int = 160, batch: int = 8
    ) -> list[Written]:
        time.sleep(0.03)
        return super().critique(items, max_new_tokens=max_new_tokens, batch=batch)


def lines(made: Recipe, part: str) -> int:
    """Whole lines that the parts of this name hold by now."""
    return sum(
        path.read_bytes().count(b"\n") for path in made.benchmark.out.parent.glob(f"*.{part}.jsonl")
    )


def kill_in(made: Recipe, part: str) -> None:
    """Run in a process of its own until the part has two lines more, and send SIGKILL."""
    before = lines(made, part)
    process = multiprocessing.get_context("fork").Process(target=run, args=(made, Slow))
    process.start()
    deadline = time.monotonic() + 60
    while lines(made, part) < before + 2 and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert process.is_alive(), f"it ended before {part} could be interrupted"
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not made.benchmark.out.with_name("benchmark.json").exists()


def test_killed_in_every_part_it_gives_the_same_report(tmp_path: Path) -> None:
    """Killed among the verdicts, the latencies and the critiques, one after the other."""
    made = recipe(tmp_path, many())
    made.benchmark.latency_items, made.benchmark.critiques = 6, 6
    made.benchmark.batch_tokens = 32 * 64  # four lines of scores
    kept = {}
    for part in PARTS:
        kill_in(made, part)
        kept[part] = lines(made, part)
    assert all(kept[part] >= 2 for part in PARTS)
    assert lines(made, "scores") >= 4
    resumed = run(made)
    assert resumed["measured"]["model_1"]["verdict_ms"]["n"] == 6
    written = json.loads(made.benchmark.out.with_name("benchmark.json").read_text())
    assert lasting(written) == lasting(resumed) == lasting(run(made))
    assert sorted(p.name for p in made.benchmark.out.parent.iterdir()) == [
        "benchmark.items.jsonl", "benchmark.json", "benchmark.md"]  # fmt: skip


class Counting(StandIn):
    """Counts whole critiques and single verdicts."""

    written = 0
    judged = 0
    most: int | None = None

    def verdict(self, items: Sequence[tuple[str, str]]) -> list[Verdict]:
        self.judged += 1
        return super().verdict(items)

    def critique(
        self, items: Sequence[tuple[str, str]], *, max_new_tokens: int = 160, batch: int = 8
    ) -> list[Written]:
        if self.written == self.most:
            raise KeyboardInterrupt
        self.written += 1
        return super().critique(items, max_new_tokens=max_new_tokens, batch=batch)


def test_what_was_written_and_timed_is_not_asked_again(tmp_path: Path) -> None:
    """Four critiques after one to warm up; it dies in the fourth. No verdict is timed twice."""
    made = recipe(tmp_path, many())
    made.benchmark.model_2 = None
    critic = Counting("a")
    critic.most = 4
    with pytest.raises(KeyboardInterrupt):
        run(made, lambda _: critic)
    assert (critic.judged, critic.written) == (3 + 4, 4)
    again = Counting("a")
    report = run(made, lambda _: again)
    assert (again.judged, again.written) == (0, 1 + 1)
    assert report["judges"]["model_1"]["critiques"]["n"] == 4


class Cramped(StandIn):
    """Can write no critique of the flawed texts of two groups: `why` if not for want of room."""

    why = ""

    def critique(
        self, items: Sequence[tuple[str, str]], *, max_new_tokens: int = 160, batch: int = 8
    ) -> list[Written]:
        if any("a=0.8 " in text or "a=0.9 " in text for _, text in items):
            if self.why:
                raise UnreadableError(self.name, self.why)
            raise TooLongError("expected at most 9 prompt tokens, got 10; shorten it")
        return super().critique(items, max_new_tokens=max_new_tokens, batch=batch)


class Refused(Cramped):
    """A server that refuses these."""

    why = "refused by the server"


@pytest.mark.parametrize(("judge", "why"), [(Cramped, "too long"), (Refused, Refused.why)])
def test_texts_that_no_critique_can_be_written_of_are_misses(
    tmp_path: Path, judge: type[Cramped], why: str
) -> None:
    made = recipe(tmp_path)
    made.benchmark.model_2, made.benchmark.critiques = None, 8
    found = run(made, judge)["judges"]["model_1"]["critiques"]
    assert found["unparsed_reasons"] == {why: 2}
    assert (found["parsed"]["value"], found["n"]) == (6 / 8, 8)
    lost = [one for one in found["samples"] if one["unparsed"]]
    assert {(one["p_flawed"], one["verdict"], one["written"]) for one in lost} == {
        (0.8, "flawed", ""), (0.9, "flawed", "")}  # fmt: skip
    assert run(made, judge)["measured"]["model_1"]["critique_ms"]["n"] == 6


def killed(made: Recipe) -> Path:
    """A run that dies in the second batch of 64; the file of its scores."""

    def load(name: str) -> StandIn:
        critic = StandIn(name)
        critic.dies_after = 1
        return critic

    with pytest.raises(KeyboardInterrupt):
        run(made, load)
    (scores,) = made.benchmark.out.parent.glob("*.scores.jsonl")
    return Path(scores)


def asked(made: Recipe, identity: str = "") -> tuple[dict[str, int], dict[str, Any]]:
    """Run on: how many items each critic was asked, and the report."""
    critics = {}

    def load(name: str) -> StandIn:
        critics[name] = StandIn(name)
        critics[name].identity += identity
        return critics[name]

    report = run(made, load)
    return {name: critic.asked for name, critic in critics.items()}, report


def test_a_killed_run_continues(tmp_path: Path) -> None:
    """The first 64 of 100 are not asked again, and the result is that of a whole run."""
    made = recipe(tmp_path, many())
    killed(made)
    number, resumed = asked(made)
    assert number == {"a": 36, "b": 100}
    assert lasting(resumed) == lasting(run(made))
    assert not list(made.benchmark.out.parent.glob("*.scores.jsonl"))


def test_a_broken_last_line_is_dropped(tmp_path: Path) -> None:
    """Half a line, a line of another form or of another length: asked again."""
    made = recipe(tmp_path, many())
    scores = killed(made)
    kept = scores.read_bytes()
    for tail in (b'{"p": [0.1, 0.', b'{"p": 3}\n', b"\xff\n", b'{"p": [0.5], "unscored": []}\n'):
        scores.write_bytes(kept + tail)
        number, report = asked(made)
        assert number["a"] == 36, tail
        assert report["judges"]["model_1"]["n"] == 100


def test_another_model_or_other_data_reuse_nothing(tmp_path: Path) -> None:
    """The key holds the critic's identity and every item."""
    made = recipe(tmp_path, many())
    killed(made)
    assert asked(made, identity=" changed")[0]["a"] == 100
    killed(made)
    write_examples(tmp_path / "test.jsonl", [*many(), *twins(99, (0.1, 0.9), (0.2, 0.8))])
    assert asked(made)[0]["a"] == 102
