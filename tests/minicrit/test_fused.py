"""The fused LoRA steps equal what peft and transformers compute, forward and backward."""

from collections import Counter

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers.models.llama.modeling_llama import LlamaConfig, LlamaMLP

from minicrit.fused import _Fused, _FusedGate, _FusedNorm, fuse, unfuse
from minicrit.lanes import Lanes, lay_lanes
from minicrit.logprobs import scored_logprobs
from minicrit.packing import Branch, Tree, pack


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 10, bias=False), nn.Linear(10, 4, bias=False)

    def forward(self, x):
        return self.two(torch.tanh(self.one(x)))


def net(dropout: float = 0.0):
    torch.manual_seed(0)
    config = LoraConfig(r=3, lora_alpha=6, lora_dropout=dropout, target_modules=["one", "two"])
    model = get_peft_model(Net(), config).double()
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.normal_()
    return model


def outcome(model, x):
    x = x.clone().requires_grad_()
    model.zero_grad()
    y = model(x)
    (y**3).sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in model.parameters() if p.requires_grad)]


def test_fused_equals_peft_forward_and_backward():
    x = torch.randn(2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain, fused = net(), net()
    assert fuse(fused) == 2
    for a, b in zip(outcome(plain, x), outcome(fused, x), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def test_gradients_pass_gradcheck():
    model = net()
    fuse(model)
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, (x,))


def test_falls_back_to_peft_where_the_algebra_is_not_the_whole_story():
    x = torch.randn(4, 6, dtype=torch.float64)
    for prepare in (lambda m: m.merge_adapter(), lambda m: m.base_model.disable_adapter_layers()):
        plain, fused = net(), net()
        fuse(fused)
        prepare(plain)
        prepare(fused)
        torch.testing.assert_close(plain(x), fused(x))
    with_dropout = net(dropout=0.5)
    fuse(with_dropout)
    layer = next(m for m in with_dropout.modules() if isinstance(m.__dict__.get("forward"), _Fused))
    assert not layer.forward.plain


def test_autocast_uses_low_precision_and_can_train_after_inference():
    model = net().float()
    fuse(model)
    x = torch.randn(4, 6)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert model(x).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        model(x).float().sum().backward()
    grads = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g.dtype == torch.float32 and torch.isfinite(g).all() for g in grads)


class Gates(nn.Module):
    """Two gated MLPs, one after the other."""

    def __init__(self, act: str = "silu") -> None:
        super().__init__()
        config = LlamaConfig(
            hidden_size=6, intermediate_size=14, num_attention_heads=2, hidden_act=act
        )
        self.layers = nn.Sequential(LlamaMLP(config), LlamaMLP(config))

    def forward(self, x):
        return self.layers(x)


