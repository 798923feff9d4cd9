"""Looking first: which rationales are worth sampling critiques of."""

import numpy as np
import pytest

from data_gen.compose import compose
from data_gen.scouting import agreed, drawn, scout
from minicrit.sampling import Manner

EXAMPLES = [c.example for c in compose(12, 0, "train")]


class Known:
    """A critic whose probabilities are given, by rationale."""

    name = identity = prompt_version = "known"
    adapter = None
    threshold = 0.5

    def __init__(self, chances):
        self.chances = chances
        self.asked = 0

    def p_flawed(self, items, **_):
        self.asked += len(items)
        return np.array([self.chances[rationale] for _, rationale in items])


def critic_with(right):
    """Gives the right verdict of example n with probability `right[n]`."""
    return Known({
        e.rationale: p if e.label == "flawed" else 1 - p
        for e, p in zip(EXAMPLES, right, strict=True)
    })  # fmt: skip


def test_chance_that_all_agree_by_hand():
    found = agreed(np.array([0.5, 0.9, 0.2]), [1.0, 1.0, 1.0])
    assert found == pytest.approx([0.125, 0.729, 0.008])
    # odds 9 at temperature 1/2 are 81, greedy is certain
    assert agreed(np.array([0.9]), [0.5]) == pytest.approx([81 / 82])
    assert agreed(np.array([0.9, 0.1]), [0.0, 1.0]) == pytest.approx([0.9, 0.0])
    assert agreed(np.array([1.0, 0.0]), [1.0, 0.0]) == pytest.approx([1.0, 0.0])


def test_chance_that_all_agree_by_simulation():
    rng = np.random.default_rng(0)
    said = rng.random((100_000, 4)) < 0.8
    assert agreed(np.array([0.8]), [1.0] * 4)[0] == pytest.approx(said.all(1).mean(), abs=0.005)


def test_three_kinds(tmp_path):
    right = [0.5, 0.99, 0.01, 0.8, 0.86, 0.84] + [0.999] * 6
    # four samples: all right with 0.86^4 = 0.547, with 0.84^4 = 0.498
    found = scout(critic_with(right), EXAMPLES, Manner(4, (1.0,)), tmp_path)
    numbers = {name: [EXAMPLES.index(e) for e in some] for name, some in vars(found).items()}
    assert numbers == {"undecided": [0, 3, 5], "unsure": [0, 2, 3, 5],
                       "sure": [1, 4, *range(6, 12)]}  # fmt: skip
    assert found.facts() == {"scouted_undecided": 3, "scouted_unsure": 4, "scouted_sure": 8}


def test_what_cannot_be_read_is_of_no_kind(tmp_path):
    critic = critic_with([float("nan")] + [0.999] * 11)
    rows = [EXAMPLES[0], *EXAMPLES[1:] * 3]
    found = scout(critic, rows, Manner(), tmp_path)
    assert [len(some) for some in vars(found).values()] == [0, 0, 33]


def test_a_killed_run_does_not_ask_again(tmp_path):
    critic = critic_with([0.7] * 12)
    first = scout(critic, EXAMPLES, Manner(), tmp_path)
    assert critic.asked == 12
    assert scout(critic, EXAMPLES, Manner(), tmp_path) == first
    assert critic.asked == 12


def test_draws_go_by_id_alone():
    some = drawn(EXAMPLES, 5, "a")
    assert len(some) == 5
    assert drawn(EXAMPLES[::-1], 5, "a") == some[::-1]
    assert set(drawn(EXAMPLES[:8], 5, "a")) >= {e for e in some if e in EXAMPLES[:8]}
    assert drawn(EXAMPLES, 0, "a") == EXAMPLES
