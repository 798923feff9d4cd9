"""The HTTP application: what can be asked under which path."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive

from minicrit.jsonl import shown
from minicrit.serving.bodies import Asked, Feedback, Item, Likeness, Outcome
from minicrit.serving.refusals import CODES, RefusalError, internal
from minicrit.serving.replies import FeedbackId, OutcomeId, Refused, Results
from minicrit.serving.service import Service
from minicrit.taxonomy import DOMAINS, FLAW_TYPES, SEVERITIES

log = logging.getLogger(__name__)
T = TypeVar("T")

CONSOLE = Path(__file__).parent / "console"
_REFUSED: dict[int | str, dict[str, Any]] = {
    status: {"model": Refused} for status in (400, 401, 408, 413, 415, 421, 422, 429, 503)
}
_MISSING: dict[int | str, dict[str, Any]] = {404: {"model": Refused}, 409: {"model": Refused}}
#: The console's pages: nothing from elsewhere, nothing inline, in no other page's frame.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_PAGE_HEADERS = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
_KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
          ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}  # fmt: skip
routes = APIRouter()


def build_app(service: Service, *, drain_s: float = 30.0, log_texts: bool = False) -> FastAPI:
    """The application around a service, which it opens and closes."""
    from minicrit.serving.chat import chat_routes

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.open()
        yield
        if not await service.close(drain_s):
            log.warning("some requests were not answered within %g s", drain_s)

    app = FastAPI(
        title="MiniCrit", version="1", lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Says whether the reasoning of a rationale is valid or flawed.",
    )  # fmt: skip
    app.state.service, app.state.log_texts = service, log_texts
    app.include_router(routes, responses=_REFUSED)
    app.include_router(chat_routes, responses=_REFUSED)
    app.add_exception_handler(RefusalError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _no_such)
    app.add_exception_handler(Exception, _failed)
    return app


def posted(app: FastAPI) -> frozenset[str]:
    """The paths under which something can be posted."""
    paths = app.openapi()["paths"]
    return frozenset(path for path, ways in paths.items() if "post" in ways)


def service_of(request: Request) -> Service:
    """The service that a request is for."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


def id_of(request: Request) -> str:
    """The id of the request, as in its header."""
    return str(request.scope["minicrit"].request_id)


def reply(content: object, status: int = 200) -> Response:
    """JSON that holds no NaN."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    return Response(text.encode(), status, media_type="application/json")


@routes.post("/v1/verdict", responses={200: {"model": Results}})
async def verdict(asked: Annotated[Asked, Body()], request: Request) -> Response:
    """Whether the reasoning is valid or flawed, and how sure that is."""
    return await _judged(asked, request, write=False)


@routes.post("/v1/critique", responses={200: {"model": Results}})
async def critique(asked: Annotated[Asked, Body()], request: Request) -> Response:
    """The same with a written critique: which flaw, where, why, and what would mend it."""
    return await _judged(asked, request, write=True)


async def _judged(asked: Asked, request: Request, *, write: bool) -> Response:
    found = [asked] if isinstance(asked, Item) else asked.items
    items: list[tuple[str, str]] = [(item.domain, item.rationale) for item in found]
    service = service_of(request)
    note_items(request, items)
    results = await unless_gone(request, service.judge(items, write=write))
    return reply({"results": results})  # each has its own id; the request's is in the header


def note_items(request: Request, items: Sequence[tuple[str, str]]) -> None:
    """For the log: how many, and their texts if the operator wants them there."""
    facts = request.scope["minicrit"].facts
    facts["items"] = len(items)
    if request.app.state.log_texts:
        facts["texts"] = [shown(text, 2000) for _, text in items]


@routes.post("/v1/feedback", status_code=201,
             responses={201: {"model": FeedbackId}, **_MISSING})  # fmt: skip
async def feedback(given: Feedback, request: Request) -> Response:
    """An operator's decision about an answer; acknowledged once it is on disk."""
    number = await service_of(request).feedback(given.model_dump())
    return reply({"feedback_id": number}, 201)


