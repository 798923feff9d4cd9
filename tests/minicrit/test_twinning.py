"""What twins teach: the marks, the losses by hand, and one packed pass against plain ones."""

import math
import random
from collections import Counter
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, PhiConfig

from minicrit import attention
from minicrit.logprobs import token_logprobs
from minicrit.losses import coherence_loss, running_verdict_loss, steadiness_loss
from minicrit.packing import Branch, grow, pack
from minicrit.plan import Group, StepPlan
from minicrit.twinning import DEPTHS, TwinWeights, VerdictProbes, twin_losses, with_departures

OPENING, END = (7,) * 10, (8, 9, 6)
PREMISES, CONCLUSIONS = ((11, 12) * 5, (13, 14) * 5), ((21, 22, 23), (24, 25))


def square() -> tuple[list[Branch], list[bool]]:
    """Four corners in the order 00, 01, 11, 10; the last token is the scored verdict word."""
    corners = [(0, 0), (0, 1), (1, 1), (1, 0)]
    texts = [(*OPENING, *PREMISES[p], *CONCLUSIONS[c], *END) for p, c in corners]
    branches = [Branch(ids, (0.0,) * (len(ids) - 1) + (1.0,)) for ids in texts]
    return branches, [p != c for p, c in corners]


def test_a_square_departs_where_the_second_half_begins():
    marked = with_departures(*square())
    assert [b.departure for b in marked] == [(20, 25, 1), (20, 24, -1), (20, 24, 1), (20, 25, -1)]


def test_pairs_are_left_alone():
    branches, flawed = square()
    assert with_departures(branches[:2], flawed[:2]) == branches[:2]


def test_texts_that_are_in_one_group_for_another_reason_are_left_alone():
    """Two sound and two flawed ones that each go on in a way of their own."""
    branches, flawed = square()
    longer = replace(branches[3], ids=(*branches[3].ids[:-1], 30, 6), weights=(0.0,) * 26 + (1.0,))
    assert with_departures([*branches[:3], longer], flawed) == [*branches[:3], longer]


def test_packing_keeps_the_marks_through_shared_prefixes():
    tree = grow(with_departures(*square()))
    batch = pack([tree, tree])
    ids = batch.input_ids[0]
    assert tree.departures == 4
    assert batch.trees.tolist() == [0] * 4 + [1] * 4
    assert ids[batch.departed].tolist()[:5] == [21, 22, 23, 8, 9]  # corner 00, from its conclusion
    assert batch.signs[:9].tolist() == [1.0] * 5 + [-1.0] * 4
    firsts = [
        at for at, owner in enumerate(batch.departed_owners.tolist())
        if at == 0 or owner != batch.departed_owners[at - 1]
    ]  # fmt: skip
    # What precedes the first marked token of every leaf is the end of its premise.
    assert {ids[i].item() for i in batch.before[firsts]} == {12, 14}


def test_coherence_by_hand():
    # Group 0: sound texts -1 and -3, flawed -2 and -5; group 1 has no flawed text.
    logprobs = torch.tensor([-1.0, -2.0, -1.0, -2.0, -5.0, -4.0], dtype=torch.float64)
    owners = torch.tensor([0, 1, 1, 2, 3, 4])
    signs = torch.tensor([1.0, 1.0, 1.0, -1.0, -1.0, 1.0])
    trees = torch.tensor([0, 0, 0, 0, 1])
    logprobs.requires_grad_()
    loss = coherence_loss(logprobs, signs, owners, trees)
    margin = (-1 - 3) / 2 - (-2 - 5) / 2
    assert loss.total.item() == pytest.approx(math.log1p(math.exp(-margin)))
    assert loss.weight.item() == 1
    loss.total.backward()
    slope = 1 / (1 + math.exp(margin))
    assert logprobs.grad.tolist() == pytest.approx([-slope / 2] * 3 + [slope / 2] * 2 + [0.0])


def test_running_verdict_by_hand():
    log_odds = torch.tensor([0.0, 2.0, -1.0], dtype=torch.float64)
    signs, owners = torch.tensor([1.0, 1.0, -1.0]), torch.tensor([0, 0, 2])
    loss = running_verdict_loss(log_odds, signs, owners, 3)
    sound = (math.log(2) + math.log1p(math.exp(2))) / 2
    assert loss.total.item() == pytest.approx(sound + math.log1p(math.exp(1)))
    assert loss.weight.item() == 2


def test_steadiness_by_hand():
    # Text 5 of group 0 in two versions and text 5 of group 1 in three; three texts stand alone.
    log_odds = torch.tensor([1.0, -3.0, 2.0, 0.5, 9.0, -1.0, 4.0, 6.0], dtype=torch.float64)
    keys = torch.tensor([5, 2, 5, 5, -1, 5, 5, -1])
    trees = torch.tensor([0, 0, 0, 1, 0, 1, 1, 0])
    log_odds.requires_grad_()
    loss = steadiness_loss(log_odds, keys, trees)
    mean = (0.5 - 1 + 4) / 3
    three = [0.5 - mean, -1 - mean, 4 - mean]
    assert loss.total.item() == pytest.approx((1 - 2) ** 2 / 2 + sum(x**2 for x in three))
    assert loss.weight.item() == 2
    loss.total.backward()
    by_hand = [1 - 2, 0, 2 - 1, 2 * three[0], 0, 2 * three[1], 2 * three[2], 0]
    assert log_odds.grad.tolist() == pytest.approx(by_hand)


