"""Preference learning: shared prefixes change nothing, the reference is right, resume is exact."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from data_gen.compose import compose
from data_gen.preferences import preference
from minicrit.base import Base
from minicrit.comparisons import (
    comparison_groups,
    encoded_pairs,
    read_preferences,
    selected_groups,
)
from minicrit.config import BaseConfig, Recipe
from minicrit.critic import Critic
from minicrit.encoding import Encoder, said
from minicrit.jsonl import write_rows
from minicrit.losses import PairSettings, verdict_divergence
from minicrit.packing import pack
from minicrit.plan import StepPlan
from minicrit.preferring import (
    ROUNDED_SLACK,
    SLACK,
    WATCHED,
    Mixture,
    check_start,
    check_zero,
    means,
    pair_logprobs,
    slack_of,
    watched,
)
from minicrit.prompts import critique_of, render_critique
from minicrit.records import Preference
from minicrit.reference import KeptReference, reference_logprobs
from minicrit.run import Run
from minicrit.schedule import Optimization
from minicrit.train import _slack
from minicrit.training_config import DPOConfig
from models.dpo import DPOModule
from tests.models.pair_case import by_hand, some_pairs

EXAMPLE = next(c.example for c in compose(8, 3, "train") if c.example.label == "flawed")
REFERENCE = render_critique(critique_of(EXAMPLE))
RPO = Mixture({"dpo": 1.0, "nll": 0.5}, PairSettings(beta=0.3))

pairs = pytest.fixture(scope="module", name="pairs")(some_pairs)


def known(pairs, encoder, value):
    """A reference whose log-probabilities are made up: `value(tokens)` of all completions."""
    texts = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
    lengths = [len(encoder.written(text)) - len(encoder.lead_in) for text in texts]
    return KeptReference(value(sum(lengths)), torch.tensor(lengths))


def gradients(model, loss):
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.autograd.grad(loss, trained, retain_graph=True)


@pytest.mark.parametrize(("chunk", "checkpointing"), [
    (0, False), (50, True), *(pytest.param(*other, marks=pytest.mark.slow)
                              for other in ((50, False), (0, True))),
])  # fmt: skip
def test_packed_and_shared_equals_one_text_at_a_time(
    tiny_adapted, tiny_encoder, pairs, chunk, checkpointing
):
    model = tiny_adapted.get_base_model()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
        model.train()
    reference = known(pairs, tiny_encoder, lambda n: torch.randn(n, dtype=torch.float64) - 4)
    groups = comparison_groups(pairs, tiny_encoder)
    assert [len(group.trees) for group in groups] == [1, 1]
    batch = pack([tree for group in groups for tree in group.trees])
    found = pair_logprobs(model, batch, reference, chunk=chunk)
    plain = torch.stack([by_hand(model, tiny_encoder, pair) for pair in pairs])
    torch.testing.assert_close(torch.stack((found.chosen, found.rejected), 1), plain,
                               atol=1e-8, rtol=1e-10)  # fmt: skip
    again = found._replace(chosen=plain[:, 0], rejected=plain[:, 1])
    for one, two in zip(
        gradients(tiny_adapted, RPO(found).mean()), gradients(tiny_adapted, RPO(again).mean()),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(one, two, atol=1e-10, rtol=1e-7)
    assert found.chosen_tokens[0] == len(tiny_encoder.written(pairs[0].chosen)) - len(
        tiny_encoder.lead_in
    )


def test_what_follows_a_wrong_verdict_can_be_left_out(tiny_adapted, tiny_encoder, pairs):
    model, encoder = tiny_adapted.get_base_model(), tiny_encoder
    argued = preference(
        EXAMPLE, REFERENCE, REFERENCE.replace("Critique:", "Critique: hardly"), (1.0, 0.8), "oracle"
    )
    some = [*pairs[:4], argued]

    def packed(share):
        groups = comparison_groups(some, encoder, explained=share, seed=3)
        return pack([tree for group in groups for tree in group.trees])

    def tokens(share):
        return pair_logprobs(model, packed(share)).chosen_tokens.int().tolist()

    whole = [len(encoder.written(p.chosen)) - len(encoder.lead_in) for p in some]
    opened = [len(encoder.verdict_words[said(p.chosen)]) for p in some]
    assert tokens(1.0) == whole
    assert tokens(0.0) == [
        *opened[:4],
        whole[4],
    ]  # both say the same: the difference is what counts
    assert max(opened[:4]) < min(whole)
    half = tokens(0.5)
    assert all(n in both for n, *both in zip(half, whole, opened, strict=True))
    words, batch = [len(ids) for ids in encoder.verdict_words.values()], packed(0.0)

    def reference(batch):
        return -1.0 - torch.arange(len(batch.targets), dtype=torch.float64) / 9

    plain, found = (pair_logprobs(model, batch, reference, words=asked)
                    for asked in ((0, 0), words))  # fmt: skip
    policy, start = (torch.stack(both, 1) for both in (
        (found.chosen, found.rejected), (found.ref_chosen, found.ref_rejected)))  # fmt: skip
    exact = verdict_divergence(policy, start)[:4]
    assert found.kl_chosen[:4].tolist() == found.kl_rejected[:4].tolist() == exact.tolist()
    assert (found.kl_chosen[4], found.kl_rejected[4]) == (plain.kl_chosen[4], plain.kl_rejected[4])
    assert exact.sub(plain.kl_chosen[:4]).abs().min() > 1e-3


def test_a_pair_that_does_not_fit_is_left_out_and_stops_no_other(tiny_encoder, pairs, caplog):
    """Its own critique was too long, and all that had been sampled was lost with it."""
    long = next(pair for pair in pairs if said(pair.chosen) == "flawed")
    long = replace(long, rejected="Verdict: valid\nCritique: " + "It is so. " * 400)
    room = [len(tiny_encoder.prompt(p.domain, p.rationale)) for p in pairs]
    room = max(room) + max(len(tiny_encoder.written(p.chosen)) for p in pairs)
    encoder = replace(tiny_encoder, max_tokens=room, ledger=Counter())
    found = encoded_pairs([long, *pairs], encoder)
    assert (found.pairs, found.too_long) == (pairs, 1)
    keys = [[branch.key for branch in both] for both in found.branches]
    assert keys == [[2 * n, 2 * n + 1] for n in range(len(pairs))]
    assert encoder.ledger["prompts"] == len(pairs)
    # compared by its verdict it needs room for no more
    assert encoded_pairs([long], encoder, explained=0.0).too_long == 0
    encoder.leave_out(Path("p.jsonl"), "pairs", 1, of=9)
    assert caplog.messages == [
        f"p.jsonl: expected pairs of at most {room} tokens, rationale included, got 1 of 9 that "
        "are longer; they are left out; to learn from them, raise data.max_tokens or set "
        "data.truncate"
    ]
    assert encoder.ledger["left_out"] == 1
    with pytest.raises(ValueError, match=r"^p.jsonl: .* got 9 of 9 that are longer; raise data.m"):
        encoder.leave_out(Path("p.jsonl"), "pairs", 9, of=9)


def test_a_chosen_critique_whose_evidence_would_be_cut_off_is_not_learnt(tiny_encoder, tmp_path):
    """Neither as the better of two nor as one of those selected; a rejected one may quote it."""
    text = "The pump ran for nine days. " * 9 + "It is certain."
    flawed = 'Verdict: flawed\nFlaw: small_sample\nEvidence: "It is certain."'
    pair = Preference(
        domain="general", rationale=text, chosen=flawed, rejected="Verdict: valid",
        chosen_score=1.0, rejected_score=0.0, margin=1.0, scorer="oracle", group="g",
    )  # fmt: skip
    other = replace(pair, chosen=pair.rejected, rejected=pair.chosen)
    room = len(tiny_encoder.prompt(pair.domain, text))
    encoder = Encoder(tiny_encoder.tokenizer, max_tokens=room, truncate=True)
    for explained in (0.0, 1.0):
        found = encoded_pairs([pair, other], encoder, explained=explained)
        assert (found.pairs, found.too_long) == ([other], 1)
    path = tmp_path / "selected.jsonl"
    row = {"group": "g", "domain": "general", "rationale": text, "score": 1.0}
    write_rows(path, [row | {"text": flawed}, row | {"text": "Verdict: valid"}])
    (group,) = selected_groups(path, encoder)
    assert (group.examples, encoder.ledger["left_out"]) == (1, 1)


def test_comparisons_that_are_the_same_tokens_count_once(tiny_encoder, pairs):
    """The reference was preferred to the critic's own and to the twin's: by the word it is one."""
    twin = next(pair for pair in pairs if said(pair.chosen) == "flawed")
    own = replace(twin, rejected="Verdict: valid\nCritique: It is so.", scorer="oracle")
    found = encoded_pairs([twin, own], tiny_encoder, explained=0.0)
    assert (found.pairs, found.repeated, found.too_long) == ([twin], 1, 0)
    assert encoded_pairs([twin, own], tiny_encoder, explained=1.0).repeated == 0


class Alone(DPOModule):
    """A step without a trainer, up to the gradients; `shown` is what would be logged."""

    def manual_backward(self, loss):
        loss.backward()

    def log_dict(self, values):
        self.shown = values

    def take_step(self, parts):
        return sum(parts.values())


def module_of(adapted, encoder, reference, slack=None):
    critic = Critic(adapted, encoder.tokenizer, name="t", identity="t", encoder=encoder)
    return Alone(critic, Optimization(9, 1e-3, 0.0, 1.0, 0.0, 1.0), RPO, reference, slack=slack)


def test_steps_split_over_passes_and_processes_add_up(tiny_adapted, tiny_encoder, pairs):
    groups = comparison_groups(pairs, tiny_encoder)
    module = module_of(tiny_adapted, tiny_encoder, known(pairs, tiny_encoder, torch.zeros))
    trained = module.trained()

    def step(tokens, ranks):
        """Loss, summed over processes, and gradients, averaged over them as Lightning does."""
        plan = StepPlan(groups, epochs=1, batch_examples=9, seed=0, pack_tokens=tokens)
        module._trainer = SimpleNamespace(
            world_size=ranks, global_step=0,
            strategy=SimpleNamespace(reduce=lambda sums, reduce_op: sums),
        )  # fmt: skip
        module.zero_grad()
        losses = [module.training_step(plan.step(0, rank, ranks), 0) for rank in range(ranks)]
        return sum(losses).item(), [parameter.grad / ranks for parameter in trained]

    whole, slopes = step(100_000, 1)
    for other, theirs in (step(10, 1), step(100_000, 3)):  # of three, one has nothing to do
        assert other == pytest.approx(whole, rel=1e-10)
        for one, two in zip(slopes, theirs, strict=True):
            torch.testing.assert_close(one, two, atol=1e-10, rtol=1e-7)


def test_a_first_step_with_another_reference_is_refused(tiny_adapted, tiny_encoder, pairs):
    groups = comparison_groups(pairs[:1], tiny_encoder)
    other = known(pairs[:1], tiny_encoder, torch.zeros)
    plan = StepPlan(groups, epochs=1, batch_examples=1, seed=0, pack_tokens=9)
    with pytest.raises(ValueError, match="expected zero margins at the first step, got"):
        module_of(tiny_adapted, tiny_encoder, other, slack=SLACK).training_step(plan.step(0), 0)


def test_reference_is_the_start_and_is_kept(tiny_adapted, tiny_encoder, pairs, tmp_path):
    model = tiny_adapted.get_base_model()
    groups = comparison_groups(pairs, tiny_encoder)
    store = tmp_path / "reference.safetensors"
    reference = reference_logprobs(model, groups, store, pack_tokens=500)
    batch = pack([tree for group in groups for tree in group.trees])
    start = pair_logprobs(model, batch, reference)
    check_start(start)
    plain = Mixture({"dpo": 1.0}, PairSettings(beta=0.3))
    torch.testing.assert_close(plain(start), torch.full_like(start.chosen, math.log(2)))
    kept = reference_logprobs(lambda **_: None, groups, store, pack_tokens=1)  # no model is asked
    assert all(map(torch.equal, kept.pieces, reference.pieces))
    mean = (start.ref_chosen[0] / start.chosen_tokens[0]).item()
    assert kept.means()[0].item() == pytest.approx(mean, rel=1e-12)
    with pytest.raises(ValueError, match="expected zero margins at the first step, got"):
        check_start(start._replace(chosen=start.chosen + 0.2))


def test_rounding_is_no_other_reference():
    """An eighth of a nat is what bfloat16 leaves of one logit of 16 to 32, two of 133 tokens."""
    margins, tokens = torch.tensor([0.0, -0.125, 1.946]), torch.tensor([2, 2, 133])
    rounded, exact = (slack_of(name, dropout=False) for name in ("bf16-mixed", "32-true"))
    check_zero(margins, tokens, rounded)
    check_zero(margins[:0], tokens[:0], exact)
    for wrong, slack in ((margins, exact), (margins - 0.9, rounded), (margins * 4, rounded)):
        with pytest.raises(ValueError, match=r"expected zero margins .* nats over (2|133) tokens"):
            check_zero(wrong, tokens, slack)
    with pytest.raises(ValueError, match="got nan nats over 2 tokens"):
        check_zero(torch.tensor([0.0, math.nan]), tokens[:2], rounded)
    assert slack_of("32-true", dropout=True) is None


@pytest.mark.parametrize(("precision", "dtype", "slack"), [
    ("32-true", "float32", SLACK), ("32-true", "bfloat16", ROUNDED_SLACK),
    ("32-true", "nf4", ROUNDED_SLACK), ("64-true", "bfloat16", SLACK),
    ("bf16-mixed", "float32", ROUNDED_SLACK),
])  # fmt: skip
def test_logits_of_rounded_weights_are_rounded(precision, dtype, slack):
    """Lightning leaves weights as they are at 32-true, and makes them exact at 64-true."""
    told = Recipe(base=BaseConfig(dtype=dtype))
    assert _slack(Run(told, "dpo", DPOConfig(precision=precision), Base(Path(), ""), {})) == slack


def test_what_is_watched_is_a_pair_or_a_token(tiny_adapted, tiny_encoder, pairs):
    model = tiny_adapted.get_base_model()
    batch = pack([t for group in comparison_groups(pairs, tiny_encoder) for t in group.trees])
    own = pair_logprobs(model, batch)
    below = known(pairs, tiny_encoder, torch.zeros)  # every token certain: far above the policy
    sums = watched(pair_logprobs(model, batch, below), beta=0.5)
    assert tuple(sums) == WATCHED
    found = means(sums)
    drift = own.chosen.sum() / own.chosen_tokens.sum()
    assert found["drift_chosen"].item() == pytest.approx(drift.item())
    assert found["reward_chosen"].item() == pytest.approx(0.5 * own.chosen.mean().item())
    assert found["tokens_chosen"].item() == pytest.approx(own.chosen_tokens.mean().item())
    # e^d - 1 - d is near -d - 1 where d is far below 0, and never under it
    tokens = own.chosen_tokens + own.rejected_tokens
    bound = (-(own.chosen + own.rejected).sum() / tokens.sum() - 1).item()
    assert bound < found["kl"].item() < bound + 0.05


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"dpo": 0.0}, r"dpo.loss_weights: expected one above 0 for one of .* got \[0.0\]"),
        ({"dpo": 1.0, "nll": -0.5}, r"and none below, got \[1.0, -0.5\]"),
        ({"dpo": float("nan")}, r"got \[nan\]"),
        ({"dop": 1.0}, "expected names of dpo, cdpo.*got dop"),
    ],
)
def test_mixtures_that_make_no_sense(weights, message):
    with pytest.raises(ValueError, match=message):
        Mixture(weights, PairSettings())


def test_names_and_weights_of_a_mixture_belong_together():
    assert Mixture.of(["dpo", "nll"], [1.0, 0.5], RPO.settings) == RPO
    for names, weights in ((["dpo"], [1.0, 2.0]), (["dpo", "dpo"], [1.0, 1.0])):
        with pytest.raises(ValueError, match="expected each name once and one of"):
            Mixture.of(names, weights, PairSettings())


def test_bad_pairs_are_named(tmp_path, pairs):
    path = tmp_path / "pairs.jsonl"
    write_rows(path, [pairs[0].to_row(), {**pairs[0].to_row(), "margin": 3.0}])
    with pytest.raises(ValueError, match=r"pairs.jsonl:2: expected margin 1.0, got 3.0"):
        read_preferences(path)
    path.write_text("")
    with pytest.raises(ValueError, match="expected at least one pair, got none"):
        read_preferences(path)
