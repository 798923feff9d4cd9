"""Opens the back end of a name; its package is imported only then."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_gen.backends.address import check_address, warn_of_plain_key
from data_gen.backends.protocol import Backend

if TYPE_CHECKING:
    from data_gen.backends.claude_batches import ClaudeBatches


def open_backend(
    kind: str,
    model: str | None,
    *,
    url: str | None = None,
    folder: Path | None = None,
    named: str = "hard.model",
    named_url: str = "",
) -> Backend:
    """The back end of a kind.

    Args:
        kind: `anthropic`, `ollama`, `openai` or `local`.
        model: its name there; for `local` what `base.model` may be.
        url: address of the server; None for that of the back end's own package.
        folder: where bases that are made here are kept, for `local`; None for the default.
        named: the setting that names the model, for messages.
        named_url: that of the address; "" for `url` beside it.

    Raises:
        ValueError: if a setting or a key that it needs is missing.
    """
    model = checked_model(kind, model, url, named, named_url)
    warn_of_plain_key(kind, url)
    if kind == "anthropic":
        from data_gen.backends.claude import Claude

        return Claude(model, url=url)
    if kind == "ollama":
        from data_gen.backends.ollama_server import Ollama

        return Ollama(model, url=url)
    if kind == "local":
        from data_gen.backends.local import Local
        from minicrit.config import BaseConfig

        return Local(model, folder or BaseConfig().folder)
    from data_gen.backends.openai_like import OpenAILike

    return OpenAILike(model, url=str(url))


def open_batches(kind: str, model: str | None, *, url: str | None = None) -> "ClaudeBatches":
    """The back end of a kind, for batches."""
    check_batches(kind)
    model = checked_model(kind, model, url)
    warn_of_plain_key(kind, url)
    from data_gen.backends.claude_batches import ClaudeBatches

    return ClaudeBatches(model, url=url)


def check_batches(kind: str) -> None:
    """Refuses a back end that has no batches."""
    if kind != "anthropic":
        raise ValueError(f"hard.batch: expected the back end anthropic, got {kind}; only its API "
                         "has batches, so leave hard.batch out")  # fmt: skip


def identity_of(kind: str, model: str | None, **where: Any) -> Mapping[str, Any]:
    """What the back end will say of itself, see `open_backend`; needs no key."""
    if kind == "anthropic" and model:
        return {"backend": "anthropic", "model": model}
    return open_backend(kind, model, **where).identity


def checked_model(
    kind: str, model: str | None, url: str | None, named: str = "hard.model", named_url: str = ""
) -> str:
    """The name of the model; a ValueError if there is none, or the address is no use."""
    if not model:
        raise ValueError(f"{named}: expected the name of a model of {kind}, got none; give "
                         f"--{named} NAME")  # fmt: skip
    check_address(kind, url, named_url or f"{named.partition('.')[0]}.url")
    return model
