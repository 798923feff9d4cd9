"""From recipe files and flags to a `Recipe`: known keys only, checked types, flags last.

recipe = load_recipe(["cpu"], ["--sft.epochs", "2"])

Folders that nobody names are those of the run, which bears the name of the last recipe: with `tiny`
the adapter is at checkpoints/tiny/sft.
"""

import math
import re
from argparse import ArgumentError
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jsonargparse

from minicrit.config import Recipe
from minicrit.jsonl import shown
from minicrit.limits import broken
from minicrit.strictyaml import Setting, read_settings

RECIPES = Path(__file__).parent / "recipes"
_ENDINGS = (".yaml", ".yml")
_NAMES: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false",
                           str: "text", Path: "a path", NoneType: "null"}  # fmt: skip
#: Where the folders of a run begin in the defaults, which are those of the recipe cpu.
_RUN_FOLDER = re.compile(r"^(data|checkpoints|reports)/cpu(?=[-/]|$)")
#: Names below checkpoints/ that are no run's.
NO_RUN = ("base", "released")
_PARSER_KEY = re.compile(r'Parser key "([\w.]+)"')
#: How like a key has to be to be what was meant, from 0 to 1 (difflib's measure).
_LIKE = 0.6
_GOT = re.compile(r"Got value: (.*)", re.DOTALL)


class SettingsError(ValueError):
    """What was asked for cannot be understood: an unknown key, flag, type or recipe."""


def load_recipe(config: Sequence[str], flags: Sequence[str]) -> Recipe:
    """The recipe that files (names or paths, later ones win) and then flags make.

    Raises:
        SettingsError: with file and line or the flag, and the nearest right one.
    """
    files = [(path, _known_settings(path)) for path in map(recipe_file, config)]
    sections = _spoken_of([key for _, settings in files for key in settings], flags)
    run = _run_name(config)
    parser = build_parser(sections, run)
    for path, settings in files:
        _apply(parser, path, settings)
    try:
        found = parser.parse_args(list(flags))
    except ArgumentError as error:
        raise _refused_flag(error, flags) from error
    top = {key: found[key] for key in known_keys() if "." not in key}
    told = top | {f"{name}.{key}": value for name in sections
                  for key, value in vars(found[name]).items()}  # fmt: skip
    for key, value in told.items():
        if not _possible(value, known_keys()[key]):
            raise _wrong_type("--", key, str(value))
        if limit := broken(key, value):
            raise SettingsError(f"--{key}: expected {limit}, got {value}; see --help")
    made = {name: make(**(vars(found[name]) if name in sections else _run_folders(make, run)))
            for name, make in _sections().items()}  # fmt: skip
    return Recipe(**top, **made)


def _run_name(config: Sequence[str]) -> str:
    """The name of the run: the last recipe's; without one, that of the defaults."""
    name = Path(config[-1]).stem if config else "cpu"
    if name in NO_RUN:
        raise SettingsError(f"{config[-1]}: expected a recipe that names a run, got {name}, where "
                            f"critics lie that no run made; call the file otherwise")  # fmt: skip
    return name


def _run_folders(section: type, run: str) -> dict[str, Any]:
    """The fields of a section whose default is a folder of the run, with those of this run."""
    held = {f.name: f.default for f in fields(section) if isinstance(f.default, (str, Path))}
    return {key: type(value)(_RUN_FOLDER.sub(lambda found: f"{found[1]}/{run}", str(value)))
            for key, value in held.items() if _RUN_FOLDER.match(str(value))}  # fmt: skip


def _spoken_of(keys: Iterable[str], flags: Iterable[str]) -> dict[str, Any]:
    """The sections that keys or flags name; a parser of all of them takes a second to build."""
    names = {word.lstrip("-").partition(".")[0] for word in (*keys, *flags)}
    return {name: section for name, section in _sections().items() if name in names}


