"""Thumbs: rows and pairs are read strictly, and joined with critiques of other texts."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from minicrit.encoding import Encoder, TooLongError
from minicrit.jsonl import write_rows
from minicrit.records import Preference
from minicrit.thumbs import (
    Thumb,
    counted,
    fitting,
    mismatched,
    mismatched_groups,
    read_thumbs,
    thumb_groups,
    unpaired,
)

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
        (
            {**UP, "good": 1},
            r"t.jsonl:2: expected good as true or false, got good 1; write good so",
        ),
        ({**UP, "good": None}, r"t.jsonl:2: expected good as true or false"),
        ({**UP, "text": " "}, r"t.jsonl:2: expected text as text, got text ' '; fill in text"),
        ({**UP, "group": 3}, r"t.jsonl:2: expected group as text, got group 3"),
        ({**UP, "domain": "finance"}, r"t.jsonl:2: expected domain of trading, .*, got finance; "),
        (
            {"domain": "trading", "rationale": "It rose.", "critique": "Fine.", "good": "yes"},
            r"t.jsonl:2: expected no keys but domain, .* group, got critique; leave out critique\n"
            r".*t.jsonl:2: expected text as text, got no text; fill in text\n"
            r".*t.jsonl:2: expected good as true or false, got good 'yes'; write good so$",
        ),
        (
            {**UP, "text": "Fine."},
            r"t.jsonl:2: expected text that begins with its verdict, got 'Fin",
        ),
        ({**UP, "thumb": "up"}, r"t.jsonl:2: expected no keys but .* got thumb; leave out thumb"),
        ({**PAIR.to_row(), "margin": 3.0}, r"t.jsonl:2: expected margin"),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path, row, message):
    write_rows(tmp_path / "t.jsonl", [DOWN, row])
    with pytest.raises(ValueError, match=message):
        read_thumbs(tmp_path / "t.jsonl")


def test_rows_without_a_group_are_of_that_of_their_rationale(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "group"} for row in (UP, DOWN)]
    write_rows(tmp_path / "t.jsonl", [*rows, {**rows[0], "rationale": "It fell."}])
    one, same, other = (thumb.group for thumb in read_thumbs(tmp_path / "t.jsonl"))
    assert one == same != other


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


def test_thumbs_that_do_not_fit_are_left_out_and_stop_no_other(tiny_encoder):
    path = Path("t.jsonl")
    thumbs = [Thumb("d", f"{n} rose", "Verdict: valid", True, f"g{n}") for n in range(3)]
    long = replace(thumbs[0], text="Verdict: valid\nCritique: " + "x " * 60)
    room = len(tiny_encoder.prompt("d", "0 rose")) + len(tiny_encoder.written("Verdict: valid"))
    encoder = Encoder(tiny_encoder.tokenizer, max_tokens=room)
    assert fitting(path, [long, *thumbs], encoder) == thumbs
    assert encoder.ledger == {"left_out": 1}
    with pytest.raises(ValueError, match="expected thumbs of at least two groups, got fewer"):
        fitting(path, [long, thumbs[0]], encoder)


def test_a_liked_critique_whose_evidence_would_be_cut_off_is_left_out(tiny_encoder):
    text = "The pump ran for nine days. " * 9 + "It is certain."
    flawed = 'Verdict: flawed\nEvidence: "It is certain."'
    thumbs = [Thumb("d", text, said, good, f"g{n}") for n, (said, good) in enumerate(
        ((flawed, True), (flawed, False), ("Verdict: valid", True)))]  # fmt: skip
    room = len(tiny_encoder.prompt("d", text))
    encoder = Encoder(tiny_encoder.tokenizer, max_tokens=room, truncate=True)
    assert fitting(Path("t.jsonl"), thumbs, encoder) == thumbs[1:]
    assert encoder.ledger == {"left_out": 1}


def test_mismatched_critiques_are_of_other_groups_and_drawn_by_seed(tiny_encoder):
    thumbs = [Thumb("d", f"r{n}", f"Verdict: valid {n}", n % 2 == 0, f"g{n // 2}")
              for n in range(40)]  # fmt: skip
    own = {thumb.text: thumb.group for thumb in thumbs}
    found = mismatched(thumbs, 0, tiny_encoder)
    assert [(t.rationale, t.good, t.group) for t in found] == [
        (t.rationale, t.good, t.group) for t in thumbs]  # fmt: skip
    assert all(own[t.text] != t.group for t in found)
    assert len({t.text for t in found}) > 15
    assert found == mismatched(thumbs, 0, tiny_encoder) != mismatched(thumbs, 1, tiny_encoder)
    encoder = Encoder(tiny_encoder.tokenizer)
    mismatched(thumbs, 0, encoder)
    assert not encoder.ledger  # what is only measured is not counted


def test_the_ledger_counts_what_is_learnt_from_and_no_critiques_of_others(tiny_encoder):
    thumbs = [Thumb("d", "rose " * (40 * n), "Verdict: valid", True, f"g{n}") for n in (1, 2, 3)]
    room = len(tiny_encoder.prompt("d", thumbs[0].rationale, 0)) + 20
    encoder = Encoder(tiny_encoder.tokenizer, max_tokens=room, truncate=True)
    own, others = thumb_groups(thumbs, encoder), mismatched_groups(thumbs, encoder, 0)
    assert [group.name for group in own] == [group.name for group in others] == ["g1", "g2", "g3"]
    assert (encoder.ledger["prompts"], encoder.ledger["truncated"]) == (3, 2)


def test_where_all_fit_all_others_are_drawn_from_in_the_order_of_the_file(tiny_encoder):
    """Of a list of them by the first 8 bytes of a hash; groups may lie apart in the file."""
    thumbs = [Thumb("d", f"r{n}", f"Verdict: valid {n}", True, f"g{n % 3}") for n in range(30)]
    for number, found in enumerate(mismatched(thumbs, 5, tiny_encoder)):
        others = [t.text for t in thumbs if t.group != found.group]
        drawn = int.from_bytes(hashlib.sha256(f"5\0{number}".encode()).digest()[:8])
        assert found.text == others[drawn % len(others)]


def near_the_limit(tiny_encoder):
    """A long rationale behind which short critiques alone fit, and an encoder of that limit."""
    short, long = "Verdict: valid", "Verdict: valid\nCritique: x x x x x x x x"
    thumbs = [Thumb("d", f"{n} rose", text, True, f"g{n}")
              for n, text in enumerate((short, long, short + " a", long, long))]  # fmt: skip
    thumbs.append(Thumb("d", "It rose. " * 30, short, True, "last"))
    room = len(tiny_encoder.written(short + " a"))
    limit = len(tiny_encoder.prompt("d", thumbs[-1].rationale)) + room
    return thumbs, Encoder(tiny_encoder.tokenizer, max_tokens=limit)


def test_drawn_is_only_what_fits_and_all_that_fits(tiny_encoder):
    thumbs, encoder = near_the_limit(tiny_encoder)
    drawn = [mismatched(thumbs, seed, encoder) for seed in range(80)]
    last = Counter(found[-1].text for found in drawn)
    assert set(last) == {"Verdict: valid", "Verdict: valid a"}
    assert min(last.values()) > 24  # of 80, a half each, less 3.5 standard errors of 4.5
    assert len({found[0].text for found in drawn}) == 3  # all texts fit behind a short rationale
    thumb_groups(drawn[0], encoder)
    cut = Encoder(encoder.tokenizer, encoder.max_tokens, truncate=True)
    assert len({mismatched(thumbs, seed, cut)[-1].text for seed in range(80)}) == 3


def test_a_rationale_behind_which_no_other_critique_fits_is_named(tiny_encoder):
    thumbs, encoder = near_the_limit(tiny_encoder)
    room = encoder.max_tokens - len(encoder.prompt("d", thumbs[-1].rationale))
    message = (
        f"a thumb of group last: expected a critique of another group of at most {room} tokens, "
        "got none; raise data.max_tokens or set data.truncate"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        mismatched([thumbs[1], thumbs[5]], 0, encoder)
