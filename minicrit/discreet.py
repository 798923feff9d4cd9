"""Text that may go to a terminal or a log: nothing in it steers a terminal, no key is in it."""

import logging
import os
from collections.abc import Iterable
from typing import IO, Any

#: Variables whose values are nobody's business.
SECRETS = (
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "OLLAMA_API_KEY",
    "HF_TOKEN",
    "MINICRIT_API_KEY",
)
_SHORTEST = 6  # characters: a shorter value would be found in words


def key_of(name: str) -> str:
    """The key in an environment variable, "" for none.

    Blanks around it are left out: a file from another system leaves a line's end there.

    Raises:
        ValueError: if no header may hold it, as two lines of a file, or a letter beyond ASCII.
    """
    value = _value(name)
    if not is_sendable(value):
        raise ValueError(f"{name}: expected one key of printable ASCII without blanks, got "
                         "something else (not shown); export the key alone")  # fmt: skip
    return value


def is_sendable(key: str) -> bool:
    """Whether a header may hold a key: printable ASCII without blanks."""
    return all("!" <= c <= "~" for c in key)


def without_keys(text: str) -> str:
    """The text with the names of keys in the place of their values in the environment.

    As they are, and as Python spells them in messages.
    """
    for name in SECRETS:
        value = _value(name)
        for spelt in {value, ascii(value)[1:-1], repr(value)[1:-1]}:
            if len(value) >= _SHORTEST:
                text = text.replace(spelt, f"({name})")
    return text


def _value(name: str) -> str:
    return os.environ.get(name, "").strip()


def discreet(text: str) -> str:
    r"""The text without keys, with ESC and its like spelt (\x1b); lines stay lines."""
    safe = without_keys(text)
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in safe)


class DiscreetFormatter(logging.Formatter):
    """Formats whole entries, tracebacks too, and then makes them discreet."""

    def format(self, record: logging.LogRecord) -> str:  # noqa: D102
        return discreet(super().format(record))


class DiscreetStream:
    """Standard output to which every stage may write what it found in files and answers."""

    def __init__(self, inner: IO[str]) -> None:
        self._inner = inner

    def write(self, text: str) -> int:  # noqa: D102
        self._inner.write(discreet(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:  # noqa: D102
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
