"""How alike two texts are in their reasons: stems, weights, symmetry, and what it cannot see."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_gen.reasons import GIVEN, reasons_f1, stems

RATIONALE = "It rose on 3 of 3 Mondays. So it always rises on a Monday."
REFERENCE = "Three Mondays are too few for a rule. Look at 200 Mondays."
#: Names the same reason in other words; another flaw of the same type; the text itself.
PARAPHRASE = "A rule needs more than three Mondays, which are too few. Look at more of them."
ANOTHER = "A sample without losing weeks says nothing on the losses. Draw weeks by lot."


@pytest.mark.parametrize(
    "words",
    [
        "sample sampled sampling samples",
        "cause causes causal causation",
        "stop stopped stopping",
        "compare compared comparing",
        "general generally",
        "bias biases biased",
        "rate rates rated",
        "few fewer",
    ],
)
def test_forms_of_a_word_are_one(words):
    assert len(stems(words)) == 1


def test_figures_and_function_words_are_left_out():
    assert stems("Of the 1,200 it was 4.5% and 12th") == {"th"}
    assert stems("It's Kimura's") == stems("Kimura")
    assert len(stems("no few only never not too")) == 6


def test_by_hand():
    # three, too, few, rule, look: 1 each; monday: GIVEN
    assert reasons_f1(REFERENCE, "Too few.", RATIONALE) == pytest.approx(2 * 2 / (5 + GIVEN + 2))
    assert reasons_f1(REFERENCE, "Mondays.", RATIONALE) == pytest.approx(
        2 * GIVEN / (5 + GIVEN + GIVEN)
    )
    assert reasons_f1(REFERENCE, "", RATIONALE) == 0.0
    assert reasons_f1("", "Too few.", RATIONALE) == 0.0


def test_the_same_reason_in_other_words_beats_another_reason_and_the_text_itself():
    same = reasons_f1(REFERENCE, PARAPHRASE, RATIONALE)
    assert same > 0.7
    assert reasons_f1(REFERENCE, ANOTHER, RATIONALE) == 0.0
    assert reasons_f1(REFERENCE, RATIONALE, RATIONALE) < 0.2


WORDS = ["three", "few", "rule", "look", "monday", "rose", "luck", "12", "the"]
TEXTS = st.lists(st.sampled_from(WORDS)).map(" ".join)


@given(TEXTS, TEXTS, TEXTS)
def test_symmetric_between_0_and_1_and_whole_only_for_the_same_stems(one, two, rationale):
    found = reasons_f1(one, two, rationale)
    assert found == reasons_f1(two, one, rationale)
    assert 0 <= found <= 1
    assert (found == 1) == (stems(one) == stems(two) != frozenset())
