"""Losses: pure functions of tensors. They return sums and counts; dividing happens once, outside.

Shapes: S scored tokens; M tokens from where a text departs from its twin; B branches (texts);
G groups of twins; N preference pairs.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.functional import relu, softplus


class LossSum(NamedTuple):
    """A weighted sum of losses and the sum of the weights, both scalars."""

    total: torch.Tensor
    weight: torch.Tensor


def sft_loss(logprobs: torch.Tensor, weights: torch.Tensor) -> LossSum:
    """Negative log-likelihood of the reference tokens.

    total = -sum_t w_t log p(y_t | y_<t, x), weight = sum_t w_t; logprobs and weights are (S,).
    """
    if logprobs.shape != weights.shape:
        raise ValueError(
            f"expected one weight per token, got {tuple(logprobs.shape)} log-probabilities and "
            f"{tuple(weights.shape)} weights"
        )
    weights = weights.to(logprobs.dtype)
    return LossSum(-(weights * logprobs).sum(), weights.sum())


def coherence_loss(
    logprobs: torch.Tensor, signs: torch.Tensor, owners: torch.Tensor, trees: torch.Tensor
) -> LossSum:
    """How far sound texts are from being likelier than their flawed twins, a group each.

    total = sum_g softplus(-(mean over sound texts of log p - mean over flawed texts of log p)),
    where log p is that of the tokens from the departure on, given what stands before. In a square
    each half of an argument stands once in a sound and once in a flawed text, so that its own
    likelihood cancels and the fit of the two halves is left. It is the logistic preference of a
    sound text over its twin, without a reference model (CPO, arXiv 2401.08417, eq. 3 without the
    likelihood term).

    Args:
        logprobs: (M,) of the tokens from the departure on.
        signs: (M,) +1 in sound, -1 in flawed texts.
        owners: (M,) branch of each token.
        trees: (B,) group of each branch.
    """
    texts = torch.zeros(len(trees), dtype=logprobs.dtype, device=logprobs.device)
    likelihood = texts.index_add(0, owners, logprobs)
    sign = texts.index_put((owners,), signs.to(logprobs.dtype))
    groups = int(trees.max()) + 1 if len(trees) else 0
    nothing = torch.zeros(groups, dtype=logprobs.dtype, device=logprobs.device)
    sound, flawed = (sign == 1).to(logprobs.dtype), (sign == -1).to(logprobs.dtype)
    counts = [nothing.index_add(0, trees, chosen) for chosen in (sound, flawed)]
    present = (counts[0] > 0) & (counts[1] > 0)
    means = [
        nothing.index_add(0, trees, chosen * likelihood) / count.clamp(min=1)
        for chosen, count in zip((sound, flawed), counts, strict=True)
    ]
    margin = (means[0] - means[1])[present]
    return LossSum(softplus(-margin).sum(), present.sum())


def running_verdict_loss(
    log_odds: torch.Tensor, signs: torch.Tensor, owners: torch.Tensor, branches: int
) -> LossSum:
    """Binary cross-entropy of the verdict after every token from the departure on, a mean a text.

    total = sum_b mean_t softplus(z_bt) for sound and softplus(-z_bt) for flawed texts, where z_bt
    is the log-odds of `flawed` after token t: a verdict at every step of the argument, whose labels
    twins give for nothing (outcome-labelled process supervision, arXiv 2211.14275).

    Args:
        log_odds: (M,) of `flawed` after each token.
        signs: (M,) +1 in sound, -1 in flawed texts.
        owners: (M,) branch of each token.
        branches: B.
    """
    texts = torch.zeros(branches, dtype=log_odds.dtype, device=log_odds.device)
    losses = texts.index_add(0, owners, softplus(signs.to(log_odds.dtype) * log_odds))
    tokens = texts.index_add(0, owners, torch.ones_like(log_odds))
    present = tokens > 0
    return LossSum((losses[present] / tokens[present]).sum(), present.sum())


def steadiness_loss(log_odds: torch.Tensor, keys: torch.Tensor, trees: torch.Tensor) -> LossSum:
    """How far the verdicts on a text and on the same text after a harmless change lie apart.

    total = sum_k sum_{v in k} (z_v - mean_k)^2, half of the squared difference where a text has two
    versions: adversarial logit pairing (arXiv 1803.06373, eq. 3) on the one logit that is read.

    Args:
        log_odds: (B,) z, of `flawed`, of each text.
        keys: (B,) texts of one tree that bear the same key are versions of one; -1 for none.
        trees: (B,) group of each text.
    """
    which = torch.stack((trees, keys))[:, keys != -1]
    _, places, counts = which.unique(dim=1, return_inverse=True, return_counts=True)
    z = log_odds[keys != -1]
    sums = torch.zeros(len(counts), dtype=z.dtype, device=z.device).index_add(0, places, z)
    off = z - (sums / counts)[places]
    return LossSum(off.square().sum(), (counts > 1).sum())


class PairLogprobs(NamedTuple):
    """Log-likelihoods (N,) of whole completions, in nats, and their lengths (N,) in tokens.

    `chosen` and `rejected` are of the policy; `ref_...` of the reference, None where there is none.
    `kl_...` is how far the two are apart on each completion (`divergence`), or on the verdict where
    that alone is compared (`verdict_divergence`, the same for both); to be watched only.
    h below is the log-ratio of policy and reference, w the chosen and l the rejected completion.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor
    ref_chosen: torch.Tensor | None = None
    ref_rejected: torch.Tensor | None = None
    kl_chosen: torch.Tensor | None = None
    kl_rejected: torch.Tensor | None = None

    @property
    def ratios(self) -> tuple[torch.Tensor, torch.Tensor]:
        """h_w and h_l.

        Raises:
            ValueError: without a reference.
        """
        if self.ref_chosen is None or self.ref_rejected is None:
            raise ValueError("expected the log-likelihoods of the reference, got none; use `simpo` "
                             "or `nll`, which need none")  # fmt: skip
        return self.chosen - self.ref_chosen, self.rejected - self.ref_rejected

    @property
    def margin(self) -> torch.Tensor:
        """h_w - h_l."""
        better, worse = self.ratios
        return better - worse


