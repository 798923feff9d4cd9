"""Twins by a language model: write a sound rationale, tamper with it, and let a blind judge look.

The judge sees one text without its label. A pair is kept only if it finds a flaw in the tampered
text and none in the sound one; everything else goes to the rejected file with its reason. Nothing
that a model answers is believed unread: it is parsed strictly, the evidence must stand in the text,
the edit must be small.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from data_gen.answers import read_fields, schema_of, template
from data_gen.backends.protocol import Answer, Request, UnanswerableError
from minicrit.records import Example
from minicrit.taxonomy import FLAW_TYPES, LABELS, SEVERITIES

VERSION = "1"
#: Least likeness of the twins, and how far their lengths may differ.
ALIKE, LENGTH = 0.6, 0.25
#: A second try of an answer that was cut or is not what was asked for.
TRIES = 2
_NONE = "none"

Ask = Callable[[Request], Answer]


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


def make_pair(plan: Plan, ask: Ask, source: str) -> tuple[Example, Example] | Rejected:
    """The sound text and its flawed twin, or why there are none.

    Args:
        plan: see there.
        ask: answers a request, see `asker.Asker.ask`.
        source: where the examples say they come from.
    """
    stage = "write"
    texts: list[str] = []
    try:
        written = _asked(ask, "write", plan, _WRITE)
        texts.append(written["rationale"])
        stage = "tamper"
        tampered = _asked(ask, "tamper", plan, _TAMPER, rationale=written["rationale"])
        texts.append(tampered["rationale"])
        _check_twins(written["rationale"], tampered)
        stage = "verify"
        _verify(ask, plan, tampered["rationale"], "flawed")
        _verify(ask, plan, written["rationale"], "valid")
        return _examples(plan, written, tampered, source)
    except (UnusableError, UnanswerableError) as error:
        return Rejected(plan, stage, str(error), tuple(texts))


def _asked(ask: Ask, name: str, plan: Plan, schema: Mapping[str, Any], **more: str
           ) -> dict[str, str]:  # fmt: skip
    """The fields of an answer; asks again, once, if it was cut or is not what was asked for."""
    reason = ""
    for draw in range(TRIES):
        answer = ask(request_for(name, plan, schema, draw, **more))
        if answer.stop == "refused":
            raise UnusableError(f"refused {answer.reason}".strip())
        reason = "cut" if answer.stop == "cut" else ""
        fields = {} if reason else read_fields(answer.text, schema)
        if fields:
            return fields
    raise UnusableError(reason or "unparsed")


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
    if difflib.SequenceMatcher(None, sound, flawed, autojunk=False).ratio() < ALIKE:
        raise UnusableError("too much was changed")


def _verify(ask: Ask, plan: Plan, text: str, label: str) -> None:
    """Asks the blind judge; it has to say what is so."""
    said = _asked(ask, "verify", plan, _VERIFY, rationale=text)
    if said["verdict"] != label:
        raise UnusableError(f"the judge calls the {label} text {said['verdict']}: {said['reason']}")


def _examples(
    plan: Plan, written: Mapping[str, str], tampered: Mapping[str, str], source: str
) -> tuple[Example, Example]:
    group = f"{source}/{plan.domain}/{plan.number}"
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
