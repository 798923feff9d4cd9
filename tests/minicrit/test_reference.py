"""The reference: kept or live, the same numbers; the policy is not touched."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_gen.compose import compose
from data_gen.preferences import twin_pairs
from minicrit.comparisons import comparison_groups
from minicrit.lora import WEIGHTS, attach_reference, load_lora, save_lora
from minicrit.losses import PairSettings, divergence, verdict_divergence
from minicrit.packing import pack
from minicrit.plan import StepPlan, grouped
from minicrit.preferring import Mixture, check_start, pair_logprobs
from minicrit.reference import LiveReference, reference_logprobs

DPO = Mixture({"dpo": 1.0}, PairSettings(beta=0.3))


@pytest.fixture(scope="module")
def pairs():
    examples = [c.example for c in compose(8, 5, "train", squares=True)]
    return [pair for group in grouped(examples) for pair in twin_pairs(group)]


@pytest.fixture
def beside(tiny_adapted, tmp_path):
    """A policy and, beside it, its start, both from one float32 file, in float64."""
    save_lora(tiny_adapted, tmp_path)
    single = {name: w.float() for name, w in load_file(tmp_path / WEIGHTS).items()}
    save_file(single, tmp_path / WEIGHTS)
    load_lora(tiny_adapted, tmp_path)
    attach_reference(tiny_adapted, tmp_path)
    return tiny_adapted.double()


def test_live_and_kept_are_the_same(beside, tiny_encoder, pairs, tmp_path):
    model = beside.get_base_model()
    groups = comparison_groups(pairs, tiny_encoder)
    kept = reference_logprobs(model, groups, tmp_path / "r.safetensors", pack_tokens=500)
    chunked = reference_logprobs(
        model, groups, tmp_path / "c.safetensors", pack_tokens=500, chunk=7
    )
    for a, b in zip(kept.pieces, chunked.pieces, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
    live = LiveReference(beside)
    for parameter in beside.parameters():  # the policy moves on, its reference does not
        if parameter.requires_grad:
            parameter.data += 0.01
    batch = pack([tree for group in groups for tree in group.trees])
    one, two = (pair_logprobs(model, batch, reference) for reference in (kept, live))
    assert one.margin.abs().max() > 0.1
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_live_starts_at_exactly_ln_2_and_leaves_the_policy_alone(
    beside, tiny_encoder, pairs, checkpointing
):
    model = beside.get_base_model()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
        beside.train()
    trained = [name for name, p in beside.named_parameters() if p.requires_grad]
    assert trained
    assert not any("reference" in name for name in trained)
    groups = comparison_groups(pairs, tiny_encoder)
    batch = pack([tree for group in groups for tree in group.trees])
    start = pair_logprobs(model, batch, LiveReference(beside))
    check_start(start)
    assert torch.equal(start.margin, torch.zeros_like(start.margin))
    assert torch.equal(start.kl_chosen, torch.zeros_like(start.margin))
    loss = DPO(start)
    assert loss.tolist() == [math.log(2)] * len(pairs)
    loss.sum().backward()
    moved = {name for name, p in beside.named_parameters() if p.grad is not None}
    assert moved == set(trained)
    assert [name for name, p in beside.named_parameters() if p.requires_grad] == trained


def test_a_pass_without_pairs_costs_nothing(beside, tiny_encoder, pairs, tmp_path):
    model = beside.get_base_model()
    groups = comparison_groups(pairs[:1], tiny_encoder)
    plan = StepPlan(groups, epochs=1, batch_examples=1, pack_tokens=10_000, seed=0)
    (idle,) = plan.step(0, 1, 2).packs  # the second process has nothing to do
    for reference in (
        LiveReference(beside),
        reference_logprobs(model, groups, tmp_path / "r.safetensors", pack_tokens=500),
    ):
        found = pair_logprobs(model, idle, reference)
        assert len(found.chosen) == len(found.ref_chosen) == len(found.kl_chosen) == 0


def test_divergence_by_hand_and_as_an_estimate():
    p = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    q = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    # mean under p of (q / p - 1 - log(q / p)) = KL(p || q) = 0.25 ln 2
    assert (p * divergence(q.log(), p.log())).sum().item() == pytest.approx(0.25 * math.log(2))
    assert divergence(p.log(), p.log()).tolist() == [0.0, 0.0, 0.0]


def test_the_divergence_of_a_verdict_is_no_mean_over_both_words():
    """From 0.02 and 0.98 to 0.9 and 0.1: 2.16 nats, where e^d - 1 - d has a mean of 20.8."""
    reference = torch.tensor([[0.02, 0.98], [0.01, 0.03]], dtype=torch.float64).log()
    policy = torch.tensor([[0.9, 0.1], [0.01, 0.03]], dtype=torch.float64).log()
    found = verdict_divergence(policy, reference)
    by_hand = 0.02 * math.log(0.02 / 0.9) + 0.98 * math.log(0.98 / 0.1)
    assert found.tolist() == pytest.approx([by_hand, 0.0])
    assert found[0].item() == pytest.approx(2.16, abs=0.005)


def test_what_is_saved_is_the_policy_alone(beside, tmp_path):
    save_lora(beside, tmp_path / "x")
    saved = load_file(tmp_path / "x" / WEIGHTS)
    assert len(saved) == sum(p.requires_grad for p in beside.parameters())
    assert not any("reference" in name for name in saved)
