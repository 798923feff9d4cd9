"""Bases of the Hugging Face hub: what is fetched of one, and what is wrong where none can be."""

import errno
from difflib import get_close_matches
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError

from minicrit.files import FULL

#: What transformers raises by it for a config.json whose values are of another kind.
UnfitError = StrictDataclassError
EMBEDDED = "embedded"
TINY = "tiny"
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def fetched(model: str, revision: str | None) -> Path:
    """The folder of a model in the hub's cache, with what was not there yet.

    Args:
        model: its id.
        revision: its commit; None for the newest.

    Raises:
        ValueError: if it cannot be had; for a slip of the pen before the hub is asked, which takes
            half a minute without a network.
        OSError: if the cache's disk is full or may not be written to.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]

    if near := get_close_matches(model, (EMBEDDED, TINY), n=1, cutoff=0.8):
        raise ValueError(f"base {model!r}: expected {EMBEDDED}, {TINY}, a folder or a Hugging Face "
                         f"id, got none of them; did you mean {near[0]}?")  # fmt: skip
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=HUB_FILES))
    except (HFValidationError, HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (*FULL, errno.EACCES, errno.EROFS):
            raise
        raise ValueError(
            f"base {model!r}: expected the folder of a critic or base (like checkpoints/RUN/sft), "
            f"{EMBEDDED}, {TINY}, or a Hugging Face id (like owner/model), got no folder of that "
            f"name, and {_why(error)}; check the name and the network, or use BASE=embedded"
        ) from error


def _why(error: Exception) -> str:
    """What the hub has to say of it, in words."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    if isinstance(error, HFValidationError):
        return "the hub has no names of that form"
    if isinstance(error, RepositoryNotFoundError):
        return "no model on the hub that all may read"
    if isinstance(error, LocalEntryNotFoundError):
        return "nothing fetched of it from the hub, which cannot be reached"
    if not isinstance(error, (HfHubHTTPError, OSError)):
        return "a connection to the hub that broke off"
    return f"from the hub {type(error).__name__}"
