"""Sample critiques as text in TensorBoard, so that people read what the model writes."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from minicrit.critic import Critic
from minicrit.encoding import TooLongError
from minicrit.prompts import critique_of, render_critique
from minicrit.records import Example

log = logging.getLogger(__name__)

#: Tokens of the longest sample critique, unless it is seen to grow.
LONGEST = 120


def writable(critic: Critic, examples: Sequence[Example], most: int) -> list[Example]:
    """The first examples, at most so many, behind which the base has places for a critique."""
    found = list(islice(_with_places(critic, examples), most))
    if len(found) < min(most, len(examples)):
        log.warning("sample critiques: expected %d validation texts that leave room for %d tokens, "
                    "got %d; what is longer is shown nowhere, and without any no alarm sees "
                    "critiques grow", min(most, len(examples)), LONGEST, len(found))  # fmt: skip
    return found


def _with_places(critic: Critic, examples: Iterable[Example]) -> Iterator[Example]:
    for example in examples:
        try:
            critic.prompt(example.domain, example.rationale, LONGEST)
        except TooLongError:
            continue
        yield example


class SampleCritiques(Callback):
    """Writes the critiques of a few fixed validation examples after each validation."""

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        max_new_tokens: int = LONGEST,
        at_start: bool = False,
        longer: float = 0.0,
    ) -> None:
        """Watches how long critiques are, too.

        Args:
            examples: whose critiques are written, see `writable`.
            max_new_tokens: longest critique; what is cut there counts as so long.
            at_start: also before the first step, to compare with.
            longer: factor by which the mean must be seen to grow: later critiques may be so much
                longer than those before the first step, if none of these was cut. If one was,
                nobody knows its length, and to cut later would look like growth.
        """
        self.examples = examples
        self.max_new_tokens = max_new_tokens
        self.at_start, self.longer = at_start, longer
        self.mean_tokens: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """A restart cuts where the run did."""
        return {"max_new_tokens": self.max_new_tokens}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The other half of `state_dict`."""
        self.max_new_tokens = state["max_new_tokens"]

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """What the critic wrote before it was trained on."""
        if self.at_start and trainer.global_step == 0:
            module.eval()
            self._write(trainer, module)
            module.train()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """One table a validation: rationale, reference, what the critic writes."""
        if not trainer.sanity_checking:
            self._write(trainer, module)

    def _write(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.examples:
            return
        with module.readable():  # type: ignore[operator]
            if trainer.is_global_zero:
                self._write_table(trainer, module)

    def _write_table(self, trainer: Trainer, module: LightningModule) -> None:
        items = [(example.domain, example.rationale) for example in self.examples]
        critic, logger = module.critic, trainer.logger
        assert isinstance(critic, Critic)
        assert isinstance(logger, TensorBoardLogger)
        written = critic.critique(items, max_new_tokens=self.max_new_tokens)
        lengths = [answer.tokens for answer in written]
        self.mean_tokens = sum(lengths) / len(lengths)
        if trainer.global_step == 0 and max(lengths) < self.max_new_tokens:
            seen = math.ceil(self.longer * self.mean_tokens) + 1
            self.max_new_tokens = _with_room(critic, self.max_new_tokens, seen)
        logger.experiment.add_scalar("samples/tokens", self.mean_tokens, trainer.global_step)
        rows = ["| rationale | reference | critic |", "|---|---|---|"]
        for example, answer in zip(self.examples, written, strict=True):
            reference = render_critique(critique_of(example))
            cells = (example.rationale, reference, f"{answer.verdict.p_flawed:.2f} {answer.text}")
            rows.append("| " + " | ".join(map(_cell, cells)) + " |")
        logger.experiment.add_text("critiques", "\n".join(rows), trainer.global_step)


def _with_room(critic: Critic, least: int, wanted: int) -> int:
    """The most tokens up to `wanted` behind which no more of a prompt must be left out."""
    free = critic.reserve(least)
    return max(n for n in range(least, max(least, wanted) + 1) if critic.reserve(n) == free)


def _cell(text: str) -> str:
    """Text that cannot break out of its table cell."""
    for old, new in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("\n", "<br>")):
        text = text.replace(old, new)
    return text
