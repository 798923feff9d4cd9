"""Each fused step against what transformers or torch computes, and its gradients numerically."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from minicrit.fused_steps import Adapted, frozen_head, gated_lora, lora, normed, turned
from minicrit.logprobs import head_logprobs


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


def adapted(outputs: int, rank: int, scale: float, seed: int, *, trained: bool = True) -> Adapted:
    a, b = drawn(rank, 6, seed=seed), drawn(outputs, rank, seed=seed + 1)
    weight = drawn(outputs, 6, seed=seed + 2)
    return Adapted(weight, a.requires_grad_(trained), b.requires_grad_(trained), scale)


def grads(outputs: torch.Tensor, *wanted: torch.Tensor) -> list[torch.Tensor]:
    weights = drawn(*outputs.shape, seed=9).to(outputs.dtype)
    return list(torch.autograd.grad((outputs * weights).sum(), wanted))


def test_siblings_of_different_ranks_and_scales_equal_their_layers_one_by_one():
    layers = [adapted(4, 2, 0.5, 10), adapted(7, 3, 2.0, 20), adapted(1, 1, 1.0, 30)]
    x = drawn(2, 5, 6).requires_grad_()
    trained = [x, *(t for layer in layers for t in (layer.a, layer.b))]
    expected = torch.cat([x @ w.T + s * (x @ a.T) @ b.T for w, a, b, s in layers], -1)
    found = torch.cat(lora(x, layers), -1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    for one, other in zip(grads(found, *trained), grads(expected, *trained), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_an_output_that_nobody_uses_adds_nothing():
    used, unused = adapted(4, 2, 0.5, 10), adapted(7, 3, 2.0, 20)
    x = drawn(5, 6).requires_grad_()
    alone, beside = lora(x, [used])[0], lora(x, [used, unused])[0]
    assert torch.equal(grads(alone, x)[0], grads(beside, x)[0])
    assert not grads(lora(x, [used, unused])[0], unused.b)[0].any()


def test_where_the_input_is_no_variable_the_adapters_learn_all_the_same():
    layers = [adapted(4, 2, 0.5, 10), adapted(7, 3, 2.0, 20)]
    x = drawn(5, 6)
    found, expected = (
        lora(x, layers)[1],
        x @ layers[1].weight.T + 2 * (x @ layers[1].a.T) @ layers[1].b.T,
    )
    torch.testing.assert_close(grads(found, layers[1].a), grads(expected, layers[1].a))


def test_gradients_of_steps_are_those_of_finite_differences():
    x, gate, up = (drawn(3, 6, seed=seed).requires_grad_() for seed in (1, 2, 3))
    one, two = adapted(4, 2, 0.5, 10), adapted(5, 3, 2.0, 20)

    def siblings(x, a, b, c, d):
        return lora(x, [one._replace(a=a, b=b), two._replace(a=c, b=d)])

    def gated(gate, up, a, b):
        return gated_lora(gate, up, one._replace(a=a, b=b))

    heads = drawn(2, 3, 2, 4).requires_grad_()
    cos, sin = drawn(2, 3, 4, seed=4), drawn(2, 3, 4, seed=5)  # halves that differ, too
    targets = torch.tensor([0, 3, 6])
    check = torch.autograd.gradcheck
    assert check(siblings, (x, one.a, one.b, two.a, two.b))
    assert check(gated, (gate, up, one.a, one.b))
    assert check(lambda heads: turned(heads, cos, sin), (heads,))
    assert check(lambda x: normed(x, drawn(6, seed=6), 1e-5), (x,))
    assert check(lambda x: frozen_head(x, drawn(7, 6, seed=7), targets, 2), (x,))


def test_rotary_positions_are_those_of_transformers():
    heads = drawn(2, 5, 3, 8)
    angles = torch.cat([drawn(2, 5, 4, seed=1)] * 2, -1)
    cos, sin = angles.cos(), angles.sin()
    expected, _ = apply_rotary_pos_emb(heads.transpose(1, 2), heads.transpose(1, 2), cos, sin)
    torch.testing.assert_close(turned(heads, cos, sin).transpose(1, 2), expected)


def test_the_norm_is_that_of_transformers_under_autocast_as_well():
    norm = LlamaRMSNorm(6, eps=1e-5)
    norm.weight.data = drawn(6, seed=1, dtype=torch.float32)
    norm.requires_grad_(requires_grad=False)
    x = drawn(4, 6, dtype=torch.float32).requires_grad_()
    for on in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            found, expected = normed(x, norm.weight, 1e-5), norm(x)
            torch.testing.assert_close(found, expected)
            torch.testing.assert_close(grads(found, x), grads(expected, x))


@pytest.mark.parametrize("chunk", [1, 3, 7, 8])
def test_a_frozen_head_is_the_cross_entropy_whatever_its_pieces(chunk):
    hidden, weight = drawn(7, 6).requires_grad_(), drawn(50, 6, seed=1)
    targets = torch.tensor([0, 49, 3, 3, 7, 11, 20])
    expected = -cross_entropy(hidden @ weight.T, targets, reduction="none")
    found = frozen_head(hidden, weight, targets, chunk)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(grads(found, hidden), grads(expected, hidden))


def test_a_frozen_head_of_no_tokens_gives_none():
    hidden = drawn(0, 6).requires_grad_()
    assert frozen_head(hidden, drawn(50, 6), torch.tensor([], dtype=torch.long), 4).shape == (0,)


def test_a_frozen_head_says_the_same_whether_anybody_learns_or_not():
    """So a policy starts at its reference to the last bit."""
    hidden, weight, targets = drawn(7, 6).requires_grad_(), drawn(50, 6, seed=1), torch.arange(7)
    with torch.autocast("cpu", torch.bfloat16):
        found = frozen_head(hidden, weight, targets, 4)
        with torch.no_grad():
            assert torch.equal(found, frozen_head(hidden, weight, targets, 4))


def test_in_bfloat16_a_token_that_is_all_but_sure_still_has_a_slope():
    """p = 0.999 is 1 in bfloat16: rounded before the subtraction, nothing would be left of it."""
    hidden = torch.tensor([[1.0, 0.0]], requires_grad=True)
    weight = torch.tensor([[7.0, 1.0], [0.0, 3.0]])
    target = torch.tensor([0])
    with torch.autocast("cpu", torch.bfloat16):
        found = frozen_head(hidden, weight, target, 4)
    assert found.dtype == torch.float32
    slope = 1 / (1 + torch.e**7) * (weight[0] - weight[1])
    torch.testing.assert_close(grads(found, hidden)[0][0] / drawn(1, seed=9).float(), slope,
                               rtol=1e-2, atol=0)  # fmt: skip


def test_a_frozen_head_keeps_no_logits():
    head = Headed(vocabulary=5000)
    kept: list[int] = []

    def note(t: torch.Tensor) -> torch.Tensor:
        kept.append(t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        head_logprobs(head, drawn(7, 6).requires_grad_(), torch.arange(7))
    assert kept == [7 * 6]


@pytest.mark.parametrize("chunk", [0, 3])
def test_a_head_that_is_trained_gets_its_gradient(chunk):
    head = Headed(vocabulary=50)
    hidden, targets = drawn(7, 6).requires_grad_(), torch.arange(7)
    frozen = grads(head_logprobs(head, hidden, targets, chunk=chunk), hidden)
    head = copy.deepcopy(head).requires_grad_()
    trained = grads(head_logprobs(head, hidden, targets, chunk=chunk), hidden, head.lm_head.weight)
    torch.testing.assert_close(frozen[0], trained[0])
    assert trained[1].abs().sum() > 0


class Headed(nn.Module):
    """What `head_logprobs` asks of a model."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.lm_head = nn.Linear(6, vocabulary, bias=False, dtype=torch.float64)
        self.lm_head.weight.data = drawn(vocabulary, 6, seed=1)
        self.requires_grad_(requires_grad=False)
