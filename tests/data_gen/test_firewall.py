"""The firewall on composed items: what is caught, and that stock phrases are not."""

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from data_gen.bench_filters import rows as made_rows
from data_gen.compose import compose
from data_gen.firewall import STOCK, Firewall, Incoming, evaluation_files
from minicrit.records import Example

ITEMS = [made.example for made in compose(200, 0, "test")]
FIREWALL = Firewall({"test.jsonl": ITEMS})
NOISE = [e.rationale for e in made_rows(80)]
AROUND = "A note that somebody wrote down before: {} And so it went on for a while after that."


def caught(text: str, firewall: Firewall = FIREWALL) -> str | None:
    hit = firewall.hits([text]).get(0)
    return None if hit is None else hit.how


@pytest.mark.parametrize("change", [
    str, str.upper, lambda t: t.replace(".", ";").replace(",", " -"),
    lambda t: "\n".join(t.split()), AROUND.format, lambda t: AROUND.format(t.upper()),
    lambda t: AROUND.format(t.replace("e", "e\u00ad\u200b")),
    lambda t: AROUND.format(re.sub(r"(?<=[a-z]\.)\s+", "\n7. ", t)),
    lambda t: AROUND.format(re.sub(r"(?<=[a-z]\.)\s+", "\n> ", t)),
])  # fmt: skip
def test_an_item_in_a_training_row_is_caught(change):
    rows = NOISE + [change(item.rationale) for item in ITEMS]
    assert set(FIREWALL.hits(rows)) == set(range(len(NOISE), len(rows)))


def test_the_hit_names_the_item():
    hits = FIREWALL.hits([NOISE[0], ITEMS[7].rationale, AROUND.format(ITEMS[9].rationale)])
    assert hits[1].item == f"test.jsonl: {ITEMS[7].id}"
    assert hits[1].how == "the same text"
    assert hits[2].how == "1.00 of its 13-word sequences"


def test_most_copies_with_a_word_changed_are_caught():
    texts, rng = [], random.Random(0)
    for item in ITEMS:
        words = item.rationale.split()
        words[rng.randrange(len(words))] = "otherwise"
        texts.append(" ".join(words))
    assert len(FIREWALL.hits(texts)) > 0.9 * len(texts)


def test_composed_training_rows_of_other_families_pass():
    rows = [made.example.rationale for made in compose(600, 0, "train", squares=True)]
    assert FIREWALL.hits(rows) == {}


def test_a_long_stretch_of_a_longer_item_is_caught():
    item = replace(ITEMS[0], rationale=" ".join(NOISE[:10]))
    firewall = Firewall({"test": [item]})
    words = item.rationale.split()
    assert caught(" ".join(NOISE[70:] + words[100:145]), firewall) == "45 words in a row"
    assert caught(" ".join(NOISE[70:] + words[100:135]), firewall) is None


def test_what_many_items_share_is_nobodys():
    stock = NOISE[0]
    items = [replace(ITEMS[0], id=str(n), group=str(n), rationale=f"{stock} {NOISE[n]}")
             for n in range(1, STOCK + 2)]  # fmt: skip
    row = f"{stock} {NOISE[70]}"
    assert caught(row, Firewall({"test": items})) is None
    assert caught(row, Firewall({"test": items[:-1]})) == "0.67 of its 13-word sequences"
    one_group = [replace(item, group="one") for item in items]
    assert caught(row, Firewall({"test": one_group})) == "0.67 of its 13-word sequences"
    assert caught(items[0].rationale, Firewall({"test": items})) == "the same text"


HEADER = " ".join(NOISE[75].split()[:44])


def item(number: int, text: str) -> Example:
    return replace(ITEMS[0], id=str(number), group=str(number), rationale=text, evidence=None)


def entry(number: int, words: int = 30) -> str:
    return " ".join(NOISE[number].split()[:words])


def taken(texts: list[str], *items: Example) -> dict[int, str]:
    """Hits of rows of a group each that come in two batches."""
    incoming = Incoming(Firewall({"test": items}))
    half = len(texts) // 2
    names = [f"row {number}" for number in range(len(texts))]
    incoming.add(texts[:half], names[:half])
    incoming.add(texts[half:], names[half:])
    return {row: hit.how for row, hit in incoming.hits().items()}


