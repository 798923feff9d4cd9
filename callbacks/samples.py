"""Sample critiques as text in TensorBoard, so that people read what the model writes."""

from collections.abc import Sequence

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from minicrit.critic import Critic
from minicrit.prompts import critique_of, render_critique
from minicrit.records import Example


class SampleCritiques(Callback):
    """Writes the critiques of a few fixed validation examples after each validation."""

    def __init__(
        self, examples: Sequence[Example], *, max_new_tokens: int = 120, at_start: bool = False
    ) -> None:
        """`at_start`: also before the first step, to compare with."""
        self.examples = examples
        self.max_new_tokens = max_new_tokens
        self.at_start = at_start
        self.mean_tokens: float | None = None

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
        self.mean_tokens = sum(answer.tokens for answer in written) / len(written)
        logger.experiment.add_scalar("samples/tokens", self.mean_tokens, trainer.global_step)
        rows = ["| rationale | reference | critic |", "|---|---|---|"]
        for example, answer in zip(self.examples, written, strict=True):
            reference = render_critique(critique_of(example))
            cells = (example.rationale, reference, f"{answer.verdict.p_flawed:.2f} {answer.text}")
            rows.append("| " + " | ".join(map(_cell, cells)) + " |")
        logger.experiment.add_text("critiques", "\n".join(rows), trainer.global_step)


def _cell(text: str) -> str:
    """Text that cannot break out of its table cell."""
    for old, new in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("\n", "<br>")):
        text = text.replace(old, new)
    return text
