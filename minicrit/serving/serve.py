"""The stage `serve`: loads the critic, opens the database, and answers over HTTP until stopped.

make serve MODEL=checkpoints/released/embedded-10
"""

import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from minicrit import limits
from minicrit.config import Recipe
from minicrit.critic import Critic
from minicrit.feedback.experiment import CONTROL, TREATMENT, Experiment
from minicrit.feedback.store import FeedbackStore
from minicrit.serving.answers import Answers
from minicrit.serving.app import build_app, posted
from minicrit.serving.arrivals import protocol_of
from minicrit.serving.bodies import MOST_ITEMS
from minicrit.serving.descriptors import BACKLOG, make_room
from minicrit.serving.desk import Desk
from minicrit.serving.gatehouse import Gatehouse, is_loopback
from minicrit.serving.instruments import Instruments
from minicrit.serving.keys import Keys, make_key
from minicrit.serving.panel import Panel
from minicrit.serving.precedents import Precedents
from minicrit.serving.service import Limits, Service
from minicrit.serving.worker import THREAD, Batching
from minicrit.serving_config import ServeConfig

log = logging.getLogger(__name__)

_KEYS = Path("feedback/keys.json")
_WARM_UP = ("general", "Three of three swans were white, so all swans are white.")


def serve(recipe: Recipe) -> None:
    """Serves until SIGTERM or Ctrl-C, then answers what waits; or makes a key.

    Raises:
        ValueError: if the critic does not load, the address is taken or needs keys, or with the
            settings nothing could be answered.
    """
    config = recipe.serve
    _check(config)
    if config.new_key is not None:
        path = config.key_file or _KEYS
        sys.stdout.write(f"{make_key(path, config.new_key)}\n")
        log.info("it is shown this once; serve with --serve.key_file %s", path)
        return
    make_room(config.most_connections)
    keys = keys_of(config)
    with bound(config) as listener:
        critic = Critic.load(config.model, base_folder=recipe.base.folder)
        app = application(config, critic, keys, recipe.base.folder)
        host, port = listener.getsockname()[:2]
        log.info("serving %s on http://%s:%d (%s)", critic.name, host, port,
                 "calibrated" if critic.calibrated else "not calibrated")  # fmt: skip
        begin_to_listen(listener, config)
        server_of(config, app).run(sockets=[listener])
    _leave()


def _leave() -> None:
    """Ends the process here if a critic did not finish in time.

    Python would end its thread within the forward, and what torch makes of that is an abort.
    """
    if any(thread.name == THREAD for thread in threading.enumerate()):
        logging.shutdown()
        os._exit(0)


def _check(config: ServeConfig) -> None:
    if not 1 <= config.most_items <= MOST_ITEMS:
        raise ValueError(f"serve.most_items: expected 1 to {MOST_ITEMS}, got {config.most_items}; "
                         "mend it")  # fmt: skip
    if config.most_waiting < config.most_items:
        raise ValueError(f"serve.most_waiting: expected {config.most_items} or more, as many as "
                         f"serve.most_items, got {config.most_waiting}; raise it, or a full "
                         "request never finds room")  # fmt: skip
    limits.require("serve", config)


def keys_of(config: ServeConfig) -> Keys:
    """The keys to ask for.

    Raises:
        ValueError: if there are none and others than this machine could ask.
    """
    if config.key_file is None and not is_loopback(config.host):
        raise ValueError(f"serve.key_file: expected keys for {config.host}, which others can "
                         "reach, got none; make one with --serve.new_key NAME, or serve on "
                         "127.0.0.1")  # fmt: skip
    return Keys(config.key_file)


