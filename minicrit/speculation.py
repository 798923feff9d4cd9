"""Writes texts with drafts: several tokens a forward, and still the model's own text.

Each forward reads what was drafted behind what is certain; what the model itself would not have
written is cut off again, in the keys and values too (arXiv 2211.17192). In float32 the greedy text
is that of plain greedy decoding but for near-ties: forwards of other lengths sum in another order,
which can exchange two tokens whose logits differ by less than about 1e-4.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from minicrit.accepting import Rule
from minicrit.drafting import Draft, Drafter
from minicrit.encoding import common_length
from minicrit.flat_decoding import FlatDecoder


@dataclass
class Tally:
    """What writing cost.

    Attributes:
        forwards: of the model, the reading of the prompt included.
        tokens: written, the end tokens and what was quoted included.
        drafts: forwards of a text that had a draft.
        drafted: tokens guessed, by source. accepted: those of them that were right.
    """

    forwards: int = 0
    tokens: int = 0
    drafts: int = 0
    drafted: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        """What more of the same text cost."""
        self.forwards += other.forwards
        self.tokens += other.tokens
        self.drafts += other.drafts
        self.drafted += other.drafted
        self.accepted += other.accepted

    def count(self, draft: Draft, right: int, written: int) -> None:
        """One text of one forward."""
        self.tokens += written
        self.drafts += bool(draft.tokens)
        self.drafted.update(source for source, _ in draft.kinds)
        self.accepted.update(source for source, _ in draft.kinds[:right])


@dataclass
class Page:
    """One text while it is written.

    Attributes:
        text: prompt and what was written. start: where the critique begins.
        begun: length of the prompt. longest: most tokens to write. end: the token it ends with.
    """

    text: list[int]
    start: int
    begun: int
    longest: int
    end: int

    @property
    def written(self) -> list[int]:
        """What was written, the end token included."""
        return self.text[self.begun :]

    @property
    def left(self) -> int:
        """Tokens that may yet come."""
        done = self.begun < len(self.text) and self.text[-1] == self.end
        return 0 if done else self.longest - len(self.written)

    def take(self, tokens: Sequence[int]) -> int:
        """Goes on as far as it may; how many tokens it took."""
        before = len(self.text)
        for token in tokens[: self.left]:
            self.text.append(token)
            if token == self.end:
                break
        return len(self.text) - before


def pages(
    prompts: Sequence[Sequence[int]], starts: Sequence[int], *, longest: int, end: int
) -> list[Page]:
    """Texts of which nothing is written yet."""
    return [Page(list(prompt), start, len(prompt), longest, end)
            for prompt, start in zip(prompts, starts, strict=True)]  # fmt: skip


def rooms(texts: Sequence[Page], most: int) -> list[int]:
    """Tokens that each text and its rejected drafts may need."""
    return [page.begun + page.longest + most + 1 for page in texts]


def write(
    decoder: FlatDecoder,
    texts: Sequence[Page],
    drafter: Drafter,
    rules: Sequence[Rule],
    *,
    drop: bool = True,
) -> Tally:
    """Writes all texts to their end, with one forward a step for all that go on.

    Args:
        decoder: with a row for each text, which may hold the beginning of its prompt.
        texts: they grow.
        drafter: makes guesses.
        rules: how each text takes them.
        drop: whether the memory of a text that is done goes.
    """
    tally = Tally()
    live = [row for row, page in enumerate(texts) if page.left > 0]
    while live:
        drafts = {row: drafter.draft(row, texts[row].text, texts[row].start, texts[row].left - 1)
                  for row in live}  # fmt: skip
        held = decoder.shelf.lengths
        coming = {r: [*texts[r].text[held[r] :], *drafts[r].tokens] for r in live}
        wanted = {row: len(drafts[row].tokens) + 1 for row in live}
        found = decoder.read(coming, wanted)
        tally.forwards += 1
        for row, logits in zip(live, found, strict=True):
            page, draft = texts[row], drafts[row]
            certain = len(page.text)
            taken = rules[row].take(logits, draft.tokens, draft.q, len(page.written))
            right = common_length(taken, draft.tokens)
            written = page.take(taken)
            # The last token written was never read: neither is a rejected one kept.
            decoder.shelf.cut(row, certain + min(right, written))
            drafter.learn(draft, right)
            tally.count(draft, min(right, written), written)
            if drop and page.left <= 0:
                decoder.shelf.drop(row)
        live = [row for row in live if texts[row].left > 0]
    return tally


class Nothing:
    """No drafts: one token a forward."""

    def draft(self, row: int, text: Sequence[int], start: int, most: int) -> Draft:
        """Nothing."""
        return Draft()

    def learn(self, draft: Draft, right: int) -> None:
        """Nothing."""


def written(page: Page) -> list[int]:
    """What was written without the end token."""
    ids = page.written
    return ids[:-1] if ids and ids[-1] == page.end else ids
