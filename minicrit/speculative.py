"""Writing with drafts, measured: how much faster, and proof that the text is the same.

    minicrit speculative --speculative.target checkpoints/cpu/sft --speculative.draft null

Whole critiques, verdict included, without drafts and by each arm of drafts, item by item in turns,
so that other work on the machine falls on all; seconds of the processor are told beside those of
the clock. All of these read the prompt once, for verdict and text. Greedy writing that shares
nothing with them, and reads it again for the text, says what the text has to be, of these items
and of more. Writes `<out>.json` and `<out>.md`; lines beside it let a killed run go on.
"""

# mypy: disable-error-code="import-untyped"
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from tqdm import tqdm

from minicrit import latency, limits
from minicrit.config import Recipe
from minicrit.critic import Critic, Written
from minicrit.decoding import greedy
from minicrit.drafting import Effort
from minicrit.encoding import TooLongError, common_length
from minicrit.files import sha256_file, write_atomic, write_json
from minicrit.impostors import speaks
from minicrit.judging import item_of, keep
from minicrit.kept import in_passes, remove_kept
from minicrit.manifest import code_version, provenance
from minicrit.model_drafts import refuse_other_tokenizer
from minicrit.prompts import LEAD_IN, critique_of
from minicrit.records import Example, read_examples
from minicrit.recount import miscounts
from minicrit.scribe import Scribe
from minicrit.speculative_config import SpeculativeConfig
from minicrit.speculative_figures import GREEDY, PLAIN, break_even, identity, reread, speeds
from minicrit.speculative_page import page
from minicrit.written import seeded_order

ARMS = ("lookup", "phrases", "model", "both")
_WITH_MODEL, _WITH_PHRASES = ("model", "both"), ("phrases", "both")
Arms = dict[str, Scribe]


def speculative(recipe: Recipe) -> dict[str, Any]:
    """Measures, writes the report and returns it.

    Raises:
        ValueError: if a setting is no use, the target is not in float32, the draft has another
            tokenizer, or either is a router.
    """
    settings = recipe.speculative
    _check(settings)
    flawed = _items(settings, recipe.seed)
    load = partial(Critic.load, base_folder=recipe.base.folder)
    critic = load(settings.target)
    critic.require_one_adapter()
    if not critic.drafts_are_exact:
        raise ValueError("speculative.target: expected a critic in float32, got "
                         f"{settings.target}; with rounder weights drafts change the text: take "
                         "the float critic")  # fmt: skip
    draft = load(settings.draft) if settings.draft else None
    if draft:
        draft.require_one_adapter()  # its base alone would draft, under its name
    examples = _with_room(critic, flawed, settings)
    arms = _arms(critic, settings, draft)
    timed, more = examples[: settings.timed], examples[settings.timed :]
    asked = _asked(settings, draft)
    rows = _timed(critic, {PLAIN: _plain(critic, settings), **arms}, timed, settings, asked)
    checked = _checked(critic, arms, more, settings, asked)
    batches = _batches(critic, draft, timed, settings)
    inputs = {p.as_posix(): sha256_file(p) for p in (settings.data, settings.phrases)
              if p and p.is_file()}  # fmt: skip
    report = {
        **provenance(recipe.seed, settings, inputs),
        "target": {"name": critic.name, "identity": critic.identity, "adapter": critic.adapter},
        "identity": identity(rows, checked, [PLAIN, *settings.arms]),
        "measured": {"hardware": latency.hardware(), "arms": speeds(rows, settings.arms),
                     "reread": reread(rows),
                     "break_even": break_even(batches)},
    }  # fmt: skip
    write_json(settings.out.with_name(f"{settings.out.name}.json"), report)
    write_atomic(settings.out.with_name(f"{settings.out.name}.md"), page(report))
    remove_kept(settings.out)
    return report


def _check(settings: SpeculativeConfig) -> None:
    unknown = [name for name in settings.arms if name not in ARMS]
    if unknown or not settings.arms:
        raise ValueError(f"speculative.arms: expected some of {', '.join(ARMS)}, got "
                         f"{', '.join(unknown) or 'none'}; name what drafts")  # fmt: skip
    if settings.draft is None and set(_WITH_MODEL) & set(settings.arms):
        raise ValueError("speculative.draft: expected a model for the arms model and both, got "
                         "none; name one, or leave these arms out")  # fmt: skip
    limits.require("speculative", settings)


