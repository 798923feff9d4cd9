"""What a caller is told when there is no answer: code, message, remedy, and the request's id."""

from typing import Any

from minicrit.jsonl import shown

#: HTTP status of each code.
STATUS = {
    "bad_request": 400,
    "unauthorized": 401,
    "not_found": 404,
    "method_not_allowed": 405,
    "timeout": 408,
    "conflict": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "misdirected": 421,
    "unprocessable": 422,
    "busy": 429,
    "gone": 499,
    "internal": 500,
    "unavailable": 503,
}
_HEADERS = {
    "unauthorized": {"WWW-Authenticate": "Bearer"},
    "timeout": {"Connection": "close"},  # the rest of the body may still come
    "too_large": {"Connection": "close"},
}
CODES = {status: code for code, status in STATUS.items()}


class RefusalError(Exception):
    """A request that gets no answer, and why.

    Attributes:
        code: a key of `STATUS`.
        message: what was expected and what came; remedy: what the caller can do.
        retry_after: seconds after which it may try again; None if that is no use.
    """

    def __init__(
        self, code: str, message: str, remedy: str, *, retry_after: int | None = None
    ) -> None:
        """Keeps what is said printable."""
        super().__init__(message)
        self.code, self.status = code, STATUS[code]
        self.message, self.remedy = shown(message, 500), shown(remedy, 300)
        self.retry_after = retry_after

    def to_row(self, request_id: str | None) -> dict[str, Any]:
        """The body of the answer."""
        error = {"code": self.code, "message": self.message, "remedy": self.remedy}
        return {"error": {**error, "request_id": request_id}}

    @property
    def headers(self) -> dict[str, str]:
        """Those that go with the answer."""
        found = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return found | _HEADERS.get(self.code, {})


def internal() -> RefusalError:
    """For a fault of ours: the log has the traceback, the caller does not."""
    return RefusalError("internal", "the service failed on this request",
                        "try again; then tell the operator its request id")  # fmt: skip


def stopping() -> RefusalError:
    """For what a service that stops does not answer any more; the next one will."""
    return RefusalError("unavailable", "the service is stopping", "try another one", retry_after=5)
