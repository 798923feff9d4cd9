"""What is taken of a draft: by hand, and by chance as often as the model says."""

import numpy as np
import pytest
import torch
from scipy import stats

from minicrit.accepting import Drawn, Greedy, agreed, drawn, heated, weighed


@pytest.mark.parametrize(("own", "draft", "taken"), [
    ([7, 8, 9], [7, 8], [7, 8, 9]),  # all right, and one more for nothing
    ([7, 8, 9], [7, 5], [7, 8]),  # the wrong one is replaced by the model's
    ([7, 8, 9], [5, 8], [7]),  # what stands behind a wrong one counts for nothing
    ([7], [], [7]),
])  # fmt: skip
def test_a_draft_is_taken_up_to_its_first_wrong_token(own, draft, taken):
    assert agreed(own, draft) == taken


def test_greedy_takes_the_likeliest_and_notes_the_closest_place_written():
    logits = torch.tensor([[0.0, 2.0, 1.5], [3.0, 0.0, 0.0], [0.0, 0.1, 0.0]])
    rule = Greedy(watch=True)
    assert rule.take(logits, [1, 2], None, done=0) == [1, 0]
    assert rule.closest == pytest.approx(0.5)  # the third place was not written
    assert Greedy().take(logits, [1, 0], None, done=0) == [1, 0, 1]


def test_drawn_is_where_the_sums_pass_the_chance():
    p = torch.tensor([[0.2, 0.3, 0.5]]).double().repeat(4, 1)
    chances = torch.tensor([0.0, 0.21, 0.51, 0.999], dtype=torch.float64)
    assert drawn(p, chances).tolist() == [0, 1, 2, 2]


def test_weighed_by_hand():
    """P / q of token 0 is 1 / 2, of token 1 it is 3; what is left after a refusal is token 1."""
    p = torch.tensor([[0.4, 0.6], [1.0, 0.0]], dtype=torch.float64)
    q = torch.tensor([[0.8, 0.2]], dtype=torch.float64)

    def taken(token: int, coin: float) -> list[int]:
        chances = torch.tensor([[0.5, coin, 0.5], [0.5, 0.5, 0.5]], dtype=torch.float64)
        return weighed(p, [token], q, chances)

    assert taken(0, 0.49) == [0, 0]
    assert taken(0, 0.51) == [1]
    assert taken(1, 0.99) == [1, 0]


def power(p: np.ndarray, other: np.ndarray, n: int, alpha: float) -> float:
    """Of a chi-square test of p, if `other` is true: noncentral with n sum (o - p)^2 / p."""
    limit = stats.chi2.isf(alpha, len(p) - 1)
    return float(stats.ncx2.sf(limit, len(p) - 1, n * ((other - p) ** 2 / p).sum()))


@pytest.mark.parametrize("guess", [False, True])
def test_tokens_come_as_often_as_the_model_says_whoever_drafts(guess):
    """4,000 draws, alpha 0.001; a shift of 0.05 in total variation would be seen 99 times in 100.

    That the test can fail is seen on the rule that always believes the draft.
    """
    n, alpha = 4000, 0.001
    p = np.array([0.35, 0.3, 0.2, 0.1, 0.05])
    q = np.array([0.1, 0.2, 0.2, 0.1, 0.4])
    logits = torch.tensor(np.log(np.stack([p, p])))
    rng = np.random.default_rng(3)
    counts, believed = np.zeros(5), np.zeros(5)
    for _ in range(n):
        token = 1 if guess else int(rng.choice(5, p=q))
        rule = Drawn(torch.tensor(rng.random((2, 3))))
        given = None if guess else torch.tensor(q)[None]
        counts[rule.take(logits, [token], given, done=0)[0]] += 1
        believed[token] += 1
    assert stats.chisquare(counts, n * p).pvalue > alpha
    assert stats.chisquare(believed, n * p).pvalue < alpha
    moved = p + np.array([0.05, -0.05, 0, 0, 0])
    assert power(p, moved, n, alpha) > 0.99


def test_a_guess_changes_no_draw():
    """The same chances, the same tokens: with a right guess, a wrong one, and none."""
    torch.manual_seed(1)
    logits = torch.randn(3, 6, dtype=torch.float64)
    rule = Drawn(torch.rand(4, 3, dtype=torch.float64), temperature=0.7)
    one_by_one = [rule.take(logits[at : at + 1], [], None, done=1 + at)[0] for at in range(3)]
    assert rule.take(logits, one_by_one[:2], None, done=1) == one_by_one
    wrong = [one_by_one[0], (one_by_one[1] + 1) % 6]
    assert rule.take(logits, wrong, None, done=1) == one_by_one[:2]


def test_heat_sharpens_and_flattens():
    logits = torch.tensor([0.0, 1.0])
    assert heated(logits, 1.0)[1] == pytest.approx(1 / (1 + np.exp(-1)))
    assert heated(logits, 0.5)[1] == pytest.approx(1 / (1 + np.exp(-2)))