def test_nothing_marked_costs_nothing_and_has_a_gradient(tiny_adapted):
    model = tiny_adapted.get_base_model()
    probes = probes_of(model)
    batch = pack([grow(square()[0])])
    read = twin_losses(model, probes, batch, (30, 31))
    for part in (read.coherence, read.running, read.deep, read.steady):
        assert part.total.item() == 0
        assert part.weight.item() == 0
    parts = (read.coherence, read.running, read.deep, read.steady)
    sum(part.total for part in parts).backward()
    assert probes.weight.grad.abs().sum() == 0


def keyed(branches: list[Branch]) -> list[Branch]:
    """As if the four were two texts, each in two versions."""
    return [replace(branch, key=row // 2) for row, branch in enumerate(branches)]


def probes_of(model) -> VerdictProbes:
    probes = VerdictProbes(model.config.num_hidden_layers, model.config.hidden_size).double()
    torch.manual_seed(0)
    torch.nn.init.normal_(probes.weight)
    return probes


@pytest.mark.parametrize("chunk", [0, 3])
def test_one_packed_pass_equals_plain_passes(tiny_adapted, chunk):
    model = tiny_adapted.get_base_model()
    probes = probes_of(model)
    words = (30, 31)
    branches = keyed(with_departures(*square()))
    random.Random(1).shuffle(branches)
    batch = pack([grow(branches)])
    read = twin_losses(model, probes, batch, words, chunk=chunk)
    told, running, deep = [], 0.0, 0.0
    verdicts = {0: [], 1: []}
    for branch in branches:
        ids = torch.tensor([branch.ids])
        output = model(input_ids=ids, use_cache=False, output_hidden_states=True)
        first, end, sign = branch.departure
        every = token_logprobs(output.logits[0, :-1], ids[0, 1:])
        told.append((sign, every[first - 1 : end - 1].sum()))
        odds = output.logits[0, first:end, words[1]] - output.logits[0, first:end, words[0]]
        verdicts[branch.key].append(odds[-1])  # of the token before the scored one
        running += torch.nn.functional.softplus(sign * odds).mean()
        for row, depth in enumerate(probes.depths):
            state = output.hidden_states[depth][0, first:end]
            state = state / (state.square().mean(-1, keepdim=True) + 1e-6).sqrt()
            odds = state @ probes.weight[row] + probes.bias[row]
            deep += torch.nn.functional.softplus(sign * odds).mean() / len(DEPTHS)
    margin = sum(sign * value for sign, value in told) / 2
    close = {"atol": 1e-9, "rtol": 1e-9}
    torch.testing.assert_close(read.coherence.total, torch.nn.functional.softplus(-margin), **close)
    torch.testing.assert_close(read.running.total, running, **close)
    torch.testing.assert_close(read.deep.total, deep, **close)
    steady = sum((a - b) ** 2 / 2 for a, b in verdicts.values())
    torch.testing.assert_close(read.steady.total, steady, **close)
    assert read.steady.weight.item() == 2


def test_a_head_with_a_bias_is_read_with_it():
    """With weights of zero the log-odds are 2.5 - 0.5 = 2 everywhere.

    Two sound texts, softplus(2) = 2.126928 each, and two flawed ones, softplus(-2) = 0.126928.
    """
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = PhiConfig(**size, vocab_size=32, num_attention_heads=2)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias[30:] = torch.tensor([0.5, 2.5])
    batch = pack([grow(keyed(with_departures(*square())))])
    read = twin_losses(model, VerdictProbes(1, 16), batch, (30, 31))
    assert read.running.total.item() == pytest.approx(2 * (2.126928 + 0.126928), abs=1e-5)
    assert read.steady.total.item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("pack_tokens", [600, 10])
def test_two_processes_and_small_packs_give_the_parts_of_one(tiny_adapted, pack_tokens):
    model, weights = tiny_adapted.get_base_model(), TwinWeights(0.5, 2.0, 3.0, 4.0)
    probes = probes_of(model)
    groups = [Group(name, (grow(keyed(with_departures(*square()))),), 4) for name in "abc"]

    def parts(limit: int, world: int) -> dict[str, float]:
        plan = StepPlan(groups, epochs=1, batch_examples=12, pack_tokens=limit, seed=0)
        total: Counter[str] = Counter()
        for rank in range(world):
            step = plan.step(0, rank, world)
            for packed in step.packs:
                read = twin_losses(model, probes, packed, (30, 31)).of_step(step, weights)
                total.update({name: value.item() for name, value in read.items()})
        return dict(total)

    one = parts(600, 1)
    assert set(one) == {"critique", "coherence", "running", "deep", "steady"}
    assert min(one.values()) > 0
    assert parts(pack_tokens, 2) == pytest.approx(one, rel=1e-9)
