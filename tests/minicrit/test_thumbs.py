"""Thumbs: rows and pairs are read strictly, and joined with critiques of other texts."""

import pytest

from minicrit.encoding import Encoder, TooLongError
from minicrit.jsonl import write_rows
from minicrit.records import Preference
from minicrit.thumbs import Thumb, counted, mismatched, read_thumbs, thumb_groups, unpaired

UP = {"domain": "trading", "rationale": "It rose.", "text": "Verdict: valid", "good": True,
      "group": "a"}  # fmt: skip
DOWN = {**UP, "text": "Verdict: flawed", "good": False, "group": "b"}
PAIR = Preference(
    domain="trading", rationale="It fell.", chosen="Verdict: flawed", rejected="Verdict: valid",
    chosen_score=0.9, rejected_score=0.1, margin=0.8, scorer="oracle", group="c",
)  # fmt: skip


def test_thumbs_and_pairs_may_share_a_file(tmp_path):
    write_rows(tmp_path / "t.jsonl", [UP, PAIR.to_row(), DOWN])
    found = read_thumbs(tmp_path / "t.jsonl")
    assert found == [Thumb(**UP), *unpaired(PAIR), Thumb(**DOWN)]
    assert [(t.text, t.good) for t in unpaired(PAIR)] == [
        ("Verdict: flawed", True), ("Verdict: valid", False)]  # fmt: skip
    assert counted(found) == {"good": 2, "bad": 2}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**UP, "good": 1}, r"t.jsonl:2: expected good as true or false, got 1; write it so"),
        ({**UP, "good": None}, r"t.jsonl:2: expected good as true or false"),
        ({**UP, "text": " "}, r"t.jsonl:2: expected text as text, got ' '; fill it in"),
        ({k: v for k, v in UP.items() if k != "group"}, r"t.jsonl:2: expected group as text"),
        (
            {**UP, "text": "Fine."},
            r"t.jsonl:2: expected text that begins with its verdict, got 'Fin",
        ),
        ({**UP, "thumb": "up"}, r"t.jsonl:2: expected known keys .* got thumb; leave it out"),
        ({**PAIR.to_row(), "margin": 3.0}, r"t.jsonl:2: expected margin"),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path, row, message):
    write_rows(tmp_path / "t.jsonl", [DOWN, row])
    with pytest.raises(ValueError, match=message):
        read_thumbs(tmp_path / "t.jsonl")


def test_one_group_alone_says_nothing_about_others(tmp_path):
    write_rows(tmp_path / "t.jsonl", [UP, {**UP, "good": False, "text": "Verdict: flawed"}])
    with pytest.raises(ValueError, match="expected thumbs of at least two groups, got fewer"):
        read_thumbs(tmp_path / "t.jsonl")
    (tmp_path / "t.jsonl").write_text("{")
    with pytest.raises(ValueError, match=r"t.jsonl:1: expected"):
        read_thumbs(tmp_path / "t.jsonl")


def test_a_thumb_that_is_too_long_is_named(tiny_encoder):
    encoder = Encoder(tiny_encoder.tokenizer, max_tokens=20)
    with pytest.raises(
        TooLongError, match=r"a thumb of group a: expected at most \d+ prompt tokens"
    ):
        thumb_groups([Thumb(**UP)], encoder)


def test_mismatched_critiques_are_of_other_groups_and_drawn_by_seed():
    thumbs = [Thumb("d", f"r{n}", f"Verdict: valid {n}", n % 2 == 0, f"g{n // 2}")
              for n in range(40)]  # fmt: skip
    own = {thumb.text: thumb.group for thumb in thumbs}
    found = mismatched(thumbs, 0)
    assert [(t.rationale, t.good, t.group) for t in found] == [
        (t.rationale, t.good, t.group) for t in thumbs]  # fmt: skip
    assert all(own[t.text] != t.group for t in found)
    assert len({t.text for t in found}) > 15
    assert found == mismatched(thumbs, 0) != mismatched(thumbs, 1)
