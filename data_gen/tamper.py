"""Twins by a language model: write a sound rationale, tamper with it, and let a blind judge look.

The judge sees one text without its label. A pair is kept only if it finds a flaw in the tampered
text and none in the sound one; everything else goes to the rejected file with its reason. Nothing
that a model answers is believed unread: it is parsed strictly, the evidence must stand in the text,
the edit must be small.
"""

import difflib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_gen.answers import read_fields, schema_of, template
from data_gen.backends.protocol import Answer, Request, UnanswerableError
from minicrit.files import sha256_json
from minicrit.jsonl import shown
from minicrit.records import Example
from minicrit.taxonomy import FLAW_TYPES, LABELS, SEVERITIES

VERSION = "1"
#: Least likeness of the twins, and how far their lengths may differ.
ALIKE, LENGTH = 0.6, 0.25
#: Longest reason that is kept; a server's error may be a page, with characters no record holds.
REASON = 400
#: A second try of an answer that was cut or is not what was asked for.
TRIES = 2
_NONE = "none"

Ask = Callable[[Request], Answer]
Pair = tuple[Example, Example]


@dataclass(frozen=True)
class Plan:
    """What one pair is to be about."""

    number: int
    domain: str
    scenario: str
    voice: str
    length: str
    manner: str
    flaw: str
    sound_kind: str
    flawed_kind: str


@dataclass(frozen=True)
class Rejected:
    """Why a plan gave no pair, and what there was."""

    plan: Plan
    stage: str
    reason: str
    texts: tuple[str, ...] = ()


class UnusableError(Exception):
    """An answer that cannot be used; the message is the reason."""


#: The making of a pair: gives the requests that can be sent now, takes their answers in order (an
#: iterator, so that one that is no longer wanted is never asked for) and returns what came of it.
Steps = Generator[Sequence[Request], Iterator[Answer], Pair | Rejected]
_Asking = Generator[Sequence[Request], Iterator[Answer], list[dict[str, str]]]


def make_pair(plan: Plan, ask: Ask, source: str) -> Pair | Rejected:
    """The sound text and its flawed twin, or why there are none.

    Args:
        plan: see there.
        ask: answers a request, see `asker.Asker.ask`.
        source: where the examples say they come from.
    """
    steps = pair_steps(plan, source)
    try:
        requests = next(steps)
        while True:
            requests = steps.send(map(ask, requests))
    except StopIteration as done:
        found: Pair | Rejected = done.value
        return found


def pair_steps(plan: Plan, source: str) -> Steps:
    """The making of one pair, for whoever sends the requests: one by one or in batches."""
    stage = "write"
    texts: list[str] = []
    try:
        written = (yield from _asked("write", plan, _WRITE, {}))[0]
        sound = written["rationale"]
        texts.append(sound)
        stage = "tamper"
        tampered = (yield from _asked("tamper", plan, _TAMPER, {"rationale": sound}))[0]
        flawed = tampered["rationale"]
        texts.append(flawed)
        _check_twins(sound, tampered)
        stage = "verify"
        yield from _asked("verify", plan, _VERIFY, {"rationale": flawed}, {"rationale": sound},
                          check=_agrees)  # fmt: skip
        return _examples(plan, written, tampered, source)
    except (UnusableError, UnanswerableError) as error:
        return Rejected(plan, stage, shown(str(error), REASON), tuple(texts))


def _asked(
    name: str,
    plan: Plan,
    schema: Mapping[str, Any],
    *texts: Mapping[str, str],
    check: Callable[[int, Mapping[str, str]], None] = lambda number, fields: None,
) -> _Asking:
    """The fields of the answers, one for each of `texts`.

    Asks again, once, for what was cut or is not what was asked for. `check` sees each as it comes.
    """
    found: dict[int, dict[str, str]] = {}
    reason = ""
    for draw in range(TRIES):
        left = [number for number in range(len(texts)) if number not in found]
        answers = yield [request_for(name, plan, schema, draw, **texts[n]) for n in left]
        for number, answer in zip(left, answers, strict=True):
            if answer.stop == "refused":
                raise UnusableError(f"refused {answer.reason}".strip())
            fields, why = ({}, "cut") if answer.stop == "cut" else read_fields(answer.text, schema)
            if fields:
                check(number, fields)
                found[number] = fields
            reason = why or reason
        if len(found) == len(texts):
            return [found[number] for number in range(len(texts))]
    raise UnusableError(reason)


