"""Packed computation equals the plain one: every sequence alone, in float64."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minicrit import attention
from minicrit.logprobs import scored_logprobs, token_logprobs
from minicrit.packing import Branch, Tree, grow, pack, parted

WORDS = st.integers(5, 900)


def leaf(rng: random.Random, length: int, scored: int) -> Branch:
    ids = tuple(rng.randrange(5, 900) for _ in range(length))
    return Branch(ids, (0.0,) * (length - scored) + tuple(rng.choice((1.0, 3.0))
                                                        for _ in range(scored)))  # fmt: skip


def random_trees(seed: int) -> list[Tree]:
    """Trees with and without prefix, one to three branches, some forking again."""
    rng = random.Random(seed)
    trees = []
    for _ in range(rng.randrange(1, 4)):
        prefix = tuple(rng.randrange(5, 900) for _ in range(rng.choice((0, 1, 7))))
        scored = 3 if prefix else 2
        branches: list[Branch | Tree] = [
            leaf(rng, rng.randrange(3, 9), scored) for _ in range(rng.randrange(1, 4))
        ]
        if prefix and rng.random() < 0.6:
            branches.append(Tree((11, 12, 13), (leaf(rng, 4, 4), leaf(rng, 2, 1))))
        trees.append(Tree(prefix, tuple(branches)))
    return trees


def paths(tree: Tree, above: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], Branch]]:
    """All whole sequences of a tree: what comes before each leaf, and the leaf."""
    above = above + tree.prefix
    found = []
    for branch in tree.branches:
        found += paths(branch, above) if isinstance(branch, Tree) else [(above, branch)]
    return found


def plain_logprobs(model, trees: list[Tree]) -> tuple[torch.Tensor, torch.Tensor]:
    """The same tokens scored one sequence at a time by the model's ordinary forward."""
    scores, weights = [], []
    for tree in trees:
        for before, branch in paths(tree):
            ids = torch.tensor([[*before, *branch.ids]])
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
            every = token_logprobs(logits, ids[0, 1:])
            for offset, weight in enumerate(branch.weights):
                if weight:
                    scores.append(every[len(before) + offset - 1])
                    weights.append(weight)
    return torch.stack(scores), torch.tensor(weights, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(6))
def test_packed_equals_plain_forward_and_backward(tiny_adapted, seed):
    model, trees = tiny_adapted.get_base_model(), random_trees(seed)
    trained = [p for p in model.parameters() if p.requires_grad]
    batch = pack(trees)
    packed = scored_logprobs(model, batch)
    (packed * batch.weights.double()).sum().backward()
    gradients = [p.grad.clone() for p in trained]
    for p in trained:
        p.grad = None
    plain, weights = plain_logprobs(model, trees)
    (plain * weights).sum().backward()
    torch.testing.assert_close(packed, plain, atol=1e-10, rtol=1e-10)
    for got, p in zip(gradients, trained, strict=True):
        torch.testing.assert_close(got, p.grad, atol=1e-10, rtol=1e-8)


def test_heads_of_keys_that_are_repeated_give_what_groups_give(monkeypatch):
    """As on CUDA, where a mask and groups of heads together have no fast kernel."""
    mask = torch.ones(1, 1, dtype=torch.bool)
    assert [attention.takes_groups("cuda", m) for m in (None, mask)] == [True, False]
    assert attention.takes_groups("cpu", mask)
    torch.manual_seed(0)
    given = [torch.randn(1, heads, 12, 8, dtype=torch.float64, requires_grad=True)
             for heads in (6, 2, 2)]  # fmt: skip
    segments = tuple(attention.Segment(*told) for told in ((5,), (3, 0), (2, 1), (2, 0)))
    kernel, masked = attention.scaled_dot_product_attention, []

    def watched(query, key, *rest, attn_mask, enable_gqa, **options):
        if attn_mask is not None:
            masked.append((key.shape[1], enable_gqa))
        return kernel(query, key, *rest, attn_mask=attn_mask, enable_gqa=enable_gqa, **options)

    monkeypatch.setattr(attention, "scaled_dot_product_attention", watched)
    found = []
    for groups in (True, False):
        monkeypatch.setattr(attention, "takes_groups", lambda _, mask, g=groups: g or mask is None)
        out, _ = attention.packed_attention(None, *given, None, segments=segments)
        found.append([out, *torch.autograd.grad(out.square().sum(), given)])
    assert masked == [(2, True)] * 3 + [(6, False)] * 3
    torch.testing.assert_close(found[0], found[1], atol=1e-13, rtol=1e-12)


def test_chunked_logits_and_gradient_checkpointing_change_nothing(tiny_adapted):
    model, batch = tiny_adapted.get_base_model(), pack(random_trees(3))
    trained = [p for p in model.parameters() if p.requires_grad]

    def run(chunk: int) -> list[torch.Tensor]:
        for p in trained:
            p.grad = None
        scores = scored_logprobs(model, batch, chunk=chunk)
        scores.sum().backward()
        return [scores.detach(), *(p.grad.clone() for p in trained)]

    whole, chunked = run(0), run(2)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
    model.train()
    checkpointed = run(0)
    for a, b, c in zip(whole, chunked, checkpointed, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8)
        torch.testing.assert_close(a, c, atol=1e-10, rtol=1e-8)


