"""The arms of an experiment: each asks the critic about the same items in a way of its own.

An answer is a JSON object. Of an arm that reads a verdict:

    log_odds    log p(flawed) - log p(valid), as the model says it
    p           p(flawed); calibrated where the prompt is the trained one. A false sum counts after
                every prompt, where the critic's calibration counts sums: no prompt has a part in it
    read        tokens of prompt and lead-in, as often as they were read
    wrote       tokens written before the verdict, 0 unless it thinks first
    text, ended only of one that thinks: the reasoning, ended by `verdict`, `end` or `limit`

Of an arm that samples: `read`, and by sample `texts`, `wrote`, `finished`. What does not fit into
the critic's limit is `{"unscored": "too long"}`.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from minicrit.critic import Critic
from minicrit.encoding import TooLongError
from minicrit.formats import REFORMATTINGS, Format
from minicrit.judging import TOO_LONG, item_of
from minicrit.measure_config import ExperimentsConfig
from minicrit.precision import settled
from minicrit.prompts import PROMPT_VERSION, STYLES
from minicrit.reader import Item
from minicrit.records import Example
from minicrit.recount import Floats, either, miscounts
from minicrit.sampling import Manner, sample_pass
from minicrit.thinking import go_on, prompt_ids, reasoning

Answer = dict[str, Any]

TEMPERATURE, FORMATS, THOUGHT, REFORMATTING = EXPERIMENTS = (
    "temperature", "formats", "thought", "reformatting",
)  # fmt: skip
PLAIN, GREEDY, THINKING = PROMPT_VERSION, "greedy", "cot, reasoning written"
THINKING_STYLE = "cot"
REASONING = "Reasoning:"  # what the model is given to go on from


@dataclass(frozen=True)
class Asked:
    """Who reads verdicts, and the same critic as it writes (see `Critic.merged`)."""

    critic: Critic
    writer: Critic


Ask = Callable[[Asked, Sequence[Example]], list[Answer]]


@dataclass(frozen=True)
class Arm:
    """One way to ask.

    Attributes:
        name: in tables. experiment: one of EXPERIMENTS.
        about: what it does, for people.
        own: whether the prompt is the trained one or a layout of it, so that the critic's own
            calibration and threshold hold; else p is the model's, but for sums, and the threshold
            0.5.
        ask: a critic about some items. each: how many of them at once.
        settings: what decides its answers beside critic and items.
    """

    name: str
    experiment: str
    about: str
    own: bool
    ask: Ask
    each: int = 1
    settings: tuple[Any, ...] = ()


def reading_arms(settings: ExperimentsConfig) -> list[Arm]:
    """Arms that end in a readout, the trained prompt first."""
    asked = settings.arms
    arms = [_style(PLAIN)]
    if FORMATS in asked:
        arms += [_style(style) for style in STYLES if style != PLAIN]
    if THOUGHT in asked:
        if FORMATS not in asked:  # the same prompt without the reasoning
            arms.append(_style(THINKING_STYLE))
        most, each = settings.thought_tokens, max(1, settings.rows // 4)
        arms.append(Arm(THINKING, THOUGHT, f"{most} tokens of reasoning at most, then the verdict",
                        own=False, ask=partial(_think, most), each=each,
                        settings=(most, each, settled(settings.dtype))))  # fmt: skip
    if REFORMATTING in asked:
        arms += [reformatted(name, form) for name, form in REFORMATTINGS.items()]
    return arms if {FORMATS, THOUGHT, REFORMATTING} & set(asked) else []


def sampling_arms(settings: ExperimentsConfig, seed: int) -> list[Arm]:
    """Greedy critiques first, then those of each temperature."""
    if TEMPERATURE not in settings.arms:
        return []
    most = settings.max_new_tokens
    greedy = _sampled(GREEDY, Manner(1, (0.0,), most, seed, settings.rows, settings.dtype))
    return [greedy] + [
        _sampled(f"temperature {heat:g}", Manner(settings.samples, (heat,), most, seed,
                                                 settings.rows, settings.dtype))
        for heat in settings.temperatures
    ]  # fmt: skip


def _style(style: str) -> Arm:
    own = style == PLAIN
    about = "as trained" if own else f"the style `{style}`"
    return Arm(style, FORMATS, about, own, partial(_read, STYLES[style], own))


def reformatted(name: str, form: Format) -> Arm:
    """The arm that reads the verdict after a layout of the trained prompt."""
    about = (form.__doc__ or name).rstrip(".")
    return Arm(name, REFORMATTING, about, own=True, ask=partial(_read, form, True))


def _sampled(name: str, manner: Manner) -> Arm:
    each = max(1, manner.rows // manner.copies)
    told = (manner.copies, *manner.temperatures, manner.max_new_tokens, manner.seed, manner.rows,
            manner.dtype)  # fmt: skip
    about = "the likeliest token each time" if name == GREEDY else f"{manner.copies} samples"
    return Arm(name, TEMPERATURE, about, own=True, ask=partial(_write, manner), each=each,
               settings=told)  # fmt: skip


def _read(form: Format, own: bool, asked: Asked, examples: Sequence[Example]) -> list[Answer]:
    """The readout after a prompt of this form, items one by one."""
    found: list[Answer] = []
    for example in examples:
        try:
            prompt = prompt_ids(asked.critic.encoder, form(*item_of(example)))
        except TooLongError:
            found.append({"unscored": TOO_LONG})
        else:
            found.append(_readout(asked.critic, prompt, item_of(example), own=own))
    return found


def _think(most: int, asked: Asked, examples: Sequence[Example]) -> list[Answer]:
    """Reasoning, greedy and at most so many tokens, written together; the readout after each."""
    encoder = asked.critic.encoder
    reserve = 2 * (most + len(encoder.lead_in))  # as text it may have other tokens than as written
    prompts: dict[int, list[int]] = {}
    for row, example in enumerate(examples):
        with suppress(TooLongError):
            begun = STYLES[THINKING_STYLE](*item_of(example)) + REASONING
            prompts[row] = prompt_ids(encoder, begun, reserve)
    found: list[Answer] = [{"unscored": TOO_LONG} for _ in examples]
    if prompts:
        wrote = go_on(asked.writer, list(prompts.values()), most)
        for (row, prompt), ids in zip(prompts.items(), wrote, strict=True):
            found[row] = _thought(asked.critic, prompt, ids, item_of(examples[row]))
    return found


def _thought(critic: Critic, prompt: Sequence[int], ids: Sequence[int], item: Item) -> Answer:
    """The readout after a prompt and what was written."""
    text, ended = reasoning(critic, ids)
    after = [*prompt, *critic.encoder.ids(text.rstrip() + "\n")]
    answer = _readout(critic, after, item, own=False)
    read = len(prompt) + answer["read"]  # the prompt is read anew with what was written
    return {**answer, "read": read, "wrote": len(ids), "text": text, "ended": ended}


def _readout(critic: Critic, prompt: Sequence[int], item: Item, *, own: bool) -> Answer:
    """The answer after a prompt; of no own one p is not calibrated."""
    odds = critic.odds_after([prompt])
    p = critic.chances(odds, [item]) if own else critic.chances(_counted(critic, odds, item), None)
    read = len(prompt) + len(critic.encoder.lead_in)
    return {"log_odds": float(odds[0]), "p": float(p[0]), "read": read, "wrote": 0}


def _counted(critic: Critic, odds: Floats, item: Item) -> Floats:
    """Log-odds with what a program has counted again, as the critic's calibration has it."""
    sums = (critic.calibration or {}).get("sums")
    return either(odds, sums["believed"]) if sums and miscounts(item[1]) else odds


def _write(manner: Manner, asked: Asked, examples: Sequence[Example]) -> list[Answer]:
    """Critiques of some items from one pass over each; alone if one of them does not fit."""
    encoder = asked.writer.encoder
    try:
        read = [len(encoder.prompt(*item_of(e), reserve=manner.max_new_tokens))
                for e in examples]  # fmt: skip
    except TooLongError:
        if len(examples) == 1:
            return [{"unscored": TOO_LONG}]
        return [answer for e in examples for answer in _write(manner, asked, [e])]
    groups = sample_pass(asked.writer, [item_of(e) for e in examples], manner)
    return [
        {
            "read": tokens + len(encoder.lead_in),
            "texts": [s.text for s in group],
            "wrote": [len(s.ids) for s in group],
            "finished": [s.finished for s in group],
        }
        for tokens, group in zip(read, groups, strict=True)
    ]
