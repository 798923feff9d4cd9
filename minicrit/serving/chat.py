"""OpenAI's protocol: the last user message is the rationale, the answer is the critique.

The domain is `metadata: {"domain": "trading"}` or a first line `Domain: trading`; without either it
is general. Other messages are not read, decoding is greedy. With `stream`, the verdict is sent as
soon as it is known and the rest line by line once it is written. The whole answer with its
request id, for feedback, stands under `minicrit`.
"""

import json
import re
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from minicrit.critic import Item
from minicrit.prompts import LEAD_IN, VERDICT_WORDS
from minicrit.serving.app import id_of, note_items, reply, service_of, unless_gone
from minicrit.serving.bodies import Chat, Message
from minicrit.serving.desk import Result
from minicrit.serving.refusals import RefusalError, internal
from minicrit.serving.service import Service
from minicrit.taxonomy import DOMAINS

ALIAS = "minicrit"
_FIRST_LINE = re.compile(r"Domain: *(\S+) *(?:\n|$)")
chat_routes = APIRouter()


@chat_routes.get("/v1/models")
async def models(request: Request) -> Response:
    """The critic that is served, by its name and as `minicrit`."""
    critic = service_of(request).critic
    rows = [{"id": name, "object": "model", "created": 0, "owned_by": ALIAS,
             "identity": critic.identity} for name in (critic.name, ALIAS)]  # fmt: skip
    return reply({"object": "list", "data": rows})


@chat_routes.post("/v1/chat/completions")
async def chat(asked: Chat, request: Request) -> Response:
    """A critique in its strict form, as a chat completion."""
    service = service_of(request)
    if asked.model not in (service.critic.name, ALIAS):
        raise RefusalError("not_found", f"model: expected {service.critic.name!r}, got "
                           f"{asked.model!r}", "see /v1/models; no other is served")  # fmt: skip
    item = item_of(asked)
    note_items(request, [item])
    talk = _Talk(service, item, asked, id_of(request))
    if not asked.stream:
        return reply(talk.whole(await unless_gone(request, talk.critique())))
    head = await unless_gone(request, talk.head())
    return StreamingResponse(talk.stream(head), media_type="text/event-stream",
                             headers={"Cache-Control": "no-store"})  # fmt: skip


def item_of(asked: Chat) -> Item:
    """(domain, rationale) of a request.

    Raises:
        RefusalError: if there is no user message, the last one is no text, or the domain is none
            of ours.
    """
    said = [message for message in asked.messages if message.role == "user"]
    if not said:
        raise RefusalError("unprocessable", "messages: expected one of the user, got none",
                           "put the rationale there")  # fmt: skip
    domain, text = (asked.metadata or {}).get("domain"), _text(said[-1])
    if domain is None and (found := _FIRST_LINE.match(text)):
        domain, text = found[1], text[found.end() :]
    domain = domain or "general"
    if domain not in DOMAINS:
        raise RefusalError("unprocessable", f"domain: expected one of {', '.join(DOMAINS)}, got "
                           f"{domain!r}", "choose one or leave it out")  # fmt: skip
    return domain, text


def _text(message: Message) -> str:
    if not isinstance(message.content, list):
        return message.content or ""
    for part in message.content:
        if part.type != "text":
            raise RefusalError("unprocessable", "messages: expected text in the user's last one, "
                               f"got a part of type {part.type!r}",
                               "put the rationale there as text")  # fmt: skip
    return "\n".join(part.text or "" for part in message.content)


class _Talk:
    """One chat completion."""

    def __init__(self, service: Service, item: Item, asked: Chat, request_id: str) -> None:
        self._service, self._item, self._asked = service, item, asked
        most = service.limits.max_new_tokens
        limits = (asked.max_tokens, asked.max_completion_tokens)
        self._limit = min([most, *(limit for limit in limits if limit)])
        self._id = request_id
        self._frame = {"id": f"chatcmpl-{request_id}", "created": int(time.time()),
                       "model": asked.model}  # fmt: skip

    async def critique(self) -> Result:
        """The whole answer, recorded."""
        (result,) = await self._service.judge([self._item], write=True, limit=self._limit)
        return result

    async def head(self) -> str:
        """The first line, from the verdict alone."""
        return LEAD_IN + VERDICT_WORDS[await self._service.label(self._item)]

    def whole(self, result: Result) -> dict[str, Any]:
        """As one object."""
        message = {"role": "assistant", "content": result["text"], "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": self._ending(result),
                  "logprobs": None}  # fmt: skip
        return {**self._frame, "object": "chat.completion", "choices": [choice],
                "usage": _usage(result), "minicrit": result}  # fmt: skip

    async def stream(self, head: str) -> AsyncIterator[str]:
        """As events: the verdict, then the other lines, then why it ends."""
        yield self._event({"role": "assistant", "content": head})
        try:
            result = await self.critique()
            if not result["text"].startswith(head):
                raise internal()  # p stood exactly on the threshold
        except RefusalError as error:
            yield f"data: {json.dumps(error.to_row(self._id))}\n\n"
            return
        for line in result["text"][len(head) :].splitlines(keepends=True):
            yield self._event({"content": line})
        yield self._event({}, finish=self._ending(result), minicrit=result)
        if self._asked.stream_options and self._asked.stream_options.include_usage:
            yield self._line({"choices": [], "usage": _usage(result)})
        yield "data: [DONE]\n\n"

    def _ending(self, result: Result) -> str:
        return "length" if result["usage"]["completion_tokens"] >= self._limit else "stop"

    def _event(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return self._line({"choices": [choice], **more})

    def _line(self, fields: dict[str, Any]) -> str:
        row = {**self._frame, "object": "chat.completion.chunk", **fields}
        return f"data: {json.dumps(row, allow_nan=False)}\n\n"


def _usage(result: Result) -> dict[str, int]:
    usage = result["usage"]
    return {**usage, "total_tokens": sum(usage.values())}
