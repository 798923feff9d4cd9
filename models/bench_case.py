"""What both sides of the training bench get: one case, its model with random weights, its data.

Token ids are drawn at random: how long a step takes depends on lengths, not on words. Completions
differ from their first token on, so nothing but the prompt is shared.
"""

# mypy: disable-error-code="import-untyped"
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from minicrit.base import Base, load_tokenizer, prepare_base
from minicrit.computable import require_computable
from minicrit.fused import unfuse
from minicrit.hub import TINY
from minicrit.lora import attach_lora
from minicrit.packing import Branch, Tree
from minicrit.plan import Group, StepPlan
from minicrit.processes import device_kind

Task = Literal["dpo", "sft"]
Adapter = Literal["lora", "full"]
#: A model of the recipe instead of random weights.
FROM_RECIPE = "base"
#: Architectures by name; 135m, 1.5b and 7b are SmolLM2 and Qwen2.5 of that size.
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"model_type": "llama", "vocab_size": 1024, "hidden_size": 64,
             "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "tie_word_embeddings": True},
    "30m": {"model_type": "llama", "vocab_size": 32000, "hidden_size": 384,
            "intermediate_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 6,
            "num_key_value_heads": 2, "tie_word_embeddings": True},
    "135m": {"model_type": "llama", "vocab_size": 49152, "hidden_size": 576,
             "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "tie_word_embeddings": True},
    "1.5b": {"model_type": "qwen2", "vocab_size": 151936, "hidden_size": 1536,
             "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
             "num_key_value_heads": 2, "tie_word_embeddings": True},
    "7b": {"model_type": "qwen2", "vocab_size": 152064, "hidden_size": 3584,
           "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
           "num_key_value_heads": 4, "tie_word_embeddings": False},
}  # fmt: skip
#: Lengths are drawn evenly from the mean's share to one plus it.
_SPREAD = 0.35
_FIRST_WORD = 16  # ids below may be control tokens


@dataclass(frozen=True)
class Case:
    """One thing that is measured, the same for both sides.

    Attributes:
        task: dpo or sft.
        model: name of `SHAPES`, or `base` for `base`.
        ratio: mean prompt tokens for each completion token.
        batch: pairs or examples an optimizer step.
        adapter: lora or full.
        completion: mean tokens of a completion.
        steps: optimizer steps.
        sides: names of what is run; none for all.
        rank: of the adapter. alpha: of the adapter. targets: of the adapter.
        pack_tokens: most tokens of our forward pass.
        precision: of weights and arithmetic; in bfloat16 adapters are float32, under autocast.
        checkpointing: recompute activations.
        threads: of each process. seed: of weights and data.
        base: model of the recipe. base_revision: its commit, for one of the hub.
        base_folder: where bases are kept.
    """

    task: Task
    model: str
    ratio: float
    batch: int
    adapter: Adapter
    completion: int = 80
    steps: int = 6
    sides: tuple[str, ...] = ()
    rank: int = 16
    alpha: float = 32.0
    targets: str = "all-linear"
    pack_tokens: int = 4096
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpointing: bool = False
    threads: int = 1
    seed: int = 0
    base: str = "embedded"
    base_revision: str | None = None
    base_folder: Path = Path("checkpoints/base")

    @property
    def name(self) -> str:
        """What tells it from the other cases of a run."""
        return f"{self.task} {self.model} {self.adapter} {self.ratio:g}:1 batch {self.batch}"

    @property
    def dtype(self) -> torch.dtype:
        """Of the frozen weights."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


class Lesson(NamedTuple):
    """Token ids of a prompt and of its completions: chosen and rejected, or one for SFT."""

    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]

    @property
    def tree(self) -> Tree:
        """As we pack it: every token of a completion counts once."""
        ones = (Branch(ids, (1.0,) * len(ids)) for ids in self.completions)
        return Tree(self.prompt, tuple(ones))


def lessons(case: Case, vocabulary: int) -> list[Lesson]:
    """All lessons of a case, the same each time."""
    rng = random.Random(f"{case.seed}/{case.name}")  # noqa: S311 - not for secrets
    sides = 2 if case.task == "dpo" else 1

    def ids(mean: float) -> tuple[int, ...]:
        low, high = round(mean * (1 - _SPREAD)), round(mean * (1 + _SPREAD))
        return tuple(rng.choices(range(_FIRST_WORD, vocabulary), k=rng.randint(low, high)))

    return [
        Lesson(ids(case.ratio * case.completion), tuple(ids(case.completion) for _ in range(sides)))
        for _ in range(case.batch * case.steps)
    ]


def step_plan(case: Case, some: list[Lesson]) -> StepPlan:
    """Our optimizer steps; pair n has the keys 2 n and 2 n + 1, as `comparisons` has it."""
    groups = []
    for number, lesson in enumerate(some):
        tree = lesson.tree
        keyed = [Branch(leaf.ids, leaf.weights, key=2 * number + side)
                 for side, leaf in enumerate(tree.leaves)]  # fmt: skip
        groups.append(Group(f"{number:06}", (Tree(tree.prefix, tuple(keyed)),), 1))
    return StepPlan(groups, epochs=1, batch_examples=case.batch, pack_tokens=case.pack_tokens,
                    seed=case.seed)  # fmt: skip


def config_of(case: Case) -> PretrainedConfig:
    """What the model of a case is made of; longer rows than a shape's default are let in.

    Raises:
        ValueError: if it is a base that the packed side would compute wrongly.
    """
    if case.model == FROM_RECIPE:
        folder = prepare_base(case.base, case.base_folder, case.base_revision).folder
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        require_computable(case.base, config.get_text_config())
        return config
    shape = dict(SHAPES[case.model])
    return AutoConfig.for_model(shape.pop("model_type"), max_position_embeddings=8192, **shape)


def build(case: Case, attention: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, without adapter, on the GPU if there is one, and a tokenizer."""
    device = device_kind()
    name = case.base if case.model == FROM_RECIPE else TINY
    base: Base = prepare_base(name, case.base_folder, case.base_revision)
    options = {"dtype": case.dtype, "attn_implementation": attention}
    if case.model == FROM_RECIPE:
        model = AutoModelForCausalLM.from_pretrained(
            base.folder, trust_remote_code=False, use_safetensors=True, **options
        )
        model = torch.nn.Module.to(model, device)
    else:
        config = config_of(case)
        torch.manual_seed(case.seed)
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(config, **options)
    if case.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return cast("PreTrainedModel", model.train()), load_tokenizer(base)


def adapt(case: Case, model: PreTrainedModel, *, fused: bool) -> PeftModel | PreTrainedModel:
    """With an adapter that does something, as after SFT, or for full fine-tuning as it is."""
    if case.adapter == "full":
        return model
    if case.checkpointing:
        model.enable_input_require_grads()
    adapted = attach_lora(
        model, rank=case.rank, alpha=case.alpha, dropout=0.0, targets=case.targets, seed=case.seed
    )
    if not fused:
        unfuse(adapted)
    torch.manual_seed(case.seed)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return adapted


def sequence_tokens(case: Case, some: list[Lesson]) -> float:
    """Mean tokens of a step when every sequence is computed whole and without padding."""
    tokens = sum(len(one.prompt) + len(c) for one in some for c in one.completions)
    return tokens / case.steps
