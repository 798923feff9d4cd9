"""Harmless changes of training texts: the same in both texts of a group, and never the suite's."""

import re
from collections import Counter
from dataclasses import replace
from itertools import groupby

import pytest

from data_gen.adversarial import suite
from data_gen.casebook import drawn_cases
from data_gen.changed import ADDED, LINES, SLIP, with_changes, wordings
from data_gen.compose import compose
from data_gen.injection import injections
from data_gen.stage import make_data
from data_gen.variants import EVERYWHERE, kept_variants
from minicrit.config import Recipe
from minicrit.data_config import DataConfig
from minicrit.manifest import read_manifest
from minicrit.records import Example, change_of, read_examples
from minicrit.taxonomy import CHANGES

TEXT = "We counted {n} herons on the lake. Nobody had fed them beforehand. So {claim}."


def twins(text=TEXT, critique="Two are too few to say so.", number=0):
    """A sound and a flawed text, by hand."""
    shared = {"domain": "general", "group": f"g/{number}", "source": "s", "split": "train"}
    halves = {"valid": ("200", "we saw hundreds"), "flawed": ("2", "we saw hundreds")}
    rows = []
    for label, (n, claim) in halves.items():
        more = {"flaw_type": "small_sample", "evidence": claim} if label == "flawed" else {}
        rows.append(Example.from_row({
            **shared, "id": f"g/{number}/{label}", "rationale": text.format(n=n, claim=claim),
            "label": label, "critique": critique, **more,
        }))  # fmt: skip
    return rows


def changed(rows, share=1, seed=7):
    """The changed texts alone."""
    return [e for e in with_changes(rows, share, seed) if change_of(e)]


def drawn(members, change, seeds=400):
    """All that a change makes of a group, over many seeds."""
    made = (changed(members, 1, seed) for seed in range(seeds))
    return [new for new in made if new and change_of(new[0]) == change]


def groups_of(rows):
    return [list(members) for _, members in groupby(rows, key=lambda e: e.group)]


@pytest.fixture(scope="module")
def plain():
    pairs = [c.example for c in compose(400, 1, "train", terse=0.5)]
    squares = [c.example for c in compose(800, 2, "train", squares=True, terse=0.5)]
    return [*pairs, *squares, *drawn_cases(300, 3, "train")]


@pytest.fixture(scope="module")
def new(plain):
    """Each changed text with the one that it is a change of."""
    known = {e.id: e for e in plain}
    return [(known[e.id.removesuffix(f"/{change_of(e)}")], e) for e in changed(plain)]


def test_nothing_but_text_evidence_and_id_is_another_and_the_id_says_how(plain, new):
    assert len(new) == 2 * len(groups_of(plain))
    for old, one in new:
        assert replace(one, id=old.id, rationale=old.rationale, evidence=old.evidence) == old
        assert change_of(old) is None
        assert one.id == f"{old.id}/{change_of(one)}"
        assert one.rationale != old.rationale
        assert Example.from_row(one.to_row()) == one  # its evidence verbatim, too
    assert {change_of(e) for _, e in new} == set(CHANGES)


def test_a_sound_and_a_flawed_text_are_changed_in_the_same_words(new):
    for (_, first), (_, second) in zip(new[::2], new[1::2], strict=True):
        assert first.group == second.group
        assert (first.label, second.label) == ("valid", "flawed")
    for pair in zip(new[::2], new[1::2], strict=True):
        (change,) = {change_of(one) for _, one in pair}
        if change in EVERYWHERE:
            for old, one in pair:
                assert one.rationale == EVERYWHERE[change](old.rationale)
                assert one.evidence == (old.evidence and EVERYWHERE[change](old.evidence))
        elif change == SLIP:
            assert len({slip_in(old, one) for old, one in pair}) == 1
        else:
            assert len({added_to(old, one) for old, one in pair}) == 1


def test_what_an_earlier_run_has_changed_is_not_changed_again():
    """Drawn a second time, a change would have the id that the first one has."""
    first = with_changes(twins(), 1, 7)
    more = twins(number=1)
    for seed in range(20):
        both = with_changes([*first, *more], 1, seed)
        assert both[: len(first) + len(more)] == [*first, *more]
        assert {e.group for e in both[len(first) + len(more) :]} == {"g/1"}


def test_every_text_stays_and_its_change_stands_behind_its_group(plain):
    both = with_changes(plain, 0.5, 7)
    assert [e for e in both if not change_of(e)] == plain
    for members in groups_of(both):
        assert [bool(change_of(e)) for e in members] == sorted(bool(change_of(e)) for e in members)


def test_of_a_group_of_one_label_one_text_is_changed():
    valid = [twins(number=number)[0] for number in range(5)]
    assert [e.label for e in changed(valid)] == ["valid"] * 5