@contextmanager
def bound(config: ServeConfig) -> Iterator[socket.socket]:
    """The socket, before the long work begins; whoever connects until that is done is refused.

    No other process can have the address meanwhile. See `begin_to_listen` for when it is done.

    Raises:
        ValueError: if the address cannot be had.
    """
    with socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET) as listener:
        try:
            _bind(listener, config)
        except OSError as error:
            raise _taken(config, error) from error
        # Accepted sockets inherit it. Asyncio sets it only on sockets that name their protocol, and
        # without it each answer waits 40 ms for the client's acknowledgement of its headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _bind(listener: socket.socket, config: ServeConfig) -> None:
    """Takes the address for this process alone.

    With SO_REUSEADDR two that both load their critics could have it. Yet it takes that to have one
    on which connections of an earlier service are not quite forgotten, so it is set for the moment.
    """
    try:
        listener.bind((config.host, config.port))
    except OSError:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def begin_to_listen(listener: socket.socket, config: ServeConfig) -> None:
    """Lets connections come.

    Raises:
        ValueError: if another process listens there, which not every system rules out before.
    """
    # Accepted sockets inherit it, and without it the next service would have to wait for them.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.listen()
    except OSError as error:
        raise _taken(config, error) from error


def _taken(config: ServeConfig, error: Exception) -> ValueError:
    return ValueError(f"serve.port: expected a free address, got {error}; choose another than "
                      f"{config.host}:{config.port}, or stop what listens there")  # fmt: skip


def application(config: ServeConfig, critic: Critic, keys: Keys, bases: Path) -> ASGIApp:
    """The whole application around a critic."""
    instruments = Instruments()
    panel = panel_of(config, critic, instruments, bases)
    limits = Limits(config.most_items, config.most_characters, config.max_new_tokens)
    store = FeedbackStore(config.database)
    precedents = Precedents.load(config.precedents, bases=bases) if config.precedents else None
    if precedents is not None:
        precedents.restore(store.requests(), store.decisions())
    service = Service(panel, store, instruments, limits, precedents)
    app = build_app(service, drain_s=config.drain_s, log_texts=config.log_texts)
    return Gatehouse(app, keys=keys, instruments=instruments, posted=posted(app),
                     most_bytes=config.most_bytes, body_s=config.body_s)  # fmt: skip


def panel_of(config: ServeConfig, critic: Critic, instruments: Instruments, bases: Path) -> Panel:
    """The critic's desk, and in an experiment that of the other critic too.

    Raises:
        ValueError: if the experiment is about another critic than the one that is served, or one
            of its critics has changed since, or its log is damaged or another's.
    """
    desk = desk_of(config, critic, instruments)
    if config.experiment is None:
        return Panel(desk)
    experiment = Experiment.load(config.experiment)
    experiment.entries()  # a log that does not fit is said now, not to every caller
    if experiment.control != config.model:
        raise ValueError(f"serve.model: expected {experiment.control}, the control of "
                         f"{config.experiment}, got {config.model}; serve that one, or without "
                         "the experiment")  # fmt: skip
    other = Critic.load(experiment.treatment, base_folder=bases)
    panel = Panel(desk, desk_of(config, other, instruments), experiment)
    experiment.serve({arm: panel.critic_of(arm) for arm in (CONTROL, TREATMENT)})
    return panel


def desk_of(config: ServeConfig, critic: Critic, instruments: Instruments) -> Desk:
    """One critic's thread, queue and cache, after a first forward.

    Raises:
        ValueError: for a quantized critic that was not released, unless it was asked for as such;
            for critiques so long that no prompt has room.
    """
    if not config.unreleased:
        critic.require_released("serve.unreleased")
    critic.require_room(config.max_new_tokens, "serve.max_new_tokens")
    critic.verdict([_WARM_UP])
    answers = Answers(config.answers, config.answers_kept) if config.answers else None
    batching = Batching(config.most_waiting, config.batch_tokens, config.batch_critiques,
                        config.window_ms / 1000, config.named)  # fmt: skip
    return Desk(critic, answers, instruments, batching)


class Server(uvicorn.Server):
    """Ends with status 0 once it has answered what waited: to be stopped is no failure."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:  # noqa: D102
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def server_of(config: ServeConfig, app: ASGIApp) -> Server:
    """Uvicorn, which says nothing by itself."""
    return Server(uvicorn.Config(
        app, log_config=None, log_level="warning", access_log=False, server_header=False, ws="none",
        http=protocol_of(config.body_s, config.most_connections), timeout_keep_alive=30,
        backlog=BACKLOG, timeout_graceful_shutdown=round(config.drain_s) or 1,
    ))  # fmt: skip
