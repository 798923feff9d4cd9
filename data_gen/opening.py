"""Opens the back end that the settings name; its package is imported only then."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from data_gen.backends.protocol import Backend

if TYPE_CHECKING:
    from data_gen.backends.claude_batches import ClaudeBatches
    from minicrit.config import BaseConfig, HardConfig


def open_backend(settings: "HardConfig", base: "BaseConfig | None" = None) -> Backend:
    """The back end of the settings.

    Args:
        settings: of the stage.
        base: where models that are made here are kept, for the back end `local`.

    Raises:
        ValueError: if a setting or a key that it needs is missing.
    """
    model, url = settings.model, settings.url
    if not model:
        raise ValueError(f"hard.model: expected the name of a model of {settings.backend}, got "
                         "none; give --hard.model NAME")  # fmt: skip
    if settings.backend == "anthropic":
        from data_gen.backends.claude import Claude

        return Claude(model, url=url)
    if settings.backend == "ollama":
        from data_gen.backends.ollama_server import Ollama

        return Ollama(model, url=url)
    if settings.backend == "local":
        from data_gen.backends.local import Local
        from minicrit.config import BaseConfig

        return Local(model, (base or BaseConfig()).folder)
    if not url:
        raise ValueError("hard.url: expected the address of the server, got none; give --hard.url "
                         "http://HOST:PORT")  # fmt: skip
    from data_gen.backends.openai_like import OpenAILike

    return OpenAILike(model, url=url)


def open_batches(settings: "HardConfig") -> "ClaudeBatches":
    """The back end of the settings, for batches."""
    if settings.backend != "anthropic" or not settings.model:
        raise ValueError("hard.batch: expected the back end anthropic and a model, got "
                         f"{settings.backend} and {settings.model}; only its API has batches, so "
                         "leave hard.batch out")  # fmt: skip
    from data_gen.backends.claude_batches import ClaudeBatches

    return ClaudeBatches(settings.model, url=settings.url)


def identity_of(settings: "HardConfig", base: "BaseConfig | None" = None) -> Mapping[str, Any]:
    """What the back end will say of itself; needs no key."""
    if settings.backend == "anthropic":
        return {"backend": "anthropic", "model": settings.model}
    return open_backend(settings, base).identity