def recipe_file(name: str) -> Path:
    """The file of a recipe: one of ours by name, else a path."""
    path = Path(name)
    if path.name == name and path.suffix not in _ENDINGS:
        path = RECIPES / f"{name}.yaml"
    if path.is_file():
        return path
    ours = [recipe for recipe, _ in shipped_recipes()]
    raise SettingsError(
        f"expected a recipe ({', '.join(ours)}) or a YAML file, got {shown(name)}; "
        f"{meant(path.stem, ours, otherwise='see minicrit recipes')}"
    )


def shipped_recipes() -> list[tuple[str, str]]:
    """(name, what its first line says) of the recipes that come with the package."""
    files = sorted(RECIPES.glob("*.yaml"), key=lambda file: file.stem)
    return [(file.stem, file.read_text().split("\n", 1)[0].lstrip("# ")) for file in files]


def explain(sections: Sequence[str], config: Sequence[str], usage: str, description: str) -> str:
    """The help text of a stage: its sections of the recipe, with the values of the files given."""
    parser = build_parser(sections, _run_name(config), usage=usage, description=description)
    for path in map(recipe_file, config):
        settings = {key: setting for key, setting in _known_settings(path).items()
                    if "." not in key or key.partition(".")[0] in sections}  # fmt: skip
        _apply(parser, path, settings)
    # jsonargparse names a type by its repr where it is not a builtin.
    return re.sub(r"<class\s+'Path'>", "path", parser.format_help())


def build_parser(
    sections: Iterable[str], run: str, usage: str | None = None, description: str | None = None
) -> jsonargparse.ArgumentParser:
    """One flag a field, explained by the docstrings of the dataclasses; folders are the run's."""
    parser = jsonargparse.ArgumentParser(
        usage=usage, description=description, exit_on_error=False, allow_abbrev=False,
        add_help=False,
    )  # fmt: skip
    parser.add_class_arguments(Recipe, None, as_group=False, skip=set(_sections()))
    for name in sections:
        group = parser.add_argument_group(_sections()[name].__doc__.split(".", 1)[0])
        group.add_class_arguments(_sections()[name], name, as_group=False)
        folders = _run_folders(_sections()[name], run)
        parser.set_defaults({f"{name}.{key}": folder for key, folder in folders.items()})
    return parser


def nearest(key: str, known: Iterable[str]) -> str | None:
    """The known key that `key` most likely meant, if there is one like it.

    One with the same last part comes first, however far the rest is.
    """
    known = list(known)
    same_end = [k for k in known if k.rpartition(".")[2] == key.rpartition(".")[2]]
    found = get_close_matches(key, same_end or known, n=1, cutoff=0.0 if same_end else _LIKE)
    return found[0] if found else None


def meant(
    key: str, known: Iterable[str], *, before: str = "", otherwise: str = "see --help"
) -> str:
    """What to do about a key that is not known: `before` and the nearest, else `otherwise`."""
    found = nearest(key, known)
    return f"did you mean {before}{found}?" if found else otherwise


@cache
def known_keys() -> dict[str, Any]:
    """The type of every setting, by dotted key."""
    keys = {k: hint for k, hint in get_type_hints(Recipe).items() if k not in _sections()}
    for section, class_ in _sections().items():
        keys |= {f"{section}.{k}": hint for k, hint in get_type_hints(class_).items()}
    return keys


@cache
def _sections() -> dict[str, Any]:
    """The dataclass of every section."""
    return {name: hint for name, hint in get_type_hints(Recipe).items() if is_dataclass(hint)}


