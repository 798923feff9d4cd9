"""A critic that writes alone writes with drafts, and nothing in its answer shows it."""

from dataclasses import replace

import pytest
import torch

from minicrit.base import load_model, load_tokenizer
from minicrit.critic import Critic
from minicrit.scribe import Scribe
from minicrit.taxonomy import DOMAINS

ITEMS = [
    (DOMAINS[n % 6], f"Of {10 + n} wards {n} had fewer falls, so in {2 * n} wards nobody falls. "
     * (1 + n % 3) + f"Case {n * n}.")
    for n in range(12)
]  # fmt: skip


def without_times(written):
    return replace(written, verdict=replace(written.verdict, latency_ms=0, p_flawed=0))


def test_drafts_change_nothing_of_a_dozen_critiques(tiny_adapted, tiny):
    critic = Critic(tiny_adapted, load_tokenizer(tiny), name="tiny", identity="tiny")
    critic.threshold = float(sorted(critic.p_flawed(ITEMS))[6])  # both verdicts
    forwards = tokens = 0
    for item in ITEMS:
        (plain,) = critic.critique([item], max_new_tokens=10, batch=1, drafts=False)
        (drafted,) = critic.critique([item], max_new_tokens=10, batch=1)
        assert without_times(drafted) == without_times(plain)
        assert drafted.verdict.p_flawed == pytest.approx(plain.verdict.p_flawed, abs=1e-9)
        forwards += critic.scribe.last.forwards
        tokens += critic.scribe.last.tokens
    assert forwards < 0.9 * tokens
    assert critic.scribe.book.size > 12 * 10


def test_several_at_once_and_bfloat16_are_not_drafted(tiny, tiny_adapted):
    critic = Critic(tiny_adapted, load_tokenizer(tiny), name="tiny", identity="tiny")
    critic.critique(ITEMS[:2], max_new_tokens=3)
    assert "scribe" not in vars(critic)
    rounded = Critic(load_model(tiny, torch.bfloat16), load_tokenizer(tiny), name="x", identity="x")
    assert not rounded.drafts_are_exact
    rounded.critique(ITEMS[:1], max_new_tokens=3, batch=1)
    assert "scribe" not in vars(rounded)


def test_a_scribe_gets_faster_at_what_it_has_written(tiny_model, tiny_encoder):
    scribe = Scribe(tiny_model, tiny_encoder)
    prompt = [*tiny_encoder.prompt(*ITEMS[3]), *tiny_encoder.lead_in]
    scribe.watch = True
    first, once = scribe.write([prompt], [len(prompt) - 3], 16), scribe.last
    again, twice = scribe.write([prompt], [len(prompt) - 3], 16), scribe.last
    assert first == again
    assert twice.forwards < once.forwards
    assert scribe.closest is not None
    assert scribe.closest > 0


def test_several_texts_at_a_time_are_those_of_each_alone(tiny_model, tiny_encoder):
    prompts = [tiny_encoder.prompt(*item) for item in ITEMS[:3]]
    starts = [len(prompt) for prompt in prompts]
    together = Scribe(tiny_model, tiny_encoder).write(prompts, starts, 10)
    alone = [Scribe(tiny_model, tiny_encoder).write([p], [s], 10)[0]
             for p, s in zip(prompts, starts, strict=True)]  # fmt: skip
    assert together == alone
