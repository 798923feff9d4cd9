"""From text to token ids. User text never becomes a control token; nothing is cut in silence."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from transformers import AddedToken, PreTrainedTokenizerBase

from minicrit.prompts import (
    LEAD_IN,
    PROMPT_VERSION,
    VERDICT_WORDS,
    Critique,
    attempt,
    render_critique,
    render_prompt,
)
from minicrit.records import lacking_span
from minicrit.taxonomy import FLAW_TYPES

log = logging.getLogger(__name__)

#: What control tokens look like: <|im_start|>, </s>, [INST].
CONTROL_LIKE = re.compile(r"<[^<>\s]{1,60}>|\[/?[A-Z_]{2,30}\]")


class TooLongError(ValueError):
    """A text does not fit into the token limit and cutting it was not allowed."""


class CutOffError(TooLongError):
    """What a critique quotes stands in what would be cut off: the rest may be without a flaw."""


def name_special(tokenizer: PreTrainedTokenizerBase) -> None:
    """Names the added tokens special that look like control tokens; no id changes."""
    marks = [
        AddedToken(one.content, lstrip=one.lstrip, rstrip=one.rstrip, normalized=one.normalized,
                   special=True)
        for one in tokenizer.added_tokens_decoder.values()
        if not one.special and CONTROL_LIKE.fullmatch(one.content)
    ]  # fmt: skip
    if marks:
        tokenizer.add_special_tokens(
            {"additional_special_tokens": marks}, replace_extra_special_tokens=False
        )


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Says of a text that is too long where it comes from."""
    try:
        yield
    except TooLongError as error:
        raise type(error)(f"{name}: {error}") from error


