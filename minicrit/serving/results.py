"""The answer to one rationale as it goes over the wire, is stored, and is kept for the next time.

Field names are upstream's (valid, severity, critique, confidence, flags, domain, latency_ms,
request_id) and those of `minicrit.verdict`.
"""

import secrets
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from minicrit.taxonomy import FLAW_TYPES

if TYPE_CHECKING:
    from minicrit.critic import Critic
    from minicrit.serving.worker import Answer
    from minicrit.verdict import Verdict

#: What belongs to one request, not to the answer.
_OF_REQUEST = ("request_id", "latency_ms", "cached", "experiment", "arm")


def new_id() -> str:
    """A random request id, 32 hex digits."""
    return uuid.UUID(bytes=secrets.token_bytes(16), version=4).hex


def result_of(critic: "Critic", domain: str, rationale: str, answer: "Answer") -> dict[str, Any]:
    """All fields that rest on the critic and the text alone."""
    certificate = critic.certificate((domain, rationale))
    if answer.written is not None:
        row = _row(answer.written.verdict, answer.written.text, certificate)
        prompt = len(critic.encoder.prompt(domain, rationale))
        usage = {"prompt_tokens": prompt, "completion_tokens": answer.written.tokens}
        return {**row, "usage": usage}
    (verdict,) = critic.verdicts([(domain, rationale)], [answer.p_flawed])
    row = _row(verdict, None, certificate)
    if answer.flaw_type and verdict.label == "flawed":
        kind = FLAW_TYPES[answer.flaw_type]
        row |= {"flaw_type": kind.name, "flags": [kind.flag, *row["flags"]],
                "severity": kind.severity}  # fmt: skip
    return row


def _row(
    verdict: "Verdict", text: str | None, certificate: dict[str, Any] | None
) -> dict[str, Any]:
    flawed = verdict.label == "flawed"
    evidence = None
    if verdict.evidence:
        start, end = verdict.evidence_offsets or (None, None)
        evidence = {"text": verdict.evidence, "start": start, "end": end}
    return {
        "valid": not flawed,
        "label": verdict.label,
        "p_flawed": verdict.p_flawed,
        "confidence": verdict.p_flawed if flawed else 1 - verdict.p_flawed,
        "threshold": verdict.threshold,
        "calibrated": verdict.calibrated,
        "unsure": verdict.unsure,
        "certificate": certificate,
        "flaw_type": verdict.flaw_type,
        "flags": list(verdict.flags),
        "severity": verdict.severity,
        "evidence": evidence,
        "critique": verdict.critique,
        "fix": verdict.fix,
        "text": text,
        "usage": None,
        "domain": verdict.domain,
        "model": verdict.model,
        "adapter": verdict.adapter,
        "prompt_version": verdict.prompt_version,
    }


def given(row: Mapping[str, Any], *, latency_ms: float, cached: bool) -> dict[str, Any]:
    """The answer to one request: a random id, the time it took, whether it was kept from before."""
    return {"request_id": new_id(), **row, "latency_ms": round(latency_ms, 3), "cached": cached,
            "experiment": None, "arm": None}  # fmt: skip


def kept(row: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an answer that holds for the next request too."""
    return {name: value for name, value in row.items() if name not in _OF_REQUEST}
