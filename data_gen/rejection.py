"""Rejection sampling: of the critic's own critiques of training rationales, the best to learn from.

RAFT (arXiv 2304.06767) and RFT (2308.01825): only critiques that are right are kept, each text
once; and only of rationales where some are right and some are wrong, as the others teach nothing
(2504.11343). Best of N moves a policy by at most ln N - (N - 1) / N nats (2401.01879). What a
critic gets wrong every time has the most to teach it: its label, which the oracle needs anyway,
can be learnt beside them.

    selected.jsonl      critiques to learn from, with their scores, and labels if asked for
    control.jsonl       reference critiques, or labels, for the same compute: what they have to beat
    candidates.jsonl    all of them
    report.json, manifest.json
"""

import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_gen.candidates import make_candidates
from data_gen.oracle import VERDICT, VERSION, score
from data_gen.pairs import training_examples
from data_gen.public import draw_groups, order_key, require_drawn
from data_gen.scouting import drawn, scout
from data_gen.screen import asked, held_out_inputs, measured_on
from minicrit.encoding import Encoder, TooLongError, quoted_by
from minicrit.files import atomic_folder, recover_folder, sha256_file, sha256_json, write_json
from minicrit.jsonl import write_rows
from minicrit.judging import item_of
from minicrit.manifest import read_manifest, write_manifest
from minicrit.plan import grouped
from minicrit.prompts import critique_of, render_critique
from minicrit.records import Example
from minicrit.sampling import Manner, Sample
from minicrit.training_config import RSFConfig

if TYPE_CHECKING:
    from minicrit.config import Recipe
    from minicrit.critic import Critic

#: Raise it with any change of what is kept, or of the control: older selections are made anew.
RULES = "5"
#: What is learnt from, and what the control learns from.
SELECTED, CONTROL = "selected.jsonl", "control.jsonl"


@dataclass(frozen=True)
class Kept:
    """A critique to learn from. `score` is the oracle's, from 0 to 1.

    Without `finished` it is the beginning of one: where it ends is not learnt.
    """

    example: Example
    text: str
    score: float
    finished: bool = True

    def to_row(self) -> dict[str, Any]:
        """The JSON object."""
        e = self.example
        return {"id": e.id, "group": e.group, "domain": e.domain, "rationale": e.rationale,
                "text": self.text, "score": round(self.score, 6),
                "finished": self.finished}  # fmt: skip


def make_selection(recipe: "Recipe", model: Path, out: Path, number: int) -> Path:
    """The critiques of one round, as a folder; nothing is done if it is there already.

    Args:
        recipe: uses `rsf` and `seed`.
        model: the adapter that writes.
        out: the folder.
        number: of the round; each takes other rationales while there are any, and draws anew.
    """
    from minicrit.critic import Critic

    settings = recipe.rsf
    manner = _manner(recipe, number)
    _refuse_out_of_range(settings, manner)
    decides = _decides(recipe, model, number)
    key = sha256_json(decides)
    recover_folder(out)
    if _made_by(out, key):
        return out
    everything, screening = training_examples(recipe, settings.data, 0, str(number))
    critic = Critic.load(model, base_folder=recipe.base.folder, calibrated=False)
    encoder = training_encoder(recipe, critic)
    everything = readable(everything, encoder, critic.encoder)
    limit = settings.scouted or settings.rationales
    looked_at = draw_groups(everything, limit, f"{recipe.seed}/1", number)
    require_drawn(looked_at, limit, "rsf")
    examples, samples, looks = _sampled(critic, looked_at, settings, manner, out)
    pools = [rated(e, some) for e, some in zip(examples, samples, strict=True)]
    kept, too_long = _kept(encoder, pools, settings)
    labels = rest(looked_at, encoder, kept) if settings.labels else []
    learnt = [*kept, *labels]
    read = [*(looked_at if settings.scouted else ()), *examples]
    tokens = equal_tokens(encoder, read, samples, learnt, settings.epochs)
    instead = list(control(everything, encoder, tokens, f"{recipe.seed}/{number}"))
    found = facts(examples, samples, pools, kept, settings)
    report = {**looks, **found, "too_long": too_long, "labels": len(labels), "dtype": manner.dtype,
              "control_tokens": tokens, "control_critiques": len(instead)}  # fmt: skip
    with atomic_folder(out) as box:
        write_rows(box / SELECTED, (one.to_row() for one in learnt))
        write_rows(box / CONTROL, (one.to_row() for one in instead))
        write_rows(box / "candidates.jsonl", _rows(examples, samples, pools))
        screening.write(box)
        write_json(box / "report.json", report)
        inputs = {"data": settings.data, **held_out_inputs(recipe.filters)}
        write_manifest(box, stage="rejection", inputs=inputs, settings=decides,
                       facts={"key": key, **report, **screening.facts()})  # fmt: skip
    sys.stdout.write(f"round {number}: {report}\n{screening.lines()}")
    return out


