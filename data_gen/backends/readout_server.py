"""A model behind a server as a judge: p(flawed) from its likelihoods of the two verdict words.

    MODEL_1=openai:http://127.0.0.1:8080/v1#qwen3-8b

asks the model `qwen3-8b` of a llama.cpp or vLLM server; without `#name`, its only model. With
`@FOLDER` at the end, the server serves the export in that folder, whose calibration is used
(`exported`). Prompt, words and their normalisation are those of a critic in this process: the same
encoder works on the server's own tokens, and prompts are sent as token ids.

A word's likelihood is the product of those of its tokens. A server lists only its likeliest
tokens; where one of ours is not among them, llama.cpp is asked for all tokens and vLLM for the
likelihoods of the prompt (`echo`). What neither can give is bounded by what is listed, and if that
leaves p open by more than 0.001, the item is unscored: nothing is guessed.

Control tokens in a rationale stay text with llama.cpp, which can be told so. Other servers are
asked for the token of what looks like one; if it is one token, the item is unscored.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy import special
from transformers import PreTrainedTokenizerBase

from data_gen.asker import Patience
from data_gen.backends.address import check_address, warn_of_plain_key
from data_gen.backends.completions import Completions
from data_gen.backends.exported import Exported
from data_gen.backends.protocol import HopelessError, UnanswerableError
from minicrit.calibrated import Calibration
from minicrit.critic import LONGEST, Written
from minicrit.encoding import CONTROL_LIKE, Encoder, TooLongError
from minicrit.export.probes import PROBES
from minicrit.files import sha256_json
from minicrit.impostors import readings
from minicrit.jsonl import readable
from minicrit.judging import TOO_LONG, Item, Judge, UnreadableError, load_judge
from minicrit.measure_config import BenchmarkConfig
from minicrit.prompts import (
    LEAD_IN,
    PROMPT_VERSION,
    VERDICT_WORDS,
    Critique,
    attempt,
    render_critique,
)
from minicrit.verdict import Verdict, explained

SCHEME = "openai:"
TOP = 20  # likeliest tokens that are asked for; vLLM lists no more unless told to
TIGHT = 1e-3  # widest p that counts as known
UNLISTED = "a verdict word is not among the likeliest tokens"
CONTROL = "a control token in the text"
REFUSED = "refused by the server"
_PROBE = "### Rationale:\nThree of three swans were white, so all swans are white."


def judge_loader(base_folder: Path) -> Callable[[str], Judge]:
    """Loads a judge by its name: of a server, or a critic or base of this machine."""

    def load(model: str) -> Judge:
        if model.startswith(SCHEME):
            return ServerJudge.open(model)
        return load_judge(model, base_folder=base_folder)

    return load


def check_models(settings: BenchmarkConfig) -> None:
    """Refuses either model where its name alone tells that it cannot be loaded.

    For who would else learn that of the second once the first has been judged.
    """
    from minicrit.loading import what_is_missing  # slow: not before it is needed

    for setting in ("model_1", "model_2"):
        model, named = getattr(settings, setting), f"benchmark.{setting}"
        if model and model.startswith(SCHEME):
            check_address("openai", _address(model), named)
        elif model and (missing := what_is_missing(model)):
            raise ValueError(f"{named}: {missing}")


def _address(model: str) -> str:
    return model.removeprefix(SCHEME).partition("#")[0]


class ServerTokenizer:
    """The server's tokenizer, in as much of the form of a local one as the encoder needs."""

    eos_token_id: int | None = None
    bos_token_id: int | None = None

    def __init__(self, server: Completions) -> None:
        self._server = server

    def __call__(
        self, text: str, *, add_special_tokens: bool, split_special_tokens: bool = True
    ) -> dict[str, list[int]]:
        """`input_ids` of a text. What opens a text is told apart by a letter after it."""
        if text or not add_special_tokens:
            ids = self._server.ids(text, special=add_special_tokens) if text else []
            return {"input_ids": ids}
        plain, opened = self._server.ids("x"), self._server.ids("x", special=True)
        at = next((n for n in range(len(opened)) if opened[n:][: len(plain)] == plain), 0)
        return {"input_ids": opened[:at]}


