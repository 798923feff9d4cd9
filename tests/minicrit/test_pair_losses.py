"""Preference losses: by hand, by their closed-form gradients, against TRL's own code."""

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from minicrit.losses import PAIR_LOSSES, PairLogprobs, PairSettings, dpo, kto

LN = math.log
#: h_w = 2, h_l = -1, lengths 4 and 2.
PAIR = PairLogprobs(
    chosen=torch.tensor([-10.0]), rejected=torch.tensor([-9.0]),
    chosen_tokens=torch.tensor([4.0]), rejected_tokens=torch.tensor([2.0]),
    ref_chosen=torch.tensor([-12.0]), ref_rejected=torch.tensor([-8.0]),
)  # fmt: skip
SETTINGS = PairSettings(beta=0.5, flips=0.2, penalty=5.0, gamma=0.4)


def minus_log_s(x):
    return LN(1 + math.exp(-x))


BY_HAND = {
    "dpo": minus_log_s(1.5),  # 0.5 (2 + 1)
    "cdpo": 0.8 * minus_log_s(1.5) + 0.2 * minus_log_s(-1.5),
    "robust": (0.8 * minus_log_s(1.5) - 0.2 * minus_log_s(-1.5)) / 0.6,
    "ipo": 0.0,  # 2/4 + 1/2 - 1/(2 * 0.5)
    "hinge": 0.0,
    "nll": 2.5,  # 10 / 4
    "dpop": minus_log_s(1.5),  # the chosen one became likelier: no penalty
    "normalised": minus_log_s(0.5),  # 0.5 (2/4 + 1/2)
    "simpo": minus_log_s(0.5 * (-2.5 + 4.5 - 0.4)),
}


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_by_hand(name):
    found = PAIR_LOSSES[name](PAIR, SETTINGS)
    assert found.shape == (1,)
    assert found.item() == pytest.approx(BY_HAND[name], abs=1e-6)


def test_what_the_first_pair_does_not_show():
    worse = PAIR._replace(chosen=torch.tensor([-13.0]))  # h_w = -1, h_l = -1
    dpop, hinge, ipo = (PAIR_LOSSES[name](worse, SETTINGS) for name in ("dpop", "hinge", "ipo"))
    assert dpop.item() == pytest.approx(minus_log_s(0.5 * (0 - 5 * 1)), abs=1e-5)
    assert hinge.item() == pytest.approx(1.0)  # 1 - 0.5 * 0
    assert ipo.item() == pytest.approx((-1 / 4 + 1 / 2 - 1) ** 2)


def test_at_the_reference_the_loss_is_ln_2():
    start = PAIR._replace(ref_chosen=PAIR.chosen, ref_rejected=PAIR.rejected)
    for name in ("dpo", "cdpo", "dpop", "normalised"):
        assert PAIR_LOSSES[name](start, SETTINGS).item() == pytest.approx(LN(2), rel=1e-6)
    # ((1 - e) - e) / (1 - 2 e) ln 2
    assert PAIR_LOSSES["robust"](start, SETTINGS).item() == pytest.approx(LN(2), rel=1e-6)


def random_pairs(n=6, dtype=torch.float64, grad=True):
    generator = torch.Generator().manual_seed(3)
    logs = [-20 * torch.rand(n, generator=generator, dtype=torch.float64) - 1 for _ in range(4)]
    lengths = [torch.randint(1, 30, (n,), generator=generator).to(dtype) for _ in range(2)]
    policy = [x.to(dtype).requires_grad_(grad) for x in logs[:2]]
    return PairLogprobs(*policy, *lengths, *(x.to(dtype) for x in logs[2:]))


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_gradients_agree_with_finite_differences(name):
    pairs = random_pairs()

    def loss(chosen, rejected):
        return PAIR_LOSSES[name](pairs._replace(chosen=chosen, rejected=rejected), SETTINGS)

    assert torch.autograd.gradcheck(loss, (pairs.chosen, pairs.rejected))


def test_dpo_gradient_in_closed_form():
    pairs = random_pairs()
    dpo(pairs, SETTINGS).sum().backward()
    expected = -0.5 * torch.sigmoid(-0.5 * pairs.margin.detach())
    torch.testing.assert_close(pairs.chosen.grad, expected)
    torch.testing.assert_close(pairs.rejected.grad, -expected)


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_bfloat16_stays_finite_far_out(name):
    far = torch.tensor([1e4, -1e4, 0.0], dtype=torch.bfloat16)
    ones = torch.ones(3, dtype=torch.bfloat16)
    pairs = PairLogprobs(far.clone().requires_grad_(), -far, ones, ones, 0 * far, 0 * far)
    found = PAIR_LOSSES[name](pairs, SETTINGS)
    assert torch.isfinite(found).all()
    found.sum().backward()
    assert torch.isfinite(pairs.chosen.grad).all()


def test_losses_that_need_a_reference_say_so():
    bare = PAIR._replace(ref_chosen=None, ref_rejected=None)
    with pytest.raises(ValueError, match="use `simpo` or `nll`, which need none"):
        dpo(bare, SETTINGS)
    assert torch.isfinite(PAIR_LOSSES["simpo"](bare, SETTINGS)).all()