@routes.post("/v1/outcome", status_code=201, responses={201: {"model": OutcomeId}, **_MISSING})
async def outcome(given: Outcome, request: Request) -> Response:
    """What became of the action; acknowledged once it is on disk."""
    return reply({"outcome_id": await service_of(request).outcome(given.model_dump())}, 201)


@routes.post("/v1/precedents")
async def precedents(given: Likeness, request: Request) -> Response:
    """Rationales of the past that are most like this one."""
    service = service_of(request)
    found = await unless_gone(request, service.like(given.domain, given.rationale, given.k))
    return reply({"precedents": found, "reason": service.why_no_precedents})


@routes.get("/v1/queue")
async def queue(request: Request, limit: Annotated[int, Query(ge=1, le=200)] = 20) -> Response:
    """Answers that nobody has decided on, the least certain first."""
    return reply({"items": await service_of(request).queue(limit)})


@routes.get("/v1/state")
async def state(request: Request) -> Response:
    """How much was asked and decided, how far operators agree, and the experiments."""
    return reply(await service_of(request).state())


@routes.get("/v1/taxonomy")
async def taxonomy() -> Response:
    """The words that answers use."""
    types = [{"name": t.name, "description": t.definition, "example": t.example,
              "severity": t.severity, "flag": t.flag} for t in FLAW_TYPES.values()]  # fmt: skip
    return reply({"domains": DOMAINS, "flaw_types": types, "severities": SEVERITIES})


@routes.get("/healthz")
async def healthz() -> Response:
    """Whether the process runs."""
    return reply({"status": "ok"})


@routes.get("/readyz")
async def readyz(request: Request) -> Response:
    """Whether it can answer and keep what it answers."""
    ready = service_of(request).ready
    return reply({"status": "ready" if ready else "not ready"}, 200 if ready else 503)


@routes.get("/metrics")
async def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    page = service_of(request).instruments.page()
    return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")


@routes.get("/", include_in_schema=False)
async def console() -> Response:
    """The operator's page."""
    return _page("index.html")


@routes.get("/console/{name}", include_in_schema=False)
async def console_file(name: str) -> Response:
    """A file of it."""
    return _page(name)


def _page(name: str) -> Response:
    """A file of the console by its plain name; names of the folder are the only ones there are."""
    known = (
        {path.name: path for path in CONSOLE.iterdir() if path.is_file()}
        if CONSOLE.is_dir()
        else {}
    )
    path = known.get(name)
    if path is None or path.suffix not in _KINDS:
        raise RefusalError(
            "not_found", f"expected a page of the console, got {name!r}", "ask for /"
        )
    return Response(path.read_bytes(), media_type=_KINDS[path.suffix],
                    headers=_PAGE_HEADERS)  # fmt: skip


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What the work gives, unless the caller goes away first; then the work is dropped."""
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_leaving(request.receive))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        for other in (task, leaving):
            other.cancel()
            with suppress(asyncio.CancelledError, RefusalError):
                await other
    service_of(request).instruments.vanished.inc()
    raise RefusalError("gone", "the caller went away", "stay for the answer")


async def _leaving(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)
    return JSONResponse(error.to_row(id_of(request)), error.status, error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    """Names the first field that is not as it should be."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("one", "many"))
    said = f"{where}: {first['msg']}"
    return await _refused(request, RefusalError("unprocessable", said, "see /openapi.json"))


async def _no_such(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, "bad_request")
    asked = f"{request.method} {request.url.path}"
    refusal = RefusalError(code, f"{asked}: {error.detail}", "see /openapi.json")
    return JSONResponse(refusal.to_row(id_of(request)), error.status_code, error.headers)


async def _failed(request: Request, _: Exception) -> Response:
    return await _refused(request, internal())
