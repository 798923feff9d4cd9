"""Whether servers can be reached: for the doctor, with short patience and nothing sent."""

import os
import re

import httpx

_PORT = re.compile(r":\d+$")


def hub(timeout: float) -> str | None:
    """What keeps the Hugging Face hub from being reached; None if nothing does."""
    return _trouble(os.environ.get("HF_ENDPOINT") or "https://huggingface.co", timeout)


def ollama(timeout: float) -> str | None:
    """What keeps the Ollama server (OLLAMA_HOST) from being reached; None if nothing does."""
    host = os.environ.get("OLLAMA_HOST") or "127.0.0.1:11434"
    if "://" in host:
        return _trouble(host, timeout)
    # Without a port the client of Ollama means its own, not that of the web.
    return _trouble(f"http://{host}{'' if _PORT.search(host) else ':11434'}", timeout)


def _trouble(url: str, timeout: float) -> str | None:
    try:
        status = httpx.head(url, timeout=timeout, follow_redirects=True).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return type(error).__name__
    return f"status {status}" if status >= 500 else None  # noqa: PLR2004
