"""The message batches of the scripted server: they end after some looks; each entry may fail.

`plan({"entry": custom_id, ...params}, attempt)` names the fault of an entry: expired, canceled,
omitted, bare, "errored KIND", or one of those of a message.
"""

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlparse

if TYPE_CHECKING:
    from tests.data_gen.scripted_server import ScriptedServer

_PAGE = 2  # so that lists have pages


class Batches:
    """All batches of a server, oldest first."""

    def __init__(self, script: "ScriptedServer") -> None:
        self.script = script
        self.looks = 1  # before a batch ends
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.looked: dict[str, int] = {}
        self.at: dict[str, float] = {}
        self.archived: set[str] = set()

    def create(self, requests: list[dict[str, Any]]) -> dict[str, Any]:
        ids = [request["custom_id"] for request in requests]
        assert len(set(ids)) == len(ids)
        assert all(0 < len(id_) <= 64 for id_ in ids)
        name = f"msgbatch_{len(self.rows):04}"
        rows = [self._row(request) for request in requests]
        self.rows[name] = [row for row in rows[::-1] if row]  # in any order
        self.looked[name], self.at[name] = 0, time.time()
        self.script.count(batches=1, entries=len(requests))
        return self._batch(name, "")

    def _row(self, request: dict[str, Any]) -> dict[str, Any] | None:
        from tests.data_gen.scripted_server import claude_message

        body = {"entry": request["custom_id"], **request["params"]}
        fault = self.script.fault(body, "entries seen") or ""
        result: dict[str, Any] = {"type": fault}
        if fault == "omitted":
            return None
        if fault.startswith("errored "):
            error = {"type": fault.split()[1], "message": "scripted"}
            result = {"type": "errored", "error": {"type": "error", "error": error}}
        elif fault == "bare":  # as a proxy may cut it
            result = {"type": "succeeded", "message": {"type": "message"}}
        elif fault not in ("expired", "canceled"):
            text, used = self.script.message(body, fault or None)
            result = {"type": "succeeded", "message": claude_message(text, used, fault or None)}
        return {"custom_id": request["custom_id"], "result": result}

    def get(self, path: str, url: str) -> bytes:
        parts = urlparse(path)
        name = parts.path.removesuffix("/results").rsplit("/", maxsplit=1)[-1]
        if parts.path.endswith("/results"):
            return b"".join(json.dumps(row).encode() + b"\n" for row in self.rows[name])
        if name in self.rows:
            self.looked[name] += 1
            return json.dumps(self._batch(name, url)).encode()
        after = parse_qs(parts.query).get("after_id", [""])[0]
        names = [n for n in reversed(self.rows) if not after or n < after]
        page = [self._batch(n, url) for n in names[:_PAGE]]
        ends = {"first_id": names[0], "last_id": page[-1]["id"]} if names else {}
        return json.dumps({"data": page, "has_more": len(names) > _PAGE, **ends}).encode()

    def _batch(self, name: str, url: str) -> dict[str, Any]:
        ended = self.looked[name] > self.looks
        size = len(self.rows[name])
        counts = dict.fromkeys(("canceled", "errored", "expired", "succeeded", "processing"), 0)
        day = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.at[name]))
        return {
            "id": name,
            "type": "message_batch",
            "created_at": day,
            "expires_at": day,
            "archived_at": day if name in self.archived else None,
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": counts | {"succeeded" if ended else "processing": size},
            "results_url": f"{url}/v1/messages/batches/{name}/results" if ended else None,
        }
