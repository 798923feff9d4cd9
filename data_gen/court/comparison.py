"""One comparison of two critiques: asked in both orders, and a win only where both agree.

Which critique is shown first in the first question is drawn from the critiques themselves, so that
nothing depends on which of two models is called the first. What stands in a block cannot close it:
the tags bear a code that occurs in none of the texts.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from data_gen.answers import read_fields, schema_of, template
from data_gen.backends.protocol import Request, UnanswerableError
from data_gen.judge import Ask
from data_gen.rules import rules
from minicrit.taxonomy import FLAW_TYPES, LABELS

PROMPT_VERSION = "1"
SCHEMA = schema_of(rationale=LABELS, better=("first", "second", "equal"))
#: What can become of a comparison, for the critique that is asked about.
WIN, LOSS = "win", "loss"
#: Both orders say equal; they name different sides; one names a side and the other says equal.
TIE, FLIP, LEANING = "tie", "flip", "leaning"
#: The same words: nobody is asked. No judgement: nothing is known.
IDENTICAL, UNSCORED = "identical", "unscored"
#: What a critique gets of a comparison; an unscored one is not there.
POINTS = {WIN: 1.0, TIE: 0.5, FLIP: 0.5, LEANING: 0.5, IDENTICAL: 0.5, LOSS: 0.0}
_MAX_TOKENS = 400  # the answer takes 20; some models think, or wrap it up


@dataclass(frozen=True)
class Question:
    """A rationale and two critiques of it, in the order in which they are named."""

    domain: str
    rationale: str
    one: str
    two: str


@dataclass(frozen=True)
class Judgement:
    """What was said of one order.

    Attributes:
        better: `one`, `two` or `equal`; None if nothing that counts was said.
        rationale: what the judge says of the rationale itself, valid or flawed; None likewise.
        fault: why nothing was said.
    """

    better: str | None = None
    rationale: str | None = None
    fault: str = ""


@dataclass(frozen=True)
class Compared:
    """What became of a comparison, seen from critique `one`, and what was said in either order."""

    outcome: str
    judgements: tuple[Judgement, ...] = ()

    @property
    def faults(self) -> list[str]:
        """Why orders are unscored."""
        return [said.fault for said in self.judgements if said.fault]

    @property
    def rationale(self) -> str | None:
        """The judge's own verdict on the rationale, where both orders give the same."""
        said = {judgement.rationale for judgement in self.judgements}
        return said.pop() if len(said) == 1 else None


def compare(question: Question, seed: int, ask: Ask) -> Compared:
    """Asks in both orders."""
    said = tuple(_asked(question, first, ask) for first in _orders(question, seed))
    return Compared(_outcome([one.better for one in said]), said)


def requests(question: Question, seed: int) -> Iterator[Request]:
    """All that `compare` asks, in its order."""
    return (request(question, first) for first in _orders(question, seed))


def is_same(question: Question) -> bool:
    """Whether the critiques differ in nothing but white space, so that nobody need be asked."""
    return question.one.split() == question.two.split()


def request(question: Question, first: str) -> Request:
    """The question with critique `first`, `one` or `two`, shown first."""
    system, prompt = template("compare", PROMPT_VERSION)
    shown = (question.one, question.two) if first == "one" else (question.two, question.one)
    return Request(
        system,
        prompt.substitute(
            rules="\n".join(f"{n}. {rule.id}: {rule.text}" for n, rule in enumerate(rules(), 1)),
            flaws="\n".join(f"- {f.name}: {f.definition}" for f in FLAW_TYPES.values()),
            code=_code(question), domain=question.domain, rationale=question.rationale,
            first=shown[0], second=shown[1],
        ),
        SCHEMA,
        max_tokens=_MAX_TOKENS,
    )  # fmt: skip


def _code(question: Question) -> str:
    """Twelve hex digits that occur in none of the texts; the same in both orders."""
    texts = [question.rationale, *sorted((question.one, question.two))]
    salt = 0
    while True:
        code = hashlib.sha256("\0".join([*texts, str(salt)]).encode()).hexdigest()[:12]
        if not any(code in text for text in texts):
            return code
        salt += 1


def _orders(question: Question, seed: int) -> tuple[str, str]:
    """Which critique is shown first in the first question, and which in the second."""

    def place(text: str) -> bytes:
        drawn = "\0".join([str(seed), question.domain, question.rationale, text])
        return hashlib.sha256(drawn.encode()).digest()

    return ("one", "two") if place(question.one) < place(question.two) else ("two", "one")


def _asked(question: Question, first: str, ask: Ask) -> Judgement:
    try:
        answer = ask(request(question, first))
    except UnanswerableError:
        return Judgement(fault="not accepted")
    if answer.stop != "end":
        return Judgement(fault=answer.stop)
    fields, fault = read_fields(answer.text, SCHEMA)
    if fault:
        return Judgement(fault="unparsed")
    second = "two" if first == "one" else "one"
    better = {"first": first, "second": second}.get(fields["better"], fields["better"])
    return Judgement(better, fields["rationale"])


def _outcome(said: list[str | None]) -> str:
    """What two judgements come to, seen from critique `one`."""
    if None in said:
        return UNSCORED
    if said[0] == said[1]:
        return {"one": WIN, "two": LOSS}.get(str(said[0]), TIE)
    return LEANING if "equal" in said else FLIP
