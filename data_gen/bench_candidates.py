"""How much faster candidates come from shared prompts than one at a time, in one run.

Both sides draw from the same critic at the same temperature, in turns on the same rationales, so
that whatever else the machine does hits both. Compared are seconds a token, as critiques drawn at
random differ in length.
"""

# mypy: disable-error-code="import-untyped"
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, cast

import torch
from tqdm import tqdm

from data_gen.public import draw_groups
from minicrit.critic import Critic, Item
from minicrit.files import write_atomic, write_json
from minicrit.latency import hardware
from minicrit.records import read_examples
from minicrit.sampling import Manner, sample

if TYPE_CHECKING:
    from minicrit.config import Recipe

REPORT = Path("reports/bench-candidates")
#: Rationales a round. The one-at-a-time side takes only the first of them: it is slow.
MANY, FEW, ROUNDS = 16, 1, 5


def bench_candidates(recipe: "Recipe", *, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measures, writes `reports/bench-candidates.json` and `.md`, returns the figures."""
    settings = recipe.pairs
    examples = draw_groups(read_examples(settings.data).examples, MANY * rounds, f"{recipe.seed}")
    items = [(e.domain, e.rationale) for e in examples]
    critic = Critic.load(settings.model, base_folder=recipe.base.folder, calibrated=False)
    manner = Manner(settings.candidates, tuple(settings.temperatures), settings.max_new_tokens,
                    recipe.seed, settings.rows)  # fmt: skip
    shared, alone = [], []
    _one_by_one(critic, items[:1], manner)  # warm-up
    for start in tqdm(range(0, len(items), MANY), unit="round", desc="bench"):
        some = items[start : start + MANY]
        shared.append(_timed(lambda: _shared(critic, some, manner)))  # noqa: B023 - called at once
        alone.append(_timed(lambda: _one_by_one(critic, some[:FEW], manner)))  # noqa: B023
    ratios = [a / s for a, s in zip(alone, shared, strict=True)]
    found = {
        "candidates": manner.copies,
        "rounds": len(ratios),
        "ms_per_token": {"shared": 1000 * median(shared), "one_by_one": 1000 * median(alone)},
        "times_as_fast": {"median": median(ratios), "low": min(ratios), "high": max(ratios)},
        "model": str(settings.model),
        "hardware": hardware(),
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    write_json(REPORT.with_suffix(".json"), found)
    write_atomic(REPORT.with_suffix(".md"), _page(found))
    sys.stdout.write(_page(found))
    return found


def _timed(run: Callable[[], int]) -> float:
    """Seconds a token of what `run` wrote."""
    start = time.perf_counter()
    tokens = run()
    return (time.perf_counter() - start) / tokens


def _shared(critic: Critic, items: Sequence[Item], manner: Manner) -> int:
    return sum(len(one.ids) for group in sample(critic, items, manner) for one in group)


def _one_by_one(critic: Critic, items: Sequence[Item], manner: Manner) -> int:
    """As it is done without any of it: transformers' own loop, each critique from its prompt."""
    generate = cast("Callable[..., torch.Tensor]", critic.causal_lm.generate)
    encoder, tokens = critic.encoder, 0
    for item in items:
        ids = torch.tensor([[*encoder.prompt(*item), *encoder.lead_in]], device=critic.model.device)
        for copy in range(manner.copies):
            heat = manner.temperatures[copy % len(manner.temperatures)]
            drawn = {"do_sample": True, "temperature": heat, "top_k": 0} if heat else {}
            with torch.inference_mode():
                out = generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), **drawn,
                    max_new_tokens=manner.max_new_tokens, eos_token_id=encoder.end,
                    pad_token_id=encoder.end,
                )  # fmt: skip
            tokens += out.shape[1] - ids.shape[1]
    return tokens


def _page(found: dict[str, Any]) -> str:
    times, speed, machine = found["ms_per_token"], found["times_as_fast"], found["hardware"]
    return (
        "# Candidates: shared prompts against one at a time\n\n"
        f"| {found['candidates']} candidates a rationale | ms a token |\n|---|---|\n"
        f"| shared prompts, {MANY} rationales at once | {times['shared']:.2f} |\n"
        f"| one at a time | {times['one_by_one']:.2f} |\n\n"
        f"{speed['median']:.1f} times as fast (median of {found['rounds']} rounds in turns, "
        f"{speed['low']:.1f} to {speed['high']:.1f}); {found['model']}; {machine['cpu']}, "
        f"{machine['torch_threads']} threads, torch {machine['torch']}.\n"
    )
