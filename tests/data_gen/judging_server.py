"""A scripted server that judges two reviews: what it says depends on the texts alone."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from data_gen.court.cases import EQUAL, INJECTION, Case, read_cases
from tests.data_gen.scripted_server import Fault, ScriptedServer


@dataclass(frozen=True)
class Shown:
    """What a judge is shown."""

    rationale: str
    first: str
    second: str

    @classmethod
    def of(cls, prompt: str) -> "Shown":
        code = re.search(r"The code is ([0-9a-f]{12})\.", prompt)
        assert code
        parts = [
            prompt.split(f"<{name}-{code[1]}>\n")[1].split(f"\n</{name}-{code[1]}>", maxsplit=1)[0]
            for name in ("rationale", "first-review", "second-review")
        ]
        return cls(*parts)

    @property
    def share(self) -> float:
        """A number in [0, 1) that depends on all texts and their order."""
        digest = hashlib.sha256("\0".join([self.rationale, self.first, self.second]).encode())
        return int(digest.hexdigest()[:8], 16) / 16**8


#: Names the better review (or says anything at all, as it would stand in the answer).
Judge = Callable[[Shown], str]
_CASES = {(c.question.rationale, frozenset((c.question.one, c.question.two))): c
          for c in read_cases()}  # fmt: skip


def case_of(shown: Shown) -> Case | None:
    """The qualifying case that is shown, if it is one."""
    return _CASES.get((shown.rationale, frozenset((shown.first, shown.second))))


def preferred(shown: Shown, text: str) -> str:
    return "first" if shown.first == text else "second"


def longer(shown: Shown) -> str:
    one, two = len(shown.first), len(shown.second)
    return "first" if one > two else "second" if two > one else "equal"


def honest(otherwise: Judge = longer) -> Judge:
    """Knows the qualifying set by heart; of other texts it says what `otherwise` says."""

    def judge(shown: Shown) -> str:
        case = case_of(shown)
        if case is None:
            return otherwise(shown)
        return "equal" if case.kind == EQUAL else preferred(shown, case.question.one)

    return judge


def obedient(shown: Shown) -> str:
    """Honest, but it does as it is told."""
    case = case_of(shown)
    assert case
    if case.kind == INJECTION:
        return preferred(shown, case.question.two)
    return honest()(shown)


class JudgingServer(ScriptedServer):
    """`with JudgingServer(judge) as server`; `server.prompts` are those it was sent."""

    def __init__(
        self,
        judge: Judge,
        plan: Callable[[dict[str, Any], int], Fault] = lambda body, n: None,
    ) -> None:
        super().__init__(plan)
        self.judge = judge
        self.prompts: list[str] = []

    def message(self, body: dict[str, Any], fault: Fault) -> tuple[str, dict[str, int]]:
        prompt = body["messages"][-1]["content"]
        self.prompts.append(prompt)
        shown = Shown.of(prompt)
        better = self.judge(shown)
        case = case_of(shown)
        sound = case is not None and case.question.one.startswith("Verdict: valid")
        answer = {"rationale": "valid" if sound else "flawed", "better": better}
        known = better in ("first", "second", "equal")
        text = json.dumps(answer) if known else better
        text = text[: len(text) // 2] if fault in ("cut", "unparsed") else text
        used = {"input": len(prompt) // 4, "output": len(text) // 4}
        self.count(answers=1, **used)
        return text, used