def test_packed_equals_padded_in_float32(tiny):
    from minicrit.base import load_model

    model = load_model(tiny)
    rng = random.Random(5)
    sequences = [[rng.randrange(5, 900) for _ in range(n)] for n in (9, 4, 13)]
    longest = max(map(len, sequences))
    ids = torch.tensor([s + [0] * (longest - len(s)) for s in sequences])
    mask = torch.tensor([[1] * len(s) + [0] * (longest - len(s)) for s in sequences])
    with torch.inference_mode():
        padded = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        trees = [Tree((s[0],), (Branch(tuple(s[1:]), (1.0,) * (len(s) - 1)),)) for s in sequences]
        packed = scored_logprobs(model, pack(trees))
    expected = torch.cat([token_logprobs(padded[i, : len(s) - 1], torch.tensor(s[1:]))
                          for i, s in enumerate(sequences)])  # fmt: skip
    torch.testing.assert_close(packed, expected, atol=1e-5, rtol=1e-5)


def test_scored_tokens_are_the_weighted_ones_token_by_token():
    batch = pack([Tree((7, 8), (Branch((1, 2, 3), (0.0, 5.0, 0.0)), Branch((4,), (2.0,))))])
    assert batch.input_ids.tolist() == [[7, 8, 1, 2, 3, 4]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 2]]
    assert batch.targets.tolist() == [2, 4]
    assert batch.sources.tolist() == [2, 1]  # `2` follows `1`; `4` follows the prefix
    assert batch.weights.tolist() == [5.0, 2.0]
    assert batch.owners.tolist() == [0, 1]
    assert [tuple(s) for s in batch.segments] == [(2, -1), (3, 0), (1, 0)]


@given(st.lists(st.lists(WORDS, min_size=2, max_size=30), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_growing_a_tree_keeps_every_sequence(sequences):
    branches = [Branch(tuple(s), (0.0,) * (len(s) - 1) + (1.0,)) for s in sequences]
    tree = grow(branches)
    found = sorted((*before, *b.ids) for before, b in paths(tree))
    assert found == sorted(b.ids for b in branches)
    assert tree.weight == len(sequences)
    assert tree.tokens <= sum(len(s) for s in sequences)


@given(st.lists(st.tuples(st.lists(WORDS, min_size=2, max_size=12), st.integers(-1, 4)),
                min_size=1, max_size=12), st.integers(1, 60), st.integers(1, 2))  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_a_tree_that_is_too_long_is_taken_apart_with_every_sequence_and_key(told, most, keys):
    branches = [Branch((7, 7, 7, *s), (0.0,) * (len(s) + 2) + (1.0,), key=key) for s, key in told]
    whole = grow(branches)
    parts = parted(whole, most, keys)
    found = sorted((b.ids, b.weights, b.key) for part in parts for b in part.sequences)
    assert found == sorted((b.ids, b.weights, b.key) for b in branches)
    for kin in {key // keys for _, key in told if key >= 0}:
        assert sum(any(leaf.key >= 0 and leaf.key // keys == kin for leaf in part.leaves)
                   for part in parts) == 1  # fmt: skip
    if whole.tokens <= most:
        assert parts == (whole,)
    for part in parts:
        kin = {leaf.key // keys if leaf.key >= 0 else -2 - n for n, leaf in enumerate(part.leaves)}
        assert part.tokens <= most or len(kin) == 1


def test_texts_that_depart_from_each_other_stay_one_tree():
    ends = [
        Branch((1, 2, n, 9), (0.0, 0.0, 0.0, 1.0), (2, 3, sign)) for n, sign in ((3, 1), (4, -1))
    ]
    assert parted(grow(ends), 1) == (grow(ends),)


def test_four_corners_share_opening_and_premise():
    opening, premises = tuple(range(100, 120)), (tuple(range(200, 215)), tuple(range(300, 315)))
    ends = ((1, 2), (3, 4))
    corners = [Branch((*opening, *p, *e), (0.0,) * 36 + (1.0,)) for p in premises for e in ends]
    assert grow(corners).tokens == 20 + 2 * 15 + 4 * 2


def test_a_scored_token_is_never_shared():
    same = [Branch((1, 2, 3), (0.0, 1.0, 1.0))] * 2
    assert grow(same).prefix == (1,)


def test_first_token_of_a_text_cannot_be_scored():
    with pytest.raises(ValueError, match="expected a token before"):
        pack([Tree((), (Branch((1,), (1.0,)),))])


def test_branch_needs_as_many_weights_as_ids():
    with pytest.raises(ValueError, match="one weight for each"):
        Branch((1, 2), (1.0,))


def test_likelihoods_do_not_need_the_ends(tiny_model):
    """Without the last token of each leaf: the same log-probabilities from fewer tokens."""
    trees = random_trees(6)
    whole, short = pack(trees), pack(trees, ends=False)
    leaves = sum(len(tree.leaves) for tree in trees)
    marked = sum(tree.departures for tree in trees)
    assert short.tokens == whole.tokens - leaves + marked
    assert scored_logprobs(tiny_model, short).tolist() == pytest.approx(
        scored_logprobs(tiny_model, whole).tolist(), abs=1e-12
    )


def test_large_masks_are_right_and_not_kept():
    """Of 1,500 tokens behind 1,500 each would take megabytes, and every pair of lengths is one."""
    device = torch.device("cpu")
    for rows, columns, kept in ((3, 5, 1), (700, 900, 0)):
        attention._kept_mask.cache_clear()
        mask = attention._path_mask(rows, columns, device)
        places = torch.arange(columns - rows, columns).unsqueeze(1)
        assert torch.equal(mask, torch.arange(columns) <= places)
        assert attention._kept_mask.cache_info().currsize == kept
