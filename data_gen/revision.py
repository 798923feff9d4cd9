"""One round of self-improvement: drafts, what the rules say of them, revisions, what is accepted.

    pairs.jsonl         accepted revisions over their drafts (records.Preference)
    targets.jsonl       what came out good, revised or at once, to learn from alone; and the labels
                        of the others if asked for (rows as of rejection)
    revisions.jsonl     every draft with what became of it
    report.json, manifest.json

Only training rows are ever criticized here.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data_gen.acceptance import (
    ACCEPTED,
    CLEAN,
    OUTCOMES,
    UNANSWERED,
    UNPARSED,
    Compare,
    Draft,
    Weighed,
    by_judge,
    by_oracle,
    choose,
    draft_of,
    weigh,
)
from data_gen.asking import Service
from data_gen.judge import VERSION as JUDGE_VERSION
from data_gen.judge import Ask
from data_gen.materials import WEIGHTS, Materials, is_made
from data_gen.oracle import VERSION as ORACLE_VERSION
from data_gen.oracle import score
from data_gen.preferences import preference
from data_gen.public import require_drawn
from data_gen.rejection import Kept, mean, rest, training_encoder
from data_gen.revisers import PROMPT_VERSION, ModelReviser, Reviser, SelfReviser
from data_gen.rules import PATH, rules
from data_gen.rules import VERSION as RULES_VERSION
from data_gen.screen import held_out_inputs
from data_gen.vitals import Vitals, vitals_of
from minicrit.critic import Critic
from minicrit.files import atomic_folder, check_replaceable, sha256_file, write_json
from minicrit.jsonl import BadLine, read_lines, write_rows
from minicrit.manifest import read_manifest, write_manifest
from minicrit.records import Preference
from minicrit.training_config import ConstitutionConfig

#: Raise it with any change of what is drafted or revised: older revisions are made anew.
VERSION = "3"
_DECIDE = ("rationales", "draft_temperature", "reviser", "revisions", "temperatures", "hint",
           "model", "scorer", "margin", "judge", "judge_model", "labels")  # fmt: skip


@dataclass(frozen=True)
class Revised:
    """A draft and what became of it."""

    draft: Draft
    weighed: Weighed

    @property
    def outcome(self) -> str:
        """See `acceptance.OUTCOMES`."""
        return self.weighed.outcome


def make_vitals(materials: Materials, adapter: Path, out: Path) -> Vitals:
    """What an adapter writes about the probed rationales, as a folder; not done twice.

    Raises:
        ValueError: if none are probed.
    """
    settings = materials.recipe.constitution
    key = materials.key(adapter, settings.probed)
    if not is_made(out, key):
        check_replaceable(out)
        critic = materials.critic(adapter)
        drawn = materials.drawn(critic, settings.probed, "probe")
        examples = require_drawn(drawn, settings.probed, "constitution.probed")
        samples = materials.first_drafts(critic, examples, 1.0, 0)
        found = vitals_of(examples, samples)
        with atomic_folder(out) as box:
            write_rows(box / "vitals.jsonl", found.to_rows())
            inputs = {"data": settings.data, "adapter": adapter / WEIGHTS}
            write_manifest(box, stage="vitals", inputs=inputs, settings={},
                           facts={"key": key, **found.summary()})  # fmt: skip
    return Vitals.of_rows([
        row for _, row in (_good(found) for found in read_lines(out / "vitals.jsonl"))
    ])  # fmt: skip


def make_revisions(
    materials: Materials, adapter: Path, out: Path, number: int, services: Mapping[str, Service]
) -> dict[str, Any]:
    """The revisions of one round, as a folder; not done twice.

    A journal is opened only to make them: it is one process's, and others may find them made at
    the same time.

    Args:
        materials: see there.
        adapter: of the critic that drafts, and revises if nobody else does.
        out: the folder.
        number: of the round, from 1; each takes other rationales while there are any.
        services: the models to ask, `reviser` and `judge`, as far as there are any.

    Returns:
        The report.
    """
    settings = materials.recipe.constitution
    decides = {
        "settings": {name: str(getattr(settings, name)) for name in _DECIDE}, "round": number,
        "version": VERSION, "rules": {"version": RULES_VERSION, "sha256": sha256_file(PATH)},
        "prompts": {"revise": PROMPT_VERSION, "judge": JUDGE_VERSION}, "oracle": ORACLE_VERSION,
    }  # fmt: skip
    key = materials.key(adapter, decides)
    if not is_made(out, key):
        check_replaceable(out)
        asked: Counter[str] = Counter()
        critic = materials.critic(adapter)
        with materials.asks(services) as asks:
            found = _revised(materials, critic, number, asks, asked)
        pairs = list(pairs_of(found, settings.scorer))
        targets = [*targets_of(found), *_labels(materials, critic, found)]
        report = {**report_of(found, asked), "pairs": len(pairs), "targets": len(targets)}
        with atomic_folder(out) as box:
            write_rows(box / "pairs.jsonl", (one.to_row() for one in pairs))
            write_rows(box / "targets.jsonl", (one.to_row() for one in targets))
            write_rows(box / "revisions.jsonl", map(_row, found))
            write_json(box / "report.json", report)
            materials.screening.write(box)
            inputs = {
                "data": settings.data,
                "adapter": adapter / WEIGHTS,
                **held_out_inputs(materials.recipe.filters),
            }
            facts = {"key": key, "report": report, **materials.screening.facts()}
            write_manifest(box, stage="revision", inputs=inputs, settings=decides, facts=facts)
    report = read_manifest(out)["facts"]["report"]
    return dict(report)


def _good(found: tuple[int, dict[str, Any]] | BadLine) -> tuple[int, dict[str, Any]]:
    if isinstance(found, BadLine):
        raise ValueError(str(found))
    return found


def _revised(
    materials: Materials,
    critic: Critic,
    number: int,
    asks: Mapping[str, Ask],
    asked: Counter[str],
) -> list[Revised]:
    settings = materials.recipe.constitution
    examples = materials.drawn(critic, settings.rationales, "1", number)
    samples = materials.first_drafts(critic, examples, settings.draft_temperature, number)
    drafts = [draft_of(e, sample.text, whole=sample.finished)
              for e, sample in zip(examples, samples, strict=True)]  # fmt: skip
    # A critic that follows no instructions has nothing to go by where code finds nothing.
    own = settings.reviser == "self"
    wanted = [d for d in drafts if not (own and d.good)]
    reviser: Reviser
    if own:
        manner = materials.manner(settings.revisions, settings.temperatures, number, again=True)
        reviser = SelfReviser(critic, manner, materials.work, hint=settings.hint)
    else:
        reviser = ModelReviser(asks["reviser"], settings.threads, asked)
    texts = {d.example.id: some for d, some in zip(wanted, reviser.revise(wanted), strict=True)}
    outcome = partial(_outcome, texts, settings, _scorers(settings.scorer, asks, asked))
    with ThreadPoolExecutor(settings.threads if "judge" in asks else 1) as threads:
        weighed = list(threads.map(outcome, drafts))
    return [Revised(d, w) for d, w in zip(drafts, weighed, strict=True)]


def _scorers(scorer: str, asks: Mapping[str, Ask], asked: Counter[str]) -> list[Compare]:
    """In the order in which they are asked: what costs nothing first."""
    found: list[Compare] = [] if scorer == "judge" else [by_oracle]
    return found if scorer == "oracle" else [*found, by_judge(asks["judge"], asked)]


def _outcome(
    texts: Mapping[str, list[str]],
    settings: ConstitutionConfig,
    scorers: Sequence[Compare],
    draft: Draft,
) -> Weighed:
    if draft.example.id not in texts:
        return Weighed(CLEAN)
    written = texts[draft.example.id]
    if not written:
        return Weighed(UNANSWERED)
    chosen = choose(draft, written, by_score=settings.scorer != "judge")
    return weigh(draft, chosen, scorers, margin=settings.margin) if chosen else Weighed(UNPARSED)


def pairs_of(found: Sequence[Revised], scorer: str) -> Iterator[Preference]:
    """Accepted revisions over their drafts.

    A draft that never ended or cannot be read is no rejected side: DPO would learn of it where to
    stop.
    """
    name = f"constitution-{RULES_VERSION}/{scorer}"
    for one in found:
        if one.outcome == ACCEPTED and one.weighed.scores and one.draft.critique:
            old, new = one.weighed.scores
            yield preference(one.draft.example, one.weighed.text, one.draft.text, (new, old), name)


def targets_of(found: Sequence[Revised]) -> Iterator[Kept]:
    """What came out good: accepted revisions, and drafts that need none or got no better one.

    All that a loop of critique and revision ends with is learnt, as in arXiv 2212.08073, as long
    as no rule is seen to be broken.
    """
    for one in found:
        draft = one.draft
        if one.outcome == ACCEPTED and one.weighed.scores:
            yield Kept(draft.example, one.weighed.text, one.weighed.scores[1])
        elif draft.good:
            yield Kept(draft.example, draft.text, score(draft.example, draft.text).total or 0.0)


def _labels(materials: Materials, critic: Critic, found: Sequence[Revised]) -> list[Kept]:
    """Of the rationales of which nothing good came out, if they are asked for."""
    if not materials.recipe.constitution.labels:
        return []
    encoder = training_encoder(materials.recipe, critic)
    return rest([one.draft.example for one in found], encoder, list(targets_of(found)))


def report_of(found: Sequence[Revised], asked: Mapping[str, int]) -> dict[str, Any]:
    """What became of the drafts, and of each rule that they broke."""
    outcomes = Counter(one.outcome for one in found)
    scores = [one.weighed.scores for one in found
              if one.outcome == ACCEPTED and one.weighed.scores]  # fmt: skip
    return {
        "rationales": len(found),
        "revised": sum(outcomes[name] for name in OUTCOMES),
        "drafts_unread": sum(one.draft.critique is None for one in found),
        "outcomes": {name: outcomes[name] for name in (*OUTCOMES, CLEAN)},
        "rules": {rule.id: _fate(rule.id, found) for rule in rules()},
        "mean_score_draft": mean([old for old, _ in scores]),
        "mean_score_revision": mean([new for _, new in scores]),
        "asked": dict(sorted(asked.items())),
    }


def _fate(rule: str, found: Sequence[Revised]) -> dict[str, int]:
    """Drafts to which a rule applies, those that break it, and those of them that were mended."""
    broken = [one for one in found if rule in one.draft.review.broken]
    mended = [one for one in broken if one.outcome == ACCEPTED]
    kept = sum(rule in one.draft.review.kept for one in found)
    return {"applies": kept + len(broken), "broken": len(broken), "mended": len(mended)}


def _row(one: Revised) -> dict[str, Any]:
    w, example = one.weighed, one.draft.example
    return {
        "id": example.id, "group": example.group, "label": example.label,
        "draft": one.draft.text,
        "broken": one.draft.review.broken if one.draft.critique else None,
        "outcome": w.outcome, "revision": w.text or None,
        "still_broken": w.review.broken if w.review else None,
        "scores": [round(score, 6) for score in w.scores] if w.scores else None,
    }  # fmt: skip