def test_a_change_that_makes_a_text_too_long_is_passed_over():
    longest = max(len(e.rationale) for e in twins())
    rows = [e for number in range(300) for e in twins(number=number)]
    short = [e for e in with_changes(rows, 1, 0, lambda e: len(e.rationale) <= longest + 1)
             if change_of(e)]  # fmt: skip
    assert {change_of(e) for e in short} == {SLIP, *EVERYWHERE}
    assert with_changes(rows, 1, 0, lambda _: False) == rows


def slip_in(old, new):
    """The one word that differs, before and after; it stands outside of the evidence."""
    pairs = zip(old.rationale.split(), new.rationale.split(), strict=True)
    ((was, now),) = [(a, b) for a, b in pairs if a != b]
    assert len(now) - len(was) in (0, 1)
    assert set(now) == set(was)
    assert new.evidence == old.evidence
    assert not old.evidence or new.rationale.count(old.evidence) == 1
    return was, now


def added_to(old, new):
    """What stands in front of the old text or behind it."""
    head, whole, tail = new.rationale.partition(old.rationale)
    assert whole
    assert bool(head) != bool(tail)
    assert new.evidence == old.evidence
    assert re.search(r"\s$", head) or re.match(r"\s", tail)
    return head, tail


def test_a_change_says_nothing_of_the_label():
    """As many sound as flawed texts of each, and what an instruction asks for is drawn."""
    rows = [e for number in range(2000) for e in twins(number=number)]
    new = changed(rows, 1, 0)
    counts = Counter((change_of(e), e.label) for e in new)
    assert all(counts[change, "valid"] == counts[change, "flawed"] > 150 for change in CHANGES)
    asked = Counter()
    for members in groups_of(new):
        if change_of(members[0]) == "instruction":
            asked[bool(re.search(r"\bvalid\b", members[0].rationale))] += 1
    n = asked.total()
    assert abs(asked[True] - n / 2) < 4 * (n / 4) ** 0.5


def test_the_share_is_that_of_groups_and_the_same_each_time():
    rows = [e for number in range(1000) for e in twins(number=number)]
    some = with_changes(rows, 0.3, 5)
    drawn = {e.group for e in some if change_of(e)}
    assert abs(len(drawn) - 300) < 4 * (1000 * 0.3 * 0.7) ** 0.5
    assert some == with_changes(rows, 0.3, 5) != with_changes(rows, 0.3, 6)
    alone = [e for e in rows if e.group in drawn]
    assert with_changes(alone, 0.3, 5) == [e for e in some if e.group in drawn]
    assert with_changes(rows, 0, 5) == rows
    assert drawn < {e.group for e in changed(rows, 0.6, 5)}


def test_a_slip_is_in_a_word_that_all_texts_share():
    """`counted` stands beside what differs, and `hundreds` in the evidence of one of them."""
    found = drawn(twins(), SLIP)
    slipped = {e.rationale for members in found for e in members}
    assert len(found) > 20
    for text in slipped:
        assert "beforehand" not in text
        assert re.match(r"We counted 2(00)? herons on the lake\. Nobody had fed", text)
    assert len({re.search(r"them (\w+)", text)[1] for text in slipped}) > 5
    assert drawn(twins(TEXT.replace(" beforehand", "")), SLIP) == []


def test_what_a_reference_quotes_still_stands_in_the_text():
    quoting = twins(critique="\"We counted 2\" is no word for 'on the lake'.")
    assert drawn(twins(), "lower_case")
    assert drawn(quoting, "lower_case") == []
    slips = drawn(twins(critique="'them beforehand' it says."), SLIP)
    assert slips == []
    misquoting = twins(critique='"We Counted" stands nowhere.')
    assert drawn(misquoting, "lower_case")


@pytest.mark.parametrize(("text", "broken"), [
    (TEXT, True),
    ("1. {n} herons. Alone.\n2. So {claim}.", False),  # a number would stand by itself
    ("Dr. Lund saw {n} herons. So {claim}.", False),
    ("{n} herons. 12 were shy. So {claim}.", False),
    ("{n} herons, so {claim}.", False),
])  # fmt: skip
def test_lines_are_broken_at_sentences_alone(text, broken):
    found = drawn(twins(text), LINES)
    assert bool(found) == broken
    assert all(e.rationale.count("\n") == 2 for members in found for e in members)


def test_capitals_that_may_be_symbols_stay():
    assert drawn(twins(), "lower_case")
    assert drawn(twins("Lake B had {n} herons. So {claim}."), "lower_case") == []


