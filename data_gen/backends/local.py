"""A chat model that runs in this process, with the weights of any base: no server, no network.

No grammar holds its answers to the schema, so the prompt spells the fields out, and whatever is not
exactly such an object is rejected by whoever asked. Requests of several threads are generated as
one batch.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from jinja2 import TemplateError
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel

from data_gen.backends.protocol import (
    Answer,
    HopelessError,
    Request,
    Stop,
    UnanswerableError,
    Usage,
)
from minicrit.base import load_model, load_tokenizer, prepare_base
from minicrit.encoding import Encoder
from minicrit.processes import device_kind

#: How tokens are drawn: the logits are divided by the first, and only so many are in the draw.
TEMPERATURE, TOP = 0.7, 50
#: Most requests of one batch, and the least room for an answer, in tokens.
BATCH, ROOM = 16, 64
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)


class Local:
    """One model in this process.

    Args:
        model: what `base.model` may be: `embedded`, `tiny`, a folder, a Hugging Face id.
        folder: where the bases that are made here are kept.
    """

    def __init__(self, model: str, folder: Path) -> None:
        self.model = model
        self._base = prepare_base(model, folder)
        self._tokenizer = load_tokenizer(self._base)
        self._device = device_kind()
        self._queue: list[tuple[Request, Future[Answer]]] = []
        self._queueing, self._working = threading.Lock(), threading.Lock()

    @property
    def identity(self) -> Mapping[str, Any]:  # noqa: D102
        return {"backend": "local", "model": self._base.identity, "device": self._device,
                "temperature": TEMPERATURE, "top": TOP}  # fmt: skip

    def ask(self, request: Request) -> Answer:  # noqa: D102
        own: Future[Answer] = Future()
        with self._queueing:
            self._queue.append((request, own))
        while not own.done():
            with self._working:  # whoever gets here first works for all who wait
                if not own.done():
                    self._work()
        return own.result()

    def _work(self) -> None:
        """Answers those who have waited longest."""
        with self._queueing:
            taken, self._queue = self._queue[:BATCH], self._queue[BATCH:]
        try:
            self._settle(taken)
        finally:  # if it failed in a way nobody foresaw, nobody is left waiting
            for _, future in taken:
                if not future.done():
                    future.set_exception(HopelessError(f"{self.model}: expected an answer, got an "
                                                       "error; see the first one"))  # fmt: skip

    def _settle(self, taken: Sequence[tuple[Request, Future[Answer]]]) -> None:
        prompts: list[list[int]] = []
        able: list[tuple[Request, Future[Answer]]] = []
        for request, future in taken:
            try:
                prompts.append(self._prompt(request))
                able.append((request, future))
            except UnanswerableError as error:
                future.set_exception(error)
        if not able:
            return
        try:
            answers = self._answers(prompts, [request for request, _ in able])
        except torch.OutOfMemoryError as error:
            raise HopelessError(f"{self.model}: expected memory for {len(able)} requests at a time,"
                                " got too little; use fewer threads or a smaller model"
                                ) from error  # fmt: skip
        for (_, future), answer in zip(able, answers, strict=True):
            future.set_result(answer)

    def _prompt(self, request: Request) -> list[int]:
        """The prompt in tokens; what stands in it cannot become a control token."""
        asked = f"{request.prompt}\n\n{_form(request.schema)}"
        if self._tokenizer.chat_template:
            ids = self._chat(request.system, asked)
        else:
            encoder = Encoder(self._tokenizer)
            ids = [*encoder.opening, *encoder.whole(f"{request.system}\n\n{asked}\n\n")]
        if len(ids) + ROOM > self._context:
            raise UnanswerableError(f"expected a prompt of at most {self._context - ROOM} tokens, "
                                    f"got {len(ids)}")  # fmt: skip
        return ids

    def _chat(self, system: str, asked: str) -> list[int]:
        def rendered(*messages: dict[str, str]) -> list[int]:
            found = self._tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, return_dict=False,
                sanitize_control_tokens=True,
            )  # fmt: skip
            return list(cast("list[int]", found))

        try:
            return rendered({"role": "system", "content": system},
                            {"role": "user", "content": asked})  # fmt: skip
        except TemplateError:  # some templates know no system
            return rendered({"role": "user", "content": f"{system}\n\n{asked}"})

    def _answers(self, prompts: Sequence[list[int]], requests: Sequence[Request]) -> list[Answer]:
        longest = max(map(len, prompts))
        most = max(map(self._room, prompts, requests))
        pad = self._tokenizer.pad_token_id
        fill = self._ends[0] if pad is None else pad
        ids = torch.tensor([[fill] * (longest - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        draws = [_Draw.seed(request, self.identity) for request in requests]
        generate = cast("Callable[..., torch.Tensor]", self._model.generate)
        with torch.inference_mode():
            out = generate(
                input_ids=ids.to(self._device), attention_mask=mask.to(self._device),
                max_new_tokens=most, do_sample=False, temperature=None, top_p=None, top_k=None,
                eos_token_id=self._ends, pad_token_id=fill,
                logits_processor=LogitsProcessorList([_Draw(draws)]),
            )[:, longest:].tolist()  # fmt: skip
        return [self._answer(*each) for each in zip(prompts, requests, out, strict=True)]

    def _room(self, prompt: list[int], request: Request) -> int:
        """Tokens that its answer may have, whatever else is in the batch."""
        return min(request.max_tokens, self._context - len(prompt))

    def _answer(self, prompt: list[int], request: Request, out: list[int]) -> Answer:
        new = out[: self._room(prompt, request)]
        end = next((at for at, token in enumerate(new) if token in self._ends), None)
        stop: Stop = "cut" if end is None else "end"
        text = str(self._tokenizer.decode(new[:end], skip_special_tokens=True)).strip()
        if fenced := _FENCE.match(text):
            text = fenced[1]
        used = Usage(len(prompt), len(new) if end is None else end + 1)
        return Answer(text, stop, used, model=self.model)

    @cached_property
    def _model(self) -> PreTrainedModel:
        dtype = torch.bfloat16 if self._device == "cuda" else torch.float32
        loaded = load_model(self._base, dtype, packed=False)
        torch.nn.Module.to(loaded, self._device)
        return loaded

    @cached_property
    def _context(self) -> int:
        return int(getattr(self._model.config, "max_position_embeddings", 0) or 4096)

    @cached_property
    def _ends(self) -> list[int]:
        """Tokens that end an answer."""
        named = getattr(self._model.generation_config, "eos_token_id", None)
        found = [*(named if isinstance(named, list) else [named]), self._tokenizer.eos_token_id]
        ends = sorted({int(token) for token in found if token is not None})
        if not ends:
            raise HopelessError(f"{self.model}: expected a token that ends an answer, got none; "
                                "use a chat model")  # fmt: skip
        return ends


class _Draw(LogitsProcessor):
    """Draws each row with a generator of its own (Gumbel's trick: noise, then the greatest).

    So an answer depends on its request, not on what else is in the batch.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    @staticmethod
    def seed(request: Request, identity: Mapping[str, Any]) -> int:
        return int(request.key(identity)[:15], 16)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores of which the greatest is the token drawn; [batch, words] both."""
        best, words = scores.float().topk(min(TOP, scores.shape[-1]), dim=-1)
        uniform = torch.stack([torch.rand(best.shape[-1], generator=g) for g in self._generators])
        noise = -(-uniform.clamp_min(1e-10).log()).log()
        drawn = torch.full_like(scores, -torch.inf, dtype=torch.float32)
        return drawn.scatter(-1, words, best / TEMPERATURE + noise.to(scores.device))


def _form(schema: Mapping[str, Any]) -> str:
    """What an answer has to look like, in words."""
    lines = ["Write one JSON object with exactly these fields, all of them text:"]
    for name in schema["required"]:
        allowed = schema["properties"][name].get("enum")
        lines.append(f'"{name}"' + (f": one of {', '.join(allowed)}" if allowed else ""))
    return "\n".join(lines)
