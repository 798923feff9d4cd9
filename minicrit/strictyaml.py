"""Strict YAML for settings: nothing is guessed, nothing is lost, every error names file and line.

Standard YAML 1.1 reads `1e-5` as text, `no` as false, `010` as 8 and `12:30` as 750, and lets the
last of two equal keys win. Here a plain word is a number, true, false or null only if it looks
like one in JSON (leading + and missing digits around a point are let through); all else is text,
which a typed setting then refuses. Aliases and tags are refused, so nothing explodes or runs.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?!0[0-9])(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq")}
_MAX_DIGITS = 300
Scalar = str | int | float | bool | None
Value = Scalar | list[Scalar]


@dataclass(frozen=True)
class Setting:
    """A value, or a list of values, and the line it stands on."""

    value: Value
    line: int


class _Loader(yaml.BaseLoader):
    """Builds nodes without giving any of them a type."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="an alias", problem_mark=mark)
        return super().compose_node(parent, index)


def scalar_of(text: str) -> Scalar:
    """The value of an unquoted word."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _MAX_DIGITS:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


def read_settings(path: Path) -> dict[str, Setting]:
    """The values of a YAML file by dotted key, in order; an empty section holds nothing.

    Raises:
        ValueError: `path:line: expected ..., got ...; remedy`.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise _refused(path, error.problem_mark, "YAML", error.problem or "an error") from error
    except RecursionError as error:
        raise ValueError(f"{path}: expected YAML of few levels, got too many to read; flatten it"
                         ) from error  # fmt: skip
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        got = str(error).splitlines()[0]
        raise ValueError(f"{path}: expected YAML in UTF-8, got {got}; save it as such") from error
    settings: dict[str, Setting] = {}
    for key, name, value in _leaves(path, root, ""):
        line = name.start_mark.line + 1
        if key in settings:
            raise ValueError(f"{path}:{line}: expected each key once, got {key} again after line "
                             f"{settings[key].line}; keep one of them")  # fmt: skip
        settings[key] = Setting(value, line)
    return settings


def _leaves(
    path: Path, node: yaml.Node | None, prefix: str
) -> Iterator[tuple[str, yaml.Node, Value]]:
    """(dotted key, node of the key, value) of every leaf; of a section (key, node, None) too."""
    if node is None:
        return
    if not isinstance(node, yaml.MappingNode) or node.tag not in _PLAIN_TAGS:
        raise _refused(path, node.start_mark, "keys with values", _shown(node))
    for name, value in node.value:
        if not isinstance(name, yaml.ScalarNode):
            raise _refused(path, name.start_mark, "a name before the colon", _shown(name))
        key = prefix + name.value
        if isinstance(value, yaml.MappingNode):
            yield key, name, None
            yield from _leaves(path, value, f"{key}.")
        elif isinstance(value, yaml.SequenceNode) and value.tag in _PLAIN_TAGS:
            yield key, name, [_scalar(path, key, item) for item in value.value]
        else:
            yield key, name, _scalar(path, key, value)


def _scalar(path: Path, key: str, node: yaml.Node) -> Scalar:
    if not isinstance(node, yaml.ScalarNode) or node.tag not in _PLAIN_TAGS:
        raise _refused(path, node.start_mark, f"one value for {key}", _shown(node))
    return scalar_of(node.value) if node.style is None else str(node.value)


def _shown(node: yaml.Node) -> str:
    if node.tag not in _PLAIN_TAGS:
        return f"the tag {node.tag}"
    if isinstance(node, yaml.CollectionNode):
        return "a list" if isinstance(node, yaml.SequenceNode) else "keys with values"
    return f"{node.value!r}"


def _refused(path: Path, mark: yaml.Mark | None, expected: str, got: str) -> ValueError:
    line = mark.line + 1 if mark else 1
    return ValueError(f"{path}:{line}: expected {expected}, got {got}; write `key: value`")
