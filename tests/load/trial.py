"""A load test of the service: throughput, latency, wrong answers, lost feedback, memory.

make load-test                                   # 50 clients for 60 s
make load-test ARGS="--kill"                     # kill -9 in the middle, then start again
make load-test ARGS="--clients 1 32 --seconds 20 --well-behaved"    # what batching gives
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from minicrit.critic import Critic
from minicrit.feedback.store import FeedbackStore
from tests.load.crowd import BASES, Manners, Tally, crowd
from tests.load.process import Process

CLOSE = 1e-6  # what p_flawed may differ by from one batch to another


def main(argv: list[str] | None = None) -> int:
    """Runs one trial for each number of clients; 1 if the service failed in one, see `failed`."""
    options = _options(argv)
    rows = []
    for clients in options.clients:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(trial(options, clients, Path(folder)))
        sys.stdout.write(json.dumps(rows[-1]) + "\n")
        sys.stdout.flush()
    if len(rows) == 2:
        ratio = rows[1]["verdicts_a_second"] / rows[0]["verdicts_a_second"]
        sys.stdout.write(f"throughput, {rows[1]['clients']} clients to {rows[0]['clients']}: "
                         f"{ratio:.2f}\n")  # fmt: skip
    return int(any(map(failed, rows)))


def failed(row: dict[str, Any]) -> bool:
    """Whether an answer was wrong, feedback lost, a fault told, or nothing answered at all."""
    return bool(row["wrong"] or row["lost_feedback"] or row["statuses"].get("500")
                or row["exit_status"] or not row["verdicts"])  # fmt: skip


def trial(options: argparse.Namespace, clients: int, folder: Path) -> dict[str, Any]:
    """One run of the service under so many clients, in figures."""
    service = Process(folder, options.bases, options.model)
    manners = Manners(0, 0, 0, 0) if options.well_behaved else Manners()
    tally = Tally()
    service.start()
    memory: list[float] = []
    before = service.cpu_s()
    with _watched(service, memory) as watching:
        asyncio.run(_load(service, clients, options, manners, tally, watching))
    spent = service.cpu_s() - before
    status = service.stop()
    return {"clients": clients, "seconds": options.seconds, "kill": options.kill,
            "verdicts": len(tally.answers),
            "verdicts_a_second": round(len(tally.answers) / options.seconds, 1),
            **_latency(tally), **_wrong(options, tally), **_lost(service, tally),
            "statuses": {str(k): n for k, n in sorted(tally.statuses.items())},
            "vanished": tally.vanished, "exit_status": status,
            "cpu_s": None if options.kill else round(spent, 1), **_grown(memory)}  # fmt: skip


async def _load(
    service: Process, clients: int, options: argparse.Namespace, manners: Manners, tally: Tally,
    watching: Any,
) -> None:  # fmt: skip
    asking = asyncio.create_task(crowd(service.port, clients, options.seconds, manners, tally))
    looking = asyncio.create_task(watching())
    if options.kill:
        await asyncio.sleep(options.seconds / 2)
        service.kill()
        await asyncio.to_thread(service.start)
    await asking
    looking.cancel()


@contextmanager
def _watched(service: Process, memory: list[float]) -> Iterator[Any]:
    async def watching() -> None:
        while True:
            memory.append(service.memory_mib())
            await asyncio.sleep(1.0)

    yield watching


def _latency(tally: Tally) -> dict[str, float]:
    if not tally.seconds:
        return {}
    p50, p99 = np.quantile(tally.seconds, (0.5, 0.99))
    return {"p50_ms": round(1000 * float(p50), 1), "p99_ms": round(1000 * float(p99), 1)}


def _wrong(options: argparse.Namespace, tally: Tally) -> dict[str, float]:
    """Every verdict against the offline one."""
    critic = Critic.load(options.model, base_folder=options.bases)
    offline = [verdict.p_flawed for verdict in critic.verdict(BASES)]
    away = [abs(p - offline[number]) for number, _, p in tally.answers]
    said = ["flawed" if p > critic.threshold else "valid" for p in offline]
    flips = sum(label != said[number] for number, label, _ in tally.answers)
    return {"wrong": sum(d > CLOSE for d in away) + flips, "flips": flips,
            "furthest": max(away, default=0.0)}  # fmt: skip


def _lost(service: Process, tally: Tally) -> dict[str, int]:
    """Acknowledged feedback that is not in the database."""
    with FeedbackStore(service.database) as store:
        kept = {(row["request_id"], row["id"]) for row in store.decisions()}
        known = {row["request_id"] for row in store.requests()}
    lost = [one for one in tally.acknowledged if one not in kept or one[0] not in known]
    return {"feedback": len(tally.acknowledged), "lost_feedback": len(lost)}


def _grown(memory: list[float]) -> dict[str, float]:
    """Memory in the second fifth of the time and in the last."""
    up = [mib for mib in memory if mib > 0]
    fifth = max(1, len(up) // 5)
    early, late = np.mean(up[fifth : 2 * fifth] or up), np.mean(up[-fifth:])
    return {"rss_mib": round(float(late), 1), "rss_growth_mib": round(float(late - early), 1)}


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[50])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--bases", type=Path, default=Path("checkpoints/base"))
    parser.add_argument("--kill", action="store_true", help="kill -9 in the middle")
    parser.add_argument("--well-behaved", action="store_true",
                        help="nobody is slow, leaves or gives feedback")  # fmt: skip
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
