"""How far the critic and operators agree, and how far operators agree among themselves.

    minicrit agreement --agreement.log operators.csv --agreement.model checkpoints/cpu/sft

Writes `<out>.disagreements.csv`, `<out>.md`, `<out>.html` and, last, `<out>.json`. The unit is the
rationale: the critic is held against the majority of its operators, and a tie is no majority.
Single operators are held against it on all rationales that it scored: where they split counts most.
Verdicts are kept while they are made, so a killed run goes on.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from minicrit import raters
from minicrit.agreement_page import agreement_html, agreement_markdown
from minicrit.config import Recipe
from minicrit.decisions import Case, read_decisions
from minicrit.files import sha256_file, write_atomic, write_json
from minicrit.judging import Judge, load_judge, remove_partial, score_items
from minicrit.manifest import provenance
from minicrit.measures import entry, plain
from minicrit.statistics import (
    Interval,
    clopper_pearson,
    cluster_bootstrap,
    mcnemar_exact,
    mean_over,
    wilson,
)
from minicrit.tabular import inert, write_table

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Load = Callable[[str], Judge]

FORM = 2  # of the report; raise it when a key changes its meaning
COVERAGES = tuple(range(10, 101, 10))  # percent of the rationales, most certain first
SHOWN = 50  # disagreements on the page; the CSV has all
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compared:
    """Rationales that the critic has scored and that have a majority, with both answers."""

    cases: Sequence[Case]
    p: Floats
    critic: Bools
    operators: Bools
    certainty: Floats

    @property
    def agree(self) -> Bools:
        """Where critic and majority say the same."""
        return np.asarray(self.critic == self.operators)

    def only(self, mask: Bools) -> "Compared":
        """The rationales where `mask` is true."""
        cases = [case for case, keep in zip(self.cases, mask, strict=True) if keep]
        return Compared(
            cases, self.p[mask], self.critic[mask], self.operators[mask], self.certainty[mask]
        )


def agreement(recipe: Recipe, *, load: Load | None = None) -> dict[str, Any]:
    """Judge the rationales, compare, write the report, and return what `<out>.json` holds.

    Args:
        recipe: uses `agreement`, `seed` and `base.folder`.
        load: how a critic is loaded; from its folder unless given.
    """
    settings = recipe.agreement
    if settings.log is None:
        raise ValueError("agreement.log: expected a CSV of decisions, got none; give LOG=log.csv")
    raters.allowed_disagreements(0, settings.target)
    cases = read_decisions(settings.log, settings.valid, settings.flawed)
    inputs = {settings.log.as_posix(): sha256_file(settings.log)}  # now: it may grow meanwhile
    judge = (load or partial(load_judge, base_folder=recipe.base.folder))(settings.model)
    scored = score_items(judge, cases, settings.out, batch_tokens=settings.batch_tokens)
    judged = _judged(cases, scored.p, judge.threshold)
    report = {
        "form": FORM,
        **provenance(recipe.seed, settings, inputs),
        "critic": {name: getattr(judge, name)
                   for name in ("name", "identity", "adapter", "prompt_version", "threshold")},
        "log": _log_facts(cases, scored.unscored, len(judged.cases)),
        **_compared(judged, settings.target, recipe),
        "operators": _operators(cases, scored.p > judge.threshold, ~np.isnan(scored.p), recipe),
        "disagreements": _disagreements(judged)[:SHOWN],
    }  # fmt: skip
    _write(settings.out, report, judged)
    return report


def _judged(cases: Sequence[Case], p: Floats, threshold: float) -> Compared:
    usable = np.array([case.majority is not None for case in cases]) & ~np.isnan(p)
    if not usable.any():
        raise ValueError(f"agreement.log: expected a rationale with a majority and a verdict, got "
                         f"none of {len(cases)}; ask one more operator")  # fmt: skip
    kept = [case for case, use in zip(cases, usable, strict=True) if use]
    some = p[usable]
    return Compared(kept, some, some > threshold, np.array([bool(c.majority) for c in kept]),
                  certainty(some, threshold))  # fmt: skip


def certainty(p: Floats, threshold: float) -> Floats:
    """Distance of p from the threshold in log-odds, which puts both sides on one scale."""
    inside = np.clip(np.append(p, threshold), 1e-12, 1 - 1e-12)
    odds = np.log(inside) - np.log1p(-inside)
    return np.asarray(np.abs(odds[:-1] - odds[-1]).round(9))  # so that rounding parts no equals


def _log_facts(cases: Sequence[Case], unscored: dict[str, int], used: int) -> dict[str, Any]:
    names = {decision.operator for case in cases for decision in case.decisions}
    return {
        "rationales": len(cases),
        "decisions": sum(len(case.decisions) for case in cases),
        "operators": len(names),
        "ties": sum(case.majority is None for case in cases),
        "unscored": dict(unscored),
        "used": used,
    }


def _compared(judged: Compared, target: float, recipe: Recipe) -> dict[str, Any]:
    """Rate, kappas, table, proof, coverage and domains."""
    domains = np.array([case.domain for case in judged.cases])
    return {
        "table": {
            f"{said}_{decided}": int(np.sum((judged.critic == a) & (judged.operators == b)))
            for a, said in ((False, "valid"), (True, "flawed"))
            for b, decided in ((False, "valid"), (True, "flawed"))
        },
        **_rates(judged, recipe),
        "proof": _proof(judged, target),
        "coverage": _coverage(judged),
        "domains": {str(domain): _rates(judged.only(domains == domain), recipe)
                    for domain in np.unique(domains)},
    }  # fmt: skip


def _rates(judged: Compared, recipe: Recipe) -> dict[str, Any]:
    n = len(judged.cases)
    rate = clopper_pearson(int(judged.agree.sum()), n)
    value, low, high = map(raters.adjusted_kappa, (rate.value, rate.low, rate.high))
    exact = Interval(value, low, high, n)
    kappa = cluster_bootstrap(
        partial(raters.cohen_kappa, judged.critic, judged.operators),
        np.arange(n), draws=recipe.agreement.draws, seed=recipe.seed,
    )  # fmt: skip
    return {
        "agreement": entry(rate.value, n, {"clopper-pearson": rate}),
        "kappa": entry(kappa.value, n, {"bootstrap": kappa}),
        "adjusted_kappa": entry(exact.value, n, {"clopper-pearson": exact}),
    }


def _proof(judged: Compared, target: float) -> dict[str, Any]:
    """What would prove the target rate, one-sided at 95 %, and whether these decisions do.

    `constant` is who says of every rationale what operators say of most: where they call few
    flawed, that proves the rate as well, and only who is right more often (McNemar) has read them.
    """
    n, disagreements = len(judged.cases), int(np.sum(~judged.agree))
    allowed = raters.allowed_disagreements(n, target)
    flawed = int(judged.operators.sum()) * 2 > n
    same = judged.operators == flawed
    won, lost = int(np.sum(judged.agree & ~same)), int(np.sum(same & ~judged.agree))
    p = mcnemar_exact(won, lost)
    return {
        "target": target,
        "n": n,
        "disagreements": disagreements,
        "allowed": allowed,
        "proven": disagreements <= allowed,
        "needed": raters.decisions_needed(disagreements, target),
        "constant": {
            "verdict": "flawed" if flawed else "valid",
            "disagreements": int(np.sum(~same)),
            "proven": int(np.sum(~same)) <= allowed,
            "p": plain(p),
            "beaten": won > lost and p <= raters.LEVEL,
        },
    }


def _coverage(judged: Compared) -> list[dict[str, Any]]:
    """Agreement on the most certain share of the rationales; equal certainty stays together."""
    order = np.sort(judged.certainty)[::-1]
    rows: list[dict[str, Any]] = []
    for percent in COVERAGES:
        least = order[max(1, round(percent / 100 * len(order))) - 1]
        taken = judged.certainty >= least
        if rows and rows[-1]["n"] == int(taken.sum()):
            continue
        rate = clopper_pearson(int(judged.agree[taken].sum()), int(taken.sum()))
        rows.append({"coverage": plain(float(taken.mean())),
                     **entry(rate.value, rate.n, {"clopper-pearson": rate})})  # fmt: skip
    return rows


def _rate_of(found: Interval, n: int, units: int) -> dict[str, Any]:
    """A rate over the decisions on some rationales, with Wilson's interval for so many of those.

    Operators who agree on every rationale leave resampling no spread.
    """
    alone = wilson(found.value * units, units) if units else found
    return entry(found.value, n, {"wilson": alone, "bootstrap": found})


def _operators(
    cases: Sequence[Case], critic: Bools, scored: Bools, recipe: Recipe
) -> dict[str, Any]:
    """What operators say of each other (the ceiling), and each of them against the critic.

    Args:
        cases: the n rationales, those with a tie as well.
        critic: (n,) whether it says flawed.
        scored: (n,) whether it says anything.
        recipe: uses `agreement.draws` and `seed`.
    """
    flawed = np.array([float(case.flawed) for case in cases])
    ratings = np.array([float(len(case.decisions)) for case in cases])
    bootstrap = partial(cluster_bootstrap, draws=recipe.agreement.draws, seed=recipe.seed)
    several = int(np.sum(ratings > 1))
    every = np.arange(len(cases))
    alpha, pairwise = (bootstrap(partial(statistic, flawed, ratings), every)
                       for statistic in (raters.krippendorff_alpha,
                                         raters.pairwise_rate))  # fmt: skip
    among = {"alpha": entry(alpha.value, several, {"bootstrap": alpha}),
             "pairwise": _rate_of(pairwise, several, several)}  # fmt: skip
    alone = [(number, decision.flawed == others)
             for number, case in enumerate(cases) for decision in case.decisions
             if (others := case.others(decision)) is not None]  # fmt: skip
    if alone:
        units, same = np.array([a for a, _ in alone]), np.array([b for _, b in alone])
        rate = bootstrap(mean_over(same), units)
        among["against_the_others"] = _rate_of(rate, len(same), len(np.unique(units)))
    held = scored & (ratings > 1)
    if n := int(held.sum()):
        facts = (critic[held], flawed[held], ratings[held])
        with_each = bootstrap(partial(raters.rate_with_each, *facts), np.arange(n))
        among["critic_with_each"] = _rate_of(with_each, n, n)
    pairs = [(case, bool(said)) for case, said, there in zip(cases, critic, scored, strict=True)
             if there]  # fmt: skip
    return {"rationales": several, "among": among, "each": _each(pairs)}


def _each(pairs: Sequence[tuple[Case, bool]]) -> dict[str, Any]:
    """Of every operator: agreement with the critic, and how often they say flawed."""
    found: dict[str, list[tuple[bool, bool]]] = {}
    for case, said in pairs:
        for decision in case.decisions:
            found.setdefault(decision.operator, []).append((decision.flawed, said))
    rows = {}
    for name, decided in sorted(found.items()):
        rate = clopper_pearson(sum(a == b for a, b in decided), len(decided))
        rows[name] = {**entry(rate.value, rate.n, {"clopper-pearson": rate}),
                      "flawed": plain(float(np.mean([a for a, _ in decided])))}  # fmt: skip
    return rows


def _disagreements(judged: Compared) -> list[dict[str, Any]]:
    """Rationales on which critic and majority differ, the critic's most certain first."""
    order = np.argsort(-judged.certainty, kind="stable")
    return [
        {
            "lines": [decision.line for decision in case.decisions],
            "domain": case.domain,
            "critic": "flawed" if judged.critic[at] else "valid",
            "p_flawed": plain(judged.p[at]),
            "operators": "flawed" if judged.operators[at] else "valid",
            "said_flawed": f"{case.flawed} of {len(case.decisions)}",
            "request_ids": [d.request_id for d in case.decisions if d.request_id],
            "rationale": case.rationale,
        }
        for at in order if not judged.agree[at]
        for case in [judged.cases[at]]
    ]  # fmt: skip


def _write(out: Path, report: dict[str, Any], judged: Compared) -> None:
    header = ("lines", "domain", "critic", "p_flawed", "operators", "said_flawed", "request_ids",
              "rationale")  # fmt: skip
    rows = (
        [inert(" ".join(map(str, v)) if isinstance(v := row[k], list) else v) for k in header]
        for row in _disagreements(judged)
    )
    write_table(Path(f"{out}.disagreements.csv"), header, rows)
    page = agreement_markdown(report)
    write_atomic(f"{out}.md", page)
    write_atomic(f"{out}.html", agreement_html(report))
    write_json(f"{out}.json", report)
    remove_partial(out)
    _log.info("%s.html", out)
    sys.stdout.write(page)
