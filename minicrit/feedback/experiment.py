"""An experiment: which critic answers what, what is known so far, and when it is over.

    experiment = Experiment.load(Path("feedback/experiment.yaml"))
    arm = experiment.arm_of(group_of(domain, rationale))   # "control" or "treatment"
    experiment.decide(store)                                       # stops it if its rules say so

The arm depends on the hash of salt and group alone, so every process gives the same: a rationale
that is asked again, or is alike (`entries.group_of`), gets the same critic, and all that are count
once, as one draw. What counts is an operator's first decision on a rationale of the audit
(`standing`), as the queue shows each arm's own doubtful cases first; and the first outcome that is
reported of any rationale.

The error is shared equally among the metrics: each bound is one of a confidence sequence at
alpha / (number of metrics), so all bounds of all metrics hold at all times together with
probability 1 - alpha, and any rule may look at all of them as often as it likes. Outcomes, and
`least` where it is about them, are in the units that are reported; `margin` is a share of the width
of each metric. The rules:

    mismatch    the arms are not as frequent as they were drawn, among the decisions or, where they
                are a metric, the outcomes: something filters them
    harm        a metric is worse
    success     the primary metric is better, and no other one worse by `margin` or more
    futility    a gain of `least` in the primary metric is ruled out
    maximum     the primary metric has `most` numbers

After a stop everything goes to control; to replace it is for people to do.
"""

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Self, get_type_hints

import numpy as np
import numpy.typing as npt

from minicrit.feedback.evidence import METRICS, Evidence, gathered
from minicrit.feedback.sequential import Floats, confidence_sequence, log_capital
from minicrit.feedback.store import FeedbackStore
from minicrit.files import folder_alone, open_alone, sha256_json, to_json, write_atomic
from minicrit.jsonl import RefusedError, parse_line, shown
from minicrit.measures import plain
from minicrit.strictyaml import read_settings

