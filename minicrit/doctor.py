"""Whether this machine is ready: one line a check, ok, warn or fail, with the remedy.

    minicrit doctor --config recipe

Nothing is changed, nothing is sent, and keys are never shown. What only some commands need is a
warning at most.
"""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from minicrit.config import Recipe
from minicrit.discreet import key_of
from minicrit.findings import Finding, fail, lines, ok, refuse_failures, warn
from minicrit.graphics import check_bitsandbytes, check_cuda, check_precision
from minicrit.hub import EMBEDDED, TINY
from minicrit.manifest import read_manifest
from minicrit.pins import wanted
from minicrit.wheels import check_wheels
from minicrit.whereabouts import is_login_node, unsafe_loading

#: Says what keeps a server from being reached, within so many seconds; None for nothing.
Reach = Callable[[float], str | None]
KEYS = {"ANTHROPIC_API_KEY": "BACKEND=anthropic", "OPENAI_API_KEY": "BACKEND=openai",
        "OLLAMA_API_KEY": "an Ollama server that wants one",
        "HF_TOKEN": "bases behind a licence"}  # fmt: skip
_OTHERS = 0o077  # what a mode allows anybody but the owner
GB = 1e9


def doctor(recipe: Recipe, servers: Mapping[str, Reach]) -> None:
    """Prints what was found.

    Args:
        recipe: uses `doctor` and `base`.
        servers: how to find out whether `Ollama` and `hub` can be reached.

    Raises:
        ValueError: if anything failed.
    """
    told = recipe.doctor
    findings = []
    for finding in examine(recipe, servers):
        findings.append(finding)
        sys.stdout.write(lines([finding], as_json=told.json))
        sys.stdout.flush()
    refuse_failures(findings)


def examine(recipe: Recipe, servers: Mapping[str, Reach]) -> Iterator[Finding]:
    """All checks, quick ones first."""
    told = recipe.doctor
    yield check_python()
    yield from check_place()
    yield from check_wheels()
    yield check_cuda(recipe.base.dtype)
    yield check_precision()
    yield check_bitsandbytes()
    yield from check_disks(Path("checkpoints"), told.least_disk)
    yield check_memory(available_memory(), told.least_memory)
    yield from check_keys()
    yield check_base(recipe)
    yield check_server("Ollama", servers["Ollama"], told.timeout, "start it with `ollama serve`, "
                       "or set OLLAMA_HOST; only BACKEND=ollama needs it")  # fmt: skip
    yield check_hub(servers["hub"], told.timeout)


def check_python() -> Finding:
    """Which Python, and whether it is in an environment of its own."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.prefix == sys.base_prefix:
        return warn("python", f"{version}, not in a virtual environment", "make setup")
    return ok("python", version)


def check_place() -> Iterator[Finding]:
    """No login node, and nothing that lets checkpoints run code."""
    if is_login_node():
        yield fail("host", "a login node of Vista", "sbatch the files in slurm/")
    if name := unsafe_loading():
        yield fail("host", f"{name} is set: checkpoints could run code", f"unset {name}")


def check_disks(folder: Path, least: float) -> Iterator[Finding]:
    """Room where checkpoints and where temporary files go, in gigabytes."""
    for name, path in (("disk", folder), ("temporary", Path(tempfile.gettempdir()))):
        there = next(p for p in (path, *path.absolute().parents) if p.exists())
        free = shutil.disk_usage(there).free / GB
        said = f"{free:.1f} GB free for {path}"
        yield ok(name, said) if free >= least else fail(name, said, f"make room: {least} GB")


def check_memory(available: float, least: float) -> Finding:
    """Main memory that is free now, in bytes; `least` in gigabytes."""
    said = f"{available / GB:.1f} GB free"
    if available < least * GB:
        return warn("memory", said, f"stop something, or take a smaller base: {least} GB")
    return ok("memory", said)


def available_memory() -> int:
    """Bytes that programs can have now; what the kernel only caches counts."""
    table = Path("/proc/meminfo")
    if table.is_file():
        rows = dict(line.split(":") for line in table.read_text().splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_keys() -> Iterator[Finding]:
    """Which keys are there, and whether a file of keys is for its owner alone."""
    for name, use in KEYS.items():
        try:
            there = bool(key_of(name))
        except ValueError as error:
            yield fail("key", *str(error).rsplit("; ", 1))
            continue
        yield ok("key", f"{name} is set" if there else f"{name} is not set; only for {use}")
    path = os.environ.get("MINICRIT_KEYS")
    if path and Path(path).exists():
        mode = stat.S_IMODE(Path(path).stat().st_mode)
        if mode & _OTHERS:
            yield fail("key", f"{path} has mode {mode:o}", f"chmod 600 {path}")


def check_base(recipe: Recipe) -> Finding:
    """Whether the base of the recipe is on this disk already."""
    told = recipe.base
    if told.model in (EMBEDDED, TINY):
        folder = told.folder / told.model
        if not (folder / "manifest.json").is_file():
            return warn("base", f"{told.model} is not made yet", "make base")
        try:
            identity = str(read_manifest(folder)["facts"].get("identity", "of no identity"))
        except (OSError, ValueError) as error:
            return fail("base", str(error).partition("; ")[0], f"remove {folder}, make base")
        return ok("base", f"{told.model}, {identity[:12]}")
    if Path(told.model).is_dir():
        return ok("base", f"the folder {told.model}")
    return _check_hub_base(told.model, told.folder, told.revision)


def _check_hub_base(model: str, folder: Path, revision: str | None) -> Finding:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        commit = wanted(model, folder, revision)
        found = try_to_load_from_cache(model, "config.json", revision=commit)
    except HFValidationError:
        return fail("base", f"{model} is no folder and no id of the hub", "check BASE=")
    except ValueError as error:
        what, _, remedy = str(error).partition("; ")
        return fail("base", what, remedy)
    if not isinstance(found, str):
        return warn("base", f"{model} is not in the cache", "make prefetch")
    if commit is None:
        return warn("base", f"{model} is cached, but not pinned to a commit",
                    f"set base.revision: {Path(found).parent.name}")  # fmt: skip
    return ok("base", f"{model} at {commit}")


def check_server(name: str, reach: Reach, timeout: float, remedy: str) -> Finding:
    """Whether a server answers within some seconds."""
    trouble = reach(timeout)
    if trouble:
        return warn(name, f"not reached ({trouble})", remedy)
    return ok(name, "reached")


def check_hub(reach: Reach, timeout: float) -> Finding:
    """The hub, unless work is offline on purpose."""
    if os.environ.get("HF_HUB_OFFLINE") in ("1", "true", "ON", "YES"):
        return ok("hub", "offline, as HF_HUB_OFFLINE says")
    return check_server("hub", reach, timeout, "only bases of the hub need it; `make prefetch` "
                        "where there is a network, or BASE=embedded")  # fmt: skip
