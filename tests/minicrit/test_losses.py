"""Losses against values derived by hand."""

import math

import pytest
import torch

from minicrit.logprobs import choice_logprobs, token_logprobs
from minicrit.losses import sft_loss
from minicrit.schedule import warmup_cosine


def test_sft_loss_by_hand():
    """-(1*ln .5 + 3*ln .25) = ln 2 + 3 ln 4 = 7 ln 2, over a weight of 4."""
    loss = sft_loss(torch.tensor([0.5, 0.25]).log(), torch.tensor([1.0, 3.0]))
    assert loss.total.item() == pytest.approx(7 * math.log(2), rel=1e-6)
    assert loss.weight.item() == 4


def test_sft_loss_of_halves_adds_up():
    logprobs, weights = torch.randn(7, dtype=torch.float64), torch.rand(7, dtype=torch.float64)
    whole, parts = (
        sft_loss(logprobs, weights),
        [sft_loss(logprobs[s], weights[s]) for s in (slice(0, 3), slice(3, 7))],
    )
    assert whole.total.item() == pytest.approx(sum(p.total.item() for p in parts), rel=1e-12)
    assert whole.weight.item() == pytest.approx(sum(p.weight.item() for p in parts), rel=1e-12)


def test_sft_loss_gradient_is_minus_the_weight():
    logprobs = torch.randn(3, dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([1.0, 0.0, 2.5], dtype=torch.float64)
    sft_loss(logprobs, weights).total.backward()
    torch.testing.assert_close(logprobs.grad, -weights)


def test_sft_loss_refuses_mismatched_shapes():
    with pytest.raises(ValueError, match="one weight per token"):
        sft_loss(torch.zeros(3), torch.zeros(2))


def test_token_logprobs_are_stable_and_wide():
    logits = torch.tensor([[1000.0, 0.0], [0.0, 0.0]], dtype=torch.bfloat16)
    scores = token_logprobs(logits, torch.tensor([1, 0]))
    assert scores.dtype == torch.float32
    assert scores.tolist() == pytest.approx([-1000.0, -math.log(2)])


def test_choice_logprobs_sum_to_one():
    chances = choice_logprobs(torch.tensor([[0.0, 2.0], [-900.0, 0.0]])).exp()
    assert chances.sum(-1).tolist() == pytest.approx([1, 1])
    assert chances[0, 1].item() == pytest.approx(1 / (1 + math.exp(-2)), rel=1e-6)


def test_learning_rate_rises_then_falls_to_its_end():
    rate = warmup_cosine(100, 0.1, 0.05)
    assert rate(0) == pytest.approx(0.1)
    assert rate(9) == pytest.approx(1.0)
    assert rate(10) == pytest.approx(1.0)
    assert rate(99) == pytest.approx(0.05)
    assert rate(10 + 89 // 2) == pytest.approx(0.525, abs=0.02)
    assert all(rate(k) >= rate(k + 1) for k in range(9, 99))


@pytest.mark.parametrize(("steps", "warmup", "rates"), [
    (1, 0.05, [1.0]), (2, 0.05, [1.0, 0.2]), (3, 0.05, [1.0, 1.0, 0.2]),
    (10, 0.9, [*(k / 9 for k in range(1, 10)), 0.2]), (2, 1.0, [0.5, 1.0]),
])  # fmt: skip
def test_learning_rate_of_short_runs(steps, warmup, rates):
    """The last step has the last rate, unless it is the peak."""
    rate = warmup_cosine(steps, warmup, 0.2)
    assert [rate(step) for step in range(steps)] == pytest.approx(rates)
