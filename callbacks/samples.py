"""Sample critiques as text in TensorBoard, so that people read what the model writes."""

from collections.abc import Sequence

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from minicrit.critic import Critic
from minicrit.prompts import critique_of, render_critique
from minicrit.records import Example


class SampleCritiques(Callback):
    """Writes the critiques of a few fixed validation examples after each validation."""

    def __init__(self, examples: Sequence[Example], *, max_new_tokens: int = 120) -> None:
        self.examples = examples
        self.max_new_tokens = max_new_tokens

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """One table a validation: rationale, reference, what the critic writes."""
        if trainer.sanity_checking or not trainer.is_global_zero or not self.examples:
            return
        items = [(example.domain, example.rationale) for example in self.examples]
        critic, logger = module.critic, trainer.logger
        assert isinstance(critic, Critic)
        assert isinstance(logger, TensorBoardLogger)
        written = critic.critique(items, max_new_tokens=self.max_new_tokens)
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
