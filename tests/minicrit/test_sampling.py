"""Sampling: shared prompts change nothing, each sample stands by itself, chances are kept."""

import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from minicrit.base import load_tokenizer
from minicrit.critic import Critic
from minicrit.decoding import Decoder, greedy
from minicrit.logprobs import token_logprobs
from minicrit.sampling import Manner, _next, sample

ITEMS = [
    ("trading", "Rose three days in a row, so it will rise tomorrow."),
    ("general", "All swans seen were white."),
    ("medical", "Of 400 treated 90 % got well, of 400 untreated 60 %; so it seems to help. " * 3),
]
MANNER = Manner(copies=3, temperatures=(0.8, 1.2), max_new_tokens=12, seed=5)


@pytest.fixture
def critic(tiny_adapted, tiny):
    return Critic(tiny_adapted, load_tokenizer(tiny), name="tiny", identity="tiny")


def test_logits_are_those_of_the_whole_text_read_anew(tiny_model):
    model = tiny_model
    prompts = [[5, 6, 7, 8, 9], [11, 12], [20, 21, 22]]
    decoder = Decoder(model, prompts, copies=2, room=6)
    rows = [list(p) for p in prompts for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    for step in range(4):
        plain = torch.stack([model(torch.tensor([row])).logits[0, -1] for row in rows])
        # softmax in float32, as in the model's own attention, is what is left of the difference
        torch.testing.assert_close(decoder.logits, plain, rtol=1e-5, atol=1e-6)
        tokens = torch.randint(30, 60, (len(rows),), generator=generator)
        for row, token in zip(rows, tokens.tolist(), strict=True):
            row.append(token)
        decoder.step(tokens)
        if step == 1:
            decoder.select(torch.tensor([0, 2]))
            rows = rows[:2] + rows[4:]


def test_a_sample_does_not_depend_on_its_company(critic):
    together = sample(critic, ITEMS, MANNER)
    alone = [sample(critic, [item], replace(MANNER, rows=3))[0] for item in ITEMS]
    backwards = sample(critic, ITEMS[::-1], replace(MANNER, rows=6))[::-1]
    texts = [[s.text for s in group] for group in together]
    assert texts == [[s.text for s in group] for group in alone]
    assert texts == [[s.text for s in group] for group in backwards]
    assert len(set(texts[0])) == 3  # of one rationale, they differ
    other = sample(critic, ITEMS, replace(MANNER, seed=6))
    assert [s.text for s in other[0]] != texts[0]


def test_temperatures_take_turns_and_zero_is_greedy(critic):
    manner = Manner(copies=2, temperatures=(0.0, 1.0), max_new_tokens=8)
    greedy, drawn = sample(critic, ITEMS[:1], manner)[0]
    assert (greedy.temperature, drawn.temperature) == (0.0, 1.0)
    encoder = critic.encoder
    ids = [*encoder.prompt(*ITEMS[0]), *encoder.lead_in]
    out = critic.causal_lm.generate(
        input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False,
        max_new_tokens=8, eos_token_id=encoder.end, pad_token_id=encoder.end,
    )[0, len(ids):]  # fmt: skip
    new = [t for t in out.tolist() if t != encoder.end]
    assert greedy.text == critic.tokenizer.decode([*encoder.lead_in, *new]).lstrip()


def test_temperatures_are_not_rounded_to_the_type_of_the_weights():
    """Of two tokens at 0.7, the chance between the shares at 0.7 and at 0.69921875 tells them."""
    logits = torch.tensor([[1.0, 0.0]], dtype=torch.bfloat16)
    chance = sum(1 / (1 + math.exp(-1 / heat)) for heat in (0.7, 0.69921875)) / 2
    draw = SimpleNamespace(temperature=0.7, chances=torch.tensor([chance], dtype=torch.float64))
    assert _next(logits, [draw], 0).tolist() == [1]


@pytest.mark.parametrize(("told", "said"), [
    ({"copies": 0}, "copies: expected at least 1, got 0"),
    ({"max_new_tokens": 0}, "max_new_tokens: expected at least 1, got 0"),
    ({"temperatures": ()}, "temperatures: expected numbers from 0 on, got none"),
    ({"temperatures": (0.7, -1.0)}, "temperatures: expected numbers from 0 on, got 0.7, -1"),
    ({"temperatures": (math.nan,)}, "temperatures: expected numbers from 0 on, got nan"),
])  # fmt: skip
def test_a_manner_in_which_nothing_can_be_drawn_is_refused(told, said):
    with pytest.raises(ValueError, match=said):
        Manner(**told)


def test_tokens_come_as_often_as_they_should(critic):
    manner = Manner(copies=4000, temperatures=(1.0,), max_new_tokens=1, rows=4000)
    drawn = Counter(s.text for s in sample(critic, ITEMS[1:2], manner)[0])
    encoder = critic.encoder
    ids = [*encoder.prompt(*ITEMS[1]), *encoder.lead_in]
    chances = critic.causal_lm(torch.tensor([ids])).logits[0, -1].softmax(-1)
    expected: Counter[str] = Counter()
    for token, chance in enumerate(chances.tolist()):
        kept = [] if token == encoder.end else [token]
        expected[critic.tokenizer.decode([*encoder.lead_in, *kept]).lstrip()] += chance
    for text, chance in expected.most_common(5):
        spread = (4000 * chance * (1 - chance)) ** 0.5
        assert abs(drawn[text] - 4000 * chance) < 4.5 * spread


def test_logprob_is_that_of_the_tokens_at_temperature_one(critic):
    one = sample(critic, ITEMS[:1], replace(MANNER, copies=1, temperatures=(1.3,)))[0][0]
    encoder = critic.encoder
    prompt = [*encoder.prompt(*ITEMS[0]), *encoder.lead_in]
    ids = torch.tensor([[*prompt, *one.ids]])
    with torch.inference_mode():
        logits = critic.causal_lm(ids).logits[0, len(prompt) - 1 : -1]
    assert one.logprob == pytest.approx(float(token_logprobs(logits, ids[0, len(prompt) :]).sum()))
    assert 0 < len(one.ids) <= MANNER.max_new_tokens


def test_greedy_writes_what_the_librarys_own_loop_writes(tiny_model):
    prompts = [[5, 6, 7, 8, 9], [11, 12], [20, 21, 22]]
    longest = 9

    def plain(prompt, end):
        out = tiny_model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=longest, do_sample=False, eos_token_id=end, pad_token_id=0,
        )[0, len(prompt) :].tolist()  # fmt: skip
        return out[: out.index(end)] if end in out else out

    free = greedy(tiny_model, prompts, longest=longest, end=-1)
    assert [len(row) for row in free] == [longest] * 3
    # An end that one of them comes to on the way: it leaves, the others go on.
    end = free[1][4]
    cut = greedy(tiny_model, prompts, longest=longest, end=end)
    assert cut == [plain(prompt, end) for prompt in prompts]
    assert len(cut[1]) < longest
    assert greedy(tiny_model, prompts, longest=0, end=end) == [[], [], []]
    assert greedy(tiny_model, [], longest=3, end=end) == []