class ServerJudge:
    """One model of a server, read zero-shot or as it was trained; see `judging.Judge`.

    Attributes:
        reasons: why items could not be read, by item.
    """

    adapter: str | None = None
    trained = False
    prompt_version = PROMPT_VERSION
    threshold = 0.5
    exported: Exported | None = None

    def __init__(self, server: Completions, entry: dict[str, Any], props: dict[str, Any]) -> None:
        """Build it with `open`. `entry`: of the list of models; `props`: of llama.cpp."""
        self.server = server
        self.name = f"{SCHEME}{_short(entry)}"
        self.reasons: dict[Item, str] = {}
        meta = entry.get("meta") or {}
        room = meta.get("n_ctx") or entry.get("max_model_len") or LONGEST
        tokenizer = cast("PreTrainedTokenizerBase", ServerTokenizer(server))
        self.encoder = Encoder(tokenizer, max_tokens=min(int(room) - 1, LONGEST))
        self._words = meta.get("n_vocab")  # llama.cpp lists as many as are asked for
        self._echoes = self._words is None
        end = str(props.get("eos_token") or "")
        self._keeps_text = bool(end) and server.ids(end) != server.ids(end, control=True)
        self._looked_at: dict[str, bool] = {}
        self.identity = f"{self.name}+{sha256_json(self._facts(entry, meta, props))[:32]}"

    @classmethod
    def open(cls, model: str, *, patience: Patience | None = None) -> "ServerJudge":
        """The judge of a name like `openai:http://HOST:PORT/v1#MODEL` or `...#MODEL@FOLDER`.

        Raises:
            ValueError: if the address is no use, or the server has no such model, or does not tell
                its tokens, or is not that of the export in the folder.
        """
        url, (name, _, folder) = _address(model), model.partition("#")[2].partition("@")
        exported = Exported.read(Path(folder)) if folder else None
        check_address("openai", url, "openai")
        warn_of_plain_key("openai", url)
        server = Completions(url, patience=patience)
        entries = server.models()
        entry = _chosen(entries, name)
        server.model = str(entry["id"])
        try:
            server.ids("x")
        except (HopelessError, UnanswerableError) as error:
            raise HopelessError(
                f"{url}: expected a server that tells its tokens (/tokenize), got {error}; serve "
                "the model with llama.cpp or vLLM"
            ) from error
        judge = cls(server, {**entry, "max_model_len": _room(entry, entries)}, server.props())
        if exported:
            judge._trust(exported)
        return judge

    def _trust(self, exported: Exported) -> None:
        """Uses the calibration of an export, once the server has proved to serve it."""
        exported.require([self._known(item) for item in PROBES])
        self.exported, self.adapter, self.trained = exported, exported.facts["adapter"], True
        if exported.calibration:
            self.threshold = exported.calibration.threshold
            self.identity += f"+{exported.calibration.facts['sha256']}"

    @property
    def calibration(self) -> dict[str, Any] | None:
        """What the threshold is certified for, in short; None without an export's calibration."""
        return self.exported.certificate if self.exported else None

    def _facts(
        self, entry: dict[str, Any], meta: dict[str, Any], props: dict[str, Any]
    ) -> dict[str, Any]:
        """What tells the model apart wherever it is served: what it says of itself and to a probe.

        So another model under the same name is another judge.
        """
        sizes = ("n_vocab", "n_ctx_train", "n_embd", "n_params", "size", "ftype")
        return {
            "model": _short(entry),
            "of": {key: entry[key] for key in ("root", "parent") if entry.get(key)},
            "meta": {key: meta[key] for key in sizes if key in meta},
            "file": Path(str(props.get("model_path", ""))).name,
            "words": self.encoder.verdict_words,
            "lead_in": [*self.encoder.opening, *self.encoder.lead_in],
            "probe": self.server.write([*self.encoder.opening, *self.encoder.whole(_PROBE)], 8)[0],
        }

    def p_flawed(
        self,
        items: Sequence[Item],
        *,
        batch_tokens: int = 0,
        progress: Callable[[int], object] | None = None,
    ) -> np.ndarray:
        """(n,) probabilities, one item after the other; nan with a reason in `reasons`.

        Args:
            items: domain and rationale of each.
            batch_tokens: of no meaning here: a server makes its own batches.
            progress: told each item.
        """
        found = []
        for item in items:
            found.append(self._known(item))
            if progress:
                progress(1)
        return np.array(found, dtype=np.float64)

    def verdict(self, items: Sequence[Item]) -> list[Verdict]:
        """Verdicts without text.

        Raises:
            UnreadableError: if an item cannot be read.
        """
        return [self._verdict(item, *self._timed(item)) for item in items]

    def critique(
        self, items: Sequence[Item], *, max_new_tokens: int = 160, batch: int = 1
    ) -> list[Written]:
        """Whole critiques, greedy, that begin with the readout's verdict, one after the other."""
        return [self._critique(item, max_new_tokens) for item in items]

    def _known(self, item: Item) -> float:
        """Of a text that speaks as the critic does, the most flawed reading (see `impostors`)."""
        domain, rationale = item
        found = [self._read((domain, text)) for text in readings(rationale)]
        return found[0] if math.isnan(found[0]) else float(np.nanmax(found))

    def _read(self, item: Item) -> float:
        try:
            self._check_text(item)
            p = self._p(self.encoder.prompt(*item, reserve=self._reserve()))
            return self.exported.calibrated(p, item) if self.exported else p
        except UnreadableError as error:
            self.reasons[item] = error.reason
        except TooLongError:
            self.reasons[item] = TOO_LONG
        except UnanswerableError as error:
            self.reasons[item] = _refused(error)
        return math.nan

    def _reserve(self) -> int:
        words = self.encoder.verdict_words.values()
        return len(self.encoder.lead_in) + max(map(len, words))

    def _p(self, prompt: Sequence[int]) -> float:
        """P(flawed) after a prompt, from bounds of log-likelihoods; they are mostly one number."""
        start = [*prompt, *self.encoder.lead_in]
        listed: dict[tuple[int, ...], dict[int, float]] = {}
        (low_v, high_v), (low_f, high_f) = (
            self._word(start, self.encoder.verdict_words[label], listed)
            for label in ("valid", "flawed")
        )
        if math.isinf(low_v) and math.isinf(low_f):
            raise UnreadableError(self.name, UNLISTED)
        low, high = special.expit(low_f - high_v), special.expit(high_f - low_v)
        if high - low > TIGHT:
            raise UnreadableError(self.name, UNLISTED)
        return float((low + high) / 2)

    def _word(
        self, start: list[int], word: Sequence[int], listed: dict[tuple[int, ...], dict[int, float]]
    ) -> tuple[float, float]:
        """Lowest and highest log-likelihood of a word that it can have."""
        total = 0.0
        for at, token in enumerate(word):
            before = tuple(word[:at])
            if before not in listed:  # both words begin at the same place
                listed[before] = self.server.next_token([*start, *before], TOP)
            known = listed[before].get(token)
            if known is None:
                known = self._asked_for([*start, *before], token)
            if known is None:
                return -math.inf, total + unlisted(listed[before].values())
            total += known
        return total, total

    def _asked_for(self, before: list[int], token: int) -> float | None:
        """The log-likelihood of a token that is not among the likeliest, if it can be had."""
        if self._words:
            return self.server.next_token(before, int(self._words)).get(token)
        if self._echoes:
            known = self.server.echoed([*before, token])
            self._echoes = known is not None
            return known
        return None

    def _check_text(self, item: Item) -> None:
        """Refuses what this server would take for a control token."""
        if self._keeps_text:
            return
        for text in item:
            for mark in CONTROL_LIKE.findall(text):
                if mark not in self._looked_at:
                    self._looked_at[mark] = len(self.server.ids(mark)) == 1
                if self._looked_at[mark]:
                    raise UnreadableError(self.name, CONTROL)

    def _timed(self, item: Item) -> tuple[float, float]:
        """P(flawed) of an item that can be read, and how long it took in ms."""
        begin = time.perf_counter()
        p = self._known(item)
        if math.isnan(p):
            raise UnreadableError(self.name, self.reasons[item])
        return p, 1000 * (time.perf_counter() - begin)

    def _critique(self, item: Item, max_new_tokens: int) -> Written:
        begin = time.perf_counter()
        p, _ = self._timed(item)
        label = "flawed" if p > self.threshold else "valid"
        calibration = self._calibration
        if label == "flawed" and calibration and (told := calibration.recounted(item[1])):
            said = self._verdict(item, p, 1000 * (time.perf_counter() - begin), told)
            return Written(said, render_critique(told), told, None, 0)
        head = [*self.encoder.lead_in, *self.encoder.verdict_words[label]]
        prompt = self.encoder.prompt(*item, reserve=len(head) + max_new_tokens)
        try:
            rest, tokens = self.server.write([*prompt, *head], max_new_tokens)
        except UnanswerableError as error:
            raise UnreadableError(self.name, _refused(error)) from error
        text = readable(LEAD_IN + VERDICT_WORDS[label] + rest)
        parsed, reason = attempt(text)
        spent = 1000 * (time.perf_counter() - begin)
        return Written(self._verdict(item, p, spent, parsed), text, parsed, reason, tokens)

    @property
    def _calibration(self) -> Calibration | None:
        return self.exported.calibration if self.exported else None

    def _verdict(
        self, item: Item, p: float, spent: float, parsed: Critique | None = None
    ) -> Verdict:
        domain, rationale = item
        asked = "\0".join((self.identity, self.prompt_version, domain, rationale))
        calibration = self._calibration
        return Verdict(
            label="flawed" if p > self.threshold else "valid", p_flawed=p,
            threshold=self.threshold, domain=domain, model=self.name, adapter=self.adapter,
            calibrated=calibration is not None,
            unsure=calibration is not None and calibration.is_unsure(p, self.threshold),
            prompt_version=self.prompt_version, latency_ms=spent,
            request_id=hashlib.sha256(asked.encode()).hexdigest()[:32],
            **explained(parsed, rationale),
        )  # fmt: skip


