"""What a request costs, from a table that the user keeps and that says how old it is."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from data_gen.backends.address import is_near
from data_gen.backends.protocol import Request, Usage
from minicrit.discreet import key_of
from minicrit.strictyaml import read_settings

TABLE = Path(__file__).parent / "prices.yaml"
_MILLION = 1_000_000.0
#: Bytes of UTF-8 that make a token at the very least, for what is reserved before sending.
_BYTES_A_TOKEN = 2


@dataclass(frozen=True)
class Price:
    """USD a million tokens. `date` is when somebody last looked.

    `batch` is the share of these prices that batches cost; None if the table does not say.
    """

    model: str
    input: float
    output: float
    cache_read: float
    cache_write: float
    date: str
    batch: float | None = None

    def batched(self) -> "Price | None":
        """The price in batches; None if it is not known."""
        if self.batch is None:
            return None
        names = ("input", "output", "cache_read", "cache_write")
        return replace(self, **{name: getattr(self, name) * self.batch for name in names})

    def cost(self, usage: Usage) -> float:
        """USD of an answer."""
        return (
            usage.input_tokens * self.input
            + usage.output_tokens * self.output
            + usage.cache_read_tokens * self.cache_read
            + usage.cache_write_tokens * self.cache_write
        ) / _MILLION

    def charge(self, request: Request, usage: Usage) -> float:
        """USD of the answer to a request: the most it can be if its tokens were not counted."""
        return self.most(request) if usage == Usage() else self.cost(usage)

    def most(self, request: Request) -> float:
        """USD that a request can cost at most: two bytes a token and an answer of full length."""
        text = request.system + request.prompt + str(dict(request.schema))
        tokens = len(text.encode()) // _BYTES_A_TOKEN + 200
        return (tokens * max(self.input, self.cache_write) + request.max_tokens * self.output
                ) / _MILLION  # fmt: skip


FREE = Price("", 0.0, 0.0, 0.0, 0.0, "", batch=1.0)


def price_of(
    kind: str,
    model: str,
    *,
    url: str | None = None,
    budget: float | None = None,
    table: Path | None = None,
    batch: bool = False,
) -> Price:
    """What a model of a back end costs; nothing on a server of one's own that is not listed.

    Args:
        kind: of the back end.
        model: its name there.
        url: address of the server; None for the back end's own.
        budget: USD that is to be kept to; None for no limit.
        table: of prices; None for the one that comes along.
        batch: whether it is asked in batches.

    Raises:
        ValueError: if a paid service, or anything with a budget, has no price.
    """
    table = table or TABLE
    price = read_price(model, table)
    if price is None and (budget is not None or _is_paid(kind, url)):
        raise ValueError(f"{table}: expected a price of {model}, got none, so a budget cannot be "
                         "kept nor the cost told; look it up and add it, or zeros if it costs "
                         "nothing")  # fmt: skip
    if not batch:
        return price or FREE
    batched = (price or FREE).batched()
    if batched is None:
        raise ValueError(f"{table}: expected batch, the share of the prices of {model} that "
                         "batches cost, got none; look it up and add it")  # fmt: skip
    return batched


def _is_paid(kind: str, url: str | None) -> bool:
    """Whether somebody sends a bill: Anthropic, and far servers that know us by a key."""
    if kind == "ollama" and url is None:
        host = os.environ.get("OLLAMA_HOST", "")  # as its package does
        url = host if "://" in host else f"http://{host}"
    keyed = kind in ("openai", "ollama") and bool(key_of(f"{kind.upper()}_API_KEY"))
    return kind == "anthropic" or (keyed and not is_near(url or ""))


def read_price(model: str, path: Path = TABLE) -> Price | None:
    """The price of a model; None if the table does not list it.

    Raises:
        ValueError: if the table is not one.
    """
    settings = read_settings(path)
    if model not in settings:
        return None
    found: dict[str, float | None] = {}
    for name in ("input", "output", "cache_read", "cache_write", "batch"):
        entry = settings.get(f"{model}.{name}")
        value = entry.value if entry else None
        if name == "batch" and entry is None:
            found[name] = None
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            line = (entry or settings[model]).line
            unit = "a share of the other prices" if name == "batch" else "USD a million tokens"
            raise ValueError(f"{path}:{line}: expected {name} of {model} in {unit}, "
                             f"got {value!r}; give a number")  # fmt: skip
        found[name] = float(value)
    date = settings.get(f"{model}.date")
    if date is None:
        raise ValueError(f"{path}:{settings[model].line}: expected the date of the price of "
                         f"{model}, got none; say when you looked")  # fmt: skip
    return Price(model, date=str(date.value), **found)  # type: ignore[arg-type]
