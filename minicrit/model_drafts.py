"""Guesses by a smaller model of the same tokenizer, alone or where the tables have none."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minicrit.accepting import drawn, heated
from minicrit.drafting import Draft, Tables
from minicrit.encoding import common_length
from minicrit.flat_decoding import FlatDecoder

#: Length of the run of a model's guess, which has none.
_NO_RUN = 0


class ModelDrafts:
    """Drafts by a model that reads the same texts."""

    def __init__(self, model: PreTrainedModel, rooms: Sequence[int], *, length: int = 4,
                 least: float = 0.4, temperature: float = 0.0, seed: int = 0) -> None:  # fmt: skip
        """Nothing is read yet.

        Args:
            model: a causal LM with `packed` attention.
            rooms: most tokens of each text.
            length: most tokens of a draft; each costs a forward of this model.
            least: a draft ends before a token with less of a chance, with all before it.
            temperature: 0 for the likeliest tokens; above, they are drawn, and the draft has its q.
            seed: of the draws.
        """
        self.decoder = FlatDecoder(model, [room + length for room in rooms])
        self.length, self.least, self.temperature = length, least, temperature
        self._read: dict[int, list[int]] = {}
        self._generator = torch.Generator().manual_seed(seed)

    def draft(self, row: int, text: Sequence[int], start: int, most: int) -> Draft:
        """See `Drafter`."""
        known = self._read.setdefault(row, [])
        same = min(common_length(known, text), len(text) - 1)
        self.decoder.shelf.cut(row, same)
        del known[same:]
        pending, draft, likely = list(text[same:]), Draft(), 1.0
        q: list[torch.Tensor] = []
        while len(draft.tokens) < min(most, self.length):
            logits = self.decoder.read({row: pending}, {row: 1})[0]
            known.extend(pending)
            p = heated(logits, self.temperature or 1.0)
            token = self._pick(p)
            likely *= float(p[0, token])
            if not self.temperature and likely < self.least:
                break
            draft.add(token, float(p[0, token]), ("model", _NO_RUN))
            q.append(p[0])
            pending = [token]
        if self.temperature and q:
            draft.q = torch.stack(q)
        return draft

    def _pick(self, p: torch.Tensor) -> int:
        if not self.temperature:
            return int(p[0].argmax())
        chance = torch.rand(1, generator=self._generator, dtype=torch.float64).to(p.device)
        return int(drawn(p, chance)[0])

    def learn(self, draft: Draft, right: int) -> None:
        """See `Drafter`; a model needs no lesson."""


class Both:
    """What the tables say; where they say nothing, what the model does."""

    def __init__(self, tables: Tables, model: ModelDrafts) -> None:
        self.tables, self.model = tables, model

    def draft(self, row: int, text: Sequence[int], start: int, most: int) -> Draft:
        """See `Drafter`."""
        found = self.tables.draft(row, text, start, most)
        return found if found.tokens else self.model.draft(row, text, start, most)

    def learn(self, draft: Draft, right: int) -> None:
        """See `Drafter`."""
        if draft.kinds and draft.kinds[0][1] != _NO_RUN:
            self.tables.learn(draft, right)


def refuse_other_tokenizer(
    target: PreTrainedTokenizerBase, draft: PreTrainedTokenizerBase, name: str
) -> None:
    """Token ids of a draft must mean the same to both.

    Raises:
        ValueError: if the vocabularies differ.
    """
    ours, theirs = target.get_vocab(), draft.get_vocab()
    if ours == theirs:
        return
    word = min(set(ours.items()) ^ set(theirs.items()))[0]
    raise ValueError(
        f"{name}: expected a draft model with the target's tokenizer ({len(ours)} tokens), got one "
        f"of {len(theirs)} that differs at {word!r}; take a draft of the same family"
    )
