"""What a run will cost, before it starts: its own requests, counted, and answers as they were.

The first plans of the run are gone through with the answers of its journal; where there is none
yet, a stand-in of the usual length answers, so that later prompts are as long as they will be.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from statistics import fmean

from data_gen.backends.protocol import (
    Answer,
    HopelessError,
    Request,
    TryAgainError,
    UnanswerableError,
)
from data_gen.journal import Past
from data_gen.prices import Price
from data_gen.tamper import TRIES, Plan, Rejected, pair_steps

#: Characters of a prompt that make a token, where nobody counts them.
CHARS_A_TOKEN = 3.5
#: Plans that are gone through, and samples from which a mean is used.
_PLANS, _ENOUGH = 100, 10
#: Tokens a second and seconds until the first of them, where no earlier answer was timed.
_TOKENS_A_SECOND, _LATENCY = 50.0, 1.0
#: What a stand-in puts in for a flaw, and how long its critiques are, in characters.
_EDIT, _SENTENCE = " odds", 140


@dataclass(frozen=True)
class Estimate:
    """What a run will ask and cost.

    Attributes:
        pairs: to be made. requests: still to be sent. answered: known already.
        input_tokens, output_tokens: of the requests.
        usd, most_usd: expected; if every answer is as long as allowed and every one is asked twice,
            but no more is rejected than `basis` says.
        seconds: of one request. basis: what tokens, lengths and rejections were taken from.
        rest: USD that a plan is still expected to cost, by the step that it asks next.
    """

    pairs: int
    requests: int
    answered: int
    input_tokens: float
    output_tokens: float
    usd: float
    most_usd: float
    seconds: float
    basis: str
    rest: Mapping[str, float]


@dataclass
class _Sample:
    """What going through some plans showed, by step (the fields that are asked for)."""

    planned: list[Request] = field(default_factory=list)
    stand_in: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    known: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    chars: int = 0
    tokens: int = 0
    accepted: int = 0
    rejected: int = 0
    plans: int = 0
    reached: Counter[str] = field(default_factory=Counter)


def estimate(
    pairs: int,
    plans: Iterator[Plan],
    price: Price,
    past: Past,
    *,
    identity: Mapping[str, object],
    count: Callable[[Request], int] | None = None,
) -> Estimate:
    """What `pairs` pairs will cost beyond what was spent.

    Args:
        pairs: to be made.
        plans: of the run, from its beginning.
        price: of the model.
        past: of the run's journal.
        identity: of the back end.
        count: counts a request's tokens at the server; None, or a failure, leaves it to a rule.
    """
    sample = _sample(list(islice(plans, min(pairs, _PLANS))), past, identity)
    rate, rated = 1.0, "no rejections"
    if sample.accepted and sample.accepted + sample.rejected >= _ENOUGH:
        rate = sample.accepted / (sample.accepted + sample.rejected)
        rated = f"{1 - rate:.0%} rejections as so far"
    ratio, counted = _chars_a_token(sample, count)
    asked = len(sample.planned) / max(1, sample.plans)
    # The journal may hold answers of other models, seeds and focuses, which save nothing.
    known = sum(map(len, sample.known.values())) / max(1, sample.plans)
    answered = min(len(past.answers), round(known * pairs / rate))
    requests = max(0, round(pairs / rate * asked) - answered)
    sizes = [(_chars(r) / ratio, _output(sample, r, ratio)) for r in sample.planned] or [(0.0, 0.0)]
    one_in, one_out = fmean(i for i, _ in sizes), fmean(o for _, o in sizes)
    most = fmean(price.most(request) for request in sample.planned) if sample.planned else 0.0
    timed = len(past.seconds) >= _ENOUGH
    lengths = "as long as earlier ones" if sample.known else "of typical length"
    return Estimate(
        pairs, requests, answered, requests * one_in, requests * one_out,
        usd=requests * (one_in * price.input + one_out * price.output) / 1e6,
        most_usd=requests * TRIES * most,
        seconds=fmean(past.seconds) if timed else _LATENCY + one_out / _TOKENS_A_SECOND,
        basis=f"tokens {counted}; answers {lengths}; {rated}",
        rest=_rest(sample, [(i * price.input + o * price.output) / 1e6 for i, o in sizes]),
    )  # fmt: skip


def _rest(sample: _Sample, each: Iterable[float]) -> dict[str, float]:
    """USD from each step on, of the plans that come to it; `each` is of each planned request."""
    costs: dict[str, float] = {}  # in the order of the steps, as every plan begins with the first
    for request, usd in zip(sample.planned, each, strict=False):  # none planned: one of no cost
        costs[step_of(request)] = costs.get(step_of(request), 0.0) + usd
    left = list(costs.values())
    return {step: sum(left[n:]) / sample.reached[step] for n, step in enumerate(costs)}


def _sample(plans: list[Plan], past: Past, identity: Mapping[str, object]) -> _Sample:
    """Goes through plans with the answers that are known and stand-ins for the others."""
    sample = _Sample(plans=len(plans))
    for plan in plans:
        steps, real, seen = pair_steps(plan, "estimate"), True, set()
        try:
            requests = next(steps)
            while True:
                found = [past.answers.get(request.key(identity)) for request in requests]
                given = [a or _stand_in(plan, r) for a, r in zip(found, requests, strict=True)]
                for request, answer, known in zip(requests, given, found, strict=True):
                    _note(sample, request, answer, known is not None)
                    seen.add(step_of(request))
                real = real and None not in found
                requests = steps.send(iter(given))
        except StopIteration as done:
            sample.reached.update(seen)
            if real:
                sample.rejected += isinstance(done.value, Rejected)
                sample.accepted += not isinstance(done.value, Rejected)
    return sample


def _note(sample: _Sample, request: Request, answer: Answer, known: bool) -> None:
    sample.planned.append(request)
    if known:
        counted = answer.usage.output_tokens  # none from a server that does not count
        sample.known[step_of(request)].append(counted or round(len(answer.text) / CHARS_A_TOKEN))
        sample.chars += _chars(request)
        sample.tokens += answer.usage.input_tokens
        sample.tokens += answer.usage.cache_read_tokens + answer.usage.cache_write_tokens
    else:
        sample.stand_in[step_of(request)].append(answer.text)


def step_of(request: Request) -> str:
    """Which step of a plan asks this: the fields of its answer."""
    return ",".join(request.schema["required"])


def _chars(request: Request) -> int:
    return len(request.system) + len(request.prompt) + len(json.dumps(dict(request.schema)))


def _output(sample: _Sample, request: Request, ratio: float) -> float:
    """Tokens of the answer: the mean of earlier ones of this step, or by the stand-ins."""
    if known := sample.known.get(step_of(request)):
        return fmean(known)
    stand_ins = sample.stand_in[step_of(request)]
    return min(request.max_tokens, fmean(map(len, stand_ins)) / ratio)


def _chars_a_token(sample: _Sample, count: Callable[[Request], int] | None) -> tuple[float, str]:
    if sample.tokens and sum(map(len, sample.known.values())) >= _ENOUGH:
        return sample.chars / sample.tokens, "as in earlier answers"
    steps = {step_of(request): request for request in sample.planned}.values()
    if count is not None and steps:
        try:
            tokens = sum(map(count, steps))
        except (TryAgainError, UnanswerableError, HopelessError):
            tokens = 0
        if tokens:
            return sum(map(_chars, steps)) / tokens, "counted by the server"
    return CHARS_A_TOKEN, f"by a rule, {CHARS_A_TOKEN} characters each"


def _stand_in(plan: Plan, request: Request) -> Answer:
    """An answer of the usual length that every check accepts."""
    low, _, high, *_ = plan.length.split()
    text = "evens " * ((int(low) + int(high)) // 2)
    if "<rationale>\n" in request.prompt:
        text = request.prompt.split("<rationale>\n")[1].split("\n</rationale>")[0]
    verdict = "flawed" if text.endswith(_EDIT) else "valid"
    if "evidence" in request.schema["required"]:
        text += _EDIT
    texts = {"rationale": text, "evidence": text[-_SENTENCE // 2 :], "severity": "low",
             "flaw_type": plan.flaw, "verdict": verdict}  # fmt: skip
    row = {name: texts.get(name, "x" * _SENTENCE) for name in request.schema["required"]}
    return Answer(json.dumps(row), "end")
