"""Rows of the feedback database: from what is given to columns and back."""

import json
import sqlite3
import time
from collections.abc import Mapping
from typing import Any

from minicrit.feedback.entries import (
    AUDIT_SHARE,
    Request,
    chance_of,
    check_number,
    group_of,
    unit_of,
)
from minicrit.files import to_json

_INNER = ("seq", "chance", "answered", "shadowed")  # columns that repeat what others hold


class ConflictError(ValueError):
    """Another row stands under the same id or key."""


def columns_of(request: Request) -> dict[str, Any]:
    """The columns of a request."""
    shadow = request.shadow
    return {
        "request_id": request.request_id, "at": time_of(request.at), "domain": request.domain,
        "rationale": request.rationale, "result": to_json(dict(request.result)),
        "experiment": request.experiment, "arm": request.arm,
        "shadow": None if shadow is None else to_json(dict(shadow)),
        "unit": unit_of(request.domain, request.rationale), "answered": request.result["label"],
        "shadowed": None if shadow is None else shadow["label"],
        "certainty": request.certainty, "chance": chance_of(request.request_id),
        "critic": request.critic,
    }  # fmt: skip


def time_of(at: float | None) -> float:
    """Seconds since the epoch; now if none are given."""
    return time.time() if at is None else check_number("at", at)


def request_of(row: sqlite3.Row) -> dict[str, Any]:
    """A row of requests as it was given, and whether it is for the audit."""
    found = {name: row[name] for name in row.keys() if name not in _INNER}  # noqa: SIM118
    for name in ("result", "shadow"):
        found[name] = None if found[name] is None else json.loads(found[name])
    return {**found, "audit": row["chance"] < AUDIT_SHARE}


def decision_of(row: sqlite3.Row) -> dict[str, Any]:
    """A row of decisions as it was given."""
    span = row["evidence"]
    return {**dict(row), "evidence": None if span is None else json.loads(span)}


def in_group(row: dict[str, Any]) -> dict[str, Any]:
    """With the `group` of what was asked in the place of its domain and rationale."""
    group = group_of(row.pop("domain"), row.pop("rationale"))
    return {**row, "group": group}


def same_decision(found: sqlite3.Row, row: Mapping[str, Any]) -> int:
    """The number of a decision given again; refused if its words differ."""
    if differing := [name for name, value in row.items() if found[name] != value]:
        raise ConflictError(f"idempotency_key: expected the same decision as the first time, got "
                            f"another {differing[0]}; use a new key")  # fmt: skip
    return int(found["id"])
