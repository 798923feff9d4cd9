"""The stage `calibrate`: a temperature, and a threshold with a guarantee, for a finished critic.

    minicrit calibrate --config cpu --calibrate.model checkpoints/cpu/sft

The groups of the calibration split are parted by seed, domain by domain: on some of them the
temperatures are fitted, on the others the threshold is certified, so the scores that it rests on do
not depend on the items that certify it. Writes `calibration.json` into the critic's folder; a
killed run goes on.
"""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from minicrit import calibration as science
from minicrit.calibrated import Calibration, Scale, read_calibration
from minicrit.config import Recipe
from minicrit.critic import Critic
from minicrit.files import CALIBRATION, sha256_file, sha256_json, write_json
from minicrit.judging import remove_partial, score_items
from minicrit.manifest import read_manifest, trained_on, write_manifest
from minicrit.measure_config import CalibrateConfig
from minicrit.measures import family_of, plain
from minicrit.records import Example, read_examples
from minicrit.recount import RULES, either, miscounted
from minicrit.selection import limited
from minicrit.selective import abstain_band, aurc, logit, risk_coverage
from minicrit.statistics import Interval, cluster_bootstrap, mean_over

FORM = 4  # up to 3 `sums.believed` was the share of texts with a false sum that are flawed
SPLIT = "calibration"
Rows = npt.NDArray[np.intp]


def calibrate(recipe: Recipe, lender: Path | None = None) -> dict[str, Any]:
    """Fits it, writes it beside the critic's manifest, prints it in a few lines.

    Args:
        recipe: uses `calibrate`, `seed` and `base.folder`.
        lender: folder of a critic whose temperatures and shifts are kept where these items are of
            so few families that their own would be those of the families; if it is calibrated.

    Raises:
        ValueError: if the critic was trained on these items, if they are of another split, or if
            they are too few for what is asked (it says how many are needed).
    """
    settings = recipe.calibrate
    record = _record(settings.model)
    work = settings.model.with_name(f".{settings.model.name}.calibration")
    lent = read_calibration(lender) if lender else None
    apart, digest = firewalled(settings.data, record), sha256_file(settings.data)  # as now read
    found, critic, examples = fit(
        settings, recipe.seed, record,
        lambda: Critic.load(settings.model, base_folder=recipe.base.folder, calibrated=False), work,
        lent,
    )  # fmt: skip
    inputs = {"critic": settings.model, "data": settings.data}
    if lender and lent:
        inputs["scale"] = lender / CALIBRATION
    facts = {**critic.fitted_to, "firewalled": apart}
    write_calibration(settings, recipe.seed, found, examples, facts, inputs, digest)
    remove_partial(work)
    sys.stdout.write(lines(found) + f"written: {settings.model / CALIBRATION}\n")
    return found


def fit(
    settings: CalibrateConfig, seed: int, record: dict[str, Any],
    critic_of: Callable[[], Critic], work: Path, lent: Calibration | None = None,
) -> tuple[dict[str, Any], Critic, list[Example]]:  # fmt: skip
    """What the file is to hold, for the critic that is loaded once the items are known to do.

    Args:
        settings: of the calibration.
        seed: parts the items.
        record: manifest of the critic, or of what it was made from: what it has seen.
        critic_of: gives the critic, not calibrated.
        work: what the partial scores lie beside.
        lent: as in `fitted`.
    """
    examples = _examples(settings, seed)
    _check_unseen(settings, record)
    fitting, certifying = parted(examples, settings.temperature_share, seed)
    _check_enough(settings, examples, fitting, certifying)
    critic = critic_of()
    scored = score_items(critic, examples, work, batch_tokens=settings.batch_tokens)
    known = ~np.isnan(scored.p)
    found = fitted(settings, examples, scored.p, fitting[known[fitting]],
                   certifying[known[certifying]], seed, lent)  # fmt: skip
    return found | {"form": FORM, "unscored": dict(scored.unscored)}, critic, examples


def check_items(settings: CalibrateConfig, seed: int) -> None:
    """Refuses items that cannot certify what is asked, for who trains a critic first.

    Raises:
        ValueError: if they are of another split or too few (it says how many are needed).
    """
    examples = _examples(settings, seed)
    try:
        _check_enough(settings, examples, *parted(examples, settings.temperature_share, seed))
    except ValueError as error:
        raise ValueError(f"{settings.data}: {error}") from error


def parted(examples: Sequence[Example], share: float, seed: int) -> tuple[Rows, Rows]:
    """Rows for the temperatures and rows for the threshold: whole groups, by domain, by seed."""
    by_domain: dict[str, dict[str, None]] = defaultdict(dict)
    for example in examples:
        by_domain[example.domain][example.group] = None
    first: set[str] = set()
    for groups in by_domain.values():
        order = sorted(groups, key=lambda name: _key(seed, name))
        first.update(order[: round(share * len(order))])
    inside = np.array([e.group in first for e in examples])
    return np.flatnonzero(inside), np.flatnonzero(~inside)


