"""Warns when preference learning goes wrong in the ways it is known for."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

log = logging.getLogger(__name__)
#: A single batch says little: values are means over so many optimizer steps, or over all of a run
#: that has fewer.
WINDOW = 10


@dataclass(frozen=True)
class Alarm:
    """What is watched, from where on it is an alarm, and what helps. A limit of 0 is no alarm."""

    name: str
    limit: float
    text: str


def pair_alarms(*, chosen: float, kl: float, margin: float) -> dict[str, Alarm]:
    """Alarms by the logged value that they watch, see `config.DPOConfig`."""
    return {
        "pairs/drift_chosen": Alarm(
            "chosen_collapse", -chosen,
            "chosen critiques have become unlikelier, a token: raise the weight of `nll` in "
            "dpo.loss_weights, add `dpop`, or lower dpo.learning_rate",
        ),
        "pairs/kl": Alarm(
            "kl", kl,
            "the policy has gone far from its start, in nats a token: raise dpo.beta, lower "
            "dpo.learning_rate, or stop earlier (dpo.best, dpo.patience)",
        ),
        "pairs/reward_margin": Alarm(
            "margin_explosion", margin,
            "the margins are so wide that nearly no pair teaches anything: lower dpo.beta or "
            "dpo.epochs, use `ipo` or `cdpo`, or take harder pairs",
        ),
    }  # fmt: skip


class PairAlarms(Callback):
    """Warns once for each alarm: in the log, in TensorBoard, and in what is kept of the run.

    Attributes:
        raised: name, step, value and limit of every alarm so far.
    """

    def __init__(
        self,
        alarms: dict[str, Alarm],
        *,
        length: float = 0.0,
        written: Callable[[], float | None] = lambda: None,
        steps: int = WINDOW,
    ) -> None:
        """Watches values that are logged, and the length of what the critic writes.

        Args:
            alarms: by the name of the logged value.
            length: factor by which critiques may become longer or shorter; 0 for no alarm.
            written: mean length of the sample critiques, newest; None where there are none.
            steps: of the run.
        """
        self.alarms = {name: alarm for name, alarm in alarms.items() if alarm.limit}
        self.length, self.written = length, written
        self.first_length: float | None = None
        self.window = min(WINDOW, steps)
        self.seen: dict[str, deque[float]] = {n: deque(maxlen=self.window) for n in self.alarms}
        self.raised: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """What was seen and said: a restart says nothing twice."""
        seen = {name: list(values) for name, values in self.seen.items()}
        return {"seen": seen, "raised": self.raised, "first_length": self.first_length}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The other half of `state_dict`."""
        for name in self.seen:
            self.seen[name].extend(state["seen"].get(name, ()))
        self.raised, self.first_length = list(state["raised"]), state["first_length"]

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Remembers how long critiques were before training."""
        if self.first_length is None:
            self.first_length = self.written()

    def on_train_batch_end(  # noqa: D102
        self, trainer: Trainer, module: LightningModule, outputs: object, batch: object, idx: int
    ) -> None:
        for name, alarm in self.alarms.items():
            seen = self.seen[name]
            seen.append(float(trainer.callback_metrics[name]))
            mean = sum(seen) / len(seen)
            beyond = mean < alarm.limit if alarm.limit < 0 else mean > alarm.limit
            if len(seen) == self.window and beyond:
                self._raise(trainer, alarm, mean)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Compares the length of the sample critiques with that before training."""
        now = self.written()
        if not self.length or not now or not self.first_length or trainer.sanity_checking:
            return
        factor = max(now / self.first_length, self.first_length / now)
        if factor > self.length:
            text = (f"the sample critiques went from {self.first_length:.0f} to {now:.0f} tokens: "
                    "read them in TensorBoard, add `normalised` or `simpo` to dpo.losses, or "
                    "balance the lengths of the pairs (report.md beside them)")  # fmt: skip
            self._raise(trainer, Alarm("length_drift", self.length, text), factor)

    def _raise(self, trainer: Trainer, alarm: Alarm, value: float) -> None:
        if any(one["alarm"] == alarm.name for one in self.raised) or not trainer.is_global_zero:
            return
        step = trainer.global_step
        found = {"alarm": alarm.name, "step": step, "value": round(value, 4), "limit": alarm.limit}
        self.raised.append(found)
        bound = "at least" if alarm.limit < 0 else "at most"
        said = (f"step {step}: {alarm.name}: expected {bound} {alarm.limit}, got {value:.3f}; "
                f"{alarm.text}")  # fmt: skip
        log.warning(said)
        if isinstance(trainer.logger, TensorBoardLogger):
            trainer.logger.experiment.add_text(f"alarms/{alarm.name}", said, step)
            trainer.logger.experiment.add_scalar(f"alarms/{alarm.name}", value, step)
