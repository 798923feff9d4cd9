"""The probe on synthetic twins whose words do, do not, or partly give the label away."""

import math
import re
from collections.abc import Callable

import numpy as np
import pytest

from minicrit.bagofwords import WORD, BagOfWords, ProbeResult, lengths, probe, shortcuts

Rng = np.random.Generator
SURE = 0.95
LEAK = 0.8  # share of pairs in which the word of `leaky` is right
Twins = tuple[list[str], list[bool], list[str], list[str]]


def twins(pair: Callable[[Rng], tuple[str, str, str, str]], num: int = 400) -> Twins:
    """Pairs that share filler; `pair` draws (two words of the flawed, two of the valid twin)."""
    rng = np.random.default_rng(0)
    texts, flawed, groups, families = [], [], [], []
    for number in range(num):
        filler = [f"word{i}" for i in rng.integers(0, 60, 12)]
        words = pair(rng)
        for label, (first, second) in ((True, words[:2]), (False, words[2:])):
            texts.append(" ".join([*filler[:4], first, *filler[4:8], second, *filler[8:]]))
            flawed.append(label)
            groups.append(f"g{number}")
            families.append(f"f{number % 20}")
    return texts, flawed, groups, families


def xor(rng: Rng) -> tuple[str, str, str, str]:
    """Flawed where trend and act disagree; the valid twin differs in one of the two words."""
    trends, acts = ("rises", "falls"), ("buys", "sell")
    trend = int(rng.integers(2))
    flawed, act = (trends[trend], acts[1 - trend]), acts[trend]
    valid = (trends[trend], act) if rng.random() < 1 / 2 else (trends[1 - trend], acts[1 - trend])
    return *flawed, *valid


def tell_tale(rng: Rng) -> tuple[str, str, str, str]:
    """The word "surely" stands in every flawed twin only."""
    other = str(rng.choice(["rises", "falls"]))
    return other, "surely", other, "likely"


def leaky(rng: Rng) -> tuple[str, str, str, str]:
    """The tell-tale is right in 80 % of the pairs."""
    words = ("surely", "likely") if rng.random() < LEAK else ("likely", "surely")
    return "rises", words[0], "rises", words[1]


def test_words_cannot_read_a_relation() -> None:
    """XOR of two words: no single word or pair of neighbours says anything."""
    result = probe(*twins(xor))
    assert result.auc == pytest.approx(0.5, abs=0.07)
    assert result.within_twins_auc == pytest.approx(0.5, abs=0.07)
    assert (result.n, result.num_pairs, result.num_left_out) == (800, 400, 0)


def test_words_read_a_tell_tale() -> None:
    """One word decides: both numbers are 1."""
    result = probe(*twins(tell_tale))
    assert result.auc > SURE
    assert result.within_twins_auc == 1
    assert result.within_twins_low == 1


def test_partial_tell_tale_within_its_interval() -> None:
    """80 % of the pairs: the interval holds .8, and the seed repeats it."""
    result = probe(*twins(leaky))
    assert result.within_twins_low < LEAK < result.within_twins_high
    assert result.low < LEAK < result.high
    assert result == probe(*twins(leaky))


