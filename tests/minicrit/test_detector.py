"""The detector of domains: the same numbers as scikit-learn, whole on disk, sure of little."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from minicrit.detector import NUMBERS, WORDS, Detector, identity_of
from tests.minicrit.router_case import lessons

TEXTS, DOMAINS = zip(*((e.rationale, e.domain) for e in lessons()), strict=True)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.learnt(TEXTS, DOMAINS)


@settings(max_examples=30, deadline=None)
@given(words=st.lists(st.sampled_from(["Patient", "radar", "roof", "the", "7", "zebra", "said"])))
def test_chances_are_those_of_scikit_learn(words):
    counter = TfidfVectorizer(token_pattern=r"[^\W\d_]{2,}", max_features=20_000)
    model = LogisticRegression(max_iter=1000, C=10.0, random_state=0)
    model.fit(counter.fit_transform(TEXTS), DOMAINS)
    found = Detector.learnt(TEXTS, DOMAINS)
    text = " ".join(words)
    assert found.domains == tuple(model.classes_)
    np.testing.assert_allclose(
        found.chances([text, TEXTS[0]]), model.predict_proba(counter.transform([text, TEXTS[0]])),
        atol=1e-12,
    )  # fmt: skip


def test_two_domains_too_are_those_of_scikit_learn():
    texts, domains = ["buy shares", "sell shares", "take a pill"], ["trading", "trading", "medical"]
    counter = TfidfVectorizer(token_pattern=r"[^\W\d_]{2,}")
    model = LogisticRegression(max_iter=1000, C=10.0).fit(counter.fit_transform(texts), domains)
    expected = model.predict_proba(counter.transform(["pill shares"]))
    found = Detector.learnt(texts, domains)
    np.testing.assert_allclose(found.chances(["pill shares"]), expected, atol=1e-12)


def test_words_tell_the_domain_and_unknown_ones_do_not(detector):
    name, p = detector.detect("A PATIENT with fever")
    assert (name, p > 0.6) == ("medical", True)
    assert detector.detect("xylophone 12 34")[1] < 0.35


def test_saved_and_loaded_it_is_the_same(detector, tmp_path):
    detector.save(tmp_path)
    again = Detector.load(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([WORDS, NUMBERS])
    np.testing.assert_array_equal(again.chances(TEXTS), detector.chances(TEXTS))
    first = identity_of(tmp_path)
    Detector.learnt(TEXTS[:-6], DOMAINS[:-6]).save(tmp_path)
    assert identity_of(tmp_path) != first


def test_files_that_do_not_fit_are_refused(detector, tmp_path):
    detector.save(tmp_path)
    told = json.loads((tmp_path / WORDS).read_text())
    (tmp_path / WORDS).write_text(json.dumps({**told, "words": told["words"][1:]}))
    with pytest.raises(ValueError, match=r"detector.safetensors: expected .*; make the router"):
        Detector.load(tmp_path)
    (tmp_path / WORDS).write_text(json.dumps({"domains": 3}))
    with pytest.raises(ValueError, match="expected lists of domains and words"):
        Detector.load(tmp_path)


def test_any_seed_of_a_recipe_will_do():
    """Of more than 32 bits it ended the run in a message of scikit-learn's."""
    found = Detector.learnt(TEXTS, DOMAINS, 2**63 - 1)
    assert found.detect("a patient with fever")[0] == "medical"


def test_one_domain_cannot_be_told_apart():
    with pytest.raises(ValueError, match="two domains at least"):
        Detector.learnt(["a text"], ["medical"])