def _items(settings: SpeculativeConfig, seed: int) -> list[Example]:
    """Flawed items in a seeded order, so that a smaller number is a part of a larger.

    Without texts that speak as the critic does, which are read several times and never drafted, and
    without those that state a false sum, which may be told so by a program.
    """
    rows = read_examples(settings.data).examples
    flawed = [e for e in rows if e.label == "flawed"
              and not (speaks(e.rationale) or miscounts(e.rationale))]  # fmt: skip
    if not flawed or any(e.split == "train" for e in flawed):
        raise ValueError(f"{settings.data}: expected flawed rows that are not trained on, got "
                         "others; take test rows")  # fmt: skip
    _require_enough(flawed, settings)
    return seeded_order(flawed, seed)


def _with_room(
    critic: Critic, flawed: Sequence[Example], settings: SpeculativeConfig
) -> list[Example]:
    """As many as are asked for of those that leave room for a critique."""
    found = []
    for example in flawed:
        with suppress(TooLongError):
            critic.prompt(*item_of(example), settings.max_new_tokens)
            found.append(example)
    return _require_enough(found, settings)


def _require_enough(flawed: list[Example], settings: SpeculativeConfig) -> list[Example]:
    wanted = settings.timed + settings.checked
    if len(flawed) < wanted:
        raise ValueError(f"{settings.data}: expected {wanted} flawed rows that leave room for a "
                         f"critique, got {len(flawed)}; lower speculative.timed or "
                         "speculative.checked")  # fmt: skip
    return flawed[:wanted]


def _arms(critic: Critic, settings: SpeculativeConfig, draft: Critic | None) -> Arms:
    """Who writes in each arm."""
    if draft is not None:
        refuse_other_tokenizer(critic.tokenizer, draft.tokenizer, f"speculative.draft {draft.name}")
    found = {}
    for name in settings.arms:
        helper = draft.causal_lm if draft and name in _WITH_MODEL else None
        scribe = Scribe(critic.causal_lm, critic.encoder, effort=_effort(settings), helper=helper,
                        sure=settings.sure, tables=name != "model")  # fmt: skip
        if settings.phrases and name in _WITH_PHRASES:
            examples = read_examples(settings.phrases).examples
            scribe.learn(critic.encoder.completion(critique_of(e)) for e in examples)
        scribe.watch = True
        found[name] = scribe
    return found


def _plain(critic: Critic, settings: SpeculativeConfig) -> Scribe:
    """Who writes as the arms do, but without drafts: with it only these differ."""
    scribe = Scribe(critic.causal_lm, critic.encoder, effort=_effort(settings), tables=False)
    scribe.watch = True
    return scribe


def _effort(settings: SpeculativeConfig) -> Effort:
    return Effort(settings.least, settings.worth, settings.most)


def _timed(
    critic: Critic, arms: Arms, examples: Sequence[Example], settings: SpeculativeConfig,
    asked: Sequence[Any],
) -> list[dict[str, Any]]:  # fmt: skip
    """One row an item: what each way of writing cost, and where its text is not the greedy one."""
    with keep(critic, examples, settings.out, "timed", *asked) as kept:
        for place in tqdm(range(len(kept.rows), len(examples)), unit="critique", desc="timed"):
            kept.add({"item": place, **_turn(critic, arms, examples[place], settings, place)})
    return kept.rows


def _asked(settings: SpeculativeConfig, draft: Critic | None) -> list[Any]:
    """All that decides what the arms write and cost."""
    phrases = settings.phrases
    book = sha256_file(phrases) if phrases and phrases.is_file() else None
    return [list(settings.arms), draft and draft.identity, book, settings.max_new_tokens,
            settings.most, settings.least, settings.worth, settings.sure]  # fmt: skip


def _turn(
    critic: Critic, arms: Arms, example: Example, settings: SpeculativeConfig, n: int
) -> dict[str, Any]:
    """All ways of one item, another one first each time."""
    names = [GREEDY, *arms]
    names = names[n % len(names) :] + names[: n % len(names)]
    texts: dict[str, Written] = {}
    costs: dict[str, dict[str, Any]] = {}
    for name in names:
        texts[name], costs[name] = _write(critic, arms.get(name), example, settings.max_new_tokens)
    flips = {name: _flip(critic, example, texts[GREEDY], texts[name]) for name in arms}
    return {"tokens": texts[GREEDY].tokens, "costs": costs,
            "flips": {name: flip for name, flip in flips.items() if flip}}  # fmt: skip


