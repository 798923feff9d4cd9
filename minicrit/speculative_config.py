"""Settings of the stage that measures writing with drafts, see `config`."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class SpeculativeConfig:
    """Writing with drafts against the same writing without, and its texts against greedy ones.

    Attributes:
        target: the critic that writes.
        draft: a smaller critic or base of the same tokenizer that drafts; null for none.
        data: Example file, of which the flawed items are written about; nothing trained on.
        phrases: Example file of training rows whose reference critiques fill the book of arm
            `phrases`; null for none.
        arms: drafts by lookup (rationale, form, what was written before), phrases (the same with
            the book), model (`draft` alone), both (phrases, and where they have none the model).
        timed: items that every arm, the same writing without drafts, and greedy writing write one
            by one, in turns, for the times.
        checked: items more on which the last arm is compared with greedy writing, `rows` at a time;
            only the text counts.
        rows: items of a pass of greedy writing.
        batches: critiques written together, for the break-even of drafts; empty for no such test.
        max_new_tokens: longest critique.
        least: chance of a token, with all before it, below which a draft ends.
        worth: expected tokens below which there is no draft.
        most: tokens of a draft.
        sure: chance of a token of `draft`, with all before it, below which its draft ends.
        out: report without ending; .json and .md are written.
    """

    target: Path = Path("checkpoints/cpu/sft")
    draft: str | None = None
    data: Path = Path("data/cpu/test.jsonl")
    phrases: Path | None = Path("data/cpu/train.jsonl")
    arms: list[str] = field(default_factory=lambda: ["lookup", "phrases"])
    timed: int = 30
    checked: int = 0
    rows: int = 8
    batches: list[int] = field(default_factory=list)
    max_new_tokens: int = 160
    least: float = 0.08
    worth: float = 0.3
    most: int = 32
    sure: float = 0.4
    out: Path = Path("reports/cpu/speculative")
