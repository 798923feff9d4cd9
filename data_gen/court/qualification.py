"""The stage `qualify`: what a judge says of critiques whose quality is known.

    minicrit qualify --judge.backend anthropic --judge.model claude-haiku-4-5

Writes `<out>.qualification.md` and `.json`. Every answer lies in the journal of the work folder,
under a hash of judge, prompt, rules and texts. So `minicrit judge`, which asks the same first, asks
nothing again as long as none of these has changed, and everything if one has.
"""

import random
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data_gen.asker import Asker
from data_gen.asking import announce, asking, bill
from data_gen.court import cases as known
from data_gen.court.calling import in_threads, judge_facts, out_of, service_of, work_of
from data_gen.court.cases import EQUAL, INJECTION, KINDS, LENGTH, Case, read_cases
from data_gen.court.comparison import (
    FLIP,
    LEANING,
    LOSS,
    POINTS,
    TIE,
    UNSCORED,
    WIN,
    Compared,
    compare,
    requests,
)
from data_gen.court.qualification_page import qualification_page
from minicrit.files import sha256_file, write_atomic, write_json
from minicrit.manifest import provenance
from minicrit.measure_config import JudgeConfig
from minicrit.measures import entry
from minicrit.statistics import wilson

if TYPE_CHECKING:
    from minicrit.config import Recipe

FORM = 1  # of the report; raise it when a key changes its meaning
Pairs = Sequence[tuple[Case, Compared]]
#: Rates, the settings that bound them, which side of the interval is held against it, and whether
#: the rate must not be below (or above).
BARS = (
    ("accuracy", "least_accuracy", "low", True),
    ("parsed", "least_parsed", "value", True),
    ("flips", "most_flips", "value", False),
    ("injection", "least_injection", "value", True),
    ("length", "least_length", "value", True),
)


def qualify(recipe: "Recipe") -> dict[str, Any]:
    """Examines the judge and writes the report; what it holds.

    Args:
        recipe: uses `judge`, `seed` and `benchmark.out`.

    Raises:
        ValueError: if the judge does not qualify and is not forced, or cannot be asked.
    """
    service = service_of(recipe.judge)
    with asking(service, work_of(recipe) / "journal.jsonl") as asker:
        return examined(recipe, asker)


def examined(recipe: "Recipe", asker: Asker) -> dict[str, Any]:
    """The same with a judge that is open already."""
    settings, out = recipe.judge, out_of(recipe)
    cases = _drawn(read_cases(), settings.cases, recipe.seed)
    asked = [r for case in cases for r in requests(case.question, recipe.seed)]
    announce(asked, asker, "qualification")
    compared = in_threads(lambda case: compare(case.question, recipe.seed, asker.ask), cases,
                          asker, settings.threads, "qualification")  # fmt: skip
    pairs = list(zip(cases, compared, strict=True))
    rates = rates_of(pairs)
    failed = failings(rates, settings)
    report = {
        "form": FORM,
        **provenance(recipe.seed, settings, {}),
        "judge": judge_facts(settings, asker.backend.identity),
        "set": {"version": known.VERSION, "sha256": sha256_file(known.PATH), "cases": len(cases)},
        "rates": rates,
        "kinds": {kind: _rate([_is_right(c, o) for c, o in _scored(_of(pairs, kind))])
                  for kind in KINDS},
        "faults": dict(sorted(Counter(f for o in compared for f in o.faults).items())),
        "bars": {name: getattr(settings, setting) for name, setting, _, _ in BARS},
        "qualified": not failed,
        "failings": failed,
        "forced": bool(failed) and settings.force,
        "misses": [_miss(case, said) for case, said in pairs if not _is_right(case, said)],
        "cost": bill(asked, asker),
    }  # fmt: skip
    write_atomic(f"{out}.qualification.md", qualification_page(report))
    write_json(f"{out}.qualification.json", report)
    _tell(report, f"{out}.qualification.md")
    return report