def test_what_is_added_stands_as_people_would_set_it():
    def texts(text):
        return [new[0].rationale for change in ADDED for new in drawn(twins(text), change, 60)]

    plain = texts(TEXT)
    assert any(text.endswith("we saw hundreds.") for text in plain)
    assert any(text.startswith("We counted") for text in plain)
    assert all(text.startswith("Dear Ann") for text in texts("Dear Ann, {n} herons. So {claim}."))
    for text in texts("So {claim}: {n} herons. Yours, Bo"):
        assert text.endswith("Yours, Bo") or "Yours, Bo\n" in text
    for text in texts("{n} herons.\n\nSo {claim}."):
        assert text.count("\n\n") == 2
    for text in texts("1. {n} herons.\n2. So {claim}."):
        assert text.count("\n") == 2


def said():
    """Every wording by change and place, each choice in it made in every way."""
    return {key: [text for one in texts for text in ways(one)]
            for key, texts in wordings().items()}  # fmt: skip


def ways(text):
    match = re.search(r"<([^<>|]*(?:\|[^<>|]*)+)>", text)
    if match is None:
        return [text]
    return [way for part in match[1].split("|")
            for way in ways(text[: match.start()] + part + text[match.end() :])]  # fmt: skip


def test_there_are_many_wordings_of_each_change():
    found = said()
    assert {change for change, _ in found} == set(CHANGES) - {SLIP} - EVERYWHERE.keys()
    for (change, _), texts in found.items():
        assert len(wordings()[change, "before"]) >= 8 <= len(wordings()[change, "after"])
        assert len(set(texts)) >= 50
        assert all(bool(re.search(r"\d", text)) == (change == "irrelevant_figure")
                   for text in texts)  # fmt: skip
        assert all(text.count("{asked}") == (change == "instruction") for text in texts)
        assert not any(re.search(r"  |[|]|<[^/>]* |\b(\w+) \1\b", text) for text in texts)


def test_no_five_words_in_a_row_are_those_of_what_is_measured_with():
    def fives(text):
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}

    measured = [e.rationale for e in suite()] + [one.text for one in injections()]
    known = set().union(*map(fives, measured))
    asked = [text.replace("{asked}", verdict) for texts in said().values() for text in texts
             for verdict in ("valid", "flawed")]  # fmt: skip
    assert {text for text in asked if fives(text) & known} == set()
    whole = " ".join(measured).lower()
    assert {text for text in asked if len(text.split()) > 2 and text.lower() in whole} == set()


def test_items_of_the_suite_are_not_counted_as_changed_training_texts():
    assert {change_of(e) for e in suite()} == {None}
    assert {change_of(e) for e in kept_variants(twins()[0])} == {None}


def test_a_spoilt_file_of_wordings_is_named(tmp_path):
    path = tmp_path / "changed.yaml"
    path.write_text("- {change: polite, before: [a], after: [b]}")
    with pytest.raises(
        ValueError, match=r"changed\.yaml: expected before, after of each of polite,"
    ):
        wordings(path)


def test_the_stage_changes_training_texts_alone_and_counts_them(tmp_path):
    def made(name, **told):
        data = DataConfig(folder=tmp_path / name, train=200, fresh=60, validation=8, calibration=8,
                          test=8, casebook=0.2, **told)  # fmt: skip
        make_data(Recipe(data=data, seed=4))
        return data.folder

    plain, more = made("plain"), made("changed", changed=0.5)
    files = {path.name for path in plain.glob("*.jsonl")}
    assert files == {path.name for path in more.glob("*.jsonl")}
    for name in files - {"train.jsonl"}:
        assert (plain / name).read_bytes() == (more / name).read_bytes()
    old, new = (read_examples(folder / "train.jsonl").examples for folder in (plain, more))
    assert [e for e in new if not change_of(e)] == list(old)
    sources = {e.source.partition("/")[0] for e in new if change_of(e)}
    assert sources == {"composer", "casebook"}
    groups = len({e.group for e in new if change_of(e)})
    table = (more / "coverage.md").read_text()
    assert "changed" not in (plain / "coverage.md").read_text()
    assert re.search(rf"^\| all +\| {groups} +\|", table, re.MULTILINE)
    assert read_manifest(more)["settings"]["data"]["changed"] == 0.5


def test_of_plain_data_without_twins_one_text_a_group_is_changed(tmp_path):
    data = DataConfig(folder=tmp_path, train=100, fresh=0, validation=4, calibration=4, test=4,
                      alone=True, changed=0.5)  # fmt: skip
    make_data(Recipe(data=data))
    rows = read_examples(tmp_path / "train.jsonl").examples
    found = [e for e in rows if change_of(e)]
    assert 25 <= len(found) == len(rows) - 100
    assert len({e.group for e in found}) == len(found)