@pytest.mark.parametrize("tests", [1, 2, STOCK, STOCK + 1])
def test_a_header_of_all_rows_is_nobodys(tests):
    rows = [f"{HEADER} {entry(n)}" for n in range(40)]
    items = [item(n, f"{HEADER} {entry(n)}") for n in range(41, 41 + tests)]
    assert taken(rows, *items) == {}
    leaks = [items[0].rationale.upper(), f"So: {items[0].rationale}", f"So: {entry(41)}"]
    edited = items[0].rationale.split()
    edited[-5] = "otherwise"
    found = taken([*rows, *leaks, " ".join(edited)], *items)
    assert sorted(found) == [40, 41, 42, 43]
    assert (found[40], found[41]) == ("the same text", "1.00 of its 13-word sequences")


def test_a_header_counts_where_few_groups_hold_it():
    rows = [f"{HEADER} {entry(n)}" for n in range(STOCK)]
    assert len(taken(rows, item(50, f"{HEADER} {entry(50)}"))) == STOCK
    incoming = Incoming(Firewall({"test": [item(50, f"{HEADER} {entry(50)}")]}))
    incoming.add([f"{HEADER} {entry(n)}" for n in range(40)], ["one"] * 40)
    assert len(incoming.hits()) == 40


def test_a_header_before_a_short_item_is_known_by_longer_ones():
    rows = [f"{HEADER} {entry(n, 8 if n % 2 else 30)}" for n in range(40)]
    items = [item(n, f"{HEADER} {entry(n, words)}") for n, words in ((50, 8), (51, 30), (52, 30))]
    assert taken(rows, *items) == {}
    assert len(taken(rows, *items[:1])) == 40
    assert taken([*rows, f"So: {items[0].rationale}"], *items).keys() == {40}


@pytest.mark.parametrize("copy", [
    lambda words, n: [*words[: n % 60], "otherwise", *words[n % 60 + 1 :]],
    lambda words, n: [*words[:30], f"some{n}", *words[31:]],
    lambda words, n: [*words[:48], *(f"other{n}x{k}" for k in range(12))],
    lambda words, n: words[:44],
    lambda words, n: [f"Before{n}", *words, "and", "after", *entry(n, 20).split()],
])  # fmt: skip
def test_many_copies_of_one_item_are_all_caught(copy):
    words = NOISE[70].split()
    copies = [" ".join(copy(words, n)) for n in range(30)]
    rows = [entry(n, 60) for n in range(30)]
    assert taken([*rows, *copies], item(0, NOISE[70])).keys() == set(range(30, 60))


def test_short_items_are_found_as_whole_texts():
    firewall = Firewall(
        {"test": [replace(ITEMS[0], rationale="Up 3 %, so buy now.", evidence=None)]}
    )
    assert caught("up 3 so BUY now", firewall) == "1.00 of its 13-word sequences"
    assert caught("Up 3 %, so sell now.", firewall) is None


def test_without_items_nothing_is_caught():
    empty: dict[str, list[Example]] = {"test": []}
    assert Firewall(empty).hits(NOISE) == {}
    assert len(Firewall({})) == 0


def test_order_and_batches_do_not_matter():
    rows = NOISE[:20] + [item.rationale for item in ITEMS[:20]]
    whole = {rows[n]: hit for n, hit in FIREWALL.hits(rows).items()}
    back = {rows[::-1][n]: hit for n, hit in FIREWALL.hits(rows[::-1]).items()}
    assert whole == back == {row: hit for row in rows for hit in FIREWALL.hits([row]).values()}


def test_evaluation_files_are_known_by_name(tmp_path: Path):
    for name in ("a/test.jsonl", "a/test-public.jsonl.gz", "a/train.jsonl", "b/suite.jsonl",
                 "b/holdout.jsonl", "b/test.md", "b/tests.jsonl", "b/holdout.rejected.jsonl",
                 "a/test-public.rejected.jsonl", "c/dev.jsonl", "c/Val.jsonl", "c/eval-2.jsonl",
                 "c/desk.jsonl"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.relative_to(tmp_path).as_posix()
            for p in evaluation_files(tmp_path, below=True)] == [
        "a/test-public.jsonl.gz", "a/test.jsonl", "b/holdout.jsonl", "b/suite.jsonl",
        "c/Val.jsonl", "c/dev.jsonl", "c/eval-2.jsonl",
    ]  # fmt: skip
    assert evaluation_files(tmp_path) == []  # what lies deeper may be anybody's
    assert [p.name for p in evaluation_files(tmp_path / "b")] == ["holdout.jsonl", "suite.jsonl"]
