"""What was asked and answered, for tests of the store."""

from typing import Any

from minicrit.feedback.store import FeedbackStore

FLAWED = {"label": "flawed", "p_flawed": 0.9, "threshold": 0.5, "flaw_type": "anchoring"}
VALID = {"label": "valid", "p_flawed": 0.2, "threshold": 0.5}
TEXT = "The last 3 trades worked, so this always works."


def ask(
    store: FeedbackStore, request_id: str = "r1", result: dict[str, Any] = FLAWED,
    text: str = TEXT, **more: Any,
) -> str:  # fmt: skip
    """Adds a request; its id."""
    store.add_request(request_id, "trading", text, result, **more)
    return request_id
