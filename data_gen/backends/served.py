"""A critic behind a server that speaks OpenAI's completions protocol (vLLM, llama.cpp, others).

    make benchmark MODEL_2=openai:http://127.0.0.1:8000#Qwen/Qwen2.5-7B-Instruct

The server is asked for the likeliest tokens after the same prompt and lead-in that a critic in this
process reads, so p(flawed) is the same readout: the likelihood of ` flawed` against ` valid`. A
server lists few tokens. If one of the words is not among them, it is taken to be as likely as the
least that is listed, which it is at most, so p lies nearer to 1/2 than the truth and the verdict is
the same; if both are missing there is no p, and the item counts as unscored.

What answers behind the address cannot be hashed: its identity is the address and the model's name.
"""

# mypy: disable-error-code="import-untyped"
import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import numpy.typing as npt
from scipy import special

from data_gen.backends.address import check_address, warn_of_plain_key
from data_gen.backends.protocol import hidden
from minicrit.judging import Item, Judge, load_judge
from minicrit.prompts import LEAD_IN, PROMPT_VERSION, VERDICT_WORDS, attempt, render_prompt
from minicrit.verdict import Verdict, explained

if TYPE_CHECKING:
    from minicrit.critic import Written

PREFIX = "openai:"
LISTED = 20  # tokens with their likelihoods; more than that vLLM refuses
TRIES, WAIT = 4, 1.0  # seconds before the second try, doubled each time
_OK, _CROWDED, _BROKEN = 200, 429, 500


def open_judge(path: str, *, base_folder: Path) -> Judge:
    """The critic behind `openai:<address>#<model>`, or that of a folder or a base."""
    if not path.startswith(PREFIX):
        return load_judge(path, base_folder=base_folder)
    url, _, model = path.removeprefix(PREFIX).partition("#")
    check_address("openai", url, "benchmark.model")
    if not model:
        raise ValueError(f"{path}: expected the name of a model behind the address, got none; "
                         f"write {PREFIX}http://HOST:PORT#MODEL")  # fmt: skip
    warn_of_plain_key("openai", url)
    return ServedCritic(url, model)