def gates(act: str = "silu"):
    torch.manual_seed(0)
    targets = ["gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=3, lora_alpha=6, target_modules=targets)
    model = get_peft_model(Gates(act), config).double()
    for name, p in model.named_parameters():
        p.data.normal_(std=0.5) if "lora_B" in name else None
    return model


def test_a_gated_mlp_equals_its_own_forward_and_backward():
    x = torch.randn(2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain, fused = gates(), gates()
    assert fuse(fused) == 6
    assert sum(isinstance(vars(m).get("forward"), _FusedGate) for m in fused.modules()) == 2
    for a, b in zip(outcome(plain, x), outcome(fused, x), strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)
    wide = x.requires_grad_()
    assert torch.autograd.gradcheck(fused, (wide,))


def test_a_gated_mlp_keeps_its_factors_alone():
    def kept(model) -> Counter:
        found: dict[int, int] = {}

        def note(t: torch.Tensor) -> torch.Tensor:
            found[t.untyped_storage().data_ptr()] = t.numel()
            kept_alive.append(t)
            return t

        kept_alive: list[torch.Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            model(torch.randn(1, 50, 6, dtype=torch.float64))
        return Counter(found.values())

    plain, fused = gates(), gates()
    fuse(fused)
    assert kept(plain)[50 * 14] == 2 * 4  # gate, silu(gate), up, product
    assert kept(fused)[50 * 14] == 2 * 2


@pytest.mark.parametrize("act", ["gelu", "silu"])
def test_a_gated_mlp_falls_back_where_its_last_layer_takes_no_factors(act):
    x = torch.randn(4, 6, dtype=torch.float64)
    plain, fused = gates(act), gates(act)
    fuse(fused)
    if act == "silu":
        fused.base_model.disable_adapter_layers()
        plain.base_model.disable_adapter_layers()
    else:
        assert not any(isinstance(vars(m).get("forward"), _FusedGate) for m in fused.modules())
    torch.testing.assert_close(plain(x), fused(x))
    unfuse(fused)
    assert not any("forward" in vars(m) for m in fused.modules())


def test_a_fused_model_with_lanes_leaves_their_layers_to_them(tiny_model):
    torch.manual_seed(0)
    model = get_peft_model(tiny_model, LoraConfig(r=2, target_modules="all-linear"))
    for name, p in model.named_parameters():
        p.data.normal_(std=0.1) if "lora_B" in name else None
    batch = pack([Tree((), (Branch((5, 6, 7, 8), (0.0, 1.0, 1.0, 1.0)),))])
    expected = model.get_base_model()(**batch.model_inputs()).logits
    fuse(model)
    torch.testing.assert_close(model.get_base_model()(**batch.model_inputs()).logits, expected)
    lanes = Lanes()
    lay_lanes(model, lanes)
    with lanes.over([("default", 4)]):
        mixed = model.get_base_model()(**batch.model_inputs()).logits
    torch.testing.assert_close(mixed, expected)


def forked():
    """Two trees of a prompt and two completions, packed."""
    ends = [Branch((21, 22, 23), (1.0,) * 3), Branch((31, 32, 33, 34), (1.0, 1.0, 0.0, 2.0))]
    return pack([Tree(tuple(range(5, 14)), tuple(ends)), Tree((40, 41, 42), tuple(ends))])


def step(model, batch):
    """Log-probabilities of a packed batch, and all gradients of a weighted sum of them."""
    model.zero_grad()
    scored = scored_logprobs(model.get_base_model(), batch)
    (scored * batch.weights.to(scored.dtype)).sum().backward()
    return [scored.detach(), *(p.grad for p in model.parameters() if p.requires_grad)]


def kinds(model) -> Counter:
    own = (vars(m).get("forward") for m in model.modules())
    return Counter(type(forward).__name__ for forward in own if forward is not None)


def test_a_whole_packed_model_equals_that_of_transformers(tiny_adapted):
    batch, n = forked(), tiny_adapted.config.num_hidden_layers
    own = {"_Fused": 7 * n, "_FusedGate": n, "_FusedAttention": n, "_FusedNorm": 2 * n + 1}
    assert kinds(tiny_adapted) == own
    fused = step(tiny_adapted, batch)
    unfuse(tiny_adapted)
    assert not kinds(tiny_adapted)
    for one, other in zip(fused, step(tiny_adapted, batch), strict=True):
        # The norm of transformers goes through float32, whatever the weights are in.
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6)


def test_under_autocast_it_is_as_near_to_float32_as_that_of_transformers(tiny_adapted):
    model, batch = tiny_adapted.float(), forked()
    exact = step(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        fused = step(model, batch)
    unfuse(model)
    with torch.autocast("cpu", torch.bfloat16):
        plain = step(model, batch)

    def error(found) -> float:
        pairs = list(zip(found, exact, strict=True))[1:]
        return sum(float((a - b).square().sum()) for a, b in pairs) ** 0.5

    assert 0 < error(fused) <= 1.1 * error(plain)


def test_attention_with_a_cache_or_without_its_adapter_is_left_to_transformers(tiny_adapted):
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    base = tiny_adapted.get_base_model()
    whole = base(input_ids=ids, use_cache=False).logits
    first = base(input_ids=ids[:, :3], use_cache=True)
    rest = base(input_ids=ids[:, 3:], past_key_values=first.past_key_values).logits
    torch.testing.assert_close(rest, whole[:, 3:], rtol=0, atol=2e-6)
    with tiny_adapted.disable_adapter():
        bare = base(input_ids=ids).logits
    unfuse(tiny_adapted)
    with tiny_adapted.disable_adapter():
        torch.testing.assert_close(bare, base(input_ids=ids).logits, rtol=0, atol=2e-6)


def test_a_norm_that_is_trained_learns_and_a_rounded_one_is_left_alone(tiny_adapted):
    norms = [m for m in tiny_adapted.modules() if isinstance(vars(m).get("forward"), _FusedNorm)]
    norms[0].weight.requires_grad_()
    step(tiny_adapted, forked())
    assert norms[0].weight.grad.abs().sum() > 0
    rounded = norms[1].to(torch.bfloat16)
    x = torch.randn(4, len(rounded.weight), dtype=torch.bfloat16)
    assert torch.equal(rounded(x), type(rounded).forward(rounded, x))
