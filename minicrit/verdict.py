"""What callers get: the verdict on one rationale, with everything that it rests on."""

from dataclasses import asdict, dataclass
from typing import Any

from minicrit.impostors import FLAG, speaks
from minicrit.prompts import Critique
from minicrit.recount import FALSE_SUM, false_sum, miscounts
from minicrit.taxonomy import FLAW_TYPES


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One verdict.

    Attributes:
        label: valid or flawed: flawed if p_flawed is above the threshold.
        p_flawed: probability that the reasoning is flawed, in [0, 1].
        threshold: the operating point.
        calibrated: whether p_flawed comes through the calibration of this critic, and the
            threshold too unless it was set by hand.
        unsure: whether p_flawed lies in the band in which calibration found verdicts unreliable,
            or the threshold gives another verdict than the calibration's own; somebody should look.
        flaw_type: from the taxonomy; None if valid, not asked for, or unparsed.
        flags: upstream's names for what is wrong, from the flaw type; and what a program sees in
            the text itself: `answer_in_text` (`impostors`), `false_sum` (`recount`).
        severity: low, medium, high or critical; None as above.
        evidence: the span that carries the flaw, as written by the critic.
        evidence_offsets: where it stands in the rationale (start, end in characters), first if it
            does so several times and is no false sum; None if it is not there word for word.
        critique: why, in a sentence or two.
        fix: what would mend it.
        domain: as given.
        model: the base or the folder the weights came from.
        adapter: hash of the adapter, None without one.
        prompt_version: of the words that the critic read.
        latency_ms: time of the forward pass divided by the items in it; of the whole answer where
            a critique was written.
        cached: whether the answer came from a cache.
        request_id: hash of what was asked.
    """

    label: str
    p_flawed: float
    threshold: float
    domain: str
    model: str
    adapter: str | None
    prompt_version: str
    latency_ms: float
    request_id: str
    calibrated: bool = False
    unsure: bool = False
    flaw_type: str | None = None
    flags: tuple[str, ...] = ()
    severity: str | None = None
    evidence: str | None = None
    evidence_offsets: tuple[int, int] | None = None
    critique: str | None = None
    fix: str | None = None
    cached: bool = False

    def to_row(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def explained(critique: Critique | None, rationale: str) -> dict[str, Any]:
    """The fields of a Verdict that come from a written critique, and the text's own flags."""
    seen = {FLAG: speaks, FALSE_SUM: miscounts}
    own = tuple(flag for flag, there in seen.items() if there(rationale))
    if critique is None:
        return {"flags": own} if own else {}
    flags = (FLAW_TYPES[critique.flaw_type].flag,) if critique.flaw_type else ()
    return {
        "flaw_type": critique.flaw_type,
        "flags": flags + own,
        "severity": critique.severity,
        "evidence": critique.evidence,
        "evidence_offsets": _place(critique.evidence, rationale),
        "critique": critique.critique,
        "fix": critique.fix,
    }


def _place(evidence: str | None, rationale: str) -> tuple[int, int] | None:
    """Where evidence stands: a false sum where it is one, anything else at its first place."""
    if not evidence:
        return None
    told = false_sum(rationale)
    if told and rationale[told.start : told.end] == evidence:
        return told.start, told.end
    start = rationale.find(evidence)
    return None if start < 0 else (start, start + len(evidence))