def request_for(
    name: str, plan: Plan, schema: Mapping[str, Any], draw: int = 0, **more: str
) -> Request:
    """A request from a prompt file and what the plan fills in."""
    system, prompt = template(name, VERSION)
    flaw = FLAW_TYPES[plan.flaw]
    words = {
        "domain": plan.domain, "scenario": plan.scenario, "voice": plan.voice,
        "length": plan.length, "manner": plan.manner, "flaw": flaw.name.replace("_", " "),
        "definition": flaw.definition, "example": flaw.example,
        "flaws": "\n".join(f"- {f.name}: {f.definition}" for f in FLAW_TYPES.values()),
    }  # fmt: skip
    # A text must not be able to close the block it stands in and go on as if it were us.
    blocks = {name: text.replace("</rationale", "< /rationale") for name, text in more.items()}
    # The plan's number keeps pairs of equal plans apart; only the first text depends on it.
    number = plan.number * TRIES + draw if name == "write" else draw
    return Request(system, prompt.substitute(words, **blocks), schema, draw=number)


def _check_twins(sound: str, tampered: Mapping[str, str]) -> None:
    """Refuses an edit that is none, too large, or does not show where it says."""
    flawed = tampered["rationale"]
    if tampered["evidence"] not in flawed:
        raise UnusableError("the evidence does not stand in the text")
    if " ".join(sound.split()) == " ".join(flawed.split()):
        raise UnusableError("nothing was changed")
    if abs(len(flawed) - len(sound)) > LENGTH * len(sound):
        raise UnusableError("the lengths differ too much")
    if _edges(sound, flawed) < ALIKE and (
        difflib.SequenceMatcher(None, sound, flawed, autojunk=False).ratio() < ALIKE
    ):
        raise UnusableError("too much was changed")


def _edges(one: str, other: str) -> float:
    """Share of two texts in what they begin and end with alike; found a hundred times as fast."""
    start = _begin_alike(one, other)
    end = _begin_alike(one[start:][::-1], other[start:][::-1])
    return 2 * (start + end) / (len(one) + len(other))


def _begin_alike(one: str, other: str) -> int:
    shorter = min(len(one), len(other))
    return next((n for n in range(shorter) if one[n] != other[n]), shorter)


def _agrees(number: int, said: Mapping[str, str]) -> None:
    """The blind judge has to say what is so: the first text is the flawed one."""
    label = ("flawed", "valid")[number]
    if said["verdict"] != label:
        raise UnusableError(f"the judge calls the {label} text {said['verdict']}: {said['reason']}")


def _examples(
    plan: Plan, written: Mapping[str, str], tampered: Mapping[str, str], source: str
) -> Pair:
    # Seeds and models number their plans alike, and sets of several runs are trained on together.
    texts = sha256_json([written["rationale"], tampered["rationale"]])
    group = f"{source}/{plan.domain}/{plan.number}-{texts[:8]}"
    shared = {"domain": plan.domain, "group": group, "source": f"{source}/{plan.domain}",
              "split": "train"}  # fmt: skip
    rows = [
        {"id": f"{group}/valid", "label": "valid", "kind": plan.sound_kind, **written},
        {"id": f"{group}/flawed", "label": "flawed", "kind": plan.flawed_kind,
         "flaw_type": plan.flaw, **tampered},
    ]  # fmt: skip
    try:
        sound, flawed = (Example.from_row({**shared, **row}) for row in rows)
    except ValueError as error:
        raise UnusableError(str(error)) from error
    return sound, flawed


_WRITE = schema_of(rationale=None, strengths=None, critique=None)
_TAMPER = schema_of(rationale=None, evidence=None, severity=SEVERITIES, critique=None, fix=None)
_VERIFY = schema_of(verdict=LABELS, flaw_type=(*FLAW_TYPES, _NONE), reason=None)
