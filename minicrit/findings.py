"""What a check has found: fine, worth a warning or a failure, and what helps."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from minicrit.files import to_json
from minicrit.jsonl import shown

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One finding; the remedy is empty where nothing is wrong."""

    name: str
    level: Level
    said: str
    remedy: str = ""


def ok(name: str, said: str) -> Finding:
    """Nothing is wrong."""
    return Finding(name, "ok", said)


def warn(name: str, said: str, remedy: str) -> Finding:
    """Some things will not work, or not well."""
    return Finding(name, "warn", said, remedy)


def fail(name: str, said: str, remedy: str) -> Finding:
    """Do not start before this is mended."""
    return Finding(name, "fail", said, remedy)


def lines(findings: Iterable[Finding], *, as_json: bool = False) -> str:
    """One line a finding, for people or for programs."""
    if as_json:
        return "".join(to_json(asdict(finding)) + "\n" for finding in findings)
    return "".join(
        f"{one.level:<5} {one.name:<12} {shown(one.said, 300)}"
        + (f"; {shown(one.remedy, 300)}" if one.remedy else "") + "\n"
        for one in findings
    )  # fmt: skip


def refuse_failures(findings: Sequence[Finding]) -> None:
    """A ValueError if anything failed."""
    failed = [one.name for one in findings if one.level == "fail"]
    if failed:
        raise ValueError(f"expected a machine that is ready, got trouble with {', '.join(failed)}; "
                         "mend each as its line says")  # fmt: skip
