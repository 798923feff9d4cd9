"""Rules of the house (docs/architecture.md), held by reading the source."""

import ast
import fnmatch
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from minicrit.settings import known_keys

ROOT = Path(__file__).parent.parent
ROOMS = ("minicrit", "data_gen", "models", "callbacks")
MAY_SEE = {"minicrit": set(), "data_gen": {"minicrit"}, "models": {"minicrit"},
           "callbacks": {"minicrit"}}  # fmt: skip
NEVER = {"minicrit": {"lightning", "pytorch_lightning"}, "data_gen": {"lightning"},
         "models": set(), "callbacks": set()}  # fmt: skip
#: They put the rooms together, and only inside functions, so that importing them loads nothing.
JOINTS = ("minicrit/train.py", "minicrit/stages.py")
#: Where network clients live: those of others' services in a folder, that of ours beside it.
NETWORK = ("data_gen/backends/", "minicrit/serving/client.py")
CLIENTS = {"anthropic", "ollama", "openai", "httpx", "httpx2", "requests", "urllib", "aiohttp",
           "urllib3", "http", "socket", "huggingface_hub"}  # fmt: skip
#: What else may use one of them, and for what.
BESIDES = {
    "minicrit/hub.py": {"huggingface_hub"},  # fetches a base
    "minicrit/doctor.py": {"huggingface_hub"},  # looks into its cache
    "minicrit/files.py": {"socket"},  # the name of this machine, as in the next two
    "minicrit/preflight.py": {"socket"},
    "minicrit/whereabouts.py": {"socket"},
    "minicrit/serving/serve.py": {"socket"},  # listens
}
LONGEST_FUNCTION, LONGEST_FILE = 50, 400


def files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


@cache
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """All below a node; to look for them takes as long as to parse the file."""
    return tuple(ast.walk(tree))


def dotted(node: ast.AST) -> str:
    """`a.b.c` as it is written; what is not a name is empty."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def by_file(found: Iterable[tuple[Path, object]]) -> dict[str, object]:
    """What is wrong, by file; what is empty is fine."""
    return {name_of(path): wrong for path, wrong in found if wrong}


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted module) of every import, wherever it stands."""
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: import by the full name"
            yield node.lineno, node.module or ""


def imported_on_load(tree: ast.Module) -> set[str]:
    """Top-level packages that importing the module loads: no functions, no TYPE_CHECKING."""
    found: set[str] = set()
    for node in tree.body:
        guarded = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not guarded and not isinstance(node, ast.FunctionDef | ast.ClassDef):
            found |= {name.split(".")[0] for _, name in imports(node)}
    return found


def forbidden_imports(path: Path) -> set[str]:
    room, tree = name_of(path).split("/")[0], parsed(path)
    forbidden = set(ROOMS) - {room} - MAY_SEE[room] | NEVER[room] | {"tests"}
    if name_of(path) in JOINTS:
        return imported_on_load(tree) & forbidden
    return {name for _, name in imports(tree) if name.split(".")[0] in forbidden}


def test_imports_run_only_in_the_allowed_directions():
    assert by_file((path, forbidden_imports(path)) for path in files(*ROOMS)) == {}


def test_modules_are_imported_by_name_only():
    dynamic = {"__import__", "importlib.import_module", "import_module"}
    assert by_file((path, calls(parsed(path)) & dynamic) for path in files(*ROOMS)) == {}


def calls(tree: ast.AST) -> set[str]:
    return {dotted(node.func) for node in nodes(tree) if isinstance(node, ast.Call)}


