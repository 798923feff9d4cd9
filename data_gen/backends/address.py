"""Addresses of servers: whether they are of use, whose they are, and what is sent there."""

import logging
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from minicrit.discreet import key_of

#: Keys that are sent to whatever address is given.
_KEYS = {
    "anthropic": "ANTHROPIC_API_KEY",
    "openai": "OPENAI_API_KEY",
    "ollama": "OLLAMA_API_KEY",
}
#: Names of this machine.
_HERE = ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104 - a client's, nothing listens
_PORTS = {"http": 80, "https": 443}
_LABEL = 63  # longest part of a name between points
_log = logging.getLogger(__name__)


def check_address(kind: str, url: str | None, setting: str) -> None:
    """A ValueError that names the setting if there is no address, or one that is no use."""
    if url is None:
        if kind == "openai":
            raise ValueError(f"{setting}: expected the address of the server, got none; give "
                             f"--{setting} http://HOST:PORT")  # fmt: skip
        return
    parts = _parts(url)
    if "@" in (parts.netloc if parts else url):  # first, as the other message shows the address
        raise ValueError(f"{setting}: expected an address without a name or password, got one; "
                         "give keys in the environment, as addresses are logged")  # fmt: skip
    if parts is None:
        raise ValueError(f"{setting}: expected an address like http://HOST:PORT, got {url}; write "
                         "it in full")  # fmt: skip


def _parts(url: str) -> SplitResult | None:
    """The parts of an address; None for one that is no use."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    good = parts.scheme in ("http", "https") and _is_host(parts.hostname or "")
    return parts if good and _has_port(parts) else None


def _is_host(name: str) -> bool:
    """Whether a name can be one of a host: the resolver fails at others in ways of its own."""
    labels = name.removesuffix(".").split(".")
    return (":" in name or all(0 < len(label) <= _LABEL for label in labels)
            ) and not any(c.isspace() or not c.isprintable() for c in name)  # fmt: skip


def _has_port(parts: SplitResult) -> bool:
    """Whether what stands in the port's place is one, or nothing."""
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def warn_of_plain_key(kind: str, url: str | None) -> None:
    """Says so if a key goes far in plain text."""
    key = _KEYS.get(kind, "")
    if url and key_of(key) and url.startswith("http:") and not is_near(url):
        host = urlsplit(url).hostname
        _log.warning("%s goes to %s unencrypted; use https, or unset the key", key, host)


def place_of(url: str) -> str:
    """Where a server is, however its full address is written: scheme, host, port and path.

    Two servers may call different models by one name, so this is a part of their identity. `/v1`
    or a slash at the end, a name or password, and which name of this machine is used do not count.
    """
    parts = urlsplit(url)
    host = _HERE[1] if parts.hostname in _HERE else parts.hostname
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{host}:{parts.port or _PORTS[parts.scheme]}{path}"


def is_near(url: str) -> bool:
    """Whether an address is of this machine or of its own network."""
    host = urlsplit(url).hostname or ""
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".local", ".localhost", ".internal"))
    return address.is_loopback or address.is_private
