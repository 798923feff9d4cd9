"""A tokenizer as llama.cpp knows it: byte-level BPE, and how it parts a text before it merges.

llama.cpp has the ways of parting (pre-tokenizers) built in and takes one by its name. A wrong name
loads and answers, with other tokens: so a tokenizer whose way is not known here is refused. What
counts is the tokenizer in memory: transformers gives some models another way than their file says.
"""

# mypy: disable-error-code="no-untyped-call"
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gguf
from transformers import PreTrainedTokenizerBase

from minicrit.encoding import Encoder

#: The one regular expression of each; GPT-2's is built into `tokenizers` as that of ByteLevel.
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*"
    r"[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_SPLITS = {_QWEN2: "qwen2", _LLAMA3: "llama-bpe"}
#: Of these, those that take a whole word that is a token without merging it.
_WHOLE = ("llama-bpe",)
#: All names that llama.cpp had in November 2026; later ones have more.
NAMES = frozenset((
    "a.x-4.0", "afmoe", "bailingmoe", "bailingmoe2", "bloom", "chameleon", "chatglm-bpe",
    "codeshell", "cohere2moe", "command-r", "dbrx", "deepseek-coder", "deepseek-llm",
    "deepseek-r1-qwen", "deepseek-v3", "default", "exaone", "exaone-moe", "exaone4",
    "f2llmv2", "falcon", "falcon-h1", "falcon3", "gemma4", "gigachat", "glm4", "gpt-2",
    "gpt-4o", "gpt3-finnish", "granite-docling", "granite-embed-multi-311m",
    "granite-embed-multi-97m", "grok-2", "hunyuan", "hunyuan-dense", "jais", "jais-2",
    "jina-de", "jina-es", "jina-v1-en", "jina-v2-code", "jina-v2-de", "jina-v2-es",
    "jina-v5-nano", "joyai-llm", "k2-horizon", "kanana2", "kimi-k2", "kormo", "laguna",
    "lfm2", "llada-moe", "llama-bpe", "llama-v3", "llama3", "llama4", "megrez", "mellum",
    "mellum2", "midm-2.0", "minerva-7b", "minicpm5", "minimax-m2", "modern-bert", "mpt",
    "olmo", "phi-2", "pixtral", "poro-chat", "qwen2", "qwen35", "refact", "roberta-bpe",
    "sarvam-moe", "seed-coder", "smaug-bpe", "smollm", "solar-open", "stablelm2", "starcoder",
    "superbpe", "talkie", "tekken", "tiny_aya", "trillion", "viking", "whitespace", "youtu",
))  # fmt: skip
_REMEDY = "serve the hf folder with vLLM, or name it: --export.pre_tokenizer"


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF says of its tokenizer.

    Attributes:
        pre: llama.cpp's name of the way of parting.
        tokens: by id, as many as the embedding has rows.
        kinds: of each, of `gguf.TokenType`.
        merges: in order.
        special: ids by role (bos, eos, unk, pad).
        opens: whether a text is opened with the BOS token.
        template: of chats, in Jinja; None without one.
    """

    pre: str
    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    special: dict[str, int]
    opens: bool
    template: str | None

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, rows: int, *, where: str, pre: str | None = None
    ) -> "Vocabulary":
        """That of a tokenizer.

        Args:
            tokenizer: as transformers loads it.
            where: its folder, for messages.
            rows: of the embedding; ids beyond the tokenizer's are filled up.
            pre: what its way of parting is to be called, in place of what it tells.

        Raises:
            ValueError: if it is none that a GGUF can hold, or its way of parting is not known.
        """
        told = _read(tokenizer, where)
        tokens, kinds = _tokens(told, rows, where)
        return cls(
            pre=pre_tokenizer(told, where) if pre is None else pre,
            tokens=tokens,
            kinds=kinds,
            merges=[m if isinstance(m, str) else " ".join(m) for m in told["model"]["merges"]],
            special=_special(tokenizer),
            opens=bool(Encoder(tokenizer).opening),
            template=tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None,
        )

    def add_to(self, writer: gguf.GGUFWriter) -> None:
        """Writes all of it."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.kinds)
        writer.add_token_merges(self.merges)
        for role, number in self.special.items():
            getattr(writer, f"add_{role}_token_id")(number)
        writer.add_add_bos_token(self.opens)
        writer.add_add_space_prefix(False)
        if self.template:
            writer.add_chat_template(self.template)


def pre_tokenizer(told: Mapping[str, Any], where: str) -> str:
    """llama.cpp's name of the way in which a tokenizer parts a text.

    Args:
        told: its steps, as in `tokenizer.json`.
        where: its folder, for the message.

    Raises:
        ValueError: if none is known to be the same.
    """
    name = _named(told.get("pre_tokenizer") or {})
    normal = (told.get("normalizer") or {}).get("type")
    whole = bool(told["model"].get("ignore_merges"))
    # NFC is passed over, as llama.cpp does; texts are mostly in it, and docs/export.md says so.
    if name is None or normal not in (None, "NFC") or whole != (name in _WHOLE):
        raise ValueError(f"{where}: expected a pre-tokenizer that llama.cpp is known to have "
                         f"(gpt-2, smollm, qwen2, llama-bpe), got another; {_REMEDY}")  # fmt: skip
    return name


def _named(told: Mapping[str, Any]) -> str | None:
    steps = told.get("pretokenizers") if told.get("type") == "Sequence" else [told]
    match [_plain(step) for step in steps or []]:
        case [("ByteLevel", True)]:
            return "gpt-2"
        case [("Digits", True), ("ByteLevel", True)]:
            return "smollm"
        case [("Split", str(pattern)), ("ByteLevel", False)]:
            return _SPLITS.get(pattern)
    return None


def _plain(step: Mapping[str, Any]) -> tuple[Any, Any]:
    """A step and the one setting that matters, if the others are as llama.cpp has them."""
    kind = step.get("type")
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return kind, step.get("use_regex", True)
    if kind == "Digits":
        return kind, step.get("individual_digits")
    if kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
        return kind, (step.get("pattern") or {}).get("Regex")
    return None, None


def _read(tokenizer: PreTrainedTokenizerBase, where: str) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    told: dict[str, Any] = json.loads(backend.to_str()) if backend else {}
    model = told.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback") or not model.get("merges"):
        raise ValueError(f"{where}: expected a tokenizer that is a byte-level BPE, got "
                         f"{model.get('type')}; serve the hf folder with vLLM")  # fmt: skip
    return told


def _tokens(told: Mapping[str, Any], rows: int, where: str) -> tuple[list[str], list[int]]:
    kind = gguf.TokenType
    known = {number: (text, int(kind.NORMAL)) for text, number in told["model"]["vocab"].items()}
    for added in told.get("added_tokens", []):
        found = kind.CONTROL if added["special"] else kind.USER_DEFINED
        known[int(added["id"])] = (added["content"], int(found))
    if max(known) >= rows:
        raise ValueError(f"{where}: expected at most {rows} tokens, one a row of the embedding, "
                         f"got {max(known) + 1}; these files do not belong together")  # fmt: skip
    filled = [known.get(at, (f"[PAD{at}]", int(kind.UNUSED))) for at in range(rows)]
    return [text for text, _ in filled], [number for _, number in filled]


def _special(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    given = {role: getattr(tokenizer, f"{role}_token_id", None)
             for role in ("bos", "eos", "unk", "pad")}  # fmt: skip
    return {role: int(number) for role, number in given.items() if number is not None}