@dataclass
class Encoder:
    """Encodes prompts and critiques for one tokenizer.

    Attributes:
        tokenizer: any Hugging Face tokenizer; see `base.load_tokenizer` for what counts as control.
        max_tokens: limit for prompt and critique together, in tokens.
        truncate: whether a rationale that is too long may be cut at its end. The answer marker
            and the end token always survive. Every cut is counted in `ledger`, as is what was left
            out because it did not fit.
        style: the prompt style, see `prompts.STYLES`.
    """

    tokenizer: PreTrainedTokenizerBase
    max_tokens: int = 1024
    truncate: bool = False
    style: str = PROMPT_VERSION
    ledger: Counter[str] = field(default_factory=Counter)

    def whole(self, text: str) -> list[int]:
        """Token ids of a text; what looks like a control token in it is split into letters."""
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return list(encoded["input_ids"])

    def ids(self, text: str) -> list[int]:
        """The same of a text that goes on behind another one, but for a blank put before it."""
        if not self._line:
            return self.whole(text)
        ids, held = self.whole(f"\n{text}"), len(self._line)
        return ids[held:] if ids[:held] == self._line else self.whole(text)

    @cached_property
    def _line(self) -> list[int]:
        """Ids of a line's end, behind which no blank is put before a text; empty without need.

        Those of SentencePiece (Llama 2, Mistral) put one before every text. Where a verdict ends it
        made a line with a blank at its end, which parses as no verdict.
        """
        line, both = self.whole("\n"), self.whole("\na")
        blank = both[: len(line)] == line and both[len(line) :] != self.whole("a")
        return line if blank else []

    @cached_property
    def opening(self) -> list[int]:
        """The ids with which this tokenizer opens a text (a BOS token, or nothing)."""
        ids = list(self.tokenizer("", add_special_tokens=True)["input_ids"])
        return [i for i in ids if i != self.tokenizer.eos_token_id or i == self._bos]

    @property
    def _bos(self) -> int | None:
        return self.tokenizer.bos_token_id if getattr(self.tokenizer, "add_bos_token", 0) else None

    @cached_property
    def end(self) -> int:
        """The id that ends a critique."""
        end = self.tokenizer.eos_token_id
        if end is None:
            raise ValueError("expected a tokenizer with an end token, got none; set eos_token")
        return int(end)

    @cached_property
    def lead_in(self) -> list[int]:
        """Ids of the words after which the verdict is read."""
        return self.ids(LEAD_IN)

    @cached_property
    def verdict_words(self) -> dict[str, list[int]]:
        """Ids of each verdict word as it continues the lead-in."""
        lead = self.lead_in
        words = {}
        for label, word in VERDICT_WORDS.items():
            whole = self.ids(LEAD_IN + word)
            words[label] = whole[len(lead) :] if whole[: len(lead)] == lead else self.ids(word)
        return words

    @cached_property
    def flaw_lines(self) -> tuple[list[int], ...]:
        """Ids of ` flawed` and the line that names a flaw type, one of each in their order."""
        flawed = self.verdict_words["flawed"]
        return tuple([*flawed, *self.ids(f"\nFlaw: {name}\n")] for name in FLAW_TYPES)

    @cached_property
    def verdict_heads(self) -> tuple[int, int]:
        """The first ids of ` valid` and ` flawed`."""
        valid, flawed = (self.verdict_words[label][0] for label in ("valid", "flawed"))
        if valid == flawed:
            raise ValueError("expected a tokenizer whose verdict words begin differently, got one "
                             "first token for both; choose another base")  # fmt: skip
        return valid, flawed

    def prompt(
        self, domain: str, rationale: str, reserve: int = 0, quoted: str | None = None
    ) -> list[int]:
        """Prompt ids that leave `reserve` tokens for what follows.

        Raises:
            TooLongError: if they do not fit and `truncate` is off.
            CutOffError: if it is on, and evidence that is `quoted` from the rationale is lost.
        """
        ids = self.opening + self.whole(render_prompt(domain, rationale, self.style))
        room = self.max_tokens - reserve
        if len(ids) > room and not self.truncate:
            raise TooLongError(
                f"expected at most {room} prompt tokens, got {len(ids)}; shorten the "
                "text; in training, raise data.max_tokens or set data.truncate"
            )
        kept = rationale if len(ids) <= room else self._cut(domain, rationale, room)
        if quoted and lacking_span(quoted, rationale) != (lost := lacking_span(quoted, kept)):
            raise CutOffError(
                f"expected the evidence in the {room} tokens of the prompt that are kept, got "
                f"{lost!r} in what is cut off; raise data.max_tokens"
            )
        self.ledger["prompts"] += 1
        if kept is rationale:
            return ids
        self.ledger["truncated"] += 1
        self.ledger["tokens_cut"] += len(ids) - room
        return self.opening + self.whole(render_prompt(domain, kept, self.style))

    def _cut(self, domain: str, rationale: str, room: int) -> str:
        """As much of the start of a rationale as fits with the whole prompt, marker included."""
        low, high = 0, len(rationale)
        while low < high:
            middle = (low + high + 1) // 2
            text = render_prompt(domain, rationale[:middle], self.style)
            fits = len(self.opening) + len(self.whole(text)) <= room
            low, high = (middle, high) if fits else (low, middle - 1)
        if low == 0:
            raise TooLongError(f"expected room for a prompt, got {room} tokens; raise max_tokens")
        return rationale[:low]

    def leave_out(self, path: Path, things: str, count: int, *, of: int) -> None:
        """Says and counts what training cannot read; one that is too long stops no other.

        Args:
            path: the file they come from.
            things: their name.
            count: how many do not fit.
            of: how many there are.

        Raises:
            ValueError: if none fits.
        """
        if not count:
            return
        which = "longer" + (
            ", or lose evidence, theirs or a twin's, if cut" if self.truncate else ""
        )
        said = (f"{path}: expected {things} of at most {self.max_tokens} tokens, rationale "
                f"included, got {count} of {of} that are {which}; ")  # fmt: skip
        remedy = "raise data.max_tokens" + ("" if self.truncate else " or set data.truncate")
        if count == of:
            raise ValueError(said + remedy)
        log.warning("%sthey are left out; to learn from them, %s", said, remedy)
        self.ledger["left_out"] += count

    def completion(self, critique: Critique) -> list[int]:
        """Ids of a critique, with the end token.

        The verdict is encoded word by word as the readout reads it, so that training and
        inference see the same ids whatever the tokenizer merges.
        """
        return self.written(render_critique(critique))

    def written(self, text: str) -> list[int]:
        """Ids of the text of a critique, as `completion`.

        Raises:
            ValueError: if it does not begin with a verdict.
        """
        return [*self._from_verdict(text), self.end]

    def begun(self, text: str) -> list[int]:
        """Ids of an unfinished critique: the lead-in, or that and a verdict at least.

        Raises:
            ValueError: if it begins otherwise.
        """
        return self.lead_in if text == LEAD_IN else self._from_verdict(text)

    def _from_verdict(self, text: str) -> list[int]:
        label = said(text)
        rest = self.ids(text[len(LEAD_IN + VERDICT_WORDS[label]) :])
        return [*self.lead_in, *self.verdict_words[label], *rest]

    def opening_lines(self, critique: Critique) -> int:
        """Tokens of a completion that hold its verdict and, if it names one, its flaw type."""
        whole = self.completion(critique)
        verdict = len(self.lead_in) + len(self.verdict_words[critique.label])
        if critique.flaw_type is None:
            return verdict
        named = Critique(label=critique.label, flaw_type=critique.flaw_type)
        return max(verdict, common_length(whole, self.completion(named)))


def quoted(critique: Critique | None) -> str | None:
    """The evidence that a critique quotes; None where it has no such line."""
    return critique.evidence if critique and critique.label == "flawed" else None


def quoted_by(text: str) -> str | None:
    """The same of a written critique, if it parses."""
    return quoted(attempt(text)[0])


def said(text: str) -> str:
    """The label that the text of a critique begins with.

    Raises:
        ValueError: if it does not begin with a verdict.
    """
    for label, word in VERDICT_WORDS.items():
        if text.startswith(LEAD_IN + word):
            return label
    raise ValueError(f"expected a critique that begins with its verdict, got {text[:40]!r}; "
                     "leave out what does not parse")  # fmt: skip


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of tokens with which both begin."""
    for at, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return at
    return min(len(one), len(other))
