"""How fast a quantized critic is beside the float one, turn by turn in one run.

Claimed is the median of the ratios, as times differ between runs. Beside the time on the clock
stand the seconds of a processor that the process spent, in which other work on the machine does not
count.
"""

# mypy: disable-error-code="import-untyped"
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from minicrit.critic import Critic, Item
from minicrit.decoding import greedy
from minicrit.latency import hardware, seconds
from minicrit.measures import Floats, plain
from minicrit.quantize_config import QuantizeConfig

BATCHES = (1, 8, 64)
_NO_END = -1  # no token: every critique is written to the last, so that both write as many
Call = Callable[[Critic], object]


def speeds(
    critics: tuple[Critic, Critic], items: Sequence[Item], settings: QuantizeConfig
) -> dict[str, Any]:
    """Verdicts by batch size and tokens a second of writing, float (first) against quantized.

    A batch larger than there are items is left out.
    """
    for critic in critics:
        critic.p_flawed(items[:2])
    found: dict[str, Any] = {}
    for size in BATCHES:
        if size <= len(items):
            turns = settings.latency_items if size == 1 else max(1, settings.rounds)
            found[str(size)] = _verdicts(critics, items, size, turns)
    writing = _writing(critics, items[: settings.written], settings.max_new_tokens)
    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    return {"verdict": found, "writing": writing, "hardware": hardware(),
            "load": [plain(one) for one in load]}  # fmt: skip


def _verdicts(
    critics: tuple[Critic, Critic], items: Sequence[Item], size: int, turns: int
) -> dict[str, Any]:
    """Times of whole batches, in ms; each turn takes the next items, from the first again."""
    starts = [turn * size % (len(items) - size + 1) for turn in range(turns)]
    batches = [items[at : at + size] for at in starts]
    calls: list[Call] = [partial(_judge, batch=batch) for batch in batches]
    return _turns(critics, calls, f"batch {size}")


def _judge(critic: Critic, batch: Sequence[Item]) -> None:
    critic.p_flawed(batch)


def _writing(
    critics: tuple[Critic, Critic], items: Sequence[Item], longest: int
) -> dict[str, Any] | None:
    """Tokens a second of greedy critiques, one after the other, the reading included."""
    if not items:
        return None

    def write(critic: Critic, item: Item) -> None:
        encoder = critic.encoder
        head = [*encoder.lead_in, *encoder.verdict_words["flawed"]]
        prompt = [*encoder.prompt(*item), *head]
        greedy(critic.causal_lm, [prompt], longest=longest, end=_NO_END)

    calls: list[Call] = [partial(write, item=item) for item in items]
    found = _turns(critics, calls, "writing")
    rates = {name: {f"tokens_per_{unit}_second": plain(1000 * longest / found[name][f"{unit}_ms"])
                    for unit in ("wall", "cpu")} for name in ("float", "quantized")}  # fmt: skip
    return {**rates, **{key: found[key] for key in ("speedup", "speedup_cpu", "turns")},
            "tokens": longest}  # fmt: skip


def _turns(critics: tuple[Critic, Critic], calls: Sequence[Call], name: str) -> dict[str, Any]:
    """Medians of each call in ms, on the clock and of the processor, and medians of the ratios."""
    spent = np.array([
        [_spent(partial(call, critic)) for critic in critics]
        for call in tqdm(calls, unit="turn", desc=f"speed, {name}")
    ])  # fmt: skip
    middle = 1000 * np.median(spent, axis=0)
    rows = {side: {"wall_ms": plain(middle[n, 0]), "cpu_ms": plain(middle[n, 1]),
                   "wall_p95_ms": plain(1000 * np.percentile(spent[:, n, 0], 95))}
            for n, side in enumerate(("float", "quantized"))}  # fmt: skip
    ratios: Floats = np.median(spent[:, 0] / spent[:, 1], axis=0)
    return {**rows, "speedup": plain(ratios[0]), "speedup_cpu": plain(ratios[1]),
            "turns": len(calls)}  # fmt: skip


def _spent(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and seconds of the processor."""
    begin = time.process_time()
    return seconds(call), time.process_time() - begin
