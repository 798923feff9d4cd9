"""Arms of experiments: which of them must be equal to what, exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from minicrit.arms import (
    GREEDY,
    PLAIN,
    REASONING,
    THINKING,
    Asked,
    reading_arms,
    reformatted,
    sampling_arms,
)
from minicrit.base import load_tokenizer
from minicrit.calibrated import Calibration, Scale
from minicrit.critic import Critic
from minicrit.formats import plain
from minicrit.measure_config import ExperimentsConfig
from minicrit.prompts import STYLES, render_prompt
from minicrit.sampling import Manner, sample
from minicrit.thinking import go_on, prompt_ids, reasoning
from tests.minicrit.benchmark_case import small

EXAMPLES = small()[:4]
ITEMS = [(e.domain, e.rationale) for e in EXAMPLES]
SETTINGS = ExperimentsConfig(
    samples=2, temperatures=[0.0, 0.9], max_new_tokens=10, thought_tokens=6
)


@pytest.fixture
def critic(tiny_adapted, tiny):
    return Critic(tiny_adapted, load_tokenizer(tiny), name="tiny", identity="tiny", adapter="x")


def asked(critic):
    """Writing as it reads."""
    return Asked(critic, critic)


def reading(settings=SETTINGS):
    return {arm.name: arm for arm in reading_arms(settings)}


def test_the_trained_prompt_is_read_as_the_critic_reads_it(critic):
    answers = reading()[PLAIN].ask(asked(critic), EXAMPLES)
    assert [a["p"] for a in answers] == [critic.p_flawed([item])[0] for item in ITEMS]
    assert [a["log_odds"] for a in answers] == [critic.log_odds([item])[0] for item in ITEMS]
    lengths = [len(critic.encoder.prompt(*item)) for item in ITEMS]
    assert [a["read"] - len(critic.encoder.lead_in) for a in answers] == lengths


def test_a_layout_that_changes_nothing_changes_nothing(critic):
    same = reformatted("same", plain).ask(asked(critic), EXAMPLES)
    assert same == reading()[PLAIN].ask(asked(critic), EXAMPLES)
    other = reading()["bullets"].ask(asked(critic), EXAMPLES)
    assert all(a["log_odds"] != b["log_odds"] for a, b in zip(same, other, strict=True))


def test_a_style_is_read_as_an_encoder_of_that_style_does(critic):
    answers = reading()["expert"].ask(asked(critic), EXAMPLES)
    critic.encoder = replace(critic.encoder, style="expert")
    assert [a["p"] for a in answers] == [critic.p_flawed([item])[0] for item in ITEMS]


def test_calibration_holds_for_the_trained_prompt_and_its_layouts_alone(critic):
    plainly = {name: arm.ask(asked(critic), EXAMPLES) for name, arm in reading().items()}
    critic._calibration = Calibration(0.5, Scale(2.0, 0.3), {}, None, {})
    for name, arm in reading().items():
        for before, after in zip(plainly[name], arm.ask(asked(critic), EXAMPLES), strict=True):
            temperature, shift = (2, 0.3) if arm.own else (1, 0)
            assert after["log_odds"] == before["log_odds"]
            assert after["p"] == pytest.approx(
                1 / (1 + np.exp(-(before["log_odds"] / temperature + shift)))
            )
    assert [arm.own for arm in reading().values()] == [True, *[False] * 4, *[True] * 10]


def test_a_false_sum_counts_after_every_prompt_alike(critic):
    """Believed at 0.9, it makes of any p 1 - (1 - p) / 10; no prompt has a part in that."""
    told = replace(EXAMPLES[0], rationale="Sold: 80 times 5 is 300, so all is well.")
    plainly = {name: arm.ask(asked(critic), [told])[0] for name, arm in reading().items()}
    critic._calibration = Calibration(
        0.5, Scale(1.0), {}, None, {"sums": {"believed": 0.9, "n": 8, "k": 8}}, believed=0.9
    )
    for name, arm in reading().items():
        (answer,) = arm.ask(asked(critic), [told])
        assert answer["log_odds"] == plainly[name]["log_odds"]
        assert answer["p"] == pytest.approx(1 - (1 - plainly[name]["p"]) / 10)
        (other,) = arm.ask(asked(critic), EXAMPLES[:1])
        assert other["p"] == pytest.approx(1 / (1 + np.exp(-other["log_odds"])))


def test_temperature_zero_is_greedy_and_greedy_is_the_likeliest_token(critic):
    greedy, cold, warm = (arm.ask(asked(critic), EXAMPLES) for arm in sampling_arms(SETTINGS, 3))
    assert [a["texts"] * 2 for a in greedy] == [a["texts"] for a in cold]
    assert [a["texts"] for a in warm] != [a["texts"] for a in cold]
    prompt = [*critic.encoder.prompt(*ITEMS[0]), *critic.encoder.lead_in]
    wrote = generated(critic, prompt, greedy[0]["wrote"][0])
    decoded = critic.tokenizer.decode([*critic.encoder.lead_in, *wrote])
    assert greedy[0]["texts"] == [decoded.lstrip().replace("\0", "\ufffd")]


def generated(critic, prompt: list[int], most: int) -> list[int]:
    """The likeliest next token again and again, with the whole text read anew each time."""
    ids = list(prompt)
    for _ in range(most):
        ids.append(int(critic.causal_lm(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


def test_sampled_critiques_are_those_of_the_sampler(critic):
    arm = sampling_arms(SETTINGS, 3)[2]
    manner = Manner(copies=2, temperatures=(0.9,), max_new_tokens=10, seed=3)
    found = sample(critic, ITEMS, manner)
    assert [a["texts"] for a in arm.ask(asked(critic), EXAMPLES)] == [
        [s.text for s in g] for g in found
    ]
    assert arm.each == SETTINGS.rows // 2


def test_the_verdict_is_read_after_what_was_written(critic):
    answer = reading()[THINKING].ask(asked(critic), EXAMPLES[:1])[0]
    prompt = prompt_ids(critic.encoder, STYLES["cot"](*ITEMS[0]) + REASONING)
    ids = generated(critic, prompt, 6)
    text, ended = reasoning(critic, ids)
    assert (answer["text"], answer["ended"], answer["wrote"]) == (text, ended, len(ids))
    after = [*prompt, *critic.encoder.ids(text.rstrip() + "\n")]
    assert answer["log_odds"] == critic.odds_after([after])[0]
    assert answer["read"] == len(prompt) + len(after) + len(critic.encoder.lead_in)


def test_many_prompts_at_once_go_on_as_each_alone(critic):
    prompts = [prompt_ids(critic.encoder, rationale) for _, rationale in ITEMS]
    together = go_on(critic, prompts, 5)
    assert together == [generated(critic, prompt, 5) for prompt in prompts]


def test_reasoning_ends_at_a_verdict_at_the_end_token_or_at_the_limit(critic):
    ids, end = critic.encoder.ids, critic.encoder.end
    assert reasoning(critic, ids("It holds. Verdict: valid")) == ("It holds. ", "verdict")
    assert reasoning(critic, [*ids("It holds."), end]) == ("It holds.", "end")
    assert reasoning(critic, ids("It holds")) == ("It holds", "limit")
    assert reasoning(critic, [end]) == ("", "end")


def test_what_does_not_fit_is_not_read(critic):
    fits = len(prompt_ids(critic.encoder, render_prompt(*ITEMS[0]))) + 24
    critic.encoder = replace(critic.encoder, max_tokens=fits)
    long = replace(EXAMPLES[0], rationale="so " * 200)
    lost = {"unscored": "too long"}
    for arm in (reading()[PLAIN], reading()[THINKING], sampling_arms(SETTINGS, 0)[0]):
        assert arm.ask(asked(critic), [long]) == [lost]
    whole, cut = sampling_arms(SETTINGS, 0)[0].ask(asked(critic), [EXAMPLES[0], long])
    assert cut == lost
    assert len(whole["texts"]) == 1


def test_which_arms_are_asked():
    names = list(reading(ExperimentsConfig(arms=["thought"])))
    assert names == [PLAIN, "cot", THINKING]  # its baselines come along
    assert list(reading(ExperimentsConfig(arms=["formats"]))) == list(STYLES)
    assert reading(ExperimentsConfig(arms=["temperature"])) == {}
    assert sampling_arms(ExperimentsConfig(arms=["formats"]), 0) == []
    found = [arm.name for arm in sampling_arms(ExperimentsConfig(), 0)]
    assert found == [GREEDY, *(f"temperature 0.{n}" for n in (3, 5, 7, 9))]