def rates_of(pairs: Pairs) -> dict[str, dict[str, Any]]:
    """Every rate with its Wilson interval; all but `parsed` are over the pairs that are scored.

    `accuracy`: the better critique wins, or of equal ones none. `sensitivity`: the better one wins.
    `specificity`: of equal ones none wins. `better_wins`: wins of the better one, ties half, which
    is what the benchmark's win rate is corrected by.
    """
    scored = _scored(pairs)
    unlike = [o.outcome for c, o in scored if c.kind != EQUAL]
    alike = [o.outcome for c, o in scored if c.kind == EQUAL]
    points = [POINTS[outcome] for outcome in unlike]
    return {
        "accuracy": _rate([_is_right(c, o) for c, o in scored]),
        "parsed": _rate([not said.fault for _, o in pairs for said in o.judgements]),
        "flips": _rate([o.outcome == FLIP for _, o in scored]),
        "injection": _rate([o.outcome == WIN for _, o in _scored(_of(pairs, INJECTION))]),
        "length": _rate([o.outcome == WIN for _, o in _scored(_of(pairs, LENGTH))]),
        "sensitivity": _rate([outcome == WIN for outcome in unlike]),
        "specificity": _rate([outcome not in (WIN, LOSS) for outcome in alike]),
        "better_wins": _rate(points),
        "rationales": _rate([o.rationale == _truth(c) for c, o in scored if c.kind != EQUAL]),
    }


def failings(rates: dict[str, dict[str, Any]], settings: JudgeConfig) -> list[str]:
    """Which bars a judge does not reach; what nothing was seen of is not reached."""
    found = []
    for name, setting, side, at_least in BARS:
        bar, got = getattr(settings, setting), rates[name][side]
        if got is None or (got < bar if at_least else got > bar):
            bound = " (lower bound)" if side == "low" else ""
            shown = "nothing" if got is None else f"{got:.4f}{bound}"
            most = "at least" if at_least else "at most"
            found.append(f"{name}: {most} {bar:g}, got {shown}")
    return found


def _drawn(cases: Sequence[Case], limit: int, seed: int) -> Sequence[Case]:
    """At most so many, in their order; all if the limit is 0."""
    if not 0 < limit < len(cases):
        return cases
    chosen = set(random.Random(f"{seed}/qualifying").sample(range(len(cases)), limit))  # noqa: S311
    return [case for number, case in enumerate(cases) if number in chosen]


def _is_right(case: Case, said: Compared) -> bool:
    """Of equal critiques, not to be sure that they are equal is right enough, a flip is not."""
    return said.outcome in ((TIE, LEANING) if case.kind == EQUAL else (WIN,))


def _truth(case: Case) -> str:
    """What the rationale is, by the good critique's first line."""
    return case.question.one.split("\n")[0].removeprefix("Verdict: ")


def _of(pairs: Pairs, kind: str) -> Pairs:
    return [(case, said) for case, said in pairs if case.kind == kind]


def _scored(pairs: Pairs) -> Pairs:
    return [(case, said) for case, said in pairs if said.outcome != UNSCORED]


def _rate(hits: Sequence[bool] | Sequence[float]) -> dict[str, Any]:
    found = wilson(float(sum(hits)), len(hits))
    return entry(found.value, found.n, {"wilson": found})


def _miss(case: Case, said: Compared) -> dict[str, Any]:
    """A pair to read: what is right, and what was said."""
    return {
        "id": case.id, "kind": case.kind, "outcome": said.outcome, "why": case.why,
        "said": [one.better or one.fault for one in said.judgements],
    }  # fmt: skip


def _tell(report: dict[str, Any], page: str) -> None:
    """Says how it went.

    Raises:
        ValueError: if the judge does not qualify and is not forced.
    """
    name, failed = report["judge"]["name"], "; ".join(report["failings"])
    if not failed:
        sys.stdout.write(f"{name} qualifies as a judge: {page}\n")
    elif report["forced"]:
        sys.stdout.write(f"{name} does not qualify ({failed}) and judges by force: {page}\n")
    else:
        raise ValueError(f"{name}: expected a judge that qualifies, got {failed}; read {page}, "
                         "then take another judge, or --judge.force true")  # fmt: skip
