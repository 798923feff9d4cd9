"""A real HTTP server that speaks three chat protocols and batches, and misbehaves as it is told.

What it answers depends on the request alone: it writes, tampers and verifies like a model would,
so whole runs can be made against it. `plan(body, attempt)` names the fault of an attempt, or None.
"""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.data_gen.scripted_batches import Batches

#: The name of one, or the body of an answer with status 200.
Fault = str | bytes | None
SOUND = "We timed {n} runs on each line and line A was faster in all. So A is faster here."


class ScriptedServer:
    """`with ScriptedServer() as server: ... server.url, server.counted`."""

    def __init__(self, plan: Callable[[dict[str, Any], int], Fault] = lambda body, n: None) -> None:
        self.plan = plan
        self.counted: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.batches = Batches(self)
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"script": self})
        self._server = _QuietServer(("127.0.0.1", 0), handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "ScriptedServer":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fault(self, body: dict[str, Any], counted_as: str = "requests") -> Fault:
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        with self._lock:
            self._seen[key] += 1
            self.counted[counted_as] += 1
            return self.plan(body, self._seen[key])

    def message(self, body: dict[str, Any], fault: Fault) -> tuple[str, dict[str, int]]:
        """Text and usage of an answer, which is counted."""
        system, prompt = _said(body)
        text = json.dumps(answer_for(prompt, system))
        text = text[: len(text) // 2] if fault in ("cut", "unparsed") else text
        used = {"input": len(prompt) // 4, "output": len(text) // 4}
        self.count(answers=1, **used)
        return text, used

    def count(self, **values: int) -> None:
        with self._lock:
            self.counted.update(values)


def answer_for(prompt: str, system: str) -> dict[str, str]:
    """What a good model would say."""
    if "Setting:" in prompt:
        n = int(hashlib.sha256(prompt.encode()).hexdigest()[:6], 16)
        return {
            "rationale": SOUND.format(n=n),
            "strengths": "A fair test.",
            "critique": "It holds.",
        }
    if "Change it so" in prompt:
        sound = prompt.split("<rationale>\n")[1].split("\n</rationale>", maxsplit=1)[0]
        flawed = sound.replace("faster here", "faster anywhere")
        return {
            "rationale": flawed,
            "evidence": "So A is faster anywhere.",
            "severity": "high",
            "critique": "Tested on one site only.",
            "fix": "Claim it for this site.",
        }
    if "<draft" in prompt:
        return {
            "verdict": "flawed",
            "flaw": "small_sample",
            "severity": "high",
            "evidence": "It rose.",
            "strengths": "none",
            "critique": "A few days cannot carry a rule about all days.",
            "fix": "Look at many more of them.",
        }
    if "<review" in prompt:
        first, second = (len(part.split("\n")[1]) for part in prompt.split("<review n")[1:])
        if "PLACE" in prompt:  # a judge that only looks at the place
            return {"better": "first", "reason": "It comes first."}
        longer = "first" if first > second else "second" if second > first else "equal"
        return {"better": longer, "reason": "It says more."}
    flawed = "anywhere" in prompt
    return {
        "verdict": "flawed" if flawed else "valid",
        "flaw_type": "extrapolation" if flawed else "none",
        "reason": "As it reads.",
    }


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Clients that are killed hang up; that is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    script: ScriptedServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the body of each answer waits 40 ms behind its head

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.script.headers.append(dict(self.headers))
        if self.path.startswith("/v1/v1/"):
            self._send(404, {"error": {"message": "no such page"}})
        elif self.path.endswith("/count_tokens"):
            self.script.count(counts=1)
            self._send(200, {"input_tokens": len(str(body)) // 4})
        elif self.path.endswith("/batches"):
            fault = self.script.fault({"create": len(body["requests"])}, "creations")
            if fault is None or fault.endswith(" created"):
                made = self.script.batches.create(body["requests"])
            if fault is None:
                self._send(200, made)
            else:
                self._misbehave(fault.removesuffix(" created"))
        else:
            fault = self.script.fault(body)
            if fault is None or fault in ("cut", "refused", "unparsed"):
                self._answer(body, fault)
            else:
                self._misbehave(fault)

    def do_GET(self) -> None:
        self.script.headers.append(dict(self.headers))
        what = "results" if self.path.endswith("/results") else "look"
        if fault := self.script.fault({"get": what}, "gets"):
            if fault != "half":
                self._misbehave(fault)
                return
            lines = self.script.batches.get(self.path, self.script.url)
            self._raw(200, lines[: 2 * len(lines) // 3], "application/x-jsonl")
        else:
            kind = "application/x-jsonl" if what == "results" else "application/json"
            self._raw(200, self.script.batches.get(self.path, self.script.url), kind)

    def _misbehave(self, fault: str | bytes) -> None:
        if isinstance(fault, bytes):
            self._raw(200, fault, "application/json")
        elif fault.startswith(("400 ", "401 ", "413 ")):
            self._send(int(fault[:3]), {"error": {"message": fault, "code": fault.split()[1]}})
        elif fault.isdigit():
            self._send(int(fault), {"error": {"type": "error", "message": "scripted"}})
        elif fault.startswith("429 after "):
            self._send(429, {"error": {"message": "slow down"}}, fault.removeprefix("429 after "))
        elif fault == "html":
            self._raw(200, b"<html>maintenance</html>", "text/html")
        elif fault == "half json":
            self._raw(200, b'{"id": "msg_1", "content": [{"ty', "application/json")
        elif fault == "slow":
            time.sleep(3)
        else:
            assert fault == "closed"
            self.close_connection = True
            self.connection.close()

    def _answer(self, body: dict[str, Any], fault: Fault) -> None:
        text, used = self.script.message(body, fault)
        if "/v1/messages" in self.path:
            self._send(200, claude_message(text, used, fault))
        elif "/api/chat" in self.path:
            self._send(200, _ollama(body["model"], text, used, fault))
        else:
            self._send(200, _openai(text, used, fault))

    def _send(self, status: int, body: object, retry_after: str | None = None) -> None:
        self._raw(status, json.dumps(body).encode(), "application/json", retry_after)

    def _raw(self, status: int, body: bytes, kind: str, retry_after: str | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if retry_after:
            self.send_header("retry-after", retry_after)
        self.end_headers()
        self.wfile.write(body)


def _said(body: dict[str, Any]) -> tuple[str, str]:
    """System text and prompt of a request in any of the protocols."""
    messages = body["messages"]
    system = body.get("system") or messages[0]["content"]
    return str(system), str(messages[-1]["content"])


def claude_message(text: str, used: dict[str, int], fault: Fault) -> dict[str, Any]:
    stop = {"cut": "max_tokens", "refused": "refusal"}.get(fault or "", "end_turn")
    content = [] if fault == "refused" else [{"type": "text", "text": text}]
    usage = {"input_tokens": used["input"], "output_tokens": used["output"]}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }


def _ollama(model: str, text: str, used: dict[str, int], fault: Fault) -> dict[str, Any]:
    return {
        "model": model,
        "created_at": "2026-01-01T00:00:00Z",
        "done": True,
        "message": {"role": "assistant", "content": text},
        "done_reason": "length" if fault == "cut" else "stop",
        "prompt_eval_count": used["input"],
        "eval_count": used["output"],
    }


def _openai(text: str, used: dict[str, int], fault: Fault) -> dict[str, Any]:
    reason = {"cut": "length", "refused": "content_filter"}.get(fault or "", "stop")
    return {
        "id": "1",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text}}
        ],
        "usage": {"prompt_tokens": used["input"], "completion_tokens": used["output"]},
    }
