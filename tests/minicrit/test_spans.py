"""Which span a critic would quote: every one by its likelihood, and the most central one."""

import time

import numpy as np
import pytest
import torch

from minicrit.reader import Reader
from minicrit.spans import Quoting, closings, likeliest

TEXT = 'Sales fell by 1,200 in May. "All well," they say.\nSo buy it now.'


@pytest.fixture
def reader(tiny_model, tiny_encoder):
    return Reader(tiny_model, tiny_encoder.tokenizer, tiny_encoder)


@pytest.fixture
def everywhere(monkeypatch):
    """No place is passed over."""
    monkeypatch.setattr("minicrit.spans.PLACES", 100)
    monkeypatch.setattr("minicrit.spans._UNLIKELY", 0.0)
    monkeypatch.setattr("minicrit.spans._ELSEWHERE", 0.0)


def all_spans(reader, text):
    """Offsets and log-likelihoods after a prompt that ends with the opening quote."""
    encoder, quoting = reader.encoder, Quoting(reader.encoder, text)
    prompt = encoder.ids('Flaw: small_sample\nEvidence: "')
    places = quoting.likely(torch.zeros(len(encoder.tokenizer)))
    stops, close = closings(encoder)
    ((said, closed),) = reader.read([quoting.tree(prompt, places, close[0])], close)
    return prompt, quoting.spans(places, said, closed, stops)


def test_spans_are_whole_words_and_figures_of_one_line(reader, everywhere):
    _, (offsets, _) = all_spans(reader, TEXT)
    found = {TEXT[start:end] for start, end in offsets}
    assert {"Sales", "Sales fell by 1,200 in May.", "1,200 in", "All well", "now."} <= found
    assert {"by 1", "by 1,", "Sale", "ell", "say.\nSo"}.isdisjoint(found)
    assert not any("\n" in span or span != span.strip() for span in found)


def test_the_likelihood_of_a_span_is_that_of_its_tokens_and_of_the_quote(reader, everywhere):
    """Against plain scoring of each whole text by itself."""
    prompt, (offsets, likely) = all_spans(reader, TEXT)
    encoder, checked = reader.encoder, 0
    stops, close = closings(encoder)
    for (start, end), value in zip(offsets, likely, strict=True):
        ids = encoder.ids(TEXT[start:])
        for n in range(1, len(ids) + 1):
            if encoder.tokenizer.decode(ids[:n]) == TEXT[start:end]:
                whole = torch.tensor([[*prompt, *ids[:n], close[0]]])
                with torch.inference_mode():
                    logprobs = reader.causal_lm(whole).logits[0].double().log_softmax(-1)
                at = torch.arange(len(prompt) - 1, whole.shape[1] - 1)
                one_by_one = float(logprobs[at, whole[0, at + 1]].sum())
                checked += abs(value - one_by_one) < 1e-4
                break
    assert checked >= len(offsets) - offsets_with_merged_stops(offsets, stops)
    assert checked > 50


def offsets_with_merged_stops(offsets, stops):
    """Spans that may be closed by a token for stop and quote have a second likelihood."""
    return sum(TEXT[end - 1] in stops[1:] for _, end in offsets)


def test_only_likely_places_get_a_branch(tiny_encoder):
    quoting = Quoting(tiny_encoder, "alpha beta gamma")
    logits = torch.full((len(tiny_encoder.tokenizer),), -20.0)
    logits[tiny_encoder.ids("beta")[0]] = 0.0
    assert {place.start for place in quoting.likely(logits)} == {6}


def test_a_text_without_a_word_has_no_place(tiny_encoder):
    assert Quoting(tiny_encoder, " \n ").likely(torch.zeros(len(tiny_encoder.tokenizer))) == []


def test_the_likeliest_span_is_taken():
    offsets = np.array([[0, 10], [0, 9], [20, 24]])
    assert likeliest(offsets, np.log([0.3, 0.3, 0.4]) - 7.0) == (20, 24)
    assert likeliest(np.empty((0, 2), dtype=int), np.empty(0)) is None


def test_a_span_ends_with_its_sentence(reader, everywhere):
    text = "He said: no. It fell, e.g. by 1.5 points! (So?) Sell"
    _, (offsets, _) = all_spans(reader, text)
    found = {text[start:end] for start, end in offsets}
    assert {"He said: no.", "It fell", "Sell", "by 1.5 points!", "(So?)"} <= found
    assert not any("no. It" in span or "! (" in span for span in found)


def test_where_the_critic_would_quote_something_else_there_is_no_place(tiny_encoder):
    logits = torch.zeros(len(tiny_encoder.tokenizer))
    logits[tiny_encoder.ids("z")[0]] = 30.0
    assert Quoting(tiny_encoder, "alpha beta").likely(logits) == []


def test_scripts_without_blanks_have_places_within(tiny_encoder, everywhere):
    text = "三回とも上がった。だから買う“今”"
    places = Quoting(tiny_encoder, text).likely(torch.zeros(len(tiny_encoder.tokenizer)))
    starts = {text[place.start :] for place in places}
    assert {"上がった。だから買う“今”", "今”"} <= starts
    assert any(0 < end < len(text) for place in places for end in place.ends)


def test_a_text_of_brackets_is_read_in_no_time(tiny_encoder):
    begin = time.process_time()
    Quoting(tiny_encoder, "(" * 8000).likely(torch.zeros(len(tiny_encoder.tokenizer)))
    assert time.process_time() - begin < 2.0
