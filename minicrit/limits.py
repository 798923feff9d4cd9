"""Which numbers a setting can have, by its name: none is less than 0, few are 0, shares end at 1.

What depends on more than the number itself is refused by the stage that reads it.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

#: Of these no number is too small.
_SIGNED = {"ab.outcome_low", "ab.outcome_high"}
#: Those that need more than 0 to do anything, whatever section they belong to, unless it is named.
_LEAST: dict[str, float] = dict.fromkeys((
    "batch", "batch_critiques", "batch_examples", "batch_pairs", "batch_tokens", "batches",
    "completion", "context", "count", "devices", "draws", "drawn", "epochs", "experiments.samples",
    "judge.band", "max_new_tokens", "max_tokens", "most", "most_bytes", "most_characters",
    "most_connections", "nodes", "pack_tokens", "placebos", "probed", "quantize.latency_items",
    "revisions", "rounds", "rows", "save_every", "thought_tokens", "threads", "trials",
), 1)  # fmt: skip
# A critique that is read must have room for its opening, a slice and an interval for a difference.
_LEAST |= {"errors.max_new_tokens": 16, "explain.max_new_tokens": 16, "errors.slice_items": 2,
           "speculative.timed": 2}  # fmt: skip
_ABOVE_ZERO = {"beta", "body_s", "clip", "drain_s", "gain", "learning_rate", "lora.alpha", "ratios",
               "verdict_weight"}  # fmt: skip
_SHARES = {
    "ab.alpha", "bar", "calibrate.alpha", "casebook", "certain", "changed", "confident", "delta",
    "discordance", "dropout", "errors.reasons", "explain.reasons", "explained",
    "feedback.validation", "final_rate",
    "flawed", "floor", "least_accuracy", "least_agreement", "least_injection", "least_length",
    "least_parsed", "least_right", "max_bad", "max_risk", "max_unscored", "most_flips", "near",
    "overlap", "quantize.margin", "rate", "share", "sure", "target", "temperature_share", "terse",
    "valid_share", "warmup",
}  # fmt: skip
#: Those with a range of their own: whether a number is in it, and the range in words.
_OWN: dict[str, tuple[Callable[[float], bool], str]] = {
    # numpy draws by no negative one, torch by none of more than 64 bits
    "seed": (lambda n: 0 <= n < 2**63, "0 to 2^63 - 1"),
    "filters.balance": (lambda n: n == 0 or n >= 1, "0 for none, or 1 or more"),
    "serve.port": (lambda n: 0 <= n <= 65535, "0 (for a free one) to 65535"),  # noqa: PLR2004
}


def broken(key: str, value: object) -> str:
    """What a number, or each of a list, ought to be where it is not; else empty.

    Args:
        key: dotted name of the setting.
        value: what it is set to; what is no number is not asked about.
    """
    if isinstance(value, list):
        return next(filter(None, (broken(key, item) for item in value)), "")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or key in _SIGNED:
        return ""
    name = key.rpartition(".")[2]
    if {key, name} & _SHARES:
        return "" if 0 <= value <= 1 else "a share from 0 to 1"
    if {key, name} & _ABOVE_ZERO:
        return "" if value > 0 else "more than 0"
    if key in _OWN:
        fits, words = _OWN[key]
        return "" if fits(value) else words
    least = _LEAST.get(key, _LEAST.get(name, 0))
    return "" if value >= least else f"{least} or more"


def require(section: str, settings: Any) -> None:
    """Refuses a section of a recipe that was made without the command line.

    Raises:
        ValueError: with the first number that cannot be.
    """
    for field in fields(settings):
        value = getattr(settings, field.name)
        if limit := broken(f"{section}.{field.name}", value):
            raise ValueError(f"{section}.{field.name}: expected {limit}, got {value}; leave it out "
                             "for its default")  # fmt: skip
