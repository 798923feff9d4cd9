"""The arms of an experiment: each asks the critic about the same items in a way of its own.

An answer is a JSON object. Of an arm that reads a verdict:

    log_odds    log p(flawed) - log p(valid), as the model says it
    p           p(flawed); calibrated where the prompt is the trained one
    read        tokens of prompt and lead-in, as often as they were read
    wrote       tokens written before the verdict, 0 unless it thinks first
    text, ended only of one that thinks: the reasoning, ended by `verdict`, `end` or `limit`

Of an arm that samples: `read`, and by sample `texts`, `wrote`, `finished`. What does not fit into
the critic's limit is `{"unscored": "too long"}`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from minicrit.critic import Critic
from minicrit.decoding import Decoder
from minicrit.encoding import Encoder, TooLongError
from minicrit.formats import REFORMATTINGS, Format
from minicrit.judging import TOO_LONG, item_of
from minicrit.measure_config import ExperimentsConfig
from minicrit.prompts import LEAD_IN, PROMPT_VERSION, STYLES
from minicrit.records import Example
from minicrit.sampling import Manner, readable, sample_pass

Answer = dict[str, Any]
Ask = Callable[[Critic, Sequence[Example]], list[Answer]]

TEMPERATURE, FORMATS, THOUGHT, REFORMATTING = EXPERIMENTS = (
    "temperature", "formats", "thought", "reformatting",
)  # fmt: skip
PLAIN, GREEDY, THINKING = PROMPT_VERSION, "greedy", "cot, reasoning written"
THINKING_STYLE = "cot"
VERDICT, END, LIMIT = "verdict", "end", "limit"  # by what reasoning ends
REASONING = "Reasoning:"  # what the model is given to go on from


@dataclass(frozen=True)
class Arm:
    """One way to ask.

    Attributes:
        name: in tables. experiment: one of EXPERIMENTS.
        about: what it does, for people.
        own: whether the prompt is the trained one or a layout of it, so that the critic's own
            calibration and threshold hold; else p is the model's and the threshold 0.5.
        ask: the critic about some items. each: how many of them at once.
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
        most = settings.thought_tokens
        arms.append(Arm(THINKING, THOUGHT, f"{most} tokens of reasoning at most, then the verdict",
                        own=False, ask=partial(_think, most), settings=(most,)))  # fmt: skip
    if REFORMATTING in asked:
        arms += [reformatted(name, form) for name, form in REFORMATTINGS.items()]
    return arms if {FORMATS, THOUGHT, REFORMATTING} & set(asked) else []


def sampling_arms(settings: ExperimentsConfig, seed: int) -> list[Arm]:
    """Greedy critiques first, then those of each temperature."""
    if TEMPERATURE not in settings.arms:
        return []
    most = settings.max_new_tokens
    greedy = _sampled(GREEDY, Manner(1, (0.0,), most, seed, settings.rows))
    return [greedy] + [
        _sampled(f"temperature {heat:g}", Manner(settings.samples, (heat,), most, seed,
                                                 settings.rows))
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
    told = (manner.copies, *manner.temperatures, manner.max_new_tokens, manner.seed, manner.rows)
    about = "the likeliest token each time" if name == GREEDY else f"{manner.copies} samples"
    return Arm(name, TEMPERATURE, about, own=True, ask=partial(_write, manner), each=each,
               settings=told)  # fmt: skip


def _read(form: Format, own: bool, critic: Critic, examples: Sequence[Example]) -> list[Answer]:
    """The readout after a prompt of this form, items one by one."""

    def ask(example: Example) -> Answer:
        prompt = prompt_ids(critic.encoder, form(*item_of(example)))
        return _readout(critic, prompt, example.domain if own else None)

    return [_fitting(ask, example) for example in examples]


def _think(most: int, critic: Critic, examples: Sequence[Example]) -> list[Answer]:
    """Reasoning, greedy and at most so many tokens, and the readout after it."""
    encoder = critic.encoder

    def ask(example: Example) -> Answer:
        begun = STYLES[THINKING_STYLE](*item_of(example)) + REASONING
        prompt = prompt_ids(encoder, begun, reserve=most + len(encoder.lead_in) + 1)
        ids = go_on(critic, prompt, most)
        text, ended = reasoning(critic, ids)
        answer = _readout(critic, [*prompt, *encoder.ids(text.rstrip() + "\n")], None)
        read = len(prompt) + answer["read"]  # it is read anew with what was written
        return {**answer, "read": read, "wrote": len(ids), "text": text, "ended": ended}

    return [_fitting(ask, example) for example in examples]


def go_on(critic: Critic, prompt: Sequence[int], most: int) -> list[int]:
    """The likeliest continuation of a prompt up to a verdict, an end token or so many tokens."""
    decoder = Decoder(critic.causal_lm, [prompt], 1, most)
    ids: list[int] = []
    while True:
        ids.append(int(decoder.logits.argmax(-1)))
        if len(ids) == most or reasoning(critic, ids)[1] != LIMIT:
            return ids
        decoder.step(torch.tensor([ids[-1]]))


def reasoning(critic: Critic, ids: Sequence[int]) -> tuple[str, str]:
    """The text of written tokens without a verdict of their own, and by what it ended."""
    done = bool(ids) and ids[-1] == critic.encoder.end
    written = str(critic.tokenizer.decode(list(ids[:-1] if done else ids)))
    text, lead, _ = readable(written).partition(LEAD_IN)
    return text, VERDICT if lead else END if done else LIMIT


def _readout(critic: Critic, prompt: Sequence[int], domain: str | None) -> Answer:
    """The answer after a prompt; without a domain, p is not calibrated."""
    odds = critic.odds_after([prompt])
    p = critic.chances(odds, None if domain is None else [domain])
    read = len(prompt) + len(critic.encoder.lead_in)
    return {"log_odds": float(odds[0]), "p": float(p[0]), "read": read, "wrote": 0}


def _write(manner: Manner, critic: Critic, examples: Sequence[Example]) -> list[Answer]:
    """Critiques of some items from one pass over each; alone if one of them does not fit."""
    try:
        read = [len(critic.encoder.prompt(*item_of(e), reserve=manner.max_new_tokens))
                for e in examples]  # fmt: skip
    except TooLongError:
        if len(examples) == 1:
            return [{"unscored": TOO_LONG}]
        return [answer for e in examples for answer in _write(manner, critic, [e])]
    groups = sample_pass(critic, [item_of(e) for e in examples], manner)
    return [
        {
            "read": tokens + len(critic.encoder.lead_in),
            "texts": [s.text for s in group],
            "wrote": [len(s.ids) for s in group],
            "finished": [s.finished for s in group],
        }
        for tokens, group in zip(read, groups, strict=True)
    ]


def _fitting(ask: Callable[[Example], Answer], example: Example) -> Answer:
    try:
        return ask(example)
    except TooLongError:
        return {"unscored": TOO_LONG}


def prompt_ids(encoder: Encoder, text: str, reserve: int = 0) -> list[int]:
    """Ids of a whole prompt that leave room; TooLongError if they do not."""
    ids = [*encoder.opening, *encoder.ids(text)]
    room = encoder.max_tokens - reserve
    if len(ids) > room:
        raise TooLongError(f"expected at most {room} prompt tokens, got {len(ids)}; shorten it")
    return ids