def divergence(policy: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """e^d - 1 - d of each token, d = log p(y_t) - log p_ref(y_t); (S,), never negative.

    Its mean over tokens that the reference wrote is KL(reference || policy), with less variance
    than that of -d (Schulman, "Approximating KL divergence", 2020, k3). Pairs are chosen from what
    the reference wrote, or written for it, so here it is an estimate to watch, not a measurement.
    """
    return torch.expm1(policy - reference) - (policy - reference)


def verdict_divergence(policy: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """KL(reference || policy) of the verdict, in nats, (N,), as far as none but two words are said.

    sum_y q_y (e^d_y - 1 - d_y), q the chances of both words under the reference, brought to a sum
    of 1. A pair compares both words however seldom the reference says one of them: in a plain mean
    a word of 1 in 50 would weigh as much as the other.

    Args:
        policy: (N, 2) log-likelihoods of both words.
        reference: (N, 2) the same.
    """
    return (reference.softmax(-1) * divergence(policy, reference)).sum(-1)


class PairSettings(NamedTuple):
    """What preference losses are told.

    Attributes:
        beta: strength of the pull towards the reference (inverse temperature).
        flips: rate of wrongly labelled pairs that is assumed, under 1/2 (cDPO, robust).
        penalty: of a chosen completion that becomes unlikelier (DPOP).
        gamma: margin of SimPO, as a share of beta.
    """

    beta: float = 0.1
    flips: float = 0.0
    penalty: float = 5.0
    gamma: float = 0.5


PairLoss = Callable[[PairLogprobs, PairSettings], torch.Tensor]


def dpo(pairs: PairLogprobs, settings: PairSettings) -> torch.Tensor:
    """-log s(b (h_w - h_l)), (N,): DPO, eq. 7 of arXiv 2305.18290."""
    return softplus(-settings.beta * pairs.margin)


def cdpo(pairs: PairLogprobs, settings: PairSettings) -> torch.Tensor:
    """(1 - e) L(w, l) + e L(l, w), (N,): conservative DPO, label smoothing by `flips`.

    Mitchell, "A note on DPO with noisy preferences" (2023), eq. 3; L is DPO.
    """
    logits = settings.beta * pairs.margin
    return (1 - settings.flips) * softplus(-logits) + settings.flips * softplus(logits)


def robust(pairs: PairLogprobs, settings: PairSettings) -> torch.Tensor:
    """((1 - e) L(w, l) - e L(l, w)) / (1 - 2 e), (N,): unbiased under flips, arXiv 2403.00409."""
    logits, e = settings.beta * pairs.margin, settings.flips
    return ((1 - e) * softplus(-logits) - e * softplus(logits)) / (1 - 2 * e)


def ipo(pairs: PairLogprobs, settings: PairSettings) -> torch.Tensor:
    """(h_w / |w| - h_l / |l| - 1 / (2 b))^2, (N,): IPO, eq. 17 of arXiv 2310.12036.

    By token, as its authors ran it and TRL does; beta is their tau.
    """
    better, worse = pairs.ratios
    margin = better / pairs.chosen_tokens - worse / pairs.rejected_tokens
    return (margin - 1 / (2 * settings.beta)).square()


def hinge(pairs: PairLogprobs, settings: PairSettings) -> torch.Tensor:
    """max(0, 1 - b (h_w - h_l)), (N,): SLiC on log-ratios, arXiv 2305.10425, 2309.06657."""
    return relu(1 - settings.beta * pairs.margin)


def nll(pairs: PairLogprobs, settings: PairSettings) -> torch.Tensor:
    """-log p(w) / |w|, (N,): beside DPO it makes RPO, arXiv 2404.19733, eq. 1."""
    return -pairs.chosen / pairs.chosen_tokens


def dpop(pairs: PairLogprobs, settings: PairSettings) -> torch.Tensor:
    """-log s(b (h_w - h_l - lam max(0, -h_w))), (N,): DPO-Positive, arXiv 2402.13228, eq. 3."""
    better, worse = pairs.ratios
    return softplus(-settings.beta * (better - worse - settings.penalty * relu(-better)))


def normalised(pairs: PairLogprobs, settings: PairSettings) -> torch.Tensor:
    """-log s(b (h_w / |w| - h_l / |l|)), (N,): length-normalised DPO, arXiv 2411.15124, sec. 5."""
    better, worse = pairs.ratios
    return softplus(-settings.beta * (better / pairs.chosen_tokens - worse / pairs.rejected_tokens))


def simpo(pairs: PairLogprobs, settings: PairSettings) -> torch.Tensor:
    """-log s(b log p(w) / |w| - b log p(l) / |l| - g b), (N,): SimPO, arXiv 2405.14734, eq. 6."""
    gap = pairs.chosen / pairs.chosen_tokens - pairs.rejected / pairs.rejected_tokens
    return softplus(-settings.beta * (gap - settings.gamma))


#: By the names that recipes use; a recipe mixes them by weights.
PAIR_LOSSES: dict[str, PairLoss] = {
    "dpo": dpo, "cdpo": cdpo, "robust": robust, "ipo": ipo, "hinge": hinge, "nll": nll,
    "dpop": dpop, "normalised": normalised, "simpo": simpo,
}  # fmt: skip


def kto(
    ratios: torch.Tensor,
    good: torch.Tensor,
    divergence: torch.Tensor,
    *,
    beta: float,
    good_weight: float = 1.0,
    bad_weight: float = 1.0,
) -> torch.Tensor:
    """l_y (1 - s(b (h - z))) for good, l_y (1 - s(b (z - h))) for bad completions, (N,).

    KTO, eq. 8 of arXiv 2402.01306, for unpaired thumbs up and down.

    Args:
        ratios: (N,) h of each completion.
        good: (N,) bool.
        divergence: scalar z, how far policy and reference are apart on mismatched completions; it
            is taken as given (no gradient) and not under 0.
        beta: as for pairs.
        good_weight: of good completions.
        bad_weight: of bad ones.
    """
    z = divergence.detach().clamp(min=0)
    gain = torch.where(good, ratios - z, z - ratios)
    weight = torch.where(good, good_weight, bad_weight)
    return weight * torch.sigmoid(-beta * gain)
