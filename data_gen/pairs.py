"""The stage `pairs`: the critic's own critiques, scored, and what is preferred to what.

    pairs.jsonl         preference pairs (records.Preference)
    candidates.jsonl    every critique with its score and the parts of it
    ledger.json         what the judge cost, if there was one
    report.json, report.md, manifest.json

Only training rows are ever criticized here: a row of another split stops the stage.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_gen.asker import Asker
from data_gen.asking import Service, announce, asking, open_service
from data_gen.candidates import make_candidates
from data_gen.firewall import evaluation_files
from data_gen.judge import judge, questions
from data_gen.oracle import VERSION, Score, score
from data_gen.preferences import TWINS, Scored, lengths, pair_of, twin_pairs
from data_gen.public import draw_groups, require_drawn
from data_gen.scouting import drawn, scout
from data_gen.screen import Screened, asked, held_out_inputs, measured_on, screened
from minicrit import limits
from minicrit.bagofwords import probe
from minicrit.data_config import PairsConfig
from minicrit.files import (
    atomic_folder,
    check_replaceable,
    recover_folder,
    sha256_file,
    sha256_json,
    write_atomic,
    write_json,
)
from minicrit.jsonl import write_rows
from minicrit.manifest import read_manifest, write_manifest
from minicrit.plan import grouped
from minicrit.prompts import critique_of, render_critique
from minicrit.records import Example, Preference, read_examples
from minicrit.sampling import Manner, Sample

if TYPE_CHECKING:
    from minicrit.config import Recipe
    from minicrit.critic import Critic

#: Fewest pairs from which it is worth asking whether words alone tell the chosen from the rejected.
_ENOUGH = 100


@dataclass(frozen=True)
class Pool:
    """All critiques of one example, what the oracle says of each, and the scores that count."""

    example: Example
    samples: list[Sample]
    oracle: list[Score]
    scored: list[Scored]

    @property
    def readable(self) -> list[str]:
        """The critiques that parse."""
        return [s.text for s, o in zip(self.samples, self.oracle, strict=True)
                if o.total is not None]  # fmt: skip


def make_pairs(recipe: "Recipe", facts: Mapping[str, Any] | None = None, number: int = 1) -> None:
    """Makes `pairs.out` anew, or goes on making it.

    Args:
        recipe: uses `pairs`, `filters` and `seed`.
        facts: more for the manifest.
        number: of the round; each takes other rationales while there are any, and draws anew.

    Raises:
        ValueError: if a row is not for training, or there is no critic, budget or server.
    """
    from minicrit.critic import Critic

    settings = recipe.pairs
    limits.require("pairs", settings)
    # Now, not after the long sampling.
    check_replaceable(settings.out, settings.model, settings.data)
    service = _judge(settings)
    looked_at = settings.scouted or settings.rationales
    examples, screening = training_examples(recipe, settings.data, looked_at, "pairs", number)
    critic = Critic.load(settings.model, base_folder=recipe.base.folder, calibrated=False)
    seed = recipe.seed + (1000 * number if number > 1 else 0)
    manner = Manner(settings.candidates or 1, tuple(settings.temperatures), settings.max_new_tokens,
                    seed, settings.rows, settings.dtype)  # fmt: skip
    work = settings.out.with_name(settings.out.name + ".work")
    counts: Counter[str] = Counter()
    criticized, compared = _worth(critic, examples, settings, manner, work, counts)
    if not settings.candidates:
        criticized = []
    samples = make_candidates(critic, criticized, manner, work)
    pools, ledger = _scored(criticized, samples), {}
    if service:
        with asking(service, work / "journal.jsonl") as asker:
            pools = _judged(pools, settings, asker, counts)
            ledger = asker.journal.ledger()
    pairs = list(_pairs(pools, settings, counts))
    if settings.twins:
        wanted = {example.id for example in compared}
        pairs += [p for group in grouped(examples) for p in twin_pairs(group, wanted)]
    known = {"critic": critic.identity, "dtype": manner.dtype, **(facts or {})}
    _write(recipe, pools, pairs, counts, ledger, known, screening)


def make_round(recipe: "Recipe", model: Path, out: Path, number: int) -> Path:
    """The pairs of one round of DPO, as a folder; nothing is done if it is there already.

    Args:
        recipe: uses `pairs`, `filters` and `seed`.
        model: the adapter that writes.
        out: the folder.
        number: of the round, see `make_pairs`.
    """
    from minicrit.lora import weights_of

    settings = replace(recipe.pairs, model=model, out=out)
    told = replace(recipe, pairs=settings)
    key = sha256_json([number, _settings(told), sha256_file(settings.data),
                       sha256_file(weights_of(model)),
                       measured_on(told.filters, settings.data)])  # fmt: skip
    recover_folder(out)
    done = (out / "manifest.json").is_file() and read_manifest(out)["facts"].get("key") == key
    if not done:
        make_pairs(told, {"key": key, "round": number}, number)
    return out


def _worth(
    critic: "Critic",
    examples: list[Example],
    settings: PairsConfig,
    manner: Manner,
    work: Path,
    counts: Counter[str],
) -> tuple[list[Example], list[Example]]:
    """Those to be criticized, and those whose twins make pairs."""
    if not settings.scouted:
        return examples, examples
    found = scout(manner.writer(critic), examples, manner, work)
    counts.update(found.facts())
    few = round(settings.sure * len(found.sure))  # 0 of `drawn` are all
    kept = drawn(found.sure, few, f"{manner.seed}/sure") if few else []
    undecided = drawn(found.undecided, settings.rationales, f"{manner.seed}/undecided")
    return undecided, [*found.unsure, *kept]


def training_examples(
    recipe: "Recipe", path: Path, limit: int, purpose: str, turn: int = 1
) -> tuple[list[Example], Screened]:
    """At most `limit` examples of a file, see `draw_groups`, by seed and purpose; 0 for all.

    None of them is what the run is measured on: not the evaluation files beside, nor the suite.

    Raises:
        ValueError: if one is not for training.
    """
    examples = read_examples(path).examples
    if wrong := next((e for e in examples if e.split != "train"), None):
        raise ValueError(f"{path}: expected training rows alone, got {wrong.id} of split "
                         f"{wrong.split}; nothing is learnt from what is measured on")  # fmt: skip
    beside = {str(file): read_examples(file).examples for file in evaluation_files(path.parent)
              if file != path}  # fmt: skip
    screening = screened(examples, [], beside, recipe.filters, recipe.seed)
    found = draw_groups(screening.composed, limit, f"{recipe.seed}/{purpose}", turn)
    return require_drawn(found, limit, str(path)), screening


def _judge(settings: PairsConfig) -> Service | None:
    """The language model that compares; None if the oracle decides."""
    if settings.scorer == "oracle":
        return None
    return open_service(
        settings.scorer, settings.judge_model, url=settings.url, budget=settings.budget_usd,
        prices=settings.prices, named="pairs.judge_model",
    )  # fmt: skip


def _scored(examples: Sequence[Example], samples: Sequence[list[Sample]]) -> list[Pool]:
    """The critiques with the oracle's scores."""
    pools = []
    for example, written in zip(examples, samples, strict=True):
        oracle = [score(example, one.text, whole=one.finished) for one in written]
        scored = [Scored(s.text, o.total) for s, o in zip(written, oracle, strict=True)]
        pools.append(Pool(example, written, oracle, scored))
    return pools


