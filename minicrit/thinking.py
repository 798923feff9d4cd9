"""Lets a critic write before its verdict: greedy, many prompts at once."""

from collections.abc import Sequence

import torch

from minicrit.critic import Critic
from minicrit.decoding import Decoder
from minicrit.encoding import Encoder, TooLongError
from minicrit.jsonl import readable
from minicrit.prompts import LEAD_IN

VERDICT, END, LIMIT = "verdict", "end", "limit"  # by what reasoning ends


def go_on(critic: Critic, prompts: Sequence[Sequence[int]], most: int) -> list[list[int]]:
    """The likeliest continuation of each prompt up to a verdict, an end token or so many tokens."""
    decoder = Decoder(critic.causal_lm, prompts, 1, most)
    found: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))
    while True:
        tokens = decoder.logits.argmax(-1).tolist()
        for row, token in zip(rows, tokens, strict=True):
            found[row].append(token)
        open_rows = [row for row in rows if len(found[row]) < most
                     and reasoning(critic, found[row])[1] == LIMIT]  # fmt: skip
        if not open_rows:
            return found
        decoder.step(torch.tensor(tokens))
        if len(open_rows) < len(rows):
            decoder.select(torch.tensor([rows.index(row) for row in open_rows]))
            rows = open_rows


def reasoning(critic: Critic, ids: Sequence[int]) -> tuple[str, str]:
    """The text of written tokens without a verdict of their own, and by what it ended."""
    done = bool(ids) and ids[-1] == critic.encoder.end
    written = str(critic.tokenizer.decode(list(ids[:-1] if done else ids)))
    text, lead, _ = readable(written).partition(LEAD_IN)
    return text, VERDICT if lead else END if done else LIMIT


def prompt_ids(encoder: Encoder, text: str, reserve: int = 0) -> list[int]:
    """Ids of a whole prompt that leave room; TooLongError if they do not."""
    ids = [*encoder.opening, *encoder.whole(text)]
    room = encoder.max_tokens - reserve
    if len(ids) > room:
        raise TooLongError(f"expected at most {room} prompt tokens, got {len(ids)}; shorten it")
    return ids
