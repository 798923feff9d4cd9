"""What a mechanism gives the composer: a hinge, with everything known about both its sides.

A *hinge* is a pair of premises and a pair of conclusions. Premise i with conclusion i is sound;
premise i with conclusion 1-i is flawed. So each half alone stands in as many sound as flawed
texts, and only reading both tells them apart: no list of suspicious words can.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from data_gen.scene import Scene

T = TypeVar("T")

NAMES = (
    "Abara", "Brandvold", "Castell", "Dvorak", "Eklund", "Ferrante", "Goss", "Haddad", "Ilves",
    "Jansky", "Kimura", "Lindqvist", "Moreau", "Nakata", "Okafor", "Petrov", "Quist", "Rask",
    "Sayeed", "Thorne", "Ueda", "Varga", "Whitlock", "Yilmaz", "Zeller", "Amari", "Boyle",
    "Corrigan", "Duarte", "Engel",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
#: What leads from the premise to the conclusion.
LINKS = (
    "So ", "Therefore ", "On that footing ", "Hence ", "It follows that ", "Accordingly ",
    "In short, ", "All told, ", "That means that ", "",
)  # fmt: skip
#: The same for a conclusion that is an answer or a decision and "follows" from nothing.
ANSWER_LINKS = ("", "", "In my view ", "As I see it, ")

#: "..., {month}. {thing} ..." must not go on with a small letter; "e.g. x" and "C. x" may.
_AFTER_STOP = re.compile(r"(?:(?<=[^.\s]{2}[.!?] )|(?<=[ .][a-z\d][.!?] )(?<!\.[a-z]\. ))[a-z]")


@dataclass(frozen=True)
class Derived:
    """A figure that is not in the rationale but follows from figures there.

    `formula` is plain arithmetic; `text` is how the result is written. The checker recomputes it.
    """

    text: str
    formula: str


@dataclass(frozen=True)
class Flaw:
    """What is wrong when premise i meets the other conclusion. `evidence` is verbatim."""

    type: str
    evidence: str
    critique: str
    fix: str
    severity: str | None = None  # None: the type's default


@dataclass(frozen=True)
class Sound:
    """Why premise i carries conclusion i."""

    strengths: str
    critique: str


@dataclass(frozen=True)
class Hinge:
    """See the module. Premises are sentences; conclusions are clauses without a full stop."""

    premises: tuple[str, str]
    conclusions: tuple[str, str]
    flaws: tuple[Flaw, Flaw]
    sound: tuple[Sound, Sound]
    derived: tuple[Derived, ...] = ()
    either_order: bool = False  # whether the conclusion may stand before the premise
    links: tuple[str, ...] = LINKS  # what may lead over to the conclusion
    stance: bool = False  # whether conclusion 0 speaks for the measure and 1 against it


class Draw:
    """All random choices for one case, from one seed; a slot keeps its word within the case."""

    def __init__(self, scene: Scene, rng: random.Random) -> None:
        self.scene = scene
        self.rng = rng
        self._drawn: dict[str, Any] = {}
        self._names = {
            "name": rng.choice(NAMES),
            "day": rng.choice(DAYS),
            "month": rng.choice(MONTHS),
        }
        self._names["thing"] = rng.choice(scene.slots["things"])

    def __getitem__(self, slot: str) -> Any:
        """The word (or the mapping of words) drawn from this slot, placeholders filled."""
        if slot not in self._drawn:
            item = self.rng.choice(self.scene.slots[slot])
            self._drawn[slot] = self.fill(item)
        return self._drawn[slot]

    @property
    def thing(self) -> str:
        """The measure under discussion, a singular noun phrase."""
        return self._names["thing"]

    def sample(self, slot: str, count: int) -> list[str]:
        """`count` different sentences of a slot, filled."""
        items = self.scene.slots[slot]
        drawn = self.rng.sample(items, min(count, len(items)))
        return [upper_first(self.fill(item)) for item in drawn]

    def fill(self, item: Any) -> Any:
        """Replaces {name}, {day}, {month} and {thing}."""
        if isinstance(item, Mapping):
            return {key: self.fill(value) for key, value in item.items()}
        if not isinstance(item, str):
            return item
        for key, value in self._names.items():
            item = item.replace("{" + key + "}", value)
        return after_stops(item)

    def pick(self, *options: T) -> T:
        """One of the options."""
        return self.rng.choice(options)

    def whole(self, low: int, high: int, step: int = 1) -> int:
        """A whole number from low to high, both included."""
        return self.rng.randrange(low, high + 1, step)

    def measure(self, item: Mapping[str, Any], *shares: float) -> list[str]:
        """Values at these shares of the way from low to high, rounded to the slot's step."""
        return [number(grid(item["low"] + s * (item["high"] - item["low"]), item)) for s in shares]


def grid(value: float, item: Mapping[str, Any]) -> float:
    """Rounds to the slot's step, if it has one, else to two significant figures."""
    step = item.get("step")
    if step:
        return float(round(round(value / step) * step, 6))
    magnitude = 10 ** (len(str(int(value))) - 2)
    return float(round(value / magnitude) * magnitude)


def number(value: float) -> str:
    """Writes a figure as people do: 1,200, 4.5, 12."""
    return f"{round(value, 6):,.10g}" if abs(value) >= 1 else f"{round(value, 6):.6g}"


def upper_first(text: str) -> str:
    """Capitalises the first letter and leaves the rest."""
    return text[:1].upper() + text[1:]


def after_stops(text: str) -> str:
    """Capitalises what follows a full stop."""
    return _AFTER_STOP.sub(lambda match: match.group().upper(), text)


def sentences(frame: str, /, **words: object) -> str:
    """A filled frame whose sentences all start with a capital."""
    return after_stops(upper_first(frame.format(**words)))


def both(
    frame: str, first: Mapping[str, object], second: Mapping[str, object], /, **words: object
) -> tuple[str, str]:
    """The two premises that one frame gives with two fillings; they differ there alone."""
    return sentences(frame, **words, **first), sentences(frame, **words, **second)


def joined(parts: Sequence[str]) -> str:
    """Sentences joined by single blanks, empty ones left out."""
    return " ".join(part for part in parts if part)