def _write(
    critic: Critic, scribe: Scribe | None, example: Example, longest: int
) -> tuple[Written, dict[str, Any]]:
    """A whole critique by one way of writing, and its cost; greedy without a scribe."""
    if scribe is not None:
        critic.scribe = scribe
    wall, cpu = time.perf_counter(), time.process_time()
    (text,) = critic.critique([item_of(example)], max_new_tokens=longest, batch=1,
                              drafts=scribe is not None)  # fmt: skip
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    cost = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    if scribe is None:
        return text, cost
    tally = scribe.last
    return text, {**cost, "forwards": tally.forwards, "written": tally.tokens,
                  "drafts": tally.drafts, "drafted": dict(tally.drafted),
                  "accepted": dict(tally.accepted), "closest": scribe.closest}  # fmt: skip


def _flip(critic: Critic, example: Example, plain: Written, other: Written) -> Any:
    """Where two texts part, and how far apart the model holds their tokens; None if nowhere."""
    if (plain.text, plain.tokens) == (other.text, other.tokens):
        return None
    encoder = critic.encoder
    one, two = (encoder.begun(w.text) if w.text.startswith(LEAD_IN) else encoder.ids(w.text)
                for w in (plain, other))  # fmt: skip
    at = common_length(one, two)
    ends = [ids[at] if at < len(ids) else encoder.end for ids in (one, two)]
    prompt = encoder.prompt(*item_of(example))
    decoder = Scribe(critic.causal_lm, encoder).start([prompt], len(one) + 1)
    logits = decoder.read({0: [*prompt, *one[:at]]}, {0: 1})[0][0]
    return {"at": at, "gap": float((logits[ends[0]] - logits[ends[1]]).abs()),
            "verdicts": [plain.verdict.label, other.verdict.label]}  # fmt: skip


def _checked(
    critic: Critic, arms: Arms, examples: Sequence[Example], settings: SpeculativeConfig,
    asked: Sequence[Any],
) -> list[Any]:  # fmt: skip
    """The flip, or None, of the last arm on each item, against plain writing in passes."""
    name = settings.arms[-1]

    def make(some: Sequence[Example]) -> list[Any]:
        critic.scribe = arms[name]
        plain = critic.critique([item_of(e) for e in some], batch=len(some), drafts=False,
                                max_new_tokens=settings.max_new_tokens)  # fmt: skip
        found = []
        for example, text in zip(some, plain, strict=True):
            other, cost = _write(critic, arms[name], example, settings.max_new_tokens)
            flip = _flip(critic, example, text, other)
            found.append({"flip": flip, "closest": cost["closest"], "forwards": cost["forwards"],
                          "written": cost["written"]})  # fmt: skip
        return found

    key = [critic.identity, critic.threshold, code_version(), *asked, settings.rows,
           *(item_of(e) for e in examples)]  # fmt: skip
    return in_passes(settings.out, "checked", key, examples, settings.rows, make, unit="critique")


def _batches(
    critic: Critic, draft: Critic | None, examples: Sequence[Example], settings: SpeculativeConfig
) -> list[dict[str, Any]]:
    """Processor seconds a critique, greedy and with the last arm's drafts, so many at a time.

    Greedy is what a batch is written by without drafts, not the scribe that drafts nothing.

    Each number has a book of its own: what a scribe has written itself it drafts without a fault.
    """
    encoder = critic.encoder
    last = replace(settings, arms=settings.arms[-1:])
    found = []
    for size in settings.batches:
        (scribe,) = _arms(critic, last, draft).values()
        some = [encoder.prompt(*item_of(e)) for e in examples[:size]]
        head = [*encoder.lead_in, *encoder.verdict_words["flawed"]]
        prompts, starts = [p + head for p in some], [len(p) for p in some]
        longest = settings.max_new_tokens
        plain = _spent(partial(greedy, critic.causal_lm, prompts, longest=longest, end=encoder.end))
        drafts = _spent(partial(scribe.write, prompts, starts, longest))
        found.append({"batch": len(some), "plain": plain / len(some), "drafts": drafts / len(some)})
    return found


def _spent(call: Callable[[], object]) -> float:
    begin = time.process_time()
    call()
    return time.process_time() - begin