def _manner(recipe: "Recipe", number: int) -> Manner:
    told = recipe.rsf
    return Manner(told.drawn, tuple(told.temperatures), told.max_new_tokens,
                  recipe.seed + 1000 * number, told.rows, told.dtype)  # fmt: skip


def _kept(
    encoder: Encoder, pools: Sequence[Sequence[Kept]], settings: RSFConfig
) -> tuple[list[Kept], int]:
    """What is learnt from, and how many critiques training could not read."""
    fitting = [[one for one in pool if not one.score or _has_room(encoder, one)] for pool in pools]
    kept = list(select(fitting, settings.keep, settings.keep_scope, settings.least_score))
    if not kept and not settings.labels:  # which are worth learning by themselves
        raise ValueError(f"{settings.data}: expected critiques to learn from, got none: of no "
                         "rationale were some right and some wrong; take a critic in training, "
                         "raise rsf.temperatures or rsf.rationales; of one that is nearly always "
                         "right, raise rsf.least_score; or learn labels alone "
                         "(rsf.labels)")  # fmt: skip
    return kept, sum(map(len, pools)) - sum(map(len, fitting))


def training_encoder(recipe: "Recipe", critic: "Critic") -> Encoder:
    """What training can read, which may be less than what the critic can, or more."""
    return replace(critic.encoder, max_tokens=recipe.data.max_tokens, truncate=recipe.data.truncate)


def readable(examples: Sequence[Example], *encoders: Encoder) -> list[Example]:
    """Those that all can read."""
    return [e for e in examples if all(_fits(encoder, e) for encoder in encoders)]


def _has_room(encoder: Encoder, one: Kept) -> bool:
    """Whether a critique can be learnt: whether it fits behind its rationale."""
    return _fits(encoder, one.example, _length(encoder, one), quoted_by(one.text))


def _fits(encoder: Encoder, example: Example, reserve: int = 0, quoted: str | None = None) -> bool:
    """Whether it can be read; what cannot costs nothing, and no control learns it."""
    try:
        encoder.prompt(example.domain, example.rationale, reserve, quoted)
    except TooLongError:
        return False
    return True


def check_selection(recipe: "Recipe", model: Path, out: Path, number: int) -> Path:
    """The folder, if `make_selection` would leave it as it is.

    Raises:
        ValueError: if it is not there, or was made by another adapter or with other settings.
    """
    if not (out / "manifest.json").is_file():
        raise ValueError(f"rsf.control: expected {out}, got none; make rsf first, with the same "
                         "settings")  # fmt: skip
    if not _made_by(out, sha256_json(_decides(recipe, model, number))):
        raise ValueError(f"rsf.control: expected {out} to be made with these settings, this data "
                         f"and {model}, got another selection, whose compute says nothing of this "
                         "run; make rsf first, with the same settings")  # fmt: skip
    return out


def _made_by(out: Path, key: str) -> bool:
    return (out / "manifest.json").is_file() and read_manifest(out)["facts"].get("key") == key


def _refuse_out_of_range(settings: RSFConfig, manner: Manner) -> None:
    if not 0 < settings.keep <= 1:
        raise ValueError(f"rsf.keep: expected a share above 0 up to 1, got {settings.keep:g}; "
                         "write 25 % as 0.25")  # fmt: skip
    if not VERDICT <= settings.least_score < 1:
        raise ValueError(f"rsf.least_score: expected a score from {VERDICT:g}, the verdict alone, "
                         f"to under 1, got {settings.least_score:g}; 0.9 asks for a critique that "
                         "is argued well")  # fmt: skip
    heats = manner.heats
    different = sum(heat > 0 for heat in heats) + (0 in heats)  # greedy ones are all the same
    if different == 1 and not settings.labels:
        raise ValueError("rsf.drawn: expected 2 critiques or more of a rationale that can differ, "
                         f"as of one there is nothing to select, got {settings.drawn} at the "
                         f"temperatures {settings.temperatures}; raise rsf.drawn or "
                         "rsf.temperatures, or learn labels alone (rsf.labels)")  # fmt: skip


