"""`minicrit mcp`: the critic as tools of the Model Context Protocol (standard input and output).

minicrit mcp --model checkpoints/released/embedded-10
minicrit mcp --url http://127.0.0.1:8765     # a running service's, which records the answers

Agents are the callers: before they act on a rationale they ask whether it holds.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from minicrit import __version__
from minicrit.entry import ANEW, interrupted
from minicrit.flags import Flags, at_least_one
from minicrit.jsonl import RefusedError, check_string, shown
from minicrit.marks import check_marks
from minicrit.serving.answers import normalised
from minicrit.serving.bodies import MOST_ITEMS, Domain
from minicrit.serving.client import Client
from minicrit.serving.results import given, result_of
from minicrit.serving_config import RELEASED_CRITIC
from minicrit.stopping import CONTINUE, SIGNALS

if TYPE_CHECKING:
    from minicrit.critic import Critic

_LONGEST = 20_000  # characters of a rationale
_LOOK_S = 0.2  # seconds between two looks for signals
_ABOUT = (
    "Says whether the reasoning of a rationale is valid or flawed, how sure that is, which flaw, "
    "where it stands, why, and what would mend it. Ask before acting on a rationale. It judges the "
    "reasoning in the text, not whether its facts are true."
)
Item = tuple[str, str]  # (domain, rationale)
Judge = Callable[[Sequence[Item], bool], list[dict[str, Any]]]
Rationale = Annotated[str, Field(description="The reasoning, as it was written.", min_length=1,
                                 max_length=_LONGEST)]  # fmt: skip
InDomain = Annotated[Domain, Field(description="What it is about.")]
WithText = Annotated[bool, Field(description="Whether a critique is written: which flaw, where, "
                                 "why, and a fix. Takes seconds.")]  # fmt: skip


def run(argv: Sequence[str]) -> None:
    """Serves until standard input ends.

    Raises:
        ValueError: if the critic does not load, or is a quantized one that was not released.
    """
    options = _options(argv)
    if options.url:
        judge = remote(Client(options.url, timeout_s=options.timeout_s))
    else:
        from minicrit.critic import Critic  # slow, and not needed to ask a service

        critic = Critic.load(options.model, base_folder=options.base_folder)
        if not options.unreleased:
            critic.require_released("--unreleased")
        critic.require_room(options.max_new_tokens, "--max-new-tokens")
        judge = local(critic, options.max_new_tokens)
    for number in (signal.SIGINT, *SIGNALS):
        if signal.getsignal(number) != signal.SIG_IGN:  # as of a script in the background
            signal.signal(number, _end)
    asyncio.run(_served(server_of(judge)))


async def _served(server: MCPServer) -> None:
    _look_up(asyncio.get_running_loop())
    await server.run_stdio_async()


def _look_up(loop: asyncio.AbstractEventLoop) -> None:
    """Lets Python see a signal that came just before the loop began to wait, which may be long."""
    loop.call_later(_LOOK_S, _look_up, loop)


def _end(number: int, _: object) -> None:
    """Ends the process where it stands.

    An error in its place is lost in whatever callback the signal comes, and threads would be waited
    for: the one that reads standard input, until that is closed, and the one that judges. There is
    nothing to lose: nothing is kept.
    """
    if number == signal.SIGINT:
        status = interrupted(ANEW)
    else:
        status = CONTINUE
        sys.stderr.write(f"minicrit: stopped by {signal.Signals(number).name}; {ANEW}\n")
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)


def server_of(judge: Judge) -> MCPServer:
    """The server with its two tools around whatever judges."""
    server = MCPServer("minicrit", version=__version__, instructions=_ABOUT, log_level="WARNING")
    alone = threading.Lock()  # a model is no place for two threads

    def judged(items: Sequence[Item], write: bool) -> list[dict[str, Any]]:
        with alone:
            try:
                return judge(list(map(_checked, _names(items), items)), write)
            except ValueError as error:  # too long, no text, or refused by the service
                raise ToolError(str(error)) from error

    @server.tool(structured_output=True)
    async def validate_reasoning(
        rationale: Rationale, domain: InDomain = "general", critique: WithText = True
    ) -> dict[str, Any]:
        """Judge one rationale: valid or flawed, confidence, flaw, evidence, critique, fix."""
        (result,) = await asyncio.to_thread(judged, [(domain, rationale)], critique)
        return result

    @server.tool(structured_output=True)
    async def batch_validate(
        rationales: Annotated[list[Rationale], Field(min_length=1, max_length=MOST_ITEMS)],
        domain: InDomain = "general",
        critique: WithText = False,
    ) -> dict[str, Any]:
        """Judge up to 100 rationales of one domain at once; results come in their order."""
        items = [(domain, text) for text in rationales]
        return {"results": await asyncio.to_thread(judged, items, critique)}

    return server


def local(critic: "Critic", max_new_tokens: int) -> Judge:
    """Judges by a critic in this process; nothing is recorded."""
    from minicrit.encoding import naming  # slow, as above
    from minicrit.serving.worker import Answer

    def judge(items: Sequence[Item], write: bool) -> list[dict[str, Any]]:
        for name, item in zip(_names(items), items, strict=True):
            with naming(name):
                critic.prompt(*item, max_new_tokens if write else 0)
        if write:
            found = critic.critique(items, max_new_tokens=max_new_tokens)
            answers = [Answer(w.verdict.p_flawed, written=w) for w in found]
            times = [w.verdict.latency_ms for w in found]
        else:
            verdicts = critic.verdict(items)
            answers = [Answer(v.p_flawed) for v in verdicts]
            times = [v.latency_ms for v in verdicts]
        return [given(result_of(critic, *item, answer), latency_ms=ms, cached=False)
                for item, answer, ms in zip(items, answers, times, strict=True)]  # fmt: skip

    return judge


def remote(client: Client) -> Judge:
    """Judges by a running service."""

    def judge(items: Sequence[Item], write: bool) -> list[dict[str, Any]]:
        answers = client.critiques(items) if write else client.verdicts(items)
        return [asdict(answer) for answer in answers]

    return judge


def _checked(name: str, item: Item) -> Item:
    domain, text = item
    try:
        check_string(text)
        check_marks(text)
        if not text.strip():
            raise RefusedError("a rationale", shown(repr(text)), "fill it in")
    except RefusedError as error:
        raise ValueError(f"{name}: {error}") from error
    return domain, normalised(text)


def _names(items: Sequence[Item]) -> list[str]:
    """What the rationales are called in a refusal: by their argument of the tool."""
    return [f"rationales[{at}]" for at in range(len(items))] if len(items) > 1 else ["rationale"]


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Flags("mcp", "Serve the critic to agents by the Model Context Protocol (stdio).")
    parser.add_argument("--model", default=RELEASED_CRITIC,
                        help="the folder of a critic, a router or an export of format hf, or a "
                        "base (default: %(default)s)")  # fmt: skip
    parser.add_argument("--unreleased", action="store_true",
                        help="ask a quantized critic although its comparison did not release "
                        "it")  # fmt: skip
    parser.add_argument("--base-folder", type=Path, default=Path("checkpoints/base"),
                        help="where bases are kept (default: checkpoints/base)")  # fmt: skip
    parser.add_argument("--url", help="ask the service there in place of a critic of its own; its "
                        "key is read from MINICRIT_API_KEY")  # fmt: skip
    parser.add_argument("--timeout-s", type=at_least_one, default=120,
                        help="seconds to wait for an answer of that service (default: "
                        "120)")  # fmt: skip
    parser.add_argument("--max-new-tokens", type=at_least_one, default=160,
                        help="longest critique, in tokens (default: 160)")  # fmt: skip
    return parser.read(argv)
