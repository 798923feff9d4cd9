"""Fields of a row, checked one by one or all together; what is wrong is a `RefusedError`."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from minicrit.jsonl import RefusedError


class AllRefusedError(RefusedError):
    """Several faults of one row; each is said on a line of its own, with its own remedy."""

    def __init__(self, faults: Sequence[RefusedError]) -> None:
        """`faults`: at least one; what is asked of a single one is that of the first."""
        super().__init__(faults[0].expected, faults[0].got, faults[0].remedy)
        self.args, self._faults = ("\n".join(map(str, faults)),), faults

    def at(self, where: str) -> str:  # noqa: D102
        return "\n".join(fault.at(where) for fault in self._faults)


def refuse_all(checks: Iterable[Callable[[], object]]) -> None:
    """Makes every check; one `RefusedError` has everything that they refuse."""
    faults = []
    for check in checks:
        try:
            check()
        except RefusedError as error:
            faults.append(error)
    if faults:
        raise faults[0] if len(faults) == 1 else AllRefusedError(faults)


def check_keys(row: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuses keys that are not known, all of them, each with what may have been meant."""
    unknown = [key for key in row if key not in known]
    if not unknown:
        return
    near = [get_close_matches(key, known, n=1) for key in unknown]
    ways = [f"did you mean {found[0]}?" if found else "leave it out" for found in near]
    if len(unknown) > 1:
        ways = [f"{key}: {way}" for key, way in zip(unknown, ways, strict=True)]
    raise RefusedError(f"known keys ({', '.join(known)})", ", ".join(unknown), ", ".join(ways))


def check_text(name: str, value: object) -> None:
    """Text with something in it, or null."""
    if value is not None:
        _check_text(name, value, "write null where there is none")


def check_filled(name: str, value: object) -> None:
    """Text with something in it."""
    _check_text(name, value, "fill it in")


def _check_text(name: str, value: object, remedy: str) -> None:
    if value is None:
        raise RefusedError(f"{name} as text", "nothing", remedy)
    if not isinstance(value, str):
        got = f"{type(value).__name__} {value!r}"
        raise RefusedError(f"{name} as text", got, "write it as text, in quotes")
    if not value.strip():
        raise RefusedError(f"{name} with something in it", f"{value!r}", remedy)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """One of a few words, or null."""
    if value is not None and value not in choices:
        near = get_close_matches(str(value).lower(), choices, n=1)
        rest = ", or other" if "other" in choices else ""
        remedy = f"did you mean {near[0]}{rest}?" if near else f"take one of them{rest}"
        raise RefusedError(f"{name} of {', '.join(choices)}", str(value), remedy)


def number(name: str, value: object) -> float:
    """A finite number as a float."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        got, remedy = repr(value), "write it without quotes"
        got, remedy = ("nothing", "fill it in") if value is None else (got, remedy)
        raise RefusedError(f"{name} as a finite number", got, remedy)
    return float(value)