def test_kto_by_hand():
    ratios = torch.tensor([2.0, 2.0], requires_grad=True)
    good = torch.tensor([True, False])
    found = kto(ratios, good, torch.tensor(0.5), beta=0.4, good_weight=1.0, bad_weight=1.5)
    s = 1 / (1 + math.exp(-0.6))  # 0.4 (2 - 0.5)
    assert found.tolist() == pytest.approx([1 - s, 1.5 * s])
    negative = kto(ratios, good, torch.tensor(-3.0), beta=0.4)
    assert negative[0].item() == pytest.approx(1 - 1 / (1 + math.exp(-0.8)))  # z is not under 0


TRLS = {"dpo": "sigmoid", "robust": "robust", "ipo": "ipo", "hinge": "hinge",
        "normalised": "sigmoid_norm", "nll": "sft"}  # fmt: skip


@pytest.mark.parametrize("name", TRLS)
def test_the_same_as_trl(name):
    from trl import DPOTrainer

    pairs = random_pairs(n=1 if name == "nll" else 5, grad=False)
    assert trl_loss(DPOTrainer, TRLS[name], pairs) == pytest.approx(
        PAIR_LOSSES[name](pairs, SETTINGS).mean().item(), rel=1e-6
    )


def trl_loss(trainer, kind, pairs):
    """The loss that TRL's own code makes of these log-likelihoods, spread evenly over tokens."""
    lengths = torch.cat((pairs.chosen_tokens, pairs.rejected_tokens)).long()
    total = torch.cat((pairs.chosen, pairs.rejected))
    mask = torch.arange(int(lengths.max()) + 1) <= lengths[:, None]
    mask[:, 0] = False  # a prompt of one token
    spread = torch.where(mask[:, 1:], (total / lengths)[:, None], 0.0)
    outputs = SimpleNamespace(
        log_probs=spread, entropy=0 * spread, mean_logits=0 * spread, is_top1=spread > 0
    )
    metrics = {"train": defaultdict(list)}
    fake = SimpleNamespace(
        model=SimpleNamespace(training=True), accelerator=SimpleNamespace(
            device="cpu", gather_for_metrics=lambda x: x, gather=lambda x: x),
        aux_loss_enabled=False, ld_alpha=None, precompute_ref_logps=True,
        f_divergence_type="reverse_kl", loss_types=[kind], loss_weights=[1.0],
        beta=SETTINGS.beta, label_smoothing=SETTINGS.flips, use_weighting=False,
        _metrics=metrics, _total_train_tokens=0, _tp_size=1, args=SimpleNamespace(),
    )  # fmt: skip
    inputs = {
        "input_ids": torch.zeros_like(mask, dtype=torch.long), "attention_mask": mask.long(),
        "completion_mask": mask.long(), "ref_chosen_logps": pairs.ref_chosen,
        "ref_rejected_logps": pairs.ref_rejected,
    }  # fmt: skip
    return trainer._compute_loss(fake, lambda **_: outputs, inputs, False).item()


@pytest.mark.parametrize("shift", [3.0, -3.0])
def test_kto_the_same_as_trl(shift):
    from trl import KTOTrainer

    pairs = random_pairs(n=6, grad=False)
    good = torch.tensor([True, False, True, True, False, False])
    others = pairs.ref_rejected + shift  # how far apart on mismatched completions
    divergence = (others - pairs.ref_rejected).mean()
    own = kto(pairs.chosen - pairs.ref_chosen, good, divergence, beta=0.3, good_weight=1.2,
              bad_weight=0.7)  # fmt: skip
    assert trl_kto(KTOTrainer, pairs, good, others) == pytest.approx(own.mean().item(), rel=1e-6)


def trl_kto(trainer, pairs, good, others):
    """The loss that TRL's own code makes of `chosen`, and of `others` for its divergence."""
    ids = torch.zeros(len(good), 3, dtype=torch.long)
    spread = torch.stack((0 * pairs.chosen, pairs.chosen), 1)
    outputs = SimpleNamespace(
        log_probs=spread, entropy=0 * spread, mean_logits=0 * spread, is_top1=spread > 0
    )
    accelerator = SimpleNamespace(device="cpu", gather_for_metrics=lambda x: x, gather=lambda x: x)
    fake = SimpleNamespace(
        model=SimpleNamespace(training=True), accelerator=accelerator, aux_loss_enabled=False,
        precompute_ref_logps=True, calculate_KL=True, loss_type="kto", beta=0.3,
        desirable_weight=1.2, undesirable_weight=0.7, _compute_kl_logps=lambda *_: others,
        _metrics={"train": defaultdict(list)}, _total_train_tokens=0, _tp_size=1,
        args=SimpleNamespace(),
    )  # fmt: skip
    inputs = {
        "input_ids": ids, "attention_mask": ids + 1,
        "completion_mask": torch.tensor([[0, 0, 1]] * 6),
        "label": good, "ref_logps": pairs.ref_chosen, "ref_KL_logps": pairs.ref_rejected,
    }  # fmt: skip
    return trainer._compute_loss(fake, lambda **_: outputs, inputs, False).item()
