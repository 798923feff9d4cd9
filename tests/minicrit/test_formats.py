"""The ten layouts: pinned word for word, and none loses, adds or moves a word of the rationale."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicrit.formats import REFORMATTINGS, plain, sentences
from minicrit.prompts import render_prompt

DOMAIN = "trading"
RATIONALE = 'It said "sell". We didn\'t, as 3.5 % is little. (So far.) Hold?'
HEAD, TAIL = "### Domain: trading\n### Rationale:\n", "\n\n### Critique:\n"
GOLDEN = {
    "trailing newline": HEAD + RATIONALE + "\n" + TAIL,
    "blank lines": "### Domain: trading\n\n### Rationale:\n\n" + RATIONALE + TAIL,
    "bullets": HEAD
    + '- It said "sell".\n- We didn\'t, as 3.5 % is little.\n- (So far.) Hold?'
    + TAIL,
    "numbered": HEAD
    + '1. It said "sell".\n2. We didn\'t, as 3.5 % is little.\n3. (So far.) Hold?'
    + TAIL,
    "no hashes": "Domain: trading\nRationale:\n" + RATIONALE + "\n\nCritique:\n",
    "upper-case headings": "### DOMAIN: trading\n### RATIONALE:\n"
    + RATIONALE
    + "\n\n### CRITIQUE:\n",
    "curled quotes": HEAD
    + "It said \u201csell\u201d. We didn\u2019t, as 3.5 % is little. (So far.) Hold?"
    + TAIL,
    "double blanks": HEAD
    + 'It said "sell".  We didn\'t, as 3.5 % is little.  (So far.) Hold?'
    + TAIL,
    "Windows line ends": (HEAD + RATIONALE + TAIL).replace("\n", "\r\n"),
    "leading word": HEAD + "Rationale: " + RATIONALE + TAIL,
}


def test_there_are_ten_and_each_is_pinned():
    assert len(REFORMATTINGS) == 10
    assert {name: form(DOMAIN, RATIONALE) for name, form in REFORMATTINGS.items()} == GOLDEN
    assert len({*GOLDEN.values(), render_prompt(DOMAIN, RATIONALE)}) == 11


def test_the_trained_prompt_is_the_renderers():
    assert plain(DOMAIN, RATIONALE) == render_prompt(DOMAIN, RATIONALE)


def test_a_heading_in_the_rationale_stays_as_it_is():
    quoted = "They wrote ### Critique:\n and ### Domain: x."
    assert quoted in REFORMATTINGS["no hashes"](DOMAIN, quoted)
    assert quoted in REFORMATTINGS["upper-case headings"](DOMAIN, quoted)


def words(text: str) -> list[str]:
    straight = text.translate(str.maketrans("\u201c\u201d\u2018\u2019", "\"\"''"))
    return re.findall(r"[^\s.!?]+|[.!?]", straight)


def is_within(some: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(word in rest for word in some)


@pytest.mark.parametrize("name", REFORMATTINGS)
@given(st.text(alphabet="Ab1 .!?\n\"'(", max_size=60))
def test_the_words_of_the_rationale_stay_in_their_order(name, text):
    prompt = REFORMATTINGS[name](DOMAIN, text)
    assert is_within(words(text), words(prompt))


def test_sentences_end_where_a_capital_follows():
    assert sentences("") == []
    assert sentences("One. two. Three") == ["One. two.", "Three"]
    assert sentences("Up 3.5 %.\nDown?") == ["Up 3.5 %.", "Down?"]