def identifiers(tree: ast.AST) -> set[str]:
    found = set()
    for node in nodes(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found |= {node.name, node.asname or node.name}
    return found


def test_logits_become_log_probabilities_in_one_file():
    ways = {"log_softmax", "cross_entropy", "CrossEntropyLoss", "NLLLoss", "nll_loss", "LogSoftmax"}
    using = [name_of(path) for path in files(*ROOMS) if identifiers(parsed(path)) & ways]
    assert using == ["minicrit/logprobs.py"]


def test_no_file_has_a_name_that_says_nothing():
    nothing = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert [name_of(p) for p in files(*ROOMS, "tests") if set(p.stem.split("_")) & nothing] == []
    assert not [p for room in ROOMS for p in (ROOT / room).rglob("*/") if p.name in nothing]


def too_long(path: Path) -> list[str]:
    found = [f"line {n.lineno}: {n.name}" for n in nodes(parsed(path))
             if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
             and (n.end_lineno or 0) - n.lineno >= LONGEST_FUNCTION]  # fmt: skip
    return found + ["the file"] * (len(path.read_text().splitlines()) > LONGEST_FILE)


def test_no_function_over_50_lines_and_no_file_over_400():
    assert by_file((path, too_long(path)) for path in files(*ROOMS, "tests")) == {}


def dangers(tree: ast.AST) -> Iterator[str]:
    for node in nodes(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"line {node.lineno}: bare except"
        elif isinstance(node, ast.Call):
            given = {k.arg: ast.unparse(k.value) for k in node.keywords
                     if k.arg in ("trust_remote_code", "weights_only")}  # fmt: skip
            called = dotted(node.func)
            if given.get("trust_remote_code") not in (None, "False"):
                yield f"line {node.lineno}: remote code"
            if called == "torch.load" and given.get("weights_only") != "True":
                yield f"line {node.lineno}: torch.load without weights_only=True"
            if given.get("weights_only") not in (None, "True"):
                yield f"line {node.lineno}: weights_only"
    wrong = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
    yield from (f"line {n}: import {m}" for n, m in imports(tree) if m.split(".")[0] in wrong)


def test_nothing_unpickles_runs_remote_code_or_swallows_everything():
    assert by_file((path, list(dangers(parsed(path)))) for path in files(*ROOMS)) == {}


@pytest.mark.parametrize("source", [
    "try:\n    f()\nexcept:\n    pass", "torch.load(p)", "load(p, weights_only=False)",
    "import pickle", "from pickle import load", "f(trust_remote_code=True)",
])  # fmt: skip
def test_dangers_are_seen(source):
    assert list(dangers(ast.parse(source)))


def test_network_clients_live_in_their_places():
    elsewhere = [p for p in files(*ROOMS) if not name_of(p).startswith(NETWORK)]
    used = ((p, {n.split(".")[0] for _, n in imports(parsed(p))} & CLIENTS) for p in elsewhere)
    assert by_file(used) == BESIDES


def test_every_make_target_has_a_help_line():
    """So each is phony: make takes their names from these lines."""
    text = (ROOT / "Makefile").read_text()
    rules = {m[1]: m[2] for m in re.finditer(r"^([a-z][a-z-]*):(?!=)(.*)$", text, re.MULTILINE)}
    assert "test" in rules
    database = subprocess.run(["make", "-pnq", "help"], cwd=ROOT, capture_output=True, text=True,
                              check=False).stdout  # fmt: skip
    phony = re.search(r"^\.PHONY: (.*)$", database, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == {*rules, "FORCE"}
    assert [name for name, rest in rules.items() if not re.search(r"## \S", rest)] == []


def asserting(tree: ast.Module) -> set[str]:
    """Functions of a test file that can fail by themselves or through one another."""
    bodies = {n.name: n for n in nodes(tree) if isinstance(n, ast.FunctionDef)}
    found: set[str] = set()
    while new := {name for name, body in bodies.items() if can_fail(body, found)} - found:
        found |= new
    return found


def can_fail(body: ast.AST, known: set[str]) -> bool:
    for node in ast.walk(body):
        if isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant):
            return True
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            last = called.split(".")[-1]
            if called in known or called in ("pytest.raises", "pytest.warns", "pytest.fail"):
                return True
            if last.startswith("assert_"):
                return True
    return False


def empty_tests(path: Path) -> set[str]:
    names = {n.name for n in nodes(parsed(path)) if isinstance(n, ast.FunctionDef)}
    return {name for name in names if name.startswith("test")} - asserting(parsed(path))


def test_every_test_can_fail():
    assert by_file((path, empty_tests(path)) for path in files("tests")) == {}


def test_a_test_that_asserts_nothing_is_seen():
    tree = ast.parse("def test_a():\n    f()\n    assert True\ndef test_b():\n    assert f()")
    assert asserting(tree) == {"test_b"}


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.partition("==") for line in lines if line and not line.startswith("#")]
    assert all(mark == "==" and re.fullmatch(r"[\w.]+", pin) for _, mark, pin in pins)
    return {canonicalize_name(name): pin for name, _, pin in pins}


def requirements() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *extras["dev"], *extras["demo"]]
    return {canonicalize_name(Requirement(text).name): Requirement(text) for text in texts}


