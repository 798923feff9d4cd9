"""Opens the back end of a name; its package is imported only then."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from data_gen.backends.protocol import Backend, is_near

if TYPE_CHECKING:
    from data_gen.backends.claude_batches import ClaudeBatches

#: Keys that are sent to whatever address is given.
_KEYS = {"openai": "OPENAI_API_KEY", "ollama": "OLLAMA_API_KEY"}
_log = logging.getLogger(__name__)


def open_backend(
    kind: str,
    model: str | None,
    *,
    url: str | None = None,
    folder: Path | None = None,
    named: str = "hard.model",
) -> Backend:
    """The back end of a kind.

    Args:
        kind: `anthropic`, `ollama`, `openai` or `local`.
        model: its name there; for `local` what `base.model` may be.
        url: address of the server; None for that of the back end's own package.
        folder: where bases that are made here are kept, for `local`; None for the default.
        named: the setting that names the model, for messages; the address is beside it.

    Raises:
        ValueError: if a setting or a key that it needs is missing.
    """
    model = checked_model(kind, model, url, named)
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
    if kind != "anthropic" or not model:
        raise ValueError("hard.batch: expected the back end anthropic and a model, got "
                         f"{kind} and {model}; only its API has batches, so leave hard.batch "
                         "out")  # fmt: skip
    checked_model(kind, model, url)
    from data_gen.backends.claude_batches import ClaudeBatches

    return ClaudeBatches(model, url=url)


def identity_of(kind: str, model: str | None, **where: Any) -> Mapping[str, Any]:
    """What the back end will say of itself, see `open_backend`; needs no key."""
    if kind == "anthropic" and model:
        return {"backend": "anthropic", "model": model}
    return open_backend(kind, model, **where).identity


def checked_model(kind: str, model: str | None, url: str | None, named: str = "hard.model") -> str:
    """The name of the model; a ValueError if there is none, or the address is no use."""
    if not model:
        raise ValueError(f"{named}: expected the name of a model of {kind}, got none; give "
                         f"--{named} NAME")  # fmt: skip
    _check_address(kind, url, f"{named.partition('.')[0]}.url")
    return model


def _check_address(kind: str, url: str | None, setting: str) -> None:
    if url is None:
        if kind == "openai":
            raise ValueError(f"{setting}: expected the address of the server, got none; give "
                             f"--{setting} http://HOST:PORT")  # fmt: skip
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{setting}: expected an address like http://HOST:PORT, got {url}; write "
                         "it in full")  # fmt: skip
    if parts.username or parts.password:
        raise ValueError(f"{setting}: expected an address without a name or password, got one; "
                         "give keys in the environment, as addresses are logged")  # fmt: skip
    key = _KEYS.get(kind, "")
    if os.environ.get(key) and parts.scheme == "http" and not is_near(url):
        _log.warning("%s: %s goes to %s unencrypted; use https, or unset the key",
                     setting, key, parts.hostname)  # fmt: skip
