"""Ten harmless ways to write the same prompt down: layout changes, no word of the rationale does.

A critic should not care, yet formats alone move language models by tens of points ("Quantifying
Language Models' Sensitivity to Spurious Features in Prompt Design", arXiv 2310.11324). Each is a
pure function from domain and rationale to the whole prompt, and starts from the style `plain-1`.
"""

import re
from collections.abc import Callable

from minicrit.prompts import PROMPT_VERSION, render_prompt

Format = Callable[[str, str], str]

_SENTENCE_END = re.compile(r"(?<=[.!?])[ \n]+(?=[\"'(]?[A-Z])")
_OPENING = re.compile(r"(?<![^\s(\[])([\"'])(?=\S)")
_CURLED = {'"': ("\u201c", "\u201d"), "'": ("\u2018", "\u2019")}


def sentences(text: str) -> list[str]:
    """The text cut where a sentence ends and a capital letter follows."""
    return [part for part in _SENTENCE_END.split(text) if part]


def plain(domain: str, rationale: str) -> str:
    """The prompt that critics are trained on."""
    return render_prompt(domain, rationale, PROMPT_VERSION)


def trailing_newline(domain: str, rationale: str) -> str:
    """The rationale ends with a line break, as text from a file does."""
    return plain(domain, rationale + "\n")


def blank_lines(domain: str, rationale: str) -> str:
    """An empty line after every heading."""
    return f"### Domain: {domain}\n\n### Rationale:\n\n{rationale}\n\n### Critique:\n"


def bullets(domain: str, rationale: str) -> str:
    """Each sentence a point of a list."""
    return plain(domain, "\n".join(f"- {s}" for s in sentences(rationale)))


def numbered(domain: str, rationale: str) -> str:
    """Each sentence a numbered point."""
    return plain(domain, "\n".join(f"{n}. {s}" for n, s in enumerate(sentences(rationale), 1)))


def no_hashes(domain: str, rationale: str) -> str:
    """Headings without hashes."""
    return f"Domain: {domain}\nRationale:\n{rationale}\n\nCritique:\n"


def upper_case_headings(domain: str, rationale: str) -> str:
    """Headings in capitals."""
    return f"### DOMAIN: {domain}\n### RATIONALE:\n{rationale}\n\n### CRITIQUE:\n"


def curled_quotes(domain: str, rationale: str) -> str:
    """Typographic quotation marks and apostrophes, as word processors make them."""
    opened = _OPENING.sub(lambda m: _CURLED[m[1]][0], rationale)
    for straight, (_, closing) in _CURLED.items():
        opened = opened.replace(straight, closing)
    return plain(domain, opened)


def double_blanks(domain: str, rationale: str) -> str:
    """Two blanks between sentences, as typists were taught."""
    return plain(domain, "  ".join(sentences(rationale)))


def windows_line_ends(domain: str, rationale: str) -> str:
    """Every line ends with carriage return and line feed."""
    return plain(domain, rationale).replace("\r\n", "\n").replace("\n", "\r\n")


def leading_word(domain: str, rationale: str) -> str:
    """The rationale says what it is."""
    return plain(domain, f"Rationale: {rationale}")


#: By the name of the arm.
REFORMATTINGS: dict[str, Format] = {
    "trailing newline": trailing_newline,
    "blank lines": blank_lines,
    "bullets": bullets,
    "numbered": numbered,
    "no hashes": no_hashes,
    "upper-case headings": upper_case_headings,
    "curled quotes": curled_quotes,
    "double blanks": double_blanks,
    "Windows line ends": windows_line_ends,
    "leading word": leading_word,
}