def test_constraints_pin_every_requirement_inside_its_range():
    pins = constraints()
    outside = {name: pins.get(name) for name, requirement in requirements().items()
               if name not in pins or pins[name] not in requirement.specifier}  # fmt: skip
    assert outside == {}


def test_malicious_and_vulnerable_lightning_is_refused():
    allowed = requirements()["lightning"].specifier
    assert not [bad for bad in ("2.6.1", "2.6.2", "2.6.3", "2.6.4", "2.6.5") if bad in allowed]
    assert constraints()["lightning"] in allowed
    assert "2.5.1" not in requirements()["torch"].specifier  # unpickles by default


def test_requirements_name_everything_that_is_imported():
    owners = packages_distributions()
    known = set(sys.stdlib_module_names) | set(ROOMS) | {"tests"}
    used = {name.split(".")[0] for path in files(*ROOMS, "tests")
            for _, name in imports(parsed(path))} - known  # fmt: skip
    declared = set(requirements()) | {"packaging"}  # packaging comes with pytest
    missing = [name for name in sorted(used)
               if not {canonicalize_name(o) for o in owners.get(name, [])} & declared]  # fmt: skip
    assert missing == []
    pinned = constraints().keys()
    assert all({canonicalize_name(o) for o in owners[name]} & pinned for name in used)


def test_the_project_speaks_of_itself_alone():
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    elsewhere = re.compile(r"\.\./" + "shared|(?:^|[\\s\"'`(=:])/" + r"work(?![\w-])")
    found = []
    for name in filter(None, done.stdout.split("\0")):
        path = ROOT / name
        if path.suffix not in (".png", ".safetensors", ".gz") and path.is_file():
            found += [f"{name}: {line}" for line in path.read_text(errors="replace").splitlines()
                      if elsewhere.search(line)]  # fmt: skip
    assert found == []


#: Pages that tell what is where and what to type; the others are of one subject, or of the past.
PAGES = ("README.md", "docs/architecture.md")


def names_nothing(page: str) -> Iterator[str]:
    """What a page names of ours that is not there: modules, goals of make, settings."""
    files_there = {path.name for room in (*ROOMS, "tests")
                   for path in (ROOT / room).rglob("*.*")}  # fmt: skip
    sections = {key.partition(".")[0] for key in known_keys() if "." in key}
    goals = set(re.findall(r"^([a-z][a-z-]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in set(re.findall(r"[\w*]+\.(?:py|html)\b", page)):
        if not fnmatch.filter(files_there, name):
            yield name
    for goal in set(re.findall(r"(?:^ {4}|`)make ([a-z][a-z-]*)", page, re.MULTILINE)) - goals:
        yield f"make {goal}"
    for key in set(re.findall(r"`(?:--)?([a-z_]+\.[a-z_]+\*?)(?: [^`]*)?`", page)):
        section, _, field = key.partition(".")
        a_file = field in ("html", "json", "md", "py", "yaml")
        if section in sections and not a_file and not fnmatch.filter(known_keys(), key):
            yield key


@pytest.mark.parametrize("page", PAGES)
def test_modules_goals_and_settings_that_pages_name_are_there(page):
    assert sorted(names_nothing((ROOT / page).read_text())) == []


def test_a_name_that_is_not_there_is_seen():
    page = "`minicrit/mislaid.py`, `make mislaid`, `sft.mislaid` and `--dpo.mislaid 2`"
    assert sorted(names_nothing(page)) == ["dpo.mislaid", "make mislaid", "mislaid.py",
                                           "sft.mislaid"]  # fmt: skip
