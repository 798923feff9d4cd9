"""Writing with drafts: whatever is drafted, the text is the model's own."""

from collections import Counter
from itertools import product as pairs

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import LlamaConfig, LlamaForCausalLM

from minicrit import attention
from minicrit.accepting import Drawn, Greedy
from minicrit.decoding import greedy
from minicrit.drafting import Draft
from minicrit.flat_decoding import FlatDecoder
from minicrit.model_drafts import ModelDrafts
from minicrit.packing import pack
from minicrit.readout import joined, reading
from minicrit.speculation import Nothing, pages, rooms, write, written

PROMPTS = [[5, 6, 7, 8, 9], [11, 12], [20, 21, 22]]


class Told:
    """Drafts what it was told, from where the text stands, with some tokens spoilt."""

    def __init__(self, texts, spoil=lambda place: False, most=4):
        self.texts, self.spoil, self.most = texts, spoil, most
        self.lessons = []

    def draft(self, row, text, start, most):
        done = len(text) - start
        draft = Draft()
        for place, token in enumerate(self.texts[row][done : done + min(most, self.most)], done):
            draft.add(token + self.spoil(place), 0.9, ("told", 1))
        return draft

    def learn(self, draft, right):
        self.lessons.append((len(draft.tokens), right))


def spoken(model, drafter, *, longest=9, end=-1, prompts=PROMPTS, rules=None):
    texts = pages(prompts, [len(p) for p in prompts], longest=longest, end=end)
    decoder = FlatDecoder(model, rooms(texts, 8))
    tally = write(decoder, texts, drafter, rules or [Greedy() for _ in texts])
    return [written(page) for page in texts], tally


def test_reading_on_and_cutting_back_give_the_logits_of_the_whole_text(tiny_model):
    """Several texts, other numbers of tokens each, some of them forgotten again."""
    decoder = FlatDecoder(tiny_model, [20, 20, 20])
    rows = {0: [5, 6, 7], 1: [11, 12], 2: [20]}
    generator = torch.Generator().manual_seed(0)
    decoder.read(rows, dict.fromkeys(rows, 1))
    for step in range(4):
        more = {row: torch.randint(30, 60, (1 + (row + step) % 3,), generator=generator).tolist()
                for row in rows if row != step}  # fmt: skip
        found = decoder.read(more, {row: len(ids) for row, ids in more.items()})
        for (row, ids), logits in zip(more.items(), found, strict=True):
            whole = tiny_model(torch.tensor([rows[row] + ids])).logits[0, -len(ids) :]
            torch.testing.assert_close(logits, whole, rtol=1e-5, atol=1e-6)
            kept = len(ids) - (row + step) % 2
            rows[row] = rows[row] + ids[:kept]
            decoder.shelf.cut(row, len(rows[row]))
    assert decoder.shelf.lengths == [len(rows[row]) for row in range(3)]


def test_what_was_rejected_leaves_no_trace_in_the_cache(tiny_model):
    """Bit for bit the keys and values of a text that never was drafted."""
    straight, detour = (FlatDecoder(tiny_model, [12]) for _ in range(2))
    for decoder in (straight, detour):
        decoder.read({0: [5, 6, 7]}, {0: 1})
    detour.read({0: [40, 41, 42, 43]}, {0: 4})
    detour.shelf.cut(0, 3)
    ends = [decoder.read({0: [8, 9]}, {0: 1})[0] for decoder in (straight, detour)]
    assert torch.equal(*ends)
    for name, (keys, values) in straight.shelf._stores.items():
        other_keys, other_values = detour.shelf._stores[name]
        assert torch.equal(keys[:, :5], other_keys[:, :5])
        assert torch.equal(values[:, :5], other_values[:, :5])