def test_one_more_letter_is_seen_among_other_differences() -> None:
    """Flawed twins hold a word of their own that is one letter longer; another word differs freely.

    Against texts of all lengths a letter is nothing: it must be measured against other twins.
    """
    names = iter(range(10**6))

    def pair(rng: Rng) -> tuple[str, str, str, str]:
        own = "".join(chr(ord("a") + int(digit)) for digit in f"{next(names):06d}")
        free = [f"free{i}" for i in rng.integers(10, 40, 2)]
        return f"{free[0]} k{own}", "buy " * 9, f"{free[1]} {own}", "buy " * 9

    texts, flawed, groups, families = twins(pair)
    padded = [text + " and so on" * (number // 2 % 50) for number, text in enumerate(texts)]
    assert probe(padded, flawed, groups, families).within_twins_auc > SURE


def test_a_digit_more_is_seen() -> None:
    """Words that no two texts share, of one length; the flawed twin's has digits."""
    number = iter(range(10_000, 99_999))
    result = probe(*twins(lambda rng: ("rises", f"id{next(number)}", "rises", "idabcde"), 200))
    assert result.within_twins_auc > SURE


def test_parts_with_other_shares_of_flawed_items_say_nothing() -> None:
    """Noise in families of which 10 to 90 % are flawed: not centred, AUC is 0.16 to 0.34."""
    rng = np.random.default_rng(2)
    flawed, families, texts, sources = [], [], [], []
    for number, share in enumerate((0.1, 0.3, 0.5, 0.7, 0.9)):
        for _ in range(200):
            flawed.append(bool(rng.random() < share))
            families.append(f"f{number}")
            texts.append(
                " ".join(f"word{i}" for i in rng.integers(0, 60, int(rng.integers(8, 20))))
            )
            sources.append(f"s{rng.integers(3)}")
    for interval in shortcuts(texts, flawed, sources, families, draws=50).values():
        assert interval.value == pytest.approx(0.5, abs=0.06)
    names = [str(n) for n in range(1000)]
    assert probe(texts, flawed, names, families).auc == pytest.approx(0.5, abs=0.06)


def test_what_is_the_same_everywhere_says_nothing_at_all() -> None:
    """Each text has its fold's mean: all are ties, which rounding errors must not put in order."""
    shares = (1, 2, 5, 8, 9)
    flawed = [n % 10 < share for share in shares for n in range(27)]
    families = [f"f{share}" for share in shares for _ in range(27)]
    found = shortcuts(["One two."] * 135, flawed, ["set/part"] * 135, families, draws=20)
    assert {name: one.value for name, one in found.items()} == {"length": 0.5, "source": 0.5}


def test_identical_twins_are_ties() -> None:
    """No difference at all: every pair counts one half."""
    result = probe(*twins(lambda rng: ("rises", "buy", "rises", "buy"), 60))
    assert (result.within_twins_auc, result.within_twins_low) == (1 / 2, 1 / 2)


def test_groups_that_are_no_pair_are_counted() -> None:
    """A single, a triple and a pair of one label stay out of the within-twins part only."""
    texts, flawed, groups, _ = twins(tell_tale, 60)
    groups[0] = groups[1] = groups[2] = "triple"  # leaves groups[3], once of g1, single
    flawed[4] = flawed[5] = True
    result = probe(texts, flawed, groups, ["f" + g for g in map(str, np.arange(120) // 12)])
    assert (result.n, result.num_pairs, result.num_left_out) == (120, 57, 3)


def test_without_pairs_the_within_part_is_undefined() -> None:
    """Every text its own group: items are scored, twins are not."""
    texts, flawed, _, families = twins(tell_tale, 60)
    result = probe(texts, flawed, [str(i) for i in range(120)], families)
    assert result.auc > SURE
    assert math.isnan(result.within_twins_auc)
    assert (result.num_pairs, result.num_left_out) == (0, 120)


def test_families_are_never_on_both_sides() -> None:
    """Each family has its own tell-tale: unreadable with families left out, plain to see without.

    With the pair number as family, other pairs of the same topic are in training.
    """
    texts, flawed, groups, families = twins(tell_tale, 200)
    own = [f"{f}{'yes' if y else 'nay'}" for f, y in zip(families, flawed, strict=True)]
    marked = [t.replace("surely", m).replace("likely", m) for t, m in zip(texts, own, strict=True)]
    blind = probe(marked, flawed, groups, families)
    seen = probe(marked, flawed, groups, groups)
    assert blind.within_twins_auc < 3 / 4
    assert seen.within_twins_auc > SURE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 21}, "expected 2 to 20 folds"),
        ({"folds": 1}, "expected 2 to 20 folds"),
        ({"families": ["f"]}, "expected 80 group names, got 1"),
        ({"twin_groups": ["g"]}, "expected 80 group names, got 1"),
        ({"flawed": [True] * 80}, "both true and false"),
        ({"flawed": [0, 1] * 40}, "expected 80 bools"),
        ({"families": [f"f{i % 20}" for i in range(80)]}, "expected twins to share a family"),
    ],
)
def test_probe_refuses(change: dict[str, object], message: str) -> None:
    """Each way to ask for what cannot be answered."""
    names = ("texts", "flawed", "twin_groups", "families")
    arguments = dict(zip(names, twins(xor, 40), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        probe(**arguments)  # type: ignore[arg-type]


def test_words_are_taken_as_they_are() -> None:
    """Numbers, contractions and hyphens are whole; marks are words; single letters count."""
    found = re.findall(WORD, "a 3.5% rise, don't re-buy 1,200!")
    assert found == ["a", "3.5", "%", "rise", ",", "don't", "re-buy", "1,200", "!"]


def test_lengths_by_hand() -> None:
    """Two words, six characters, one digit; and nothing at all."""
    assert lengths(["abc 1x", ""]) == pytest.approx(np.log1p([[2, 6, 1], [0, 0, 0]]))


def test_baseline_learns_words_and_repeats() -> None:
    """Trained on tell-tales it ranks new ones right; on XOR it cannot."""
    texts, flawed, _, _ = twins(tell_tale)
    p = BagOfWords(seed=1).fit(texts[:600], flawed[:600]).predict(texts[600:])
    assert np.array_equal(p > 1 / 2, flawed[600:])
    assert np.array_equal(p, BagOfWords(seed=1).fit(texts[:600], flawed[:600]).predict(texts[600:]))
    BagOfWords(seed=2**63 - 1).fit(texts[:600], flawed[:600])  # scikit-learn takes 32 bits
    texts, flawed, _, _ = twins(xor)
    p = BagOfWords().fit(texts[:600], flawed[:600]).predict(texts[600:])
    assert np.mean((p > 1 / 2) == flawed[600:]) == pytest.approx(0.5, abs=0.1)
    with pytest.raises(ValueError, match="both true and false"):
        BagOfWords().fit(texts[:2], [True, True])


def test_result_is_named() -> None:
    """The fields a report reads."""
    fields = ProbeResult.__dataclass_fields__
    assert list(fields)[:5] == ["auc", "low", "high", "n", "within_twins_auc"]
