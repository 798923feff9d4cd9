"""Copies and near-copies: found across groups, never within, whatever the order of the rows."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_gen.bench_filters import rows as made_rows
from data_gen.duplicates import Copy, Duplicates
from data_gen.shingles import Words, number_of

Row = tuple[str, str, bool]  # group, text, flawed
TEXTS = [e.rationale for e in made_rows(24)][::2]


def find(rows: list[Row], near: float = 0.8, fixed: int = 0) -> dict[int, Copy]:
    duplicates = Duplicates(near)
    for part, is_fixed in ((rows[:fixed], True), (rows[fixed:], False)):
        for start in range(0, len(part), 5):  # batches must not matter
            groups, texts, flawed = zip(*part[start : start + 5], strict=True)
            names = np.array([number_of(g) for g in groups], dtype=np.uint64)
            duplicates.add(texts, Words()(texts), names, list(flawed), fixed=is_fixed)
    return duplicates.find()


def edited(text: str, *places: int) -> str:
    words = text.split()
    return " ".join("edited" if place in places else word for place, word in enumerate(words))


def kinds(rows: list[Row], **more: float) -> list[str]:
    return sorted(copy.what for copy in find(rows, **more).values())


def test_a_copy_and_a_small_edit_are_found():
    text = TEXTS[0]
    assert kinds([("a", text, True), ("b", text.upper() + " ", True)]) == ["copy"]
    assert kinds([("a", text, True), ("b", edited(text, 30), True)]) == ["near-copy"]
    assert kinds([("a", text, True), ("b", edited(text, 3, 57), True)]) == ["near-copy"]
    assert kinds([("a", text, True), ("b", TEXTS[1], True)]) == []
    assert kinds([("a", text, True), ("b", edited(text, 30), True)], near=0) == []


def test_most_copies_with_one_word_changed_are_found():
    rng = random.Random(0)
    rows = [("a" + str(n), text, False) for n, text in enumerate(TEXTS)]
    rows += [("b" + str(n), edited(text, rng.randrange(60)), False) for n, text in enumerate(TEXTS)]
    assert len(find(rows)) == len(TEXTS)


def test_another_label_or_figure_is_another_case():
    text = TEXTS[0] + " so 12 of 40"
    assert kinds([("a", text, True), ("b", edited(text, 30), False)]) == []
    assert kinds([("a", text, True), ("b", text.replace("12", "13"), True)]) == []


def test_formal_texts_are_copies_only_word_by_word():
    plan = "put the red block on the blue block " * 12
    other = plan.replace("red", "green", 1)
    assert kinds([("a", plan, True), ("b", other, True)]) == []
    assert kinds([("a", plan, True), ("b", plan, True)]) == ["copy"]
    brackets = " ".join(f"[ {{ word{n} }} ]" for n in range(40))
    assert kinds([("a", brackets, True), ("b", edited(brackets, 3), True)]) == []


def test_twins_stay_together_and_a_group_goes_as_a_whole():
    twins = [("a", TEXTS[0], False), ("a", edited(TEXTS[0], 30), True)]
    assert find(twins) == {}
    copies = [("b", TEXTS[0], False), ("b", TEXTS[1], True)]
    found = find(twins + copies)
    assert set(found) in ({0, 1}, {2, 3})
    assert {copy.what for copy in found.values()} == {"copy"}
    assert [copy.like is None for copy in found.values()].count(True) == 1


def test_fixed_groups_stay_and_are_named():
    rows = [(f"f{n}", TEXTS[0], True) for n in range(3)] + [("a", TEXTS[0], True)]
    found = find(rows, fixed=3)
    assert list(found) == [3]
    assert found[3].like in range(3)


def test_a_text_with_both_labels_goes_altogether():
    rows = [("a", TEXTS[0], True), ("b", TEXTS[0], False), ("c", TEXTS[0], True)]
    assert kinds(rows) == ["both labels"] * 3
    assert find(rows, fixed=1)[1].what == "copy"  # our own label counts
    inside = [("a", TEXTS[0], True), ("a", TEXTS[0], False), ("b", TEXTS[1], False)]
    assert kinds(inside) == ["both labels"] * 2


def test_a_text_twice_in_a_group_stays_once():
    rows = [("a", TEXTS[0], True), ("a", TEXTS[0], True), ("a", TEXTS[1], False)]
    assert find(rows) == {1: Copy("repeated", 0)}


ROWS = st.tuples(st.integers(0, 3), st.integers(0, 5), st.booleans())
GROUPS = st.lists(st.lists(ROWS, min_size=1, max_size=3), min_size=1, max_size=12)


@settings(max_examples=30, deadline=None)
@given(GROUPS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter_and_a_second_pass_finds_nothing(groups, rng):
    rows = [
        (f"g{number}", edited(TEXTS[text], 10 * place), flawed)
        for number, group in enumerate(groups) for text, place, flawed in group
    ]  # fmt: skip
    gone = find(rows)
    left = [row for number, row in enumerate(rows) if number not in gone]
    assert find(left) == {}
    shuffled = rng.sample(rows, len(rows))
    gone = find(shuffled)
    assert sorted(left) == sorted(r for number, r in enumerate(shuffled) if number not in gone)


def test_nothing_in_nothing_out():
    assert Duplicates(0.8).find() == {}


def test_fixed_rows_never_go_with_free_rows_of_their_group():
    other, own, copy = TEXTS[0], TEXTS[1], edited(TEXTS[0], 30)
    rows = [("other", other, True), ("both", own, True), ("both", copy, True)]
    assert find(rows, fixed=2).keys() == {2}
