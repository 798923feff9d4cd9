"""A real HTTP server with completions in the form of vLLM, of a model that can be looked up.

Its tokens are bytes, but `<|im_start|>` is a control token wherever it stands. What it says of the
next token depends on the tokens before it alone. `plan(path, attempt)` names the fault of an
attempt, or None.
"""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

BOS, SHIFT, CONTROL, SIZE = 1, 3, 299, 300
MARK = "<|im_start|>"
Plan = Callable[[str, int], str | None]


def encoded(text: str) -> list[int]:
    parts = [[byte + SHIFT for byte in part.encode()] for part in text.split(MARK)]
    found = parts[0]
    for part in parts[1:]:
        found = [*found, CONTROL, *part]
    return found


class ScriptedCompletions:
    """`with ScriptedCompletions() as server: ... server.url, server.counted`.

    Args:
        plan: of faults. echo: whether prompts can be scored. top: most tokens that are listed.
        favoured: tokens that are e^25 times likelier than others.
        more: `models` (their names), `by_id` (whether tokens can be named by id), `tokenizes`
            (whether it tells its tokens), `room` (longest text), `modules` (names of LoRA modules
            on the first model, of which vLLM does not say how long a text may be).
    """

    def __init__(
        self, plan: Plan = lambda path, attempt: None, *, echo: bool = True, top: int = 20,
        favoured: str = "", **more: Any,
    ) -> None:  # fmt: skip
        self.plan, self.echo, self.top, self.favoured = plan, echo, top, set(encoded(favoured))
        self.models: Sequence[str] = more.get("models", ("org/scripted",))
        self.by_id, self.tokenizes = more.get("by_id", True), more.get("tokenizes", True)
        self.room = more.get("room", 4096)
        self.modules: Sequence[str] = more.get("modules", ())
        self.counted: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        handler = type("Handler", (_Handler,), {"script": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "ScriptedCompletions":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def logprobs(self, ids: Sequence[int]) -> np.ndarray:
        """(SIZE,) of the next token."""
        seed = int.from_bytes(hashlib.sha256(repr(list(ids)).encode()).digest()[:8])
        logits = np.random.default_rng(seed).normal(size=SIZE)
        logits[list(self.favoured)] += 25
        return logits - np.log(np.exp(logits).sum())

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        ids, k = list(body["prompt"]), min(int(body.get("logprobs", 0)), self.top)
        here = self.logprobs(ids)
        order = np.argsort(-here)
        said: dict[str, Any] = {
            "tokens": [self._name(order[0])],
            "token_logprobs": [float(here[order[0]])],
            "top_logprobs": [{self._name(i): float(here[i]) for i in order[:k]}],
        }
        if body.get("echo") and self.echo:
            last = float(self.logprobs(ids[:-1])[ids[-1]])  # nobody asks for the others
            before = [None, *[-1.0] * (len(ids) - 2), last]
            said["tokens"] = [*map(self._name, ids), *said["tokens"]]
            said["token_logprobs"] = [*before, *said["token_logprobs"]]
        text = " so" * int(body["max_tokens"])
        return {"choices": [{"index": 0, "text": text, "logprobs": said if k else None}],
                "usage": {"completion_tokens": body["max_tokens"]}}  # fmt: skip

    def _name(self, token: int) -> str:
        return f"token_id:{token}" if self.by_id else chr(token)


class _Handler(BaseHTTPRequestHandler):
    script: ScriptedCompletions
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the body of each answer waits 40 ms behind its head
    disable_nagle_algorithm = True  # else each answer waits 40 ms

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        names = [{"id": name, "max_model_len": self.script.room, "created": 1}
                 for name in self.script.models]  # fmt: skip
        names += [{"id": name, "parent": self.script.models[0], "max_model_len": None}
                  for name in self.script.modules]  # fmt: skip
        self._answer(lambda: {"data": names} if self.path == "/v1/models" else None)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.script.headers.append({k.lower(): v for k, v in self.headers.items()})
        self._answer(lambda: self._said(body))

    def _said(self, body: dict[str, Any]) -> dict[str, Any] | None:
        if self.path == "/tokenize" and self.script.tokenizes:
            opening = [BOS] if body["add_special_tokens"] else []
            return {"tokens": [*opening, *encoded(body["prompt"])]}
        return self.script.complete(body) if self.path == "/v1/completions" else None

    def _answer(self, said: Callable[[], dict[str, Any] | None]) -> None:
        self.script.counted[self.path] += 1
        fault = self.script.plan(self.path, self.script.counted[self.path])
        if fault == "closed":
            self.close_connection = True
            self.connection.close()
        elif fault and fault.startswith("429 after "):
            self._send(429, b"{}", {"retry-after": fault.removeprefix("429 after ")})
        elif fault and fault[:3].isdigit():
            self._send(int(fault[:3]), json.dumps({"error": {"message": fault[4:]}}).encode())
        elif fault:
            self._send(200, fault.encode())
        elif (body := said()) is None:
            self._send(404, b'{"error": {"message": "no such thing"}}')
        else:
            self._send(200, json.dumps(body).encode())

    def _send(self, status: int, raw: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(raw)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)