CONTROL, TREATMENT = "control", "treatment"
RULES = ("mismatch", "harm", "success", "futility", "maximum")  # the first that holds ends it
DECIMALS = 6  # of bounds, as they are reported: whoever reads them can follow the rules
MISMATCH_LEVEL = 0.001  # of the test of the draw itself; it ends an experiment, so it is strict


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What was set before it began; see `feedback_config.ABConfig`. `path` is its file."""

    path: Path
    name: str
    control: str
    treatment: str
    salt: str
    share: float
    shadow: bool
    metrics: tuple[str, ...]
    primary: str
    alpha: float
    least: float
    margin: float
    most: int
    outcome_low: float
    outcome_high: float

    def __post_init__(self) -> None:
        """ValueError for the first setting that makes no sense."""
        _check(self)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a file; ValueError with file and line for what is wrong in it."""
        if not path.is_file():
            raise ValueError(f"{path}: expected an experiment, got none; make one with make ab "
                             "NAME=... MODEL_2=...")  # fmt: skip
        found = read_settings(path)
        names = [f.name for f in fields(cls) if f.name != "path"]
        for key, setting in found.items():
            if key not in names:
                raise ValueError(f"{path}:{setting.line}: expected a setting of {', '.join(names)},"
                                 f" got {shown(key)}; remove it")  # fmt: skip
            _check_type(f"{path}:{setting.line}: {key}", key, setting.value)
        if missing := [name for name in names if name not in found]:
            raise ValueError(f"{path}: expected a value for {', '.join(missing)}, got none; add it")
        values: dict[str, Any] = {key: setting.value for key, setting in found.items()}
        return cls(path=path, **{**values, "metrics": tuple(values["metrics"])})

    def write(self) -> None:
        """Makes the file; ValueError if there is one, as what began is not changed."""
        rows = {k: list(v) if isinstance(v, tuple) else v
                for k, v in asdict(self).items() if k != "path"}  # fmt: skip
        if self.log.exists() and self.log.stat().st_size and not self.path.exists():
            raise ValueError(f"{self.log}: expected no log of an older experiment there, got one; "
                             "move it away with its experiment, or name another file")  # fmt: skip
        text = "".join(f"{name}: {to_json(value)}\n" for name, value in rows.items())
        with open_alone(self.log) as log:  # no other begins it meanwhile
            if self.path.exists():
                raise ValueError(f"{self.path}: expected no experiment there, got one; name "
                                 "another file")  # fmt: skip
            write_atomic(self.path, text)
            self._add(log, "begun", "", {})

    @property
    def identity(self) -> str:
        """Hash of everything that was set."""
        return sha256_json({k: v for k, v in asdict(self).items() if k != "path"})

    def width(self, metric: str) -> float:
        """By how much two values of a metric can differ, in its own units."""
        return self.outcome_high - self.outcome_low if metric == "outcome" else 1.0

    def told(self, metric: str, bounds: Floats) -> Floats:
        """Bounds as they are reported and ruled by: within what the metric can differ by."""
        width = self.width(metric)
        return np.asarray(np.round(np.clip(bounds, -width, width), DECIMALS) + 0.0)

    def floor(self, metric: str) -> float:
        """What a metric's lower bound must be above for a success, in its own units."""
        return 0.0 if metric == self.primary else -self.margin * self.width(metric)

    def asked(self, metric: str) -> tuple[float, ...]:
        """All that `rules` compares a metric's bounds with."""
        return (0.0, self.least) if metric == self.primary else (0.0, self.floor(metric))

    def rules(
        self, metrics: Mapping[str, Mapping[str, Any]], mismatch: float = 1.0
    ) -> npt.NDArray[np.int_]:
        """Place in `RULES` of the rule that ends it, -1 where none does.

        Args:
            metrics: of each, `low` and `high` as `told`, and `n`: numbers, or arrays of one shape.
            mismatch: always-valid p that the arms are as frequent as they were drawn.
        """
        primary = metrics[self.primary]
        holds = {
            "mismatch": mismatch <= MISMATCH_LEVEL,
            "harm": np.any([metric["high"] < 0 for metric in metrics.values()], axis=0),
            "success": np.all([metric["low"] > self.floor(name)
                               for name, metric in metrics.items()], axis=0),
            "futility": primary["high"] < self.least,
            "maximum": primary["n"] >= self.most,
        }  # fmt: skip
        return np.select([np.asarray(holds[rule]) for rule in RULES], range(len(RULES)), -1)

    @property
    def log(self) -> Path:
        """Where what happened to it is written down, and never changed."""
        return self.path.with_suffix(".log.jsonl")

    def arm_of(self, group: str) -> str:
        """Which critic answers a group; always control in shadow mode and after the end."""
        if self.shadow or self.ended() is not None:
            return CONTROL
        return self.drawn(group)

    def assigned(self, group: str) -> tuple[str | None, str]:
        """What to record of a request: (name, arm), or (None, control) after the end."""
        if self.ended() is not None:  # looked at once: a request is in it or after it
            return None, CONTROL
        return self.name, CONTROL if self.shadow else self.drawn(group)

    def drawn(self, group: str) -> str:
        """The arm that hash and share give to a group."""
        digest = hashlib.blake2b(f"{self.salt}\0{group}".encode(), digest_size=8).digest()
        chance = (int.from_bytes(digest) >> 11) / 2**53
        return TREATMENT if chance < self.share else CONTROL

    def ended(self) -> dict[str, Any] | None:
        """The entry of the log that ended it, None while it runs."""
        return next((row for row in self.entries() if row["event"] == "stopped"), None)

    def entries(self) -> list[dict[str, Any]]:
        """The log; ValueError if it belongs to other settings."""
        if not self.log.is_file():
            return []
        lines = self.log.read_bytes().splitlines(keepends=True)
        found = []
        for line, raw in enumerate((raw for raw in lines if raw.endswith(b"\n")), start=1):
            try:  # a torn line is none
                row = parse_line(raw[:-1])
            except RefusedError as error:
                raise ValueError(f"{self.log}:{line}: {error}") from error
            if row.get("experiment") != self.identity:
                raise ValueError(f"{self.log}:{line}: expected the log of {self.path} as it is, "
                                 "got that of other settings; what began is not changed: put the "
                                 "settings back, or begin another experiment")  # fmt: skip
            found.append(row)
        return found

    def serve(self, critics: Mapping[str, str]) -> None:
        """Writes down who answers, once: what others answered in their place is no evidence.

        Args:
            critics: a hash of the one of each arm, as their folders may get other weights.

        Raises:
            ValueError: if it was begun to be served with others, and is not over.
        """
        if self.ended() is not None:
            return
        if self._served() is None:
            # Of services that start at one time the second waits; beside a writer it is refused.
            with folder_alone(self.log.parent), open_alone(self.log) as file:
                if self._served() is None:
                    self._add(file, "served", "", critics)
        served = self._served() or {}
        if arms := [arm for arm, one in critics.items() if served.get(arm) != one]:
            raise ValueError(f"{self.path}: expected the critics that it was first served with, "
                             f"got another {' and '.join(arms)}; put its weights and calibration "
                             "back, or begin another experiment")  # fmt: skip

    def _served(self) -> Mapping[str, str] | None:
        return next((row["evidence"] for row in self.entries() if row["event"] == "served"), None)

    def state(self, store: FeedbackStore) -> dict[str, Any]:
        """What is known so far, as JSON values; `series` is a figure for every n."""
        found = gathered(self, store)
        metrics = {name: self._metric(name, found[name]) for name in self.metrics}
        mismatch = self._mismatch(found)
        return {
            "name": self.name, "control": self.control, "treatment": self.treatment,
            "shadow": self.shadow, "share": self.share, "alpha": self.alpha,
            "alpha_each": self.alpha / len(self.metrics), "primary": self.primary,
            "mismatch_p": plain(mismatch), "metrics": metrics,
            "rule": self._rule(metrics, mismatch),
            "ended": self.ended(),
        }  # fmt: skip

    def decide(self, store: FeedbackStore) -> dict[str, Any]:
        """The state; if a rule says so, the end is written to the log with it, once."""
        state = self.state(store)
        if state["rule"] is not None and state["ended"] is None:
            evidence = {key: value for key, value in state.items() if key not in ("ended",)}
            evidence["metrics"] = {name: {k: v for k, v in metric.items() if k != "series"}
                                   for name, metric in state["metrics"].items()}  # fmt: skip
            state["ended"] = self._append("stopped", state["rule"], evidence)
        return state

    def _append(self, event: str, reason: str, evidence: Mapping[str, Any]) -> dict[str, Any]:
        with open_alone(self.log) as file:  # one writer at a time; the first one's word holds
            return self.ended() or self._add(file, event, reason, evidence)

    def _add(
        self, log: BinaryIO, event: str, reason: str, evidence: Mapping[str, Any]
    ) -> dict[str, Any]:
        row = {"event": event, "reason": reason, "experiment": self.identity,
               "at": round(time.time(), 3), "evidence": evidence}  # fmt: skip
        log.truncate(log.read().rfind(b"\n") + 1)  # what a full disk left of a line
        log.write((to_json(row) + "\n").encode())
        log.flush()
        os.fsync(log.fileno())
        return row

    def _metric(self, name: str, found: Evidence) -> dict[str, Any]:
        """Estimate, bounds and p of one metric; a gain is above zero whatever the metric."""
        width, facts = self.width(name), {"arms": found.arms(), "beyond": found.beyond}
        if not len(found.psi):
            return {"gain": None, "low": -width, "high": width, "p": 1.0, "n": 0, **facts,
                    "series": []}  # fmt: skip
        bounds = confidence_sequence(found.psi, found.bound, self.alpha / len(self.metrics))
        low, high = self.told(name, bounds.low), self.told(name, bounds.high)
        series = [[n + 1, *map(plain, (bounds.estimate[n], low[n], high[n]))]
                  for n in _shown(len(found.psi))]  # fmt: skip
        return {"gain": plain(bounds.estimate[-1]), "low": plain(low[-1]), "high": plain(high[-1]),
                "p": plain(bounds.p[-1]), "n": len(found.psi), **facts,
                "series": series}  # fmt: skip

    def _mismatch(self, found: Mapping[str, Evidence]) -> float:
        """Always-valid p that units reach the arms as often as they were drawn (Bonferroni)."""
        if self.shadow:
            return 1.0
        looked = ["drawn", *(name for name in self.metrics if name == "outcome")]
        level, p = MISMATCH_LEVEL / len(looked), 1.0
        for y in (found[name].treated.astype(np.float64) for name in looked):
            if len(y):
                p = min(p, float(np.exp(-log_capital(y, self.share, level).max())) * len(looked))
        return p

    def _rule(self, metrics: Mapping[str, Mapping[str, Any]], mismatch: float) -> str | None:
        place = int(self.rules(metrics, mismatch))
        return None if place < 0 else RULES[place]