def fitted(
    settings: CalibrateConfig, examples: Sequence[Example], raw: npt.NDArray[np.float64],
    fitting: Rows, certifying: Rows, seed: int, lent: Calibration | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Everything the file holds, from p(flawed) of all items before calibration.

    The scales are those `lent`, if any, where the fitting items are of fewer than three families.
    """
    flawed = np.array([e.label == "flawed" for e in examples])
    domains = np.array([e.domain for e in examples])
    odds = logit(raw)
    families = np.array([family_of(example) for example in examples])
    pooled, own, used = _scales(settings, odds[fitting], flawed[fitting], domains[fitting],
                                families[fitting], lent)  # fmt: skip
    p = science.scaled(odds, *np.array([own.get(name, pooled) for name in domains]).T)
    false = miscounted([e.rationale for e in examples])
    sums = science.believed(flawed[fitting], false[fitting]) if settings.sums else None
    if sums:
        sums = {**sums, "rules": RULES}
        p = np.where(false, special.expit(either(logit(p), sums["believed"])), p)
    valid = _independent(examples, certifying, seed)
    certificate = science.certify(p[valid], settings.alpha, settings.delta)
    by_domain = science.domain_certificates(p[valid], domains[valid], domains, settings.alpha,
                                            settings.delta)  # fmt: skip
    threshold = _threshold(settings, certificate, by_domain)
    held, truth = p[certifying], flawed[certifying]
    return {
        "threshold": threshold,
        "each_domain": settings.each_domain,
        "temperature": {"pooled": pooled.temperature, "n": used,
                        "domains": {name: one.temperature for name, one in own.items()}},
        "shift": {"pooled": pooled.shift,
                  "domains": {name: one.shift for name, one in own.items()}},
        "sums": sums,
        "certificate": {**asdict(certificate), "unit": "one valid item of each group"},
        "domains": by_domain,
        "families": {
            **science.family_shift(p[valid], families[valid], settings.alpha, settings.delta),
            "at_threshold": _by_family(p[valid] > threshold, families[valid], seed),
        },
        "quality": {"before": science.quality(raw[certifying], truth),
                    "after": science.quality(held, truth)},
        "recall": float((held[truth] > threshold).mean()) if truth.any() else None,
        "abstain": abstain_band(held, truth, threshold, settings.max_risk),
        "aurc": aurc(held, truth, threshold),
        "risk_coverage": risk_coverage(held, truth, threshold),
        "items": {"n": len(examples), "valid": int((~flawed).sum()),
                  "groups": len({e.group for e in examples}),
                  "families": len(set(families[valid]))},
    }  # fmt: skip


def _scales(
    settings: CalibrateConfig, odds: science.Floats, flawed: science.Bools, domains: science.Names,
    families: science.Names, lent: Calibration | None,
) -> tuple[Scale, dict[str, Scale], int]:  # fmt: skip
    """The pooled scale, those of domains, and how many of these items they were fitted on."""
    if lent and len(np.unique(families)) < science.FAMILIES:
        return lent.scale, dict(lent.domains), 0
    found = science.fit_scales(odds, flawed, domains, families, settings.domain_items,
                               shifted=settings.shift)  # fmt: skip
    return *found, len(odds)


def lines(found: dict[str, Any]) -> str:
    """The outcome for the terminal."""
    c, shift, band = found["certificate"], found["families"], found["abstain"]
    before, after = found["quality"]["before"], found["quality"]["after"]
    over = len(shift["families"])
    # That of each domain is another, as is its threshold.
    k = "" if found["each_domain"] else f", k = {c['k']}"
    said = [
        f"temperature {found['temperature']['pooled']:.3f}, shift of the log-odds "
        f"{found['shift']['pooled']:+.3f}; calibration error "
        f"{before['ece']:.3f} before, {after['ece']:.3f} after",
        *_about_sums(found["sums"]),
        f"threshold {found['threshold']:.4f}: false positives <= {100 * c['alpha']:g} % with "
        f"confidence {100 * (1 - c['delta']):g} % (n = {c['n']} independent valid items{k}) for "
        f"new items of these {found['items']['families']} families",
        *_about_recall(found["recall"]),
    ]
    if over:
        mean = 100 * shift["mean"]["value"]
        said.append(f"a family left out of it: false positives {mean:.1f} % on average, over the "
                    f"limit in {shift['over_alpha']} of {over}")  # fmt: skip
    if band:
        where = (f"verdicts outside of p {band['low']:.3f} to {band['high']:.3f} "
                 f"({100 * band['coverage']:.0f} %)" if band["low"] < band["high"]
                 else "no band to abstain in is needed, verdicts")  # fmt: skip
        said.append(f"{where}: {100 * band['risk']:.1f} % wrong")
    else:
        said.append("no band to abstain in leaves few enough errors outside of it")
    return "".join(f"{line}\n" for line in said)


def _about_recall(recall: float | None) -> list[str]:
    if recall is None:
        return []
    said = f"flagged of the flawed ones beside them: {100 * recall:.1f} %"
    return [said if recall else f"{said}; a critic that flags nothing is of no use: give more "
            "calibration items or a higher ALPHA"]  # fmt: skip


def _about_sums(sums: dict[str, Any] | None) -> list[str]:
    if sums is None:
        return []
    return [f"texts that state a sum which does not hold: {sums['k']} of {sums['n']} flawed; "
            f"believed at {sums['believed']:.3f}"]  # fmt: skip


def _record(folder: Path) -> dict[str, Any]:
    if not (folder / "manifest.json").is_file():
        raise ValueError(f"{folder}: expected the folder of an adapter or a quantized critic, got "
                         "none; train it first (make sft)")  # fmt: skip
    record = read_manifest(folder)
    if record["stage"] == "base":
        raise ValueError(f"{folder}: expected an adapter or a quantized critic, got a base; "
                         "train it first (make sft)")  # fmt: skip
    return record


def _examples(settings: CalibrateConfig, seed: int) -> list[Example]:
    examples = read_examples(settings.data).examples
    foreign = {e.split for e in examples} - {SPLIT}
    if foreign or not examples:
        raise ValueError(f"{settings.data}: expected rows of split {SPLIT} alone, got "
                         f"{', '.join(sorted(map(str, foreign))) or 'none'}; what is trained, "
                         "selected or tested on cannot certify")  # fmt: skip
    return limited(examples, settings.limit, seed) if settings.limit else examples


def _check_unseen(settings: CalibrateConfig, record: dict[str, Any]) -> None:
    digest = sha256_file(settings.data)
    used = [name for name, given in trained_on(record).items() if given == digest]
    if used:
        raise ValueError(f"{settings.data}: expected items that the critic has not seen, got its "
                         f"own input {used[0]}; give the calibration split")  # fmt: skip


def _check_enough(
    settings: CalibrateConfig, examples: Sequence[Example], fitting: Rows, certifying: Rows
) -> None:
    """Refused before anything is judged, not after."""
    labels = {examples[row].label for row in fitting}
    if len(labels) < 2:  # noqa: PLR2004
        raise ValueError(f"{settings.data}: expected valid and flawed items to fit temperatures, "
                         f"got {', '.join(labels) or 'none'} among {len(fitting)}; give more "
                         "items or raise calibrate.temperature_share")  # fmt: skip
    rows = _independent(examples, certifying, 0)
    nothing, domains = np.zeros(len(rows)), np.array([e.domain for e in examples])
    certificate = science.certify(nothing, settings.alpha, settings.delta)
    each = science.domain_certificates(nothing, domains[rows], domains, settings.alpha,
                                       settings.delta)  # fmt: skip
    _threshold(settings, certificate, each)


def _independent(examples: Sequence[Example], rows: Rows, seed: int) -> Rows:
    """One valid item of each group, as twins share their wording; drawn by seed."""
    valid = [row for row in rows if examples[row].label == "valid"]
    chosen = science.one_a_group([examples[row].group for row in valid],
                                 [_key(seed, examples[row].id) for row in valid])  # fmt: skip
    return np.array([valid[at] for at in chosen], dtype=np.intp)


def _threshold(
    settings: CalibrateConfig, certificate: science.Certificate, by_domain: dict[str, Any]
) -> float:
    if not settings.each_domain:
        return certificate.threshold
    short = {name: row for name, row in by_domain.items() if "needed" in row}
    if short:
        counts = ", ".join(f"{name} {r['n']} of {r['needed']}" for name, r in short.items())
        raise ValueError("expected enough valid items of different groups in each domain, got "
                         f"{counts}; give more or set calibrate.each_domain to false")  # fmt: skip
    return max(float(row["threshold"]) for row in by_domain.values())


def _by_family(
    flagged: npt.NDArray[np.bool_], families: science.Names, seed: int
) -> dict[str, Any]:
    """Share flagged among the certifying items; its interval resamples families."""
    rate: Interval = cluster_bootstrap(mean_over(flagged), families, draws=2000, seed=seed)
    return {key: plain(getattr(rate, key)) for key in ("value", "low", "high")} | {"n": rate.n}


def write_calibration(
    settings: CalibrateConfig, seed: int, found: dict[str, Any], examples: Sequence[Example],
    facts: dict[str, Any], inputs: dict[str, Path], digest: str,
) -> None:  # fmt: skip
    """The file in the folder `settings.model`, and its manifest; `digest`: of the data as read."""
    target = settings.model / CALIBRATION
    asked = {k: v for k, v in asdict(settings).items() if k not in ("model", "data")}
    write_json(target, found)
    facts = {**facts, "rows": sha256_json([e.to_row() for e in examples])}
    write_manifest(target, stage="calibrate", inputs=inputs, settings={**asked, "seed": seed},
                   facts=facts, hashes={"data": digest})  # fmt: skip


def firewalled(data: Path, record: dict[str, Any]) -> bool:
    """Whether one data folder holds both these items and the critic's training rows.

    Then its firewall has compared them; else only `make verify` can tell.
    """
    try:
        outputs = read_manifest(data.parent)["outputs"]
    except ValueError:
        return False
    trained = record["inputs"].get("train", {}).get("sha256")
    return sha256_file(data) in outputs.values() and trained in outputs.values()


def _key(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
