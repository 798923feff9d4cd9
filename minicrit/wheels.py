"""Installed packages against the tested versions, and against those that must never be installed.

Versions are read from metadata: a malicious package would run when it is imported.
"""

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path

from minicrit.findings import Finding, fail, ok, warn

ROOT = Path(__file__).parent.parent
#: Released malware (GHSA-w37p-236h-pfx3 and the like): it steals credentials when it starts.
MALWARE = {
    "lightning": ("2.6.2", "2.6.3"),
    "pytorch-lightning": ("2.6.2", "2.6.3"),
    "litellm": ("1.82.7", "1.82.8"),
}
#: Lowest versions without a known way to run code from a checkpoint (CVE-2026-58659; torch before
#: 2.6 unpickles by default).
FLOORS = {"lightning": (2, 6, 6), "pytorch-lightning": (2, 6, 6), "torch": (2, 6)}


def check_wheels(
    found: Mapping[str, str] | None = None, constraints: Path = ROOT / "constraints.txt"
) -> Iterator[Finding]:
    """What is installed (default: here), by name and version."""
    found = installed() if found is None else found
    for name, versions in MALWARE.items():
        if found.get(name) in versions:
            yield fail("wheels", f"{name} {found[name]} is malware that steals credentials",
                       "remove .venv, change all keys that it could read, make setup")  # fmt: skip
    for name, floor in FLOORS.items():
        if name in found and _numbers(found[name]) < floor:
            yield fail("wheels", f"{name} {found[name]} can be made to run code by a checkpoint",
                       "make setup")  # fmt: skip
    yield _against(found, constraints)


def installed() -> dict[str, str]:
    """The version of every installed package, by its canonical name."""
    return {_canonical(d.metadata["Name"]): d.version for d in distributions()}


def _against(found: Mapping[str, str], constraints: Path) -> Finding:
    if not constraints.is_file():
        return warn("wheels", f"no {constraints.name} to compare with", "run from a clone")
    lines = [line for line in constraints.read_text().splitlines() if "==" in line]
    pins = {_canonical(name): pin for name, _, pin in (line.partition("==") for line in lines)}
    other = [f"{name} {found[name]} for {pin}" for name, pin in sorted(pins.items())
             if name in found and found[name].partition("+")[0] != pin]  # fmt: skip
    if other:
        return warn("wheels", "other versions than were tested: " + ", ".join(other), "make setup")
    same = len(pins.keys() & found.keys())
    return ok("wheels", f"{same} of {len(pins)} tested packages installed, at those versions")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