def _shown(n: int, most: int = 200) -> list[int]:
    """Places of at most `most` of n figures, the last among them."""
    return sorted({round(place) for place in np.linspace(0, n - 1, min(n, most))})


def _check_type(where: str, key: str, value: object) -> None:
    hint = get_type_hints(Experiment)[key]
    kinds: dict[Any, tuple[type, ...]] = {float: (int, float), int: (int,), bool: (bool,),
                                          str: (str,), tuple[str, ...]: (list,)}  # fmt: skip
    fits = isinstance(value, kinds[hint]) and isinstance(value, bool) == (hint is bool)
    if not fits:
        raise ValueError(f"{where}: expected {getattr(hint, '__name__', 'a list')}, got "
                         f"{shown(repr(value))}; write one")  # fmt: skip


def _check(it: Experiment) -> None:
    # No metric can differ by more.
    most = it.width(it.primary)
    units = "in its own units" if it.primary == "outcome" else "3 % as 0.03"
    wrong: list[tuple[bool, str, str, object]] = [
        (not it.name.strip() or not it.name.isprintable(), "name", "a name", it.name),
        (not it.treatment.strip(), "treatment", "a critic", it.treatment),
        (not 0 < it.share < 1, "share", "more than 0 and less than 1", it.share),
        (not 0 < it.alpha < 1, "alpha", "more than 0 and less than 1, like 0.05", it.alpha),
        (not it.metrics or len(set(it.metrics)) < len(it.metrics)
         or not set(it.metrics) <= set(METRICS), "metrics", f"some of {', '.join(METRICS)}, each "
         "once", ", ".join(map(str, it.metrics))),
        (it.primary not in it.metrics, "primary", f"one of {', '.join(map(str, it.metrics))}",
         it.primary),
        (it.shadow and "outcome" in it.metrics, "metrics", "no outcome in shadow mode, where "
         "nothing follows from the treatment", "outcome"),
        (it.outcome_low >= it.outcome_high, "outcome_high", f"more than {it.outcome_low}",
         it.outcome_high),
        (not 0 <= it.least <= most, "least", f"0 to {most:g}, {units}", it.least),
        (not 0 <= it.margin <= 1, "margin", "0 to 1, 3 % as 0.03", it.margin),
        (it.most < 1, "most", "1 or more", it.most),
    ]  # fmt: skip
    for refused, name, expected, got in wrong:
        if refused:
            raise ValueError(f"ab.{name}: expected {expected}, got {shown(str(got)) or 'nothing'}; "
                             "mend it before the experiment begins")  # fmt: skip