def _judged(
    pools: Sequence[Pool], settings: PairsConfig, asker: Asker, counts: Counter[str]
) -> list[Pool]:
    """The same with the scores of a judge; with `gate`, a wrong verdict stays at 0."""

    def one(pool: Pool) -> tuple[Pool, Counter[str]]:
        own: Counter[str] = Counter()
        found = {s.text: s.score for s in judge(pool.example, pool.readable, asker.ask, own)}
        scored = [
            Scored(s.text, 0.0 if s.score == 0 and settings.gate else found.get(s.text))
            for s in pool.scored
        ]
        return replace(pool, scored=scored), own

    announce((r for p in pools for r in questions(p.example, p.readable)), asker, "judge")
    done = asker.each(one, pools, threads=settings.threads)
    for _, own in done:
        counts.update({f"judge_{name}": n for name, n in own.items()})
    return [pool for pool, _ in done]


def _pairs(
    pools: Sequence[Pool], settings: PairsConfig, counts: Counter[str]
) -> Iterator[Preference]:
    for pool in pools:
        counts["candidates"] += len(pool.samples)
        counts["unparsed"] += sum(found.total is None for found in pool.oracle)
        counts["verdict_right"] += sum(bool(found.total) for found in pool.oracle)
        known = references(pool.example) if settings.references else []
        candidates = [*pool.scored, *(known if settings.scorer == "oracle" else [])]
        found = pair_of(pool.example, candidates, margin=settings.margin, scorer=settings.scorer)
        if isinstance(found, str):
            counts[f"no_pair_{found}"] += 1
        else:
            counts["pairs"] += 1
            yield found


