"""A small benchmark whose numbers are known by hand.

The stand-in critic is input, not what is tested: it reads its p(flawed) off the rationale, so that
every metric follows from the digits below.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from minicrit.config import Recipe
from minicrit.critic import Written
from minicrit.encoding import TooLongError
from minicrit.prompts import UnparsedError, parse_critique
from minicrit.records import Example, write_examples
from minicrit.verdict import Verdict, explained

#: (p of the valid twin, p of the flawed twin) as each critic says it, one pair a twin group.
FIRST = ((0.1, 0.9), (0.6, 0.8), (0.2, 0.4), (0.3, 0.7))
SECOND = ((0.2, 0.6), (0.3, 0.1), (0.7, 0.8), (0.9, 0.2))
FLAWED = (
    'Verdict: flawed\nFlaw: small_sample\nSeverity: medium\nEvidence: "all dips recover"\n'
    "Critique: Three cases.\nFix: Count more."
)
VALID = "Verdict: valid\nCritique: It follows."


class StandIn:
    """Says what stands after its letter in the rationale: `a=0.9`; `a=nan` is undefined."""

    prompt_version = "plain-1"
    adapter = None
    trained = False

    def __init__(self, letter: str, *, threshold: float = 0.5) -> None:
        self.name = f"critic {letter}"
        self.identity = f"identity of {letter}"
        self.threshold = threshold
        self.calibration: dict[str, Any] | None = None
        self.letter = letter
        self.asked = 0
        self.dies_after: int | None = None

    def p_flawed(
        self,
        items: Sequence[tuple[str, str]],
        *,
        batch_tokens: int = 4096,
        progress: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        if self.dies_after is not None and self.asked >= self.dies_after:
            raise KeyboardInterrupt
        if any("too long" in rationale for _, rationale in items):
            raise TooLongError("expected at most 9 prompt tokens, got 10; shorten it")
        self.asked += len(items)
        return np.array([self._p(rationale) for _, rationale in items])

    def p_and_types(
        self, items: Sequence[tuple[str, str]], *, batch_tokens: int = 4096
    ) -> tuple[np.ndarray, list[str]]:
        """Critic a always takes a flaw to be the true one, critic b never does."""
        name = "small_sample" if self.letter == "a" else "anchoring"
        return self.p_flawed(items, batch_tokens=batch_tokens), [name] * len(items)

    def verdict(self, items: Sequence[tuple[str, str]]) -> list[Verdict]:
        return [self._verdict(*item) for item in items]

    def critique(
        self, items: Sequence[tuple[str, str]], *, max_new_tokens: int = 160, batch: int = 8
    ) -> list[Written]:
        return [self._written(*item) for item in items]

    def _p(self, rationale: str) -> float:
        found = re.search(rf"{self.letter}=(\S+)", rationale)
        assert found
        return float(found[1])

    def _verdict(self, domain: str, rationale: str, text: str | None = None) -> Verdict:
        p = self._p(rationale)
        fields = explained(parse_critique(text) if text else None, rationale)
        return Verdict(
            label="flawed" if p > self.threshold else "valid", p_flawed=p, domain=domain,
            threshold=self.threshold, model=self.name, adapter=None, prompt_version="plain-1",
            latency_ms=1.0, request_id="0", **fields,
        )  # fmt: skip

    def _written(self, domain: str, rationale: str) -> Written:
        text = FLAWED if self._p(rationale) > self.threshold else VALID
        text = "No flaw found." if "mumbles" in rationale else text
        try:
            parsed, reason = parse_critique(text), None
        except UnparsedError as error:
            parsed, reason = None, str(error)
        return Written(self._verdict(domain, rationale), text, parsed, reason, 10)


def twins(number: int, first: Sequence[object], second: Sequence[object]) -> list[Example]:
    """A valid and a flawed item; the digits say what either critic answers."""
    family = f"composer/trading/family_{number % 2}/sampling"
    pair = []
    for label, said, other in zip(("valid", "flawed"), first, second, strict=True):
        start = "So far all dips recover." if label == "flawed" else "Most dips recover."
        flaw = {"flaw_type": "small_sample", "evidence": "all dips recover", "severity": "medium",
                "critique": "Three cases.", "fix": "Count."}  # fmt: skip
        pair.append(
            Example(
                id=f"{number}/{label}", domain="trading" if number % 2 else "medical",
                rationale=f"Case {number}. {start} a={said} b={other} .", label=label,
                group=str(number), source=family, split="test",
                **(flaw if label == "flawed" else {"critique": "It follows."}),  # type: ignore[arg-type]
            )
        )  # fmt: skip
    return pair


def changed(base: Example, change: str, first: object = 0, second: object = 0) -> Example:
    """An item of the suite that is the base changed; the digits say what either critic answers."""
    said = re.sub(r"a=.* b=\S+", f"a={first} b={second}", base.rationale)
    return replace(base, id=f"{base.id}/{change}", rationale=said,
                   source=f"adversarial/metamorphic_keep/{change}")  # fmt: skip


def small() -> list[Example]:
    """The four twin groups above."""
    pairs = zip(FIRST, SECOND, strict=True)
    return [e for number, (a, b) in enumerate(pairs) for e in twins(number, a, b)]


def many() -> list[Example]:
    """A hundred items in twins."""
    return [e for number in range(50) for e in twins(number, (0.1, 0.9), (0.2, 0.8))]


def lasting(report: dict[str, Any]) -> dict[str, Any]:
    """What two runs must have in common."""
    return {key: value for key, value in report.items() if key not in ("measured", "settings")}


def recipe(folder: Path, examples: Sequence[Example] | None = None) -> Recipe:
    """A recipe whose models are called a and b, with its data written to the folder."""
    made = Recipe()
    chosen = small() if examples is None else examples
    write_examples(folder / "test.jsonl", chosen)
    lessons = [Example(**{**e.to_row(), "id": f"train/{e.id}", "group": f"t{e.group}",
                          "rationale": "Once. " + e.rationale, "split": "train"})
               for e in small()]  # fmt: skip
    write_examples(folder / "train.jsonl", lessons)
    settings = made.benchmark
    settings.model_1, settings.model_2 = "a", "b"
    settings.data = str(folder / "test.jsonl")
    settings.words_data = folder / "train.jsonl"
    settings.critiques, settings.latency_items = 4, 4
    settings.out = folder / "reports" / "benchmark"
    settings.log_folder = folder / "runs"
    made.data.folder = folder
    made.sft.out = folder / "sft"
    return made


def growing(path: Path, critic: type[StandIn] = StandIn) -> Callable[[Any], Any]:
    """Loads a critic `a` while somebody adds an empty line to a file."""

    def load(_: Any) -> StandIn:
        with path.open("a") as file:
            file.write("\n")
        return critic("a")

    return load
