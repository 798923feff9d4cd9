"""The answers of the service, for its OpenAPI."""

from typing import Any, Literal

from pydantic import BaseModel


class Evidence(BaseModel):
    """The span that carries the flaw; start and end are null if it is not there word for word."""

    text: str
    start: int | None
    end: int | None


class Result(BaseModel):
    """The answer to one rationale."""

    request_id: str
    valid: bool
    label: Literal["valid", "flawed"]
    p_flawed: float
    confidence: float
    threshold: float
    calibrated: bool
    unsure: bool
    certificate: dict[str, Any] | None
    flaw_type: str | None
    flags: list[str]
    severity: str | None
    evidence: Evidence | None
    critique: str | None
    fix: str | None
    text: str | None
    usage: dict[str, int] | None
    domain: str
    model: str
    adapter: str | None
    prompt_version: str
    latency_ms: float
    cached: bool
    experiment: str | None
    arm: str | None


class Results(BaseModel):
    """Of all rationales of a request, in order."""

    results: list[Result]


class FeedbackId(BaseModel):
    """The number of a decision that is on disk."""

    feedback_id: int


class OutcomeId(BaseModel):
    """The number of an outcome that is on disk."""

    outcome_id: int


class Fault(BaseModel):
    """Why there is no answer."""

    code: str
    message: str
    remedy: str
    request_id: str | None


class Refused(BaseModel):
    """An answer with a status of 4xx or 5xx."""

    error: Fault
