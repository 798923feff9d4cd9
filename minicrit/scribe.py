"""Who writes a critic's critiques alone: with drafts, and faster the more it has written."""

from collections.abc import Iterable, Sequence
from threading import Lock

from transformers import PreTrainedModel

from minicrit.accepting import Greedy, Rule
from minicrit.drafting import Drafter, Effort, Record, Runs, Tables, form
from minicrit.encoding import Encoder
from minicrit.flat_decoding import FlatDecoder
from minicrit.model_drafts import Both, ModelDrafts
from minicrit.speculation import Nothing, Page, Tally, pages, rooms, write, written

#: Tokens of phrases that are remembered, some 3,000 critiques; the oldest go first.
REMEMBERED = 200_000
_RUN = 2  # tokens in common below which a phrase is no guess


class Scribe:
    """Writes greedily with drafts from the rationale, from phrases and, if given, from a model.

    With neither tables nor a model it drafts nothing, and all else is the same. Several threads may
    share one.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        encoder: Encoder,
        *,
        effort: Effort | None = None,
        helper: PreTrainedModel | None = None,
        sure: float = 0.4,
        tables: bool = True,
    ) -> None:
        """Knows only the form of critiques at first.

        Args:
            model: writes.
            encoder: of its tokenizer.
            effort: when a guess is worth its price.
            helper: a smaller model of the same tokenizer that drafts where the tables cannot.
            sure: chance of a token, with all before it, below which its draft ends.
            tables: whether there are any.
        """
        self.model, self.encoder, self.helper, self.tables = model, encoder, helper, tables
        self.effort, self.sure = effort or Effort(), sure
        self.book, self.record = Runs(_RUN, REMEMBERED), Record()
        self.last = Tally()
        self.watch = False  # whether to note how close to a tie the last critiques came:
        self.closest: float | None = None  # see `accepting.Greedy`
        self._lock = Lock()
        self.learn(form(encoder))

    def learn(self, phrases: Iterable[Sequence[int]]) -> None:
        """Takes token sequences into the book."""
        with self._lock:
            for phrase in phrases:
                self.book.add(phrase)

    def start(self, prompts: Sequence[Sequence[int]], longest: int) -> FlatDecoder:
        """A decoder with room for critiques of so many tokens after these prompts."""
        texts = pages(prompts, [0] * len(prompts), longest=longest, end=self.encoder.end)
        return FlatDecoder(self.model, rooms(texts, self.effort.most))

    def write(
        self,
        prompts: Sequence[Sequence[int]],
        starts: Sequence[int],
        longest: int,
        decoder: FlatDecoder | None = None,
    ) -> list[list[int]]:
        """The greedy continuation of each prompt, without the end token.

        Args:
            prompts: token ids, with what each critique begins with.
            starts: where in each the critique begins.
            longest: most new tokens.
            decoder: which may have read the beginning of the prompts; see `start`.
        """
        rules = [Greedy(self.watch) for _ in prompts]
        given = decoder or self.start(prompts, longest)
        texts, self.last = self.go_on(prompts, starts, longest, given, rules, drop=decoder is None)
        self.closest = min(rule.closest for rule in rules) if self.watch else None
        self.learn([page.text[page.start :] for page in texts])
        return [written(page) for page in texts]

    def go_on(
        self,
        prompts: Sequence[Sequence[int]],
        starts: Sequence[int],
        longest: int,
        decoder: FlatDecoder,
        rules: Sequence[Rule],
        *,
        drop: bool = False,
    ) -> tuple[list[Page], Tally]:
        """Writes by rules and remembers nothing; `drop`: nor does the decoder what is done."""
        texts = pages(prompts, starts, longest=longest, end=self.encoder.end)
        cost = write(decoder, texts, self._drafter(decoder.shelf.rooms), rules, drop=drop)
        return texts, cost

    def _drafter(self, most: Sequence[int]) -> Drafter:
        tables = Tables(self.encoder, self.book, self.record, self.effort)
        if self.helper is None:
            return tables if self.tables else Nothing()
        model = ModelDrafts(self.helper, most, least=self.sure)
        return Both(tables, model) if self.tables else model
