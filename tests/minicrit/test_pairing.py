"""Which pairs are learnt from, held out, left out."""

from dataclasses import replace

import pytest
import torch

from minicrit.pairing import MOST_HELD_OUT, choose_pairs, held_out_groups, wide_enough
from minicrit.records import Preference
from minicrit.training_config import DPOConfig


def pair(group: str, margin: float = 0.5) -> Preference:
    return Preference(
        domain="general", rationale="r", chosen="Verdict: valid", rejected="Verdict: flawed",
        chosen_score=margin, rejected_score=0.0, margin=margin, scorer="oracle", group=group,
    )  # fmt: skip


def never() -> torch.Tensor:
    raise AssertionError("no likelihoods are needed")


PAIRS = [pair(f"g{n // 2}", 0.1 if n % 5 == 0 else 0.5) for n in range(40)]


def test_groups_are_held_out_whole_and_stay_so_when_others_come_and_go():
    names = [f"g{n}" for n in range(1000)]
    aside = held_out_groups(names, 0.05, 0)
    assert 30 < len(aside) <= MOST_HELD_OUT
    assert held_out_groups(reversed(names), 0.05, 0) == aside
    assert held_out_groups(names, 0.05, 1) != aside
    half = set(names[::2])
    assert held_out_groups(half, 0.05, 0) == aside & half
    assert len(held_out_groups(names, 0.9, 0)) == MOST_HELD_OUT


@pytest.mark.parametrize(("groups", "share", "count"), [
    (["a", "b", "c"], 1e-9, 1), (["a", "b"], 0.999, 1), (["a"], 0.5, 0), (["a", "b"], 0.0, 0),
])  # fmt: skip
def test_of_a_few_groups_one_is_held_out_and_one_stays(groups, share, count):
    assert len(held_out_groups(groups, share, 0)) == count


def test_what_is_best_by_held_out_pairs_needs_some():
    for best in ("val/reward_accuracy", "val/reward_margin"):
        with pytest.raises(
            ValueError, match=rf"dpo.best: expected pairs of two .* for {best}, got one"
        ):
            choose_pairs([pair("a"), pair("a")], DPOConfig(best=best), never, 0)
    assert not choose_pairs([pair("a")], DPOConfig(best="val/f1"), never, 0).held_out


def test_every_pair_is_in_one_place():
    choice = choose_pairs(PAIRS, DPOConfig(held_out_pairs=0.2), never, 0)
    assert sorted(choice.train + choice.held_out) == list(range(40))
    assert not {PAIRS[n].group for n in choice.train} & {PAIRS[n].group for n in choice.held_out}
    assert choice.facts(PAIRS) == {
        "trained": {"oracle": len(choice.train)}, "held_out": len(choice.held_out), "hardest": 0,
    }  # fmt: skip


def test_pairs_of_near_scores_stay_outside():
    wide = wide_enough(PAIRS, DPOConfig(least_margin=0.2))
    assert len(wide) == 32
    assert {pair.margin for pair in wide} == {0.5}
    with pytest.raises(ValueError, match=r"margin of at least 2.0, got none; lower dpo.least"):
        wide_enough(PAIRS, DPOConfig(least_margin=2.0))


def test_the_hardest_are_those_whose_chosen_critique_is_least_likely():
    likelihoods = torch.tensor([x for n in range(40) for x in (-float(n % 7), 0.0)])
    settings = DPOConfig(hardest=0.25, held_out_pairs=0.0, explained=1.0)
    choice = choose_pairs(PAIRS, settings, lambda: likelihoods, 0)
    # by hand: -6 at 6, 13, 20, 27, 34; then -5 at 5, 12, 19, 26, 33
    assert choice.hardest == (5, 6, 12, 13, 19, 20, 26, 27, 33, 34)
    assert choice.train == tuple(n for n in range(40) if n not in choice.hardest)


def test_verdicts_and_whole_critiques_are_ranked_apart():
    # Odd pairs agree in the verdict and are compared to the end, at far likelier tokens.
    pairs = [replace(pair(f"g{n}"), chosen="Verdict: flawed\nFlaw: x") if n % 2 else pair(f"g{n}")
             for n in range(20)]  # fmt: skip
    likelihoods = torch.tensor([x for n in range(20) for x in (-0.1 if n % 2 else -3.0, 0.0)])
    settings = DPOConfig(hardest=0.2, held_out_pairs=0.0, explained=0.0)
    choice = choose_pairs(pairs, settings, lambda: likelihoods, 0)
    assert choice.hardest == (0, 1, 2, 3)


@pytest.mark.parametrize(("told", "message"), [
    ({"hardest": 1.0}, r"dpo.hardest: expected a share from 0 to under 1, got 1.0"),
    ({"held_out_pairs": -0.1}, r"dpo.held_out_pairs: expected a share from 0 to under 1"),
])  # fmt: skip
def test_shares_that_are_none_are_refused(told, message):
    with pytest.raises(ValueError, match=message):
        choose_pairs(PAIRS, DPOConfig(**told), never, 0)