_DECIDE = ("rationales", "scouted", "drawn", "dtype", "temperatures", "max_new_tokens", "rows",
           "keep", "keep_scope", "least_score", "labels", "epochs")  # fmt: skip


def _decides(recipe: "Recipe", model: Path, number: int) -> dict[str, Any]:
    """All that decides the outcome of a round."""
    from minicrit.lora import weights_of

    settings = recipe.rsf
    # Older ones of all kept, of equal scores, what came first by the alphabet of the ids.
    ties = {"ties": "by hash"} if settings.keep_scope == "global" else {}
    return {
        "settings": {k: str(getattr(settings, k)) for k in _DECIDE} | ties,
        # `true` stands in older ones, of which some critiques lost their evidence where it was cut.
        "room": [recipe.data.max_tokens, recipe.data.truncate and "with evidence"],
        "seed": recipe.seed, "round": number, "data": sha256_file(settings.data),
        "model": sha256_file(weights_of(model)),
        "oracle": VERSION, "rules": RULES, "filters": asked(recipe.filters),
        "measured_on": measured_on(recipe.filters, settings.data),
    }  # fmt: skip


def _sampled(
    critic: "Critic", looked_at: list[Example], settings: RSFConfig, manner: Manner, out: Path
) -> tuple[list[Example], list[list[Sample]], dict[str, int]]:  # fmt: skip
    """The examples criticized, the critiques of each, and what looking first has found."""
    work, looks = out.with_name(out.name + ".work"), {}
    if settings.scouted:
        found = scout(manner.writer(critic), looked_at, manner, work)
        looks = found.facts()
        looked_at = drawn(found.undecided, settings.rationales, f"{manner.seed}/undecided")
    return looked_at, make_candidates(critic, looked_at, manner, work), looks


def equal_tokens(
    encoder: Encoder,
    read: Sequence[Example],
    samples: Sequence[Sequence[Sample]],
    kept: Sequence[Kept],
    epochs: int,
) -> int:
    """Tokens of a control that costs what a round does: it reads and writes once, then it trains.

    To train on a token through frozen weights costs two forwards of it, there and back, in each
    epoch; and the control is trained for as many epochs.

    Args:
        encoder: of the critic.
        read: rationales, as often as they are read to look at them or to criticize them.
        samples: the critiques written.
        kept: those trained on.
        epochs: how often they are, and how often the control will be.
    """
    forward = sum(len(encoder.prompt(*item_of(example))) for example in read)
    forward += sum(len(one.ids) for some in samples for one in some)
    return sum(_tokens(encoder, one) for one in kept) + forward // (2 * epochs)


def control(
    examples: Sequence[Example], encoder: Encoder, tokens: int, seed: str
) -> Iterator[Kept]:
    """What rejection sampling has to beat: so many tokens of reference critiques, groups at random.

    Whole groups, until the tokens are spent or the examples are used up. If no example has a
    reference critique, its labels are learnt: verdict, flaw type, severity and evidence.
    """
    told = [e for e in examples if e.critique is not None]
    groups = grouped(told or examples)
    for members in sorted(groups, key=lambda some: order_key(f"{seed}/control", some[0].group)):
        if tokens <= 0:
            return
        some = (Kept(e, render_critique(critique_of(e)), 1.0, finished=bool(told)) for e in members)
        for one in some:
            if _has_room(encoder, one):
                tokens -= _tokens(encoder, one)
                yield one


def rest(looked_at: Sequence[Example], encoder: Encoder, kept: Sequence[Kept]) -> list[Kept]:
    """The labels of the rationales of which no critique is kept, as beginnings of critiques.

    What does not leave room for them is left out.
    """
    told = {one.example.id for one in kept}
    bare = [replace(critique_of(e), strengths=None, critique=None, fix=None) for e in looked_at]
    labels = [Kept(e, render_critique(one), 1.0, finished=False)
              for e, one in zip(looked_at, bare, strict=True) if e.id not in told]  # fmt: skip
    return [one for one in labels if _has_room(encoder, one)]


