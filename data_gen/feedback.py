"""The stage `feedback-pairs`: operators' decisions as examples and preference pairs.

    examples/feedback.jsonl    labelled rationales to train on; DATA=<out>/examples mixes them in
    holdout.jsonl              rationales kept for validation; no run trains on them (make adds
                               every data/*/holdout.jsonl to what is held out)
    pairs.jsonl                preference pairs (records.Preference), for --dpo.pairs
    decisions.journal.jsonl    every decision that was read, with its request
    disputed.removed.jsonl     rationales that got no label and critiques that made no pair, and why
    removed.jsonl              what the firewall and the filters took out, and why
    report.json, report.md, manifest.json

One rationale is one group, whatever was asked how often, so it never lies in two splits.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_gen.feedback_rows import Settled, example_of, pairs_of
from data_gen.preferences import lengths
from data_gen.screen import Screened, asked, held_out_inputs, screened
from minicrit.feedback.opinions import (
    Case,
    Votes,
    agreement_among,
    can_weigh,
    cases_of,
    dawid_skene,
    majority,
    met,
)
from minicrit.feedback.store import FeedbackStore
from minicrit.feedback_config import FeedbackConfig
from minicrit.files import atomic_folder, check_replaceable, to_json, write_atomic, write_json
from minicrit.jsonl import write_rows
from minicrit.manifest import write_manifest
from minicrit.measures import plain
from minicrit.records import Example, Preference, write_examples
from minicrit.tables import Row, markdown, number

if TYPE_CHECKING:
    from minicrit.config import Recipe

HOLDOUT = "holdout.jsonl"
EXAMPLES = Path("examples/feedback.jsonl")
ENOUGH = 10  # majorities of others, from which an operator's record says something


@dataclass(frozen=True)
class Labelled:
    """What became of the cases: labels, who is not to be trusted, and what got no label."""

    settled: list[Settled]
    left_out: list[dict[str, Any]]
    rates: dict[str, tuple[float, float]]
    distrusted: list[str]


def make_feedback(recipe: "Recipe") -> None:
    """Makes `feedback.out` anew.

    Args:
        recipe: uses `feedback`, `filters` and `seed`.

    Raises:
        ValueError: if there is no store, or nothing in it that can be trained on.
    """
    settings = recipe.feedback
    _check(settings)
    check_replaceable(settings.out, settings.store)
    with FeedbackStore(settings.store) as store:
        cases = cases_of(store.judged())  # first: whatever was decided on has been asked before
        decided = {row["request_id"] for case in cases for row in case.decisions}
        requests = {row["request_id"]: row for row in store.requests()
                    if row["request_id"] in decided}  # fmt: skip
    if not cases:
        raise ValueError(f"feedback.store: expected decisions in {settings.store}, got none; let "
                         "operators decide in the console first")  # fmt: skip
    found = labelled(cases, settings)
    examples, refused = _examples(found, requests, settings)
    train = [e for e in examples.values() if e.split == "train"]
    held_out = [e for e in examples.values() if e.split != "train"]
    screening = screened([], train, {HOLDOUT: held_out}, recipe.filters, recipe.seed)
    kept = {e.id for e in screening.others}
    learnt = [one for one in found.settled
              if (made := examples.get(one.case.unit)) and made.id in kept]  # fmt: skip
    pairs, unpaired = _pairs(learnt, examples, requests, found.distrusted)
    if not kept:
        raise ValueError(f"feedback.store: expected a rationale to train on, got none of "
                         f"{len(cases)}; {HOLDOUT}, disagreement or the filters took all, see "
                         "feedback.least_agreement and filters")  # fmt: skip
    report = _report(cases, found, examples, pairs, [*refused, *unpaired])
    aside = [*found.left_out, *refused, *unpaired]
    journal = [_journalled(row, requests) for case in cases for row in case.decisions]
    _write(recipe, screening, held_out, pairs, (journal, aside, report))


def labelled(cases: Sequence[Case], settings: FeedbackConfig) -> Labelled:
    """Gives each case a label, or says why it has none."""
    votes: Votes = [case.votes for case in cases]
    weighed = settings.weigh and can_weigh(votes)
    p, rates = dawid_skene(votes) if weighed else (majority(votes), {})
    settled, left_out = [], []
    for case, chance in zip(cases, p.tolist(), strict=True):
        reason = _doubt(case, max(chance, 1 - chance), settings, weighed=weighed)
        if reason is None:
            settled.append(Settled(case, chance > 0.5, chance))  # noqa: PLR2004
        else:
            left_out.append(_aside(case, reason, chance))
    distrusted = sorted(name for name, (right, seen) in met(votes).items()
                        if seen >= ENOUGH and right / seen < settings.least_right)  # fmt: skip
    return Labelled(settled, left_out, rates, distrusted)


def _doubt(case: Case, certain: float, settings: FeedbackConfig, *, weighed: bool) -> str | None:
    """Why a case gets no label; None if it gets one."""
    if len(case.votes) < settings.least_operators:
        return "too few operators"
    if weighed:
        return "uncertain" if certain < settings.certain else None
    if case.share <= 0.5:  # noqa: PLR2004
        return "tie"
    return "disagreement" if case.share < settings.least_agreement else None


def _aside(case: Case, reason: str, chance: float | None = None, **more: Any) -> dict[str, Any]:
    return {
        "reason": reason,
        "unit": case.unit,
        "p_flawed_of_operators": None if chance is None else plain(chance),
        "votes": {name: "flawed" if flawed else "valid" for name, flawed in case.votes.items()},
        "decisions": [row["id"] for row in case.decisions],
        **more,
    }


def _examples(
    found: Labelled,
    requests: Mapping[str, Mapping[str, Any]],
    settings: FeedbackConfig,
) -> tuple[dict[str, Example], list[dict[str, Any]]]:
    """The example of each unit, and those that cannot be one."""
    made: dict[str, Example] = {}
    refused = []
    for one in found.settled:
        try:
            made[one.case.unit] = example_of(one, requests, settings.validation, found.distrusted)
        except ValueError as error:  # a text that no data file may hold
            refused.append(_aside(one.case, "refused", one.chance, detail=str(error)))
    return made, refused


def _pairs(
    settled: Sequence[Settled],
    examples: Mapping[str, Example],
    requests: Mapping[str, Mapping[str, Any]],
    distrusted: Sequence[str],
) -> tuple[list[Preference], list[dict[str, Any]]]:
    """The pairs of all rationales that are trained on, each once, and what made none."""
    pairs: dict[tuple[str, str, str], Preference] = {}
    aside = []
    for one in settled:
        found, lost = pairs_of(one, examples[one.case.unit], requests, distrusted)
        pairs |= {(p.rationale, p.chosen, p.rejected): p for p in found}
        aside += [_aside(one.case, reason, one.chance, decision=number) for number, reason in lost]
    return list(pairs.values()), aside


def _check(settings: FeedbackConfig) -> None:
    for name in ("validation", "least_agreement", "certain", "least_right"):
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f"feedback.{name}: expected a share from 0 to 1, got "
                             f"{getattr(settings, name)}; mend it")  # fmt: skip
    if not settings.store.is_file():
        raise ValueError(f"feedback.store: expected a feedback database, got none at "
                         f"{settings.store}; let make serve make one")  # fmt: skip


def _journalled(
    row: Mapping[str, Any], requests: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """A decision with its request; what critics wrote stands as JSON text, whatever it holds."""
    request = requests[row["request_id"]]
    told = {k: v for k, v in row.items() if k not in ("answered", "shadowed", "chance")}
    told |= {name: request[name] for name in ("rationale", "domain", "experiment", "arm")}
    told = {k: v.replace("\r\n", "\n") if isinstance(v, str) else v for k, v in told.items()}
    return told | {name: request[name] and to_json(request[name]) for name in ("result", "shadow")}


def _report(
    cases: Sequence[Case],
    found: Labelled,
    examples: Mapping[str, Example],
    pairs: Sequence[Preference],
    refused: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    split = Counter(e.split for e in examples.values())
    return {
        "decisions": sum(len(case.decisions) for case in cases),
        "rationales": len(cases),
        "labelled": dict(Counter("flawed" if one.flawed else "valid" for one in found.settled)),
        "left_out": dict(Counter(row["reason"] for row in [*found.left_out, *refused])),
        "train": split["train"],
        "held_out": split["validation"],
        "pairs": dict(Counter(pair.scorer for pair in pairs)),
        "lengths": lengths(pairs),
        "among": agreement_among([case.votes for case in cases]),
        "weighed": bool(found.rates),
        "error_rates": {name: {"right_on_valid": plain(a), "right_on_flawed": plain(b)}
                        for name, (a, b) in found.rates.items()},
        "distrusted": found.distrusted,
        "mean_operators": plain(float(np.mean([len(case.votes) for case in cases]))),
    }  # fmt: skip


def _write(
    recipe: "Recipe",
    screening: Screened,
    held_out: Sequence[Example],
    pairs: Sequence[Preference],
    told: tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]],
) -> None:
    settings = recipe.feedback
    journal, aside, report = told
    report = {**report, **screening.facts(), "trained_on": len(screening.others)}
    with atomic_folder(settings.out) as box:
        write_examples(box / EXAMPLES, screening.others)
        if held_out:
            write_examples(box / HOLDOUT, held_out)
        write_rows(box / "pairs.jsonl", (pair.to_row() for pair in pairs))
        write_rows(box / "decisions.journal.jsonl", journal)
        write_rows(box / "disputed.removed.jsonl", aside)
        screening.write(box)
        write_json(box / "report.json", report)
        write_atomic(box / "report.md", _page(report))
        shown = {k: v for k, v in asdict(settings).items() if k not in ("store", "out")}
        write_manifest(
            box, stage="feedback-pairs", inputs=held_out_inputs(recipe.filters), facts=report,
            settings={"seed": recipe.seed, "filters": asked(recipe.filters), "feedback": shown},
        )  # fmt: skip
    sys.stdout.write(f"{_page(report)}\n{screening.lines()}")
    sys.stdout.write(f"{len(screening.others)} examples, {len(held_out)} held out, {len(pairs)} "
                     f"pairs; written: {settings.out}\n")  # fmt: skip


def _page(report: Mapping[str, Any]) -> str:
    among = report["among"]
    rows: list[Row] = [(name, str(report[name])) for name in
                       ("decisions", "rationales", "train", "held_out", "trained_on")]  # fmt: skip
    for name in ("labelled", "pairs", "left_out"):
        rows += [(f"{name.replace('_', ' ')}: {key}", str(n)) for key, n in report[name].items()]
    rows += [("decided by several operators", str(among["decided_by_several"])),
             ("two of them say the same", number(among["pairwise"])),
             ("Krippendorff's alpha", number(among["alpha"]))]  # fmt: skip
    rows += [(f"Cohen's kappa, {pair} (n={found['n']})", number(found["kappa"]))
             for pair, found in among["kappa"].items()]  # fmt: skip
    rows += [(f"{name}: right on valid, on flawed",
              f"{number(rate['right_on_valid'])}, {number(rate['right_on_flawed'])}")
             for name, rate in report["error_rates"].items()]  # fmt: skip
    how = ("by Dawid and Skene, each operator weighed by error rates" if report["weighed"]
           else "by majority")  # fmt: skip
    return f"# Feedback\n\nLabels {how}.\n\n{markdown(('what', 'n'), rows)}\n"
