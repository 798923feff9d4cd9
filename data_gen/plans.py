"""What each pair of an LLM run is about: a seeded walk over domains, scenarios, kinds and flaws."""

import random
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import yaml

from data_gen.tamper import Plan
from minicrit.taxonomy import DOMAINS, FLAW_TYPES

_CATALOGUE = Path(__file__).parent / "scenarios.yaml"
_VOICES = (
    "a terse log entry of an AI agent",
    "an analyst's note to a colleague",
    "a memo to somebody who has to decide today",
    "a careful senior professional, in whole sentences",
    "a chat message, informal but precise",
    "an AI agent that explains its next action",
)
_LENGTHS = ("40 to 70 words", "70 to 110 words", "110 to 170 words")
#: Kinds of sound texts: (weight, what the writer is told). A third is sophisticated.
SOUND_KINDS: Mapping[str, tuple[int, str]] = {
    "sophisticated_valid": (34, "Let the argument be a demanding one, with a control, a comparison "
                                "or a calculation that a careless reader might take for an error."),
    "suspicious_valid": (24, "Let it look suspicious at first sight (few but decisive cases, a "
                             "high confidence that is earned, a blunt tone), and yet be right."),
    "uncertain_correct": (16, "Let the author be openly uncertain, in just the right degree."),
    "mixed_signals": (16, "Let some of the evidence point the other way, and be weighed fairly."),
    "plain": (10, "Let it be everyday reasoning."),
}  # fmt: skip
_BIASES = {"anchoring", "confirmation_bias", "sunk_cost", "overconfidence", "base_rate_neglect"}
_OMISSIONS = {"missing_alternative", "unaddressed_risk", "denominator_neglect", "selection_bias"}


def plans(seed: int, focus: Mapping[tuple[str, str], float] | None = None) -> Iterator[Plan]:
    """Endless plans, the same for the same seed.

    Args:
        seed: of the walk.
        focus: weights of the (domain, flaw type) pairs to draw from; None for all evenly.
    """
    cells, weights = list(focus or {}), list((focus or {}).values())
    number = 0
    while True:
        rng = random.Random(f"plans/{seed}/{number}")  # noqa: S311 - not for secrets
        domain, flaw = rng.choices(cells, weights)[0] if cells else _even(seed, number)
        kind = rng.choices(list(SOUND_KINDS), [w for w, _ in SOUND_KINDS.values()])[0]
        yield Plan(
            number=number,
            domain=domain,
            scenario=rng.choice(catalogue()[domain]),
            voice=rng.choice(_VOICES),
            length=rng.choice(_LENGTHS),
            manner=SOUND_KINDS[kind][1],
            flaw=flaw,
            sound_kind=kind,
            flawed_kind=_flawed_kind(kind, flaw),
        )
        number += 1


def _even(seed: int, number: int) -> tuple[str, str]:
    """Every domain with every flaw type once, in an order of its own, then again."""
    cells = [(domain, flaw) for domain in DOMAINS for flaw in FLAW_TYPES if flaw != "other"]
    lap, at = divmod(number, len(cells))
    random.Random(f"cells/{seed}/{lap}").shuffle(cells)  # noqa: S311 - not for secrets
    return cells[at]


def _flawed_kind(sound: str, flaw: str) -> str:
    if sound == "mixed_signals":
        return "mixed_signals"
    if flaw in _BIASES:
        return "cognitive_bias"
    return "missing_context" if flaw in _OMISSIONS else "subtle_flaw"


@cache
def catalogue() -> Mapping[str, tuple[str, ...]]:
    """Scenarios by domain."""
    read = yaml.safe_load(_CATALOGUE.read_text(encoding="utf-8"))
    return {domain: tuple(read[domain]) for domain in DOMAINS}