def references(example: Example) -> list[Scored]:
    """The critique that an example comes with, if it comes with one, scored like any other."""
    if example.critique is None:
        return []
    text = render_critique(critique_of(example))
    return [Scored(text, score(example, text).total)]


def _write(
    recipe: "Recipe",
    pools: Sequence[Pool],
    pairs: Sequence[Preference],
    counts: Counter[str],
    ledger: Mapping[str, float],
    known: Mapping[str, Any],
    screening: Screened,
) -> None:
    settings = recipe.pairs
    if not pairs:
        raise ValueError(f"{settings.data}: expected at least one pair, got none of {len(pools)} "
                         "rationales; lower pairs.margin, raise pairs.temperatures or allow "
                         "pairs.twins")  # fmt: skip
    report = {"counts": dict(sorted(counts.items())), "by_scorer": _bias(pairs, recipe.seed)}
    with atomic_folder(settings.out) as box:
        write_rows(box / "pairs.jsonl", (pair.to_row() for pair in pairs))
        write_rows(box / "candidates.jsonl", _rows(pools))
        write_json(box / "report.json", report)
        write_atomic(box / "report.md", _page(report))
        if ledger:
            write_json(box / "ledger.json", ledger)
        screening.write(box)
        inputs = {"data": settings.data, **held_out_inputs(recipe.filters)}
        facts = {**known, **counts, "pairs": len(pairs), **screening.facts()}
        write_manifest(box, stage="pairs", inputs=inputs, settings=_settings(recipe), facts=facts)
    sys.stdout.write(_page(report) + f"\n{screening.lines()}")
    sys.stdout.write(f"{len(pairs)} pairs; written: {settings.out}\n")


def _rows(pools: Sequence[Pool]) -> Iterator[dict[str, Any]]:
    for pool in pools:
        for one, oracle, scored in zip(pool.samples, pool.oracle, pool.scored, strict=True):
            yield {
                "id": pool.example.id, "group": pool.example.group, "text": one.text,
                "score": scored.score, "parts": oracle.parts, "temperature": one.temperature,
                "finished": one.finished, "logprob": round(one.logprob, 4), "tokens": len(one.ids),
            }  # fmt: skip


def _bias(pairs: Sequence[Preference], seed: int) -> dict[str, Any]:
    """For each scorer, whether length or words alone tell the chosen from the rejected."""
    found = {}
    for scorer in sorted({pair.scorer for pair in pairs}):
        some = [pair for pair in pairs if pair.scorer == scorer]
        found[scorer] = {**lengths(some), "words_auc": _words_auc(some, seed)}
    return found


def _words_auc(pairs: Sequence[Preference], seed: int) -> float | None:
    groups = [pair.group for pair in pairs for _ in range(2)]
    if len(pairs) < _ENOUGH or len(set(groups)) < _ENOUGH // 4:
        return None
    texts = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
    labels = np.tile([True, False], len(pairs))
    numbers = [str(n // 2) for n in range(2 * len(pairs))]
    return round(probe(texts, labels.tolist(), numbers, groups, seed=seed).auc, 3)


def _page(report: dict[str, Any]) -> str:
    lines = ["# Preference pairs", "", "| what | n |", "|---|---|"]
    lines += [f"| {name.replace('_', ' ')} | {n} |" for name, n in report["counts"].items()]
    lines += ["", "| scorer | pairs | chosen longer, equal, shorter | words more | AUC of words |",
              "|---|---|---|---|---|"]  # fmt: skip
    for scorer, b in report["by_scorer"].items():
        split = f"{b['chosen_longer']}, {b['chosen_equal']}, {b['chosen_shorter']}"
        auc = "-" if b["words_auc"] is None else f"{b['words_auc']:.3f}"
        lines.append(f"| {scorer} | {b['pairs']} | {split} | {b['mean_words_more']:+.1f} | {auc} |")
    return "\n".join(lines) + "\n\n" + _ABOUT


_ABOUT = (
    "The AUC says how well a bag of words tells the chosen from the rejected of rationales it has "
    "not seen; 0.5 is not at all. Where all twins make pairs, both sides of "
    f"`{TWINS}` hold the same critiques, so it should be near 0.5.\n"
)
_NOT_PART = {"out", "model", "data", "url", "threads", "budget_usd", "prices"}


def _settings(recipe: "Recipe") -> dict[str, Any]:
    pairs = {k: v for k, v in vars(recipe.pairs).items() if k not in _NOT_PART}
    return {"seed": recipe.seed, "filters": asked(recipe.filters), "pairs": pairs,
            "oracle": VERSION}  # fmt: skip
