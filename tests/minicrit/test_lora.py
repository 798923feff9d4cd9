"""The fused LoRA step equals peft's own forward and backward."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from minicrit.base import load_model
from minicrit.lora import _Fused, attach_lora, fuse, load_lora
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
    assert not layer.forward._plain("default")


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


def test_fresh_adapter_is_seeded_and_changes_nothing(tiny, tiny_model):
    from minicrit.base import load_model

    batch = pack([Tree((), (Branch((5, 6, 7), (0.0, 1.0, 1.0)),))])
    before = tiny_model(**batch.model_inputs()).logits.detach()
    state = torch.random.get_rng_state()
    options = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": "all-linear", "seed": 3}
    one = attach_lora(tiny_model, **options)
    two = attach_lora(load_model(tiny, torch.float64), **options)
    assert torch.equal(state, torch.random.get_rng_state())
    after = one.double().get_base_model()(**batch.model_inputs()).logits
    torch.testing.assert_close(before, after)
    pairs = zip(one.named_parameters(), two.double().named_parameters(), strict=True)
    assert all(torch.equal(a, b) for (_, a), (_, b) in pairs)


def adapted(tiny, rank: int, seed: int):
    return attach_lora(
        load_model(tiny), rank=rank, alpha=2 * rank, dropout=0.0, targets="all-linear", seed=seed
    )


def test_a_saved_adapter_goes_on_where_it_was(tiny, tmp_path):
    saved, fresh = adapted(tiny, 4, seed=1), adapted(tiny, 4, seed=2)
    for name, p in saved.named_parameters():
        if "lora_B" in name:
            p.data.normal_()
    saved.save_pretrained(tmp_path)
    load_lora(fresh, tmp_path)
    for (name, a), (_, b) in zip(saved.named_parameters(), fresh.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    with pytest.raises(ValueError, match="expected an adapter of the layers and the rank"):
        load_lora(adapted(tiny, 2, seed=2), tmp_path)