def test_a_verdicts_forward_leaves_its_prompt_for_the_text(tiny_model, tiny_encoder):
    prompt = tiny_encoder.prompt("general", "All swans seen were white.")
    asked = [*prompt, *tiny_encoder.lead_in]
    decoder = FlatDecoder(tiny_model, [len(asked) + 4])
    batch = pack([joined([prompt], reading(tiny_encoder))], ends=False)
    with torch.inference_mode(), decoder.shelf.keeping(len(asked)):
        tiny_model(**batch.model_inputs(), memory=decoder.shelf)
    assert decoder.shelf.lengths == [len(asked)]
    logits = decoder.read({0: [33, 34]}, {0: 2})[0]
    whole = tiny_model(torch.tensor([[*asked, 33, 34]])).logits[0, -2:]
    torch.testing.assert_close(logits, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spoil", [
    lambda place: False, lambda place: True, lambda place: place % 3 == 1, lambda place: place > 4,
])  # fmt: skip
@pytest.mark.parametrize("longest", [1, 2, 9])
def test_right_and_wrong_drafts_write_what_plain_decoding_writes(tiny_model, spoil, longest):
    plain = greedy(tiny_model, PROMPTS, longest=longest, end=-1)
    told = greedy(tiny_model, PROMPTS, longest=12, end=-1)
    texts, tally = spoken(tiny_model, Told(told, spoil), longest=longest)
    assert texts == plain
    assert tally.tokens == 3 * longest
    assert tally.accepted["told"] <= tally.drafted["told"]


def test_an_end_within_a_draft_ends_the_text(tiny_model):
    told = greedy(tiny_model, PROMPTS, longest=12, end=-1)
    end = told[1][2]
    plain = greedy(tiny_model, PROMPTS, longest=9, end=end)
    drafter = Told(told, most=8)
    texts, tally = spoken(tiny_model, drafter, end=end)
    assert texts == plain
    assert len(texts[1]) <= 2
    assert tally.forwards == 1  # all is drafted, and a bonus token stands behind it
    assert drafter.lessons == [(8, 8)] * 3


def test_without_drafts_each_token_is_a_forward(tiny_model):
    texts, tally = spoken(tiny_model, Nothing())
    assert texts == greedy(tiny_model, PROMPTS, longest=9, end=-1)
    assert (tally.forwards, tally.drafts, tally.tokens) == (9, 0, 27)


def test_a_helper_changes_speed_and_no_token(tiny_model, tiny):
    from minicrit.base import load_model

    other = load_model(tiny, torch.float64)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in other.parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            weight.add_(0.02 * weight.std() * noise)
    plain = greedy(tiny_model, PROMPTS, longest=9, end=-1)
    same, perturbed = (
        spoken(tiny_model, ModelDrafts(model, [40] * 3, length=4, least=0.0))
        for model in (tiny_model, other)
    )
    assert same[0] == perturbed[0] == plain
    assert same[1].forwards == 2  # 5 + 4 tokens
    assert 2 <= perturbed[1].forwards <= 9
    assert same[1].drafted == same[1].accepted


def small(seed: int) -> LlamaForCausalLM:
    """A model of five words that is anything but uniform."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=5, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, attn_implementation=attention.NAME,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight *= 12
    return model


def chances_of_two(model, prompt) -> np.ndarray:
    """P of each two tokens that may follow, (25,), by whole passes."""
    with torch.inference_mode():
        first = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
        then = [model(torch.tensor([[*prompt, a]])).logits[0, -1].softmax(-1) for a in range(5)]
    return np.array([float(first[a] * then[a][b]) for a, b in pairs(range(5), repeat=2)])


def test_sampled_texts_are_distributed_as_without_drafts():
    """400 texts of two tokens, drafts drawn from another model; chi-square over 25 of them.

    Alpha 0.001. Had the draft's own distribution come out, it would have been seen: power > 0.999.
    """
    n, alpha, prompt = 400, 0.001, [1, 2, 3]
    model, helper = small(0), small(1)
    p, q = chances_of_two(model, prompt), chances_of_two(helper, prompt)
    generator = torch.Generator().manual_seed(5)
    rules = [Drawn(torch.rand(2, 3, generator=generator, dtype=torch.float64)) for _ in range(n)]
    drafter = ModelDrafts(helper, [8] * n, length=1, temperature=1.0, seed=6)
    texts, tally = spoken(model, drafter, longest=2, prompts=[prompt] * n, rules=rules)
    counts = Counter(map(tuple, texts))
    seen = np.array([counts[pair] for pair in pairs(range(5), repeat=2)], dtype=float)
    rare = n * p < 5  # taken together, as chi-square wants
    cells = [np.append(x[~rare], x[rare].sum()) for x in (seen, p, q)]
    assert stats.chisquare(cells[0], n * cells[1] / cells[1].sum()).pvalue > alpha
    noncentral = n * ((cells[2] - cells[1]) ** 2 / cells[1]).sum()
    limit = stats.chi2.isf(alpha, len(cells[0]) - 1)
    assert stats.ncx2.sf(limit, len(cells[0]) - 1, noncentral) > 0.999
    assert 0 < tally.accepted["model"] < tally.drafted["model"]