def _tokens(encoder: Encoder, one: Kept) -> int:
    return len(encoder.prompt(*item_of(one.example))) + _length(encoder, one)


def _length(encoder: Encoder, one: Kept) -> int:
    return len(encoder.written(one.text) if one.finished else encoder.begun(one.text))


def rated(example: Example, samples: Sequence[Sample]) -> list[Kept]:
    """Each different text once; what does not parse, or was cut off, scores 0."""
    ended: dict[str, bool] = {}
    for one in samples:
        ended[one.text] = ended.get(one.text, False) or one.finished
    return [Kept(example, text, score(example, text, whole=whole).total or 0.0)
            for text, whole in ended.items()]  # fmt: skip


def select(
    pools: Sequence[Sequence[Kept]], keep: float, scope: str, least: float = VERDICT
) -> Iterator[Kept]:
    """The best share of what is right, of rationales where not all is right or all wrong.

    Args:
        pools: for each rationale its different critiques.
        keep: share of the critiques, 0 to 1; of a rationale at least one.
        scope: `rationale` or `global`.
        least: score from which a critique is right; `VERDICT`: if its verdict is.
    """
    mixed = [pool for pool in pools if len({one.score >= least for one in pool}) > 1]
    groups = mixed if scope == "rationale" else [[one for pool in mixed for one in pool]]
    for group in groups:
        right = [one for one in group if one.score >= least]
        ranked = sorted(right, key=_rank)
        yield from ranked[: max(1, round(keep * len(group)))]


def _rank(one: Kept) -> tuple[float, bytes, str]:
    """The best first; of equal ones of several rationales none for its id, which tells the domain.

    Where nobody has given reasons, most that is right scores alike.
    """
    return -one.score, order_key("rank", one.example.id), one.text


def facts(
    examples: Sequence[Example],
    samples: Sequence[Sequence[Sample]],
    pools: Sequence[Sequence[Kept]],
    kept: Sequence[Kept],
    settings: RSFConfig,
) -> dict[str, Any]:
    """What became of the critiques, how different they are, how far best of N may move.

    There may be none, as of a critic that is sure of all it looked at; a mean of none is None.
    """
    n, least = settings.drawn, settings.least_score
    drawn = [one for some in samples for one in some]
    scores = _scores(samples, pools)
    right = Counter(sum(one.score >= least for one in pool) for pool in pools)
    return {
        "rationales": len(examples),
        "critiques": len(drawn),
        "different": sum(map(len, pools)),
        "finished": sum(one.finished for one in drawn),
        "right": sum(one.score >= least for pool in pools for one in pool),
        "rationales_with_none_right": right[0],
        "kept": len(kept),
        "kept_of_rationales": len({one.example.id for one in kept}),
        "mean_score": mean(scores),
        "mean_score_kept": mean([one.score for one in kept]),
        "kl_bound_nats": round(math.log(n) - (n - 1) / n, 4),
    }


def mean(values: Sequence[float]) -> float | None:
    """To four decimals; None of none."""
    return round(math.fsum(values) / len(values), 4) if values else None


def _scores(samples: Sequence[Sequence[Sample]], pools: Sequence[Sequence[Kept]]) -> list[float]:
    """The score of every critique drawn, equal texts as often as they were drawn."""
    found = []
    for some, pool in zip(samples, pools, strict=True):
        known = {one.text: one.score for one in pool}
        found += [known[one.text] for one in some]
    return found


def _rows(
    examples: Sequence[Example],
    samples: Sequence[Sequence[Sample]],
    pools: Sequence[Sequence[Kept]],
) -> Iterator[dict[str, Any]]:
    drawn = [(example, one) for example, some in zip(examples, samples, strict=True)
             for one in some]  # fmt: skip
    for (example, one), value in zip(drawn, _scores(samples, pools), strict=True):
        yield {"id": example.id, "text": one.text, "score": round(value, 6),
               "finished": one.finished, "temperature": one.temperature,
               "logprob": round(one.logprob, 4)}  # fmt: skip
