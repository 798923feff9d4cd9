"""Guesses: the longest run wins, names follow a trie, quotations come from the rationale."""

import pytest

from minicrit.drafting import Effort, Record, Runs, Tables, form
from minicrit.encoding import Encoder
from minicrit.model_drafts import refuse_other_tokenizer
from minicrit.prompts import render_prompt
from minicrit.taxonomy import FLAW_TYPES

ALWAYS = Effort(least=0.0, worth=0.0, most=40)


def test_the_longest_run_says_what_follows():
    runs = Runs(2)
    runs.add([1, 2, 3, 4])
    runs.add([9, 2, 3, 5])
    assert runs.next([7, 1, 2, 3]) == (4, 3, True)  # 1 2 3
    assert runs.next([9, 2, 3]) == (5, 3, True)
    assert runs.next([8, 2, 3]) == (5, 2, False)  # either: the latest
    runs.add([2, 3, 4])
    assert runs.next([8, 2, 3]) == (4, 2, False)  # most
    assert runs.next([3, 4]) is None  # nothing ever followed
    assert runs.next([3]) is None
    assert runs.next([4, 4]) is None


def test_a_text_that_grows_is_met_in_itself():
    runs = Runs(1)
    number = runs.add([5, 6])
    runs.extend(number, [7, 5])
    assert runs.next([5, 6, 7, 5]) == (6, 1, True)


def test_a_full_book_forgets_the_oldest():
    runs = Runs(2, most=8)
    runs.add([1, 2, 3, 4])
    runs.add([1, 2, 9, 9])
    assert runs.next([1, 2]) == (9, 2, False)
    runs.add([5, 6, 7])
    assert runs.size == 7
    assert runs.next([1, 2]) == (9, 2, True)
    assert runs.next([2, 3]) is None
    assert set(runs._ends) == {(1, 2), (2, 9), (9, 9), (5, 6), (6, 7)}


def test_a_record_learns_up_to_the_first_wrong_guess():
    record = Record()
    kind = ("book", 4)
    first = record.chance(kind)
    assert record.chance(("book", 1)) < first < record.chance(("book", 12)) < 1
    for _ in range(50):
        record.learn([kind] * 3, right=1)  # right, wrong, never tried
    assert (record.right[kind], record.tried[kind]) == (50, 100)
    assert record.chance(kind) == pytest.approx(0.5, abs=0.01)


@pytest.fixture
def book(tiny_encoder: Encoder) -> Runs:
    found = Runs(2)
    for words in form(tiny_encoder):
        found.add(words)
    return found


def drafted(encoder, book, text: str, begun: str, effort: Effort = ALWAYS) -> str:
    """What is drafted after a rationale and the beginning of its critique."""
    prompt = encoder.opening + encoder.ids(render_prompt("general", text))
    tables = Tables(encoder, book, Record(), effort)
    draft = tables.draft(0, prompt + encoder.begun(begun), len(prompt), 40)
    return str(encoder.tokenizer.decode(draft.tokens))


def test_fixed_words_and_names_are_drafted(tiny_encoder, book):
    """After a verdict its next heading; of a name that has begun, what is left of it."""
    assert drafted(tiny_encoder, book, "x", "Verdict: flawed").startswith("\nFlaw: ")
    for flaw in ("survivorship_bias", "sunk_cost"):
        begun = f"Verdict: flawed\nFlaw: {flaw}\n"
        rest = drafted(tiny_encoder, book, "x", begun)
        assert rest.startswith(f'Severity: {FLAW_TYPES[flaw].severity}\nEvidence: "')


def test_a_quotation_goes_on_as_the_rationale_does(tiny_encoder, book):
    text = "Our zebra foal limped on Monday. So every zebra foal in Kenya limps."
    begun = 'Verdict: flawed\nFlaw: small_sample\nSeverity: medium\nEvidence: "every zebra'
    assert drafted(tiny_encoder, book, text, begun).startswith(" foal in Kenya limps.")


def test_a_guess_that_is_not_worth_it_is_not_made(tiny_encoder, book):
    text = "Our zebra foal limped on Monday."
    begun = 'Verdict: flawed\nEvidence: "Our zebra'
    assert drafted(tiny_encoder, book, text, begun, Effort(0.0, 30.0, 40)) == ""
    few = drafted(tiny_encoder, book, text, begun, Effort(0.5, 0.0, 40))
    assert drafted(tiny_encoder, book, text, begun).startswith(few)
    assert len(drafted(tiny_encoder, book, text, begun, Effort(0.0, 0.0, 2))) < 20


def test_a_helper_with_other_words_is_refused(tiny_encoder):
    class Other:
        def get_vocab(self):
            return {**tiny_encoder.tokenizer.get_vocab(), "zyzzyva": 1}

    ours = tiny_encoder.tokenizer
    refuse_other_tokenizer(ours, ours, "same")
    with pytest.raises(ValueError, match=r"helper: expected .* differs at 'zyzzyva'; take a draft"):
        refuse_other_tokenizer(ours, Other(), "helper")
