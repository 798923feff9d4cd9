"""Clients that ask, some slowly, some leaving before the answer, some sending feedback."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.load.wire import Line
from tests.minicrit.serving.running import items

POOL = 400  # different rationales
BASES = items(POOL)


@dataclass
class Manners:
    """Shares of the requests that are sent slowly, left, of critiques, and that get feedback."""

    slow: float = 0.05
    vanishing: float = 0.05
    critiques: float = 0.02
    feedback: float = 0.2


@dataclass
class Tally:
    """What came of all requests.

    Attributes:
        answers: (number in the pool, label, p_flawed) of every verdict given.
        seconds: of every plain request that was answered.
        acknowledged: (request id, feedback id) of every feedback that was acknowledged.
        statuses: how often each status came; 0 for a broken connection.
    """

    answers: list[tuple[int, str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    acknowledged: list[tuple[str, int]] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    vanished: int = 0


async def crowd(
    port: int, clients: int, seconds: float, manners: Manners, tally: Tally, seed: int = 0
) -> None:
    """Lets so many clients ask one request after the other for so long."""
    end = time.monotonic() + seconds
    await asyncio.gather(*(_client(Line("127.0.0.1", port), random.Random(f"{seed}-{n}"), end,
                                   manners, tally) for n in range(clients)))  # fmt: skip


async def _client(
    line: Line, dice: random.Random, end: float, manners: Manners, tally: Tally
) -> None:
    while time.monotonic() < end:
        try:
            await _once(line, dice, manners, tally)
        except (OSError, ValueError, asyncio.IncompleteReadError):
            tally.statuses[0] += 1
            line.close()
            await asyncio.sleep(0.2)
    line.close()


async def _once(line: Line, dice: random.Random, manners: Manners, tally: Tally) -> None:
    number = dice.randrange(POOL)
    body = {"domain": BASES[number][0], "rationale": BASES[number][1]}
    path = "/v1/critique" if dice.random() < manners.critiques else "/v1/verdict"
    if dice.random() < manners.vanishing:
        await line.vanish(path, body)
        tally.vanished += 1
        return
    slow = dice.random() < manners.slow
    start = time.monotonic()
    status, answer = await line.post(path, body, pauses=5 if slow else 0)
    tally.statuses[status] += 1
    if status == 429:
        await asyncio.sleep(dice.uniform(0.5, 1.0))
    if status != 200:
        return
    if not slow and path == "/v1/verdict":
        tally.seconds.append(time.monotonic() - start)
    (row,) = answer["results"]
    tally.answers.append((number, row["label"], row["p_flawed"]))
    if dice.random() < manners.feedback:
        await _feedback(line, row["request_id"], dice, tally)


async def _feedback(line: Line, request_id: str, dice: random.Random, tally: Tally) -> None:
    body = {"request_id": request_id, "decision": dice.choice(("agree", "disagree")),
            "operator": "load", "idempotency_key": f"{dice.getrandbits(64):x}"}  # fmt: skip
    status, answer = await line.post("/v1/feedback", body)
    tally.statuses[status] += 1
    if status == 201:
        tally.acknowledged.append((request_id, answer["feedback_id"]))