class ServedCritic:
    """A `minicrit.judging.Judge` whose model is elsewhere. OPENAI_API_KEY is sent if it is set."""

    adapter: str | None = None
    prompt_version: str = PROMPT_VERSION
    threshold: float = 0.5

    def __init__(
        self, url: str, model: str, *, threads: int = 8, timeout: float = 300.0, wait: float = WAIT
    ) -> None:
        key = os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout)
        self._threads, self._wait = threads, wait
        self.model = model
        self.name = f"{model} (served)"
        self.identity = f"{PREFIX}{url}#{model}"

    def p_flawed(
        self, items: Sequence[Item], *, batch_tokens: int = 4096,
        progress: Callable[[int], object] | None = None,
    ) -> npt.NDArray[np.float64]:  # fmt: skip
        """(n,) probability of `flawed` against `valid`; nan where neither word was listed."""
        with ThreadPoolExecutor(self._threads) as pool:
            found = []
            for p in pool.map(self._p, items):
                found.append(p)
                if progress:
                    progress(1)
        return np.array(found, dtype=np.float64)

    def verdict(self, items: Sequence[Item]) -> list[Verdict]:
        """Verdicts without text."""
        begin = time.perf_counter()
        chances = self.p_flawed(items)
        spent = 1000 * (time.perf_counter() - begin) / max(1, len(items))
        return [self._verdict(i, float(p), spent) for i, p in zip(items, chances, strict=True)]

    def critique(
        self, items: Sequence[Item], *, max_new_tokens: int = 160, batch: int = 8
    ) -> "list[Written]":
        """Whole critiques, greedy, that begin with the verdict of the readout."""
        return [self._written(item, max_new_tokens) for item in items]

    def _p(self, item: Item) -> float:
        body = self._ask(render_prompt(*item) + LEAD_IN, 1, logprobs=LISTED)
        choice = body["choices"][0]
        if "logprobs" not in choice:
            raise ValueError(f"{self.identity}: expected log-likelihoods of tokens, got none; "
                             "start the server so that it gives them (logprobs)")  # fmt: skip
        return chance(listed(choice["logprobs"] or {}))

    def _written(self, item: Item, longest: int) -> "Written":
        from minicrit.critic import Written  # slow: not before it is needed

        begin = time.perf_counter()
        p = self._p(item)
        head = LEAD_IN + VERDICT_WORDS["flawed" if p > self.threshold else "valid"]
        body = self._ask(render_prompt(*item) + head, longest)
        text = (head + str(body["choices"][0].get("text") or "")).strip()
        spent = 1000 * (time.perf_counter() - begin)
        parsed, reason = attempt(text)
        verdict = self._verdict(item, p, spent, **explained(parsed, item[1]))
        tokens = int((body.get("usage") or {}).get("completion_tokens") or 0)
        return Written(verdict, text, parsed, reason, tokens)

    def _verdict(self, item: Item, p: float, spent: float, **fields: Any) -> Verdict:
        asked = "\0".join((self.identity, self.prompt_version, *item))
        return Verdict(
            label="flawed" if p > self.threshold else "valid", p_flawed=p, domain=item[0],
            threshold=self.threshold, model=self.name, adapter=None,
            prompt_version=self.prompt_version, latency_ms=spent,
            request_id=hashlib.sha256(asked.encode()).hexdigest()[:32], **fields,
        )  # fmt: skip

    def _ask(self, prompt: str, longest: int, **more: Any) -> dict[str, Any]:
        """One completion; a server that is crowded or gone is asked again, a few times."""
        body = {"model": self.model, "prompt": prompt, "max_tokens": longest, "temperature": 0.0,
                **more}  # fmt: skip
        said = ""
        for number in range(TRIES):
            time.sleep(self._wait * 2 ** (number - 1) if number else 0)
            try:
                response = self._client.post("/v1/completions", json=body)
            except httpx.RequestError as error:
                said = f"{type(error).__name__}: {error}"
                continue
            if response.status_code == _OK:
                return _read(response)
            said = f"status {response.status_code}: {hidden(response.text)}"
            if response.status_code < _BROKEN and response.status_code != _CROWDED:
                break
        raise ValueError(f"{self.identity}: expected a completion, got {said}; check address, "
                         "model and key, and run again")  # fmt: skip


def _read(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
        body["choices"][0].get("text")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{response.url}: expected a completion with choices, got "
                         f"{hidden(response.text)[:80]!r}; is it a server of OpenAI's "
                         "protocol?") from error  # fmt: skip
    return dict(body)


def listed(logprobs: Mapping[str, Any]) -> dict[str, float]:
    """Log-likelihood of each listed first token, of vLLM's form or of llama.cpp's.

    Empty where there is none: llama.cpp says nothing where its first token is half a character.
    """
    if tops := logprobs.get("top_logprobs"):
        return {str(token): float(value) for token, value in tops[0].items()}
    content = logprobs.get("content") or [{"top_logprobs": []}]
    return {str(one["token"]): float(one["logprob"]) for one in content[0]["top_logprobs"]}


def chance(tops: Mapping[str, float]) -> float:
    """P(flawed) from the listed tokens: of each word, the longest that begins it alone."""
    found = {}
    for label, word in VERDICT_WORDS.items():
        others = [other for name, other in VERDICT_WORDS.items() if name != label]
        begins = [token for token in tops if token and word.startswith(token)
                  and not any(other.startswith(token) for other in others)]  # fmt: skip
        if begins:
            found[label] = tops[max(begins, key=len)]
    if not found:
        return float("nan")
    least = min(tops.values())
    away = found.get("valid", least) - found.get("flawed", least)
    return float(special.expit(-away))
