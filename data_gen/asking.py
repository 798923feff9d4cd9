"""A model to be asked by any stage: opened and priced before the long work, then asked in threads.

service = open_service("anthropic", "claude-haiku-4-5", budget=2.0, named="pairs.judge_model")
...                                            # whatever takes long
with asking(service, work / "journal.jsonl") as asker:
    answers = asker.each(judged, examples, threads=4)
"""

import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from data_gen.asker import Asker
from data_gen.backends.protocol import Backend, Request
from data_gen.journal import Journal
from data_gen.opening import open_backend
from data_gen.prices import Price, price_of


@dataclass(frozen=True)
class Service:
    """Whom to ask, at what price, for how many USD at most (None for no limit)."""

    backend: Backend
    price: Price
    budget: float | None


def open_service(
    kind: str,
    model: str | None,
    *,
    url: str | None = None,
    budget: float | None = None,
    prices: Path | None = None,
    named: str,
    named_url: str = "",
) -> Service:
    """Everything that can be wrong before the first question is wrong here.

    Args:
        kind: of the back end, see `opening.open_backend`; `url` and `named` likewise.
        model: its name there.
        url: address of the server; None for that of the back end's own package.
        budget: USD that a run may cost at most, restarts included; None for no limit.
        prices: table of prices; None for the one that comes along.
        named: the setting that names the model, for messages.
        named_url: that of the address; "" for `url` beside it.

    Raises:
        ValueError: if a setting, a key or a price is missing.
    """
    backend = open_backend(kind, model, url=url, named=named, named_url=named_url)
    price = price_of(kind, str(model), url=url, budget=budget, table=prices)
    return Service(backend, price, budget)


@contextmanager
def asking(service: Service, journal: Path) -> Iterator[Asker]:
    """The service with its journal, which no other run may have open; nothing is asked twice."""
    with Journal(journal) as opened:
        asker = Asker(service.backend, opened, price=service.price, budget=service.budget)
        try:
            yield asker
        finally:
            asker.stop()


def announce(asked: Iterable[Request], asker: Asker, what: str) -> None:
    """Says how many of these requests are still to be sent, and what they cost at most."""
    known = asker.journal.answers.keys() | asker.journal.refused.keys()
    left = [r for r in asked if r.key(asker.backend.identity) not in known]
    most = math.fsum(map(asker.price.most, left))
    date = f" (prices of {asker.price.date})" if asker.price.date else ""
    sys.stdout.write(f"{what}: {len(left)} requests, at most {most:.2f} USD{date}; used so far "
                     f"{asker.journal.committed:.2f} USD\n")  # fmt: skip
    sys.stdout.flush()


def bill(asked: Iterable[Request], asker: Asker) -> dict[str, float]:
    """What the answers to these requests cost: USD, tokens by kind, and how many there are."""
    by_key = {request.key(asker.backend.identity): request for request in asked}
    keys = sorted(by_key.keys() & asker.journal.answers.keys())
    answers = [asker.journal.answers[key] for key in keys]
    tokens: Counter[str] = Counter()
    for answer in answers:
        tokens.update(asdict(answer.usage))
    charges = (asker.price.charge(by_key[k], a.usage) for k, a in zip(keys, answers, strict=True))
    usd = math.fsum(charges)
    return {"usd": round(usd, 6), "answers": len(answers), **tokens}
