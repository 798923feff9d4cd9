"""What may be written into the store: requests, decisions, outcomes, each checked by itself."""

import hashlib
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minicrit.files import to_json
from minicrit.jsonl import RefusedError, check_string
from minicrit.marks import check_marks
from minicrit.taxonomy import DOMAINS, FLAW_TYPES, LABELS

DECISIONS = ("agree", "disagree", "correct")
#: Share of all rationales whose decisions count as a random sample; see `standing`.
AUDIT_SHARE = 0.2
_LONGEST_NAME = 200  # of ids, operators and keys, in characters


@dataclass(frozen=True, kw_only=True)
class Request:
    """One rationale that was judged.

    Attributes:
        request_id: what feedback refers to; nobody may choose it by what the text says.
        domain: of the rationale.
        rationale: as it was given.
        result: what was answered; needs `label`, `p_flawed` and `threshold`.
        experiment: name of the experiment in which it was answered, and the `arm` that answered.
        arm: of that experiment.
        shadow: what the other critic would have answered, if it was asked without being heard.
        critic: a name of all that answered: weights, calibration, prompt, threshold; None if it is
            not known.
        at: seconds since the epoch; None for now.
    """

    request_id: str
    domain: str
    rationale: str
    result: Mapping[str, Any]
    experiment: str | None = None
    arm: str | None = None
    shadow: Mapping[str, Any] | None = None
    critic: str | None = None
    at: float | None = None

    def check(self) -> None:
        """ValueError for the first thing that is wrong."""
        check_name("request_id", self.request_id)
        _check_choice("domain", self.domain, DOMAINS)
        check_text("rationale", self.rationale, layout=True)
        check_marks(self.rationale)
        for name in ("experiment", "arm", "critic"):
            if (given := getattr(self, name)) is not None:
                check_name(name, given)
        if (self.experiment is None) != (self.arm is None):
            raise RefusedError("experiment and arm together", "one of them", "give both or none")
        _check_result("result", self.result)
        if self.shadow is not None:
            _check_result("shadow", self.shadow)

    @property
    def certainty(self) -> float:
        """Distance of p_flawed from the threshold in log-odds."""
        return abs(_log_odds(self.result["p_flawed"]) - _log_odds(self.result["threshold"]))


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What an operator says of a verdict.

    Attributes:
        request_id: the verdict.
        decision: `agree`: it is right; `disagree`: the other label is; `correct`: it is mended by
            what follows.
        operator: who says so.
        label: the right one; may be left out, see `decision`.
        flaw_type: the right one, from the taxonomy.
        evidence: where the flaw stands in the rationale, {"start", "end"} in characters.
        critique: a better text for the critique.
        note: anything else.
        idempotency_key: given again with the same words, it is the same decision.
        at: seconds since the epoch; None for now.
    """

    request_id: str
    decision: str
    operator: str
    label: str | None = None
    flaw_type: str | None = None
    evidence: Mapping[str, Any] | None = None
    critique: str | None = None
    note: str | None = None
    idempotency_key: str | None = None
    at: float | None = None

    def said(self, rationale: str, result: Mapping[str, Any]) -> str:
        """The label that the operator says is right; ValueError if the words do not fit together.

        Args:
            rationale: of the request.
            result: what was answered.
        """
        self._check_words()
        label = self._label(str(result["label"]))
        if label == "valid" and (self.flaw_type or self.evidence):
            raise RefusedError("no flaw_type and no evidence where the label is valid",
                               "some", "leave them out or mend the label")  # fmt: skip
        if self.evidence is not None:
            _check_span(self.evidence, len(rationale))
        return label

    def words(self) -> dict[str, Any]:
        """What makes two decisions under one key the same."""
        names = ("request_id", "decision", "operator", "flaw_type", "critique", "note")
        span = None if self.evidence is None else to_json(dict(self.evidence))
        return {name: getattr(self, name) for name in names} | {"evidence": span}

    def _check_words(self) -> None:
        check_name("request_id", self.request_id)
        check_name("operator", self.operator)
        _check_choice("decision", self.decision, DECISIONS)
        if self.label is not None:
            _check_choice("label", self.label, LABELS)
        if self.flaw_type is not None:
            _check_choice("flaw_type", self.flaw_type, tuple(FLAW_TYPES))
        for name in ("critique", "note"):
            if (text := getattr(self, name)) is not None:
                check_text(name, text, layout=True)
        if self.idempotency_key is not None:
            check_name("idempotency_key", self.idempotency_key)

    def _label(self, answered: str) -> str:
        other = LABELS[1 - LABELS.index(answered)]
        if self.decision == "correct":
            mended = (self.label, self.flaw_type, self.evidence, self.critique)
            if all(part is None for part in mended):
                raise RefusedError("label, flaw_type, evidence or critique with `correct`", "none",
                                   "say what is to be corrected")  # fmt: skip
            return self.label or answered
        implied = answered if self.decision == "agree" else other
        if self.label not in (None, implied):
            raise RefusedError(f"label {implied} with `{self.decision}`, as the verdict was "
                               f"{answered}", str(self.label),
                               "leave it out, or use `correct`")  # fmt: skip
        return implied


def unit_of(domain: str, rationale: str) -> str:
    r"""What counts as one rationale: its hash without kinds and numbers of blanks.

    Labels, counts and intervals count it once. Case and all else stay: 5 Gb are not 5 GB, nor is
    10\u00b2 102.
    """
    return _hash_of(domain, unicodedata.normalize("NFC", rationale))


def group_of(domain: str, rationale: str) -> str:
    """What may lie in one split, and is drawn into one arm: rationales that are alike.

    Their hash without case and forms of letters.
    """
    return _hash_of(domain, unicodedata.normalize("NFKC", rationale).casefold())


def _hash_of(domain: str, text: str) -> str:
    words = " ".join(text.split())
    return hashlib.blake2b(f"{domain}\0{words}".encode(), digest_size=16).hexdigest()


def chance_of(request_id: str) -> float:
    """A number in [0, 1) drawn by the id of a rationale's first request, which nobody chooses.

    Below AUDIT_SHARE the rationale, with all requests of it, is for the audit.
    """
    digest = hashlib.blake2b(f"audit/{request_id}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53


def check_name(name: str, value: object) -> None:
    """A short text in one line."""
    check_text(name, value)
    if len(str(value)) > _LONGEST_NAME:
        raise RefusedError(f"{name} of at most {_LONGEST_NAME} characters", f"{len(str(value))}",
                           "shorten it")  # fmt: skip


def check_text(name: str, value: object, *, layout: bool = False) -> None:
    r"""Text with something in it that JSON Lines can hold; with `layout`, \r\n, \n and \t too."""
    if not isinstance(value, str) or not value.strip():
        raise RefusedError(f"{name} with something in it", repr(value), "fill it in")
    try:
        check_string(value.replace("\r\n", "\n"))
    except RefusedError as error:
        raise RefusedError(f"{name}: {error.expected}", error.got, error.remedy) from error
    if not layout and not value.isprintable():
        raise RefusedError(f"{name} in one line", repr(value), "remove breaks and tabs")


def check_number(name: str, value: object) -> float:
    """A finite number."""
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # a whole number that no float can hold
        number = math.inf
    if isinstance(value, bool) or not math.isfinite(number):
        raise RefusedError(f"{name} as a finite number", repr(value)[:80], "give one")
    return number


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RefusedError(f"{name} of {', '.join(choices)}", repr(value), "give one of them")


def _check_result(name: str, result: Mapping[str, Any]) -> None:
    _check_choice(f"{name}.label", result.get("label"), LABELS)
    for key in ("p_flawed", "threshold"):
        value = check_number(f"{name}.{key}", result.get(key))
        if not 0 <= value <= 1:
            raise RefusedError(f"{name}.{key} from 0 to 1", str(value), "give a probability")
    to_json(dict(result))


def _check_span(span: Mapping[str, Any], length: int) -> None:
    start, end = span.get("start"), span.get("end")
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (start, end))
    if not whole or set(span) != {"start", "end"} or not 0 <= start < end <= length:  # type: ignore[operator]
        raise RefusedError(f"evidence with 0 <= start < end <= {length}, in characters",
                           repr(dict(span)), "mark a span of the rationale")  # fmt: skip


def _log_odds(p: float) -> float:
    inside = min(max(p, 1e-12), 1 - 1e-12)
    return math.log(inside) - math.log1p(-inside)