def _refused(error: UnanswerableError) -> str:
    """The reason why a server does not answer to this item."""
    return TOO_LONG if "context" in str(error) else REFUSED


def unlisted(listed: Iterable[float]) -> float:
    """Highest log-likelihood of a token that is not listed: the lowest listed one, or the rest."""
    known = list(listed)
    rest = 1 - math.fsum(math.exp(x) for x in known)
    return min([0.0, *known, math.log(rest) if rest > 0 else -math.inf])


def _chosen(entries: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """The entry of the model of this name; the only one if no name is given."""
    fitting = [entry for entry in entries if not name or name in _names(entry)]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(sorted(_short(entry) for entry in entries)) or "none"
    raise HopelessError(f"server: expected one model {name or '(none was named)'}, got {there}; "
                        "write openai:http://HOST:PORT/v1#NAME")  # fmt: skip


def _room(entry: dict[str, Any], entries: Sequence[dict[str, Any]]) -> int | None:
    """Longest text of a model; vLLM says it of the base alone that a LoRA module stands on."""
    parents = [other for other in entries if other["id"] == entry.get("parent")]
    return next((m["max_model_len"] for m in [entry, *parents] if m.get("max_model_len")), None)


def _names(entry: dict[str, Any]) -> set[str]:
    whole = str(entry.get("id", ""))
    return {whole, Path(whole).name, Path(whole).stem, *map(str, entry.get("aliases") or [])}


def _short(entry: dict[str, Any]) -> str:
    return Path(str(entry.get("id", ""))).name
