"""Who revises drafts under the rules: the critic itself, or a language model.

A critic of 135 M parameters follows no instructions, but it can go on writing. So what it keeps of
a draft is everything before the first field that breaks a rule, and it writes the rest anew, the
heading of that field given. A wrong verdict has only one other word to be replaced by; the reasons
for it are then the critic's own (rationalization, STaR, arXiv 2203.14465). A draft that cannot be
read is begun anew.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from data_gen.acceptance import Draft
from data_gen.answers import read_fields, schema_of, template
from data_gen.backends.protocol import Request, UnanswerableError
from data_gen.candidates import make_candidates
from data_gen.judge import Ask
from data_gen.rules import CODE, rules
from minicrit.critic import Critic
from minicrit.prompts import LEAD_IN, VERDICT_WORDS, Critique, begun, render_critique
from minicrit.sampling import Manner
from minicrit.taxonomy import FLAW_TYPES, LABELS, SEVERITIES

PROMPT_VERSION = "1"
_NONE = "none"
_SCHEMA = schema_of(
    verdict=LABELS, flaw=(*FLAW_TYPES, _NONE), severity=(*SEVERITIES, _NONE), evidence=None,
    strengths=None, critique=None, fix=None,
)  # fmt: skip


class Reviser(Protocol):
    """Revises drafts."""

    def revise(self, drafts: Sequence[Draft]) -> list[list[str]]:
        """The revisions of each draft, in order; none where there was no answer."""
        ...


class SelfReviser:
    """The critic that wrote the drafts.

    Args:
        critic: it. manner: how it writes. work: folder of what is done so far.
        hint: replace a wrong verdict by the right one; else the critic may draw it anew.
    """

    def __init__(self, critic: Critic, manner: Manner, work: Path, *, hint: bool) -> None:
        self.critic, self.manner, self.work, self.hint = critic, manner, work, hint

    def revise(self, drafts: Sequence[Draft]) -> list[list[str]]:  # noqa: D102
        examples = [draft.example for draft in drafts]
        openings = [opening(draft, hint=self.hint) for draft in drafts]
        samples = make_candidates(self.critic, examples, self.manner, self.work, openings)
        # One that was cut off is no revision: who learns from it learns to stop there.
        return [[one.text for one in some if one.finished] for some in samples]


def opening(draft: Draft, *, hint: bool) -> str:
    """What a draft keeps: all before the first field that breaks a rule, and its heading.

    A draft that breaks none is begun anew, and so is one that cannot be read, of whose verdict
    nothing is known: with `hint` it gets the right one.
    """
    if draft.critique is None or "label" in draft.review.broken.values():
        return LEAD_IN + VERDICT_WORDS[draft.example.label] if hint else LEAD_IN
    return begun(draft.critique, draft.review.first or "label")


class ModelReviser:
    """A language model that is shown the draft and the rules, but not the label.

    Args:
        ask: answers a request. threads: requests at the same time.
        counts: what became of the answers: revised, refused, unreadable.
    """

    def __init__(self, ask: Ask, threads: int, counts: Counter[str]) -> None:
        self.ask, self.threads, self.counts = ask, threads, counts

    def revise(self, drafts: Sequence[Draft]) -> list[list[str]]:  # noqa: D102
        with ThreadPoolExecutor(self.threads) as threads:
            found = list(threads.map(self._revised, drafts))
        self.counts.update(said for said, _ in found)
        return [[text] if text else [] for _, text in found]

    def _revised(self, draft: Draft) -> tuple[str, str]:
        try:
            answer = self.ask(question(draft))
        except UnanswerableError:
            return "refused", ""
        if answer.stop != "end":
            return ("refused" if answer.stop == "refused" else "unreadable"), ""
        fields, _ = read_fields(answer.text, _SCHEMA)
        return ("revised", _critique(fields)) if fields else ("unreadable", "")


def question(draft: Draft) -> Request:
    """What a model is asked. It is told what code saw without the label, and no more."""
    system, prompt = template("revise", PROMPT_VERSION)
    # No text may close the block it stands in and go on as if it were us.
    shown = {
        name: text.replace("</", "< /")
        for name, text in (("rationale", draft.example.rationale), ("draft", draft.text))
    }
    blind = [rule.id for rule in rules() if rule.by[0] == CODE and rule.id in draft.review.broken]
    return Request(
        system,
        prompt.substitute(
            domain=draft.example.domain, broken=", ".join(blind) or _NONE,
            rules="\n".join(f"{n}. {rule.id}: {rule.text}" for n, rule in enumerate(rules(), 1)),
            flaws="\n".join(f"- {f.name}: {f.definition}" for f in FLAW_TYPES.values()), **shown,
        ),
        _SCHEMA,
        max_tokens=700,
    )  # fmt: skip


def _critique(fields: dict[str, str]) -> str:
    """The text of an answer in the fixed form; fields of the other verdict are left out."""
    said = {name: None if text.lower() == _NONE else text for name, text in fields.items()}
    return render_critique(Critique(
        label=fields["verdict"], flaw_type=said["flaw"], severity=said["severity"],
        evidence=said["evidence"], strengths=said["strengths"], critique=said["critique"],
        fix=said["fix"],
    ))  # fmt: skip