def _apply(
    parser: jsonargparse.ArgumentParser, path: Path, settings: Mapping[str, Setting]
) -> None:
    """Makes the values of a file the parser's defaults."""
    for key, setting in settings.items():
        hint = known_keys()[key]
        # jsonargparse would read text in the way of YAML 1.1, `12:30` as 750.
        words = setting.value if isinstance(setting.value, list) else [setting.value]
        text = any(isinstance(word, str) for word in words) and not _takes_text(hint)
        if text or not _possible(setting.value, hint):
            raise _wrong_type(f"{path}:{setting.line}: ", key, _shown(setting))
    try:
        checked = parser.parse_object(_nested(settings), defaults=False)
    except ArgumentError as error:
        wrong = _PARSER_KEY.search(str(error))
        if wrong is None or wrong[1] not in settings:
            raise SettingsError(f"{path}: {_flat(error)}") from error
        setting = settings[wrong[1]]
        raise _wrong_type(f"{path}:{setting.line}: ", wrong[1], _shown(setting)) from error
    for key, setting in settings.items():
        if limit := broken(key, checked[key]):
            raise SettingsError(f"{path}:{setting.line}: {key}: expected {limit}, got "
                                f"{_shown(setting)}; see --help")  # fmt: skip
    parser.set_defaults({key: checked[key] for key in settings})


def _possible(value: object, hint: object) -> bool:
    """Refuses what jsonargparse lets through: null anywhere, and nan and infinity."""
    if value is None:
        return NoneType in get_args(hint)
    if isinstance(value, list):
        return all(_possible(item, str) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def _shown(setting: Setting) -> str:
    return "null" if setting.value is None else repr(setting.value)


def _takes_text(hint: object) -> bool:
    if get_origin(hint) is Literal:
        return isinstance(get_args(hint)[0], str)
    return hint in (str, Path) or any(map(_takes_text, get_args(hint)))


def _known_settings(path: Path) -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    try:
        found = read_settings(path)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    for key, setting in found.items():
        if key in known_keys():
            settings[key] = setting
        elif key not in _sections():
            raise SettingsError(
                f"{path}:{setting.line}: expected a known setting, got "
                f"{shown(key)}; {meant(key, [*known_keys(), *_sections()])}"
            )
        elif setting.value is not None:
            raise SettingsError(f"{path}:{setting.line}: expected settings below {key}, got "
                                f"{setting.value!r}; write each on a line below it")  # fmt: skip
    return settings


def _nested(settings: Mapping[str, Setting]) -> dict[str, object]:
    tree: dict[str, object] = {}
    for key, setting in settings.items():
        section, _, name = key.rpartition(".")
        below = tree.setdefault(section, {}) if section else tree
        below[name] = setting.value  # type: ignore[index]
    return tree


def _refused_flag(error: ArgumentError, flags: Sequence[str]) -> SettingsError:
    text = str(error)
    key = _PARSER_KEY.search(text)
    if key:
        got = _GOT.search(text)
        return _wrong_type("--", key[1], repr(got[1]) if got else "something else")
    known = {f"--{name}" for name in known_keys()}
    words = [flag.partition("=")[0] for flag in flags]
    unknown = [word for word in words if word.startswith("-") and word not in known]
    if "unrecognized" in text and unknown:
        return SettingsError(
            f"expected a known flag, got {shown(unknown[0])}; "
            f"{meant(unknown[0].lstrip('-'), known_keys(), before='--')}"
        )
    return SettingsError(f"expected --section.field VALUE, got: {_flat(error)}; see --help")


def _wrong_type(where: str, key: str, got: str) -> SettingsError:
    expected = describe(known_keys()[key])
    return SettingsError(f"{where}{key}: expected {expected}, got {shown(got)}; see --help")


def describe(hint: object) -> str:
    """A type in words."""
    if isinstance(hint, UnionType):
        return " or ".join(map(describe, get_args(hint)))
    if isinstance(hint, type):
        return _NAMES[hint]
    if get_origin(hint) is list:
        return f"a list (each {describe(get_args(hint)[0])})"
    return "one of " + ", ".join(map(str, get_args(hint)))


def _flat(error: object) -> str:
    return " ".join(shown(str(error), 300).replace("\\n", " ").split())
