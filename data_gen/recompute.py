"""Decides labels from the printed text alone, wherever arithmetic can decide them.

The composer labels an item by which halves it put together. Here the figures and the claim are read
back out of the finished rationale, and the label is worked out from them; the two must agree.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from data_gen.mechanisms import causal, decision, figures, probability, sampling
from data_gen.scene import Scene, scenes
from minicrit.records import Example

Words = Mapping[str, Any]
Found = dict[str, float]
Claim = tuple[tuple[str, ...], Words, Callable[[Found], bool]]
#: A part of the frame that is the same in all its texts, to look for first, and the whole.
Patterns = tuple[tuple[str, str], ...]
_SLOT = re.compile(r"\{(\w+)\}")
_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
#: A sample of this size or more carries a firm claim in the texts (they hold 3-5 or 240 and more).
_LARGE = 30
#: How far an estimate may lie outside the two counts, as a share.
_NEAR = 0.15
HALF = 0.5  # a percentage is written to the nearest whole


@dataclass(frozen=True)
class Reader:
    """How to read one mechanism: its slots, its premises, its claims and when each is sound."""

    slots: tuple[str, ...]
    premises: tuple[str, ...]
    claims: Callable[[Words], Iterator[Claim]]


def recomputed_label(example: Example) -> str | None:
    """`valid` or `flawed` by the figures, None if no arithmetic decides this mechanism.

    Raises:
        ValueError: if the figures or the claim cannot be found in the text, or two claims are.
    """
    _, domain, family, mechanism = example.source.split("/")
    if mechanism not in READERS:
        return None
    labels = set(_labels(_readings(mechanism, f"{domain}/{family}"), example.rationale))
    if len(labels) != 1:
        raise ValueError(f"{example.id}: expected one claim with its figures, got {labels}; "
                         "teach data_gen.recompute the wording")  # fmt: skip
    return "valid" if labels.pop() else "flawed"


def _labels(readings: Sequence["Reading"], text: str) -> Iterator[bool]:
    for reading in readings:
        premise = _find(reading.premises, text)
        if premise is None:
            continue
        rest = text[: premise.start()] + " | " + text[premise.end() :]
        for frames, is_sound in reading.claims:
            claim = _find(frames, rest)
            if claim is not None:
                yield is_sound(_found(premise) | _found(claim))


@dataclass(frozen=True)
class Reading:
    """A reader with the words of one alternative of each slot, as patterns."""

    premises: Patterns
    claims: tuple[tuple[Patterns, Callable[[Found], bool]], ...]


@cache
def _readings(mechanism: str, family: str) -> tuple[Reading, ...]:
    """All that may stand in a text of this mechanism and family."""
    reader, scene = READERS[mechanism], _scenes()[family]
    found = []
    for items in product(*(scene.slots[slot] for slot in reader.slots)):
        words = {key: value for item in items for key, value in item.items()}
        words["thing"] = scene.slots["things"]
        if "metric" in reader.slots:
            words["m"] = words["name"]
        if "batches" in reader.slots:
            words["each"] = figures.of_each(words["period"])
        claims = ((_patterns(frames, {**words, **more}), is_sound)
                  for frames, more, is_sound in reader.claims(words))  # fmt: skip
        found.append(Reading(_patterns(reader.premises, words), tuple(claims)))
    return tuple(found)


def _patterns(frames: Sequence[str], words: Words) -> Patterns:
    return tuple((max(_SLOT.split(frame)[::2], key=len).lower(), _pattern(frame, words))
                 for frame in frames)  # fmt: skip


def _find(patterns: Patterns, text: str) -> re.Match[str] | None:
    """Where one of the patterns stands in the text."""
    lower = text.lower()
    found = (_compiled(pattern).search(text) for fixed, pattern in patterns if fixed in lower)
    return next((match for match in found if match), None)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """There are more of them than `re` keeps, and compiling takes longer than searching."""
    return re.compile(pattern, re.IGNORECASE)


def _found(match: re.Match[str]) -> Found:
    return {
        key: figure
        for name, value in match.groupdict().items()
        for key, figure in _figures(name, value)
    }


def _pattern(frame: str, words: Words) -> str:
    seen: set[str] = set()

    def piece(name: str) -> str:
        if name in words:
            return _literal(words[name])
        if name == "month":
            return r"\w+"
        if name in seen:
            return rf"(?P={name})"
        seen.add(name)
        span = rf"from {_NUMBER}.*? to {_NUMBER}.*?"
        return f"(?P<{name}>{span})" if name in ("a", "b") else f"(?P<{name}>{_NUMBER})%?"

    parts = _SLOT.split(frame)
    return "".join(piece(p) if i % 2 else re.escape(p) for i, p in enumerate(parts))


def _literal(value: Any) -> str:
    """A word, or any of several; a placeholder in it stands for some word."""
    if isinstance(value, tuple):
        return f"(?:{'|'.join(map(_literal, value))})"
    return re.sub(r"\\\{\w+\\\}", r"\\w+", re.escape(str(value)))


def _figures(name: str, value: str) -> Iterator[tuple[str, float]]:
    """One figure under its name, or the two of `from 4.1 bp to 2.9` as name1 and name2."""
    if not value.startswith("from "):
        yield name, float(value.replace(",", ""))
        return
    for n, figure in enumerate(re.findall(rf"(?:from|to) ({_NUMBER})", value), 1):
        yield f"{name}{n}", float(figure.replace(",", ""))


@cache
def _scenes() -> dict[str, Scene]:
    return {scene.family: scene for scene in scenes()}


def _simple(
    frames: tuple[str, ...], is_sound: Callable[[Found], bool]
) -> Callable[[Words], Iterator[Claim]]:
    return lambda words: iter([(frames, {}, is_sound)])


def _either(
    first: tuple[str, ...], second: tuple[str, ...], is_first: Callable[[Found], bool]
) -> Callable[[Words], Iterator[Claim]]:
    """The first claim is sound when `is_first` holds, the second when it does not."""
    return lambda words: iter([(first, {}, is_first), (second, {}, lambda f: not is_first(f))])


def _worse(words: Words) -> Iterator[Claim]:
    yield figures.WORSE, {"z": words["a"]}, lambda f: f["x"] / f["m"] > f["y"] / f["n"]
    yield figures.WORSE, {"z": words["b"]}, lambda f: f["x"] / f["m"] < f["y"] / f["n"]


def _decided(words: Words) -> Iterator[Claim]:
    yield decision.DECIDED, {"do": words["keep"]}, lambda f: f["v"] <= f["t"]
    yield decision.DECIDED, {"do": words["drop"]}, lambda f: f["v"] > f["t"]


def _course(words: Words) -> Iterator[Claim]:
    stop = f"stop {words['project']} here"
    yield decision.COURSE, {"do": words["finish"]}, lambda f: f["g"] > f["r"]
    yield decision.COURSE, {"do": stop}, lambda f: f["g"] < f["r"]


def _share_above_half(f: Found) -> bool:
    return f["catch"] > f["false"] * (f["n"] - 1)


def _near_counts(f: Found) -> bool:
    low, high = sorted((f["x"], f["y"]))
    return low * (1 - _NEAR) <= f["v"] <= high * (1 + _NEAR)


def _stood_still(f: Found) -> bool:
    return abs(f["b2"] - f["b1"]) < 0.5 * abs(f["a2"] - f["a1"])


READERS: dict[str, Reader] = {
    "product": Reader(("batches",), figures.RATE,
                      _simple(figures.TOTAL, lambda f: f["t"] == f["rate"] * f["n"])),
    "denominators": Reader(("exposures",), figures.COUNTS, _worse),
    "anchoring": Reader(("estimates",), figures.SOURCES, _simple(figures.ESTIMATE, _near_counts)),
    "calibration": Reader(
        ("trackers",), probability.RECORD,
        _simple(probability.CHANCE, lambda f: abs(f["p"] - 100 * f["k"] / f["n"]) <= HALF)),
    "base_rate": Reader(("alarms",), probability.DETECTOR,
                        _either(probability.SURELY, probability.SELDOM, _share_above_half)),
    "small_sample": Reader(("units",), sampling.RUN,
                           _either(sampling.FIRM, sampling.CAUTIOUS, lambda f: f["n"] >= _LARGE)),
    "difference_in_differences": Reader(("groups", "metric"), causal.TWO_GROUPS,
                                        _either(causal.CREDIT, causal.COMMON, _stood_still)),
    "fixed_criterion": Reader(("criteria",), decision.RULE, _decided),
    "sunk_cost": Reader(("projects",), decision.BALANCE, _course),
}  # fmt: skip
