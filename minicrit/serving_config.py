"""Settings of the service, see `config`."""

from dataclasses import dataclass
from pathlib import Path

#: The critic that comes with the project, asked where no other is named.
RELEASED_CRITIC = "checkpoints/released/embedded-10"


@dataclass
class ServeConfig:
    """The HTTP service.

    Attributes:
        model: the critic that answers: an adapter, all weights, a quantized folder, an export of
            format hf, a router or a base. If it does not load, nothing is served.
        unreleased: serve a quantized critic although its comparison did not release it.
        host: address to listen on; any but the loopback needs keys.
        port: to listen on; 0 for a free one.
        database: requests, decisions and outcomes (SQLite).
        answers: answers given before (SQLite), shared by all services of this machine; null for
            none.
        answers_kept: most answers in it; those longest unused go first.
        key_file: file of API keys, hashed; there is no need for one on the loopback.
        new_key: name of a key to make; it is printed once and kept as a hash in key_file, or in
            feedback/keys.json where none is named; nothing is served.
        precedents: folder in which rationales of the past are kept as vectors, so that like ones
            are found; null for none: embedding each costs a forward of a small model.
        experiment: file of an A/B experiment (make ab) whose control is the model above; its other
            critic is loaded too and answers what is drawn for it. null for none.
        named: whether plain verdicts name the likeliest flaw type too; three to six times the time.
        most_items: most rationales in one request, up to 100.
        most_characters: most characters of a rationale, as it was sent.
        most_bytes: most bytes of a request's body.
        most_waiting: rationales that may wait for the critic, most_items or more; beyond that the
            answer is 429.
        most_connections: open connections; beyond that the answer is 503, and far beyond it there
            is none. The limit of open files (ulimit -n) must have room for them and 700 more.
        batch_tokens: most prompt tokens in one forward pass.
        batch_critiques: critiques written at once.
        window_ms: how long a verdict waits for company, in milliseconds.
        max_new_tokens: longest critique, in tokens.
        body_s: seconds in which the headers of a request must have arrived, then those for its
            body, and in which an answer must have been taken; a new connection that sends nothing
            is closed after them.
        drain_s: seconds that requests in progress have when the service is stopped.
        log_texts: whether rationales are written to the log.
    """

    model: str = RELEASED_CRITIC
    unreleased: bool = False
    host: str = "127.0.0.1"
    port: int = 8765
    database: Path = Path("feedback/store.db")
    answers: Path | None = Path("feedback/answers.db")
    answers_kept: int = 200_000
    key_file: Path | None = None
    new_key: str | None = None
    precedents: Path | None = Path("feedback/precedents")
    experiment: Path | None = None
    named: bool = False
    most_items: int = 100
    most_characters: int = 20_000
    most_bytes: int = 4_194_304
    most_waiting: int = 256
    most_connections: int = 1000
    batch_tokens: int = 4096
    batch_critiques: int = 8
    window_ms: float = 2.0
    max_new_tokens: int = 160
    body_s: float = 30.0
    drain_s: float = 30.0
    log_texts: bool = False
