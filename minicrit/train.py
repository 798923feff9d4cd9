"""Puts base, data, module and callbacks together and trains. The only file that sees all rooms."""

import json
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from minicrit.base import Base, load_model, load_tokenizer, prepare_base
from minicrit.config import BaseConfig, LoraConfig, Recipe, SFTConfig
from minicrit.critic import Critic
from minicrit.encoding import Encoder
from minicrit.files import atomic_folder, sha256_file, sha256_json, write_atomic, write_json
from minicrit.lora import attach_lora, load_lora
from minicrit.manifest import check_outputs, read_manifest, require, write_manifest
from minicrit.packing import Branch, Tree, grow
from minicrit.plan import Group, StepPlan, grouped
from minicrit.prompts import CRITIQUE_VERSION, PROMPT_VERSION, critique_of
from minicrit.records import Example, read_examples
from minicrit.schedule import Optimization
from minicrit.twinning import TwinWeights, with_departures

if TYPE_CHECKING:
    from lightning import Trainer

log = logging.getLogger(__name__)


def train_sft(recipe: Recipe) -> Path:
    """Trains the adapter of a recipe and saves it; goes on where an interrupted run stopped."""
    from models.data import CriticData
    from models.sft import SFTModule

    settings = recipe.sft
    base = prepare_base(recipe.base.model, recipe.base.folder, recipe.base.revision)
    files = {name: recipe.data.folder / f"{name}.jsonl" for name in ("train", "validation")}
    if settings.start:
        _check_start(settings.start, base, recipe.lora)
        files["start"] = settings.start / "adapter_model.safetensors"
    fingerprint = _fingerprint(recipe, base, files)
    if _finished(settings.out, fingerprint):
        log.info("%s is up to date", settings.out)
        return settings.out
    train, validation = (read_examples(files[name]).examples for name in ("train", "validation"))
    critic = _trainee(recipe, base)
    plan = StepPlan(
        training_groups(train, critic.encoder, settings, recipe.seed),
        epochs=settings.epochs,
        batch_examples=settings.batch_examples,
        pack_tokens=settings.pack_tokens,
        seed=recipe.seed,
    )
    encoded = dict(critic.encoder.ledger)
    log.info("%d examples, %d optimizer steps", len(train), len(plan))
    data = CriticData(plan, validation, fingerprint=fingerprint)
    module = SFTModule(
        critic,
        _optimization(settings, len(plan)),
        _twin_weights(settings),
        loss_chunk=settings.loss_chunk,
        seed=recipe.seed,
    )
    work = settings.out.with_name(settings.out.name + ".work")
    trainer, resume = _trainer(recipe, plan, validation, work)
    try:
        trainer.fit(module, data, ckpt_path=_checkpoint(work))
    except SystemExit as stop:  # what Lightning makes of Ctrl-C and SIGTERM, with any status
        raise KeyboardInterrupt from stop
    if trainer.is_global_zero:
        facts = {"fingerprint": fingerprint, "steps": len(plan), "encoded": encoded}
        _save(recipe, base, critic, files, facts, work)
        resume.clear()
    return settings.out


def _fingerprint(recipe: Recipe, base: Base, files: dict[str, Path]) -> str:
    """Hash of all that decides the outcome: settings, base, data, prompt."""
    settings = _settings(recipe)
    data = {name: sha256_file(path) for name, path in files.items()}
    return sha256_json([settings, base.identity, data, PROMPT_VERSION, CRITIQUE_VERSION])


#: Settings that change where and how a run is watched, not what comes out.
_NOT_PART = {"out", "start", "log_folder", "save_every", "samples", "devices", "nodes", "strategy"}


def _settings(recipe: Recipe) -> dict[str, Any]:
    sft = {k: v for k, v in vars(recipe.sft).items() if k not in _NOT_PART}
    return {
        "seed": recipe.seed,
        "lora": vars(recipe.lora),
        "sft": sft,
        "max_tokens": recipe.data.max_tokens,
        "truncate": recipe.data.truncate,
        "dtype": recipe.base.dtype,
    }


def _finished(out: Path, fingerprint: str) -> bool:
    if not (out / "manifest.json").is_file():
        return False
    return bool(read_manifest(out)["facts"].get("fingerprint") == fingerprint)


def _trainee(recipe: Recipe, base: Base) -> Critic:
    model = load_model(base, **_precision(recipe.base))
    if recipe.sft.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    lora = recipe.lora
    adapted = attach_lora(
        model,
        rank=lora.rank,
        alpha=lora.alpha,
        dropout=lora.dropout,
        targets=lora.targets,
        seed=recipe.seed,
    )
    if recipe.sft.start:
        load_lora(adapted, recipe.sft.start)
    adapted.train()
    tokenizer, data = load_tokenizer(base), recipe.data
    encoder = Encoder(tokenizer, max_tokens=data.max_tokens, truncate=data.truncate)
    return Critic(adapted, tokenizer, name="training", identity="training", encoder=encoder)


def _check_start(folder: Path, base: Base, lora: LoraConfig) -> None:
    """Refuses an adapter of another base, another scale, or whose files have changed."""
    if not (folder / "manifest.json").is_file():
        raise ValueError(f"sft.start: expected the folder of a trained adapter, got {folder}; "
                         "train it first")  # fmt: skip
    record = read_manifest(folder)
    require(record, stage="sft", base=base.identity, prompt_version=PROMPT_VERSION)
    if faults := check_outputs(folder):
        raise ValueError(f"{folder}: expected the files of its manifest, got {faults[0]}; restore "
                         "the folder")  # fmt: skip
    before = record["settings"]["lora"]
    if before["alpha"] / before["rank"] != lora.alpha / lora.rank:
        raise ValueError(
            f"{folder}: expected lora.alpha / lora.rank as it was trained with, got "
            f"{lora.alpha} / {lora.rank}; set {before['alpha']} / {before['rank']}"
        )


def _precision(config: BaseConfig) -> dict[str, Any]:
    if config.dtype != "nf4":
        return {"dtype": getattr(torch, config.dtype)}
    from transformers import BitsAndBytesConfig

    if not torch.cuda.is_available():
        raise ValueError("base.dtype nf4: expected a GPU, got none; use float32")
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"dtype": torch.bfloat16, "quantization_config": settings}


def _optimization(settings: SFTConfig, steps: int) -> Optimization:
    return Optimization(
        steps=steps,
        learning_rate=settings.learning_rate,
        warmup=settings.warmup,
        final_rate=settings.final_rate,
        weight_decay=settings.weight_decay,
        clip=settings.clip,
    )


def _twin_weights(settings: SFTConfig) -> TwinWeights:
    return TwinWeights(settings.coherence, settings.running, settings.deep)


def training_groups(
    examples: Sequence[Example], encoder: Encoder, settings: SFTConfig, seed: int
) -> list[Group]:
    """Encodes the training examples; twins become one tree with what they share as its prefix."""
    twins = _twin_weights(settings)
    if twins.wanted and not settings.share_prefix:
        raise ValueError(
            "sft.share_prefix: expected true with sft.coherence, sft.running or sft.deep, got "
            "false; set these three to 0"
        )
    groups = []
    for members in grouped(examples):
        name = members[0].group
        explained = random.Random(f"{seed}/{name}").random() < settings.explained  # noqa: S311
        branches = [sft_branch(e, encoder, settings.verdict_weight, explained) for e in members]
        if twins.wanted:
            branches = with_departures(branches, [e.label == "flawed" for e in members])
        trees = (grow(branches),) if settings.share_prefix else tuple(map(_alone, branches))
        groups.append(Group(name, trees, len(members)))
    return groups


def _alone(branch: Branch) -> Tree:
    return Tree((), (branch,))


def sft_branch(
    example: Example, encoder: Encoder, verdict_weight: float, explained: bool
) -> Branch:
    """Prompt and critique of one example: the prompt and the lead-in weigh nothing.

    The verdict word weighs `verdict_weight` in all, every later token 1. Without `explained` the
    sequence ends after the verdict of a sound text, after the flaw type of a flawed one.
    """
    critique = critique_of(example)
    completion = encoder.completion(critique)
    prompt = encoder.prompt(example.domain, example.rationale, reserve=len(completion))
    lead = len(encoder.lead_in)
    word = len(encoder.verdict_words[example.label])
    kept = completion if explained else completion[: encoder.opening_lines(critique)]
    weights = [0.0] * (len(prompt) + lead) + [verdict_weight / word] * word
    weights += [1.0] * (len(prompt) + len(kept) - len(weights))
    return Branch((*prompt, *kept), tuple(weights))


def _trainer(
    recipe: Recipe, plan: StepPlan, validation: Sequence[Example], work: Path
) -> tuple["Trainer", Any]:
    from lightning import Trainer
    from lightning.pytorch.callbacks import TQDMProgressBar
    from lightning.pytorch.loggers import TensorBoardLogger

    from callbacks.health import HealthGuard
    from callbacks.history import History
    from callbacks.resume import DurableIO, Resume
    from callbacks.samples import SampleCritiques
    from callbacks.throughput import Throughput

    settings = recipe.sft
    rounds = max(1, round(len(plan) / settings.validate_every)) if settings.validate_every else 1
    every = len(plan) // rounds
    resume = Resume(work, every=settings.save_every, validate_every=every)
    logger = TensorBoardLogger(
        settings.log_folder, name=settings.out.parent.name, version=settings.out.name
    )
    chosen = validation[: settings.samples]
    trainer = Trainer(
        max_epochs=1,
        precision=settings.precision,
        devices=settings.devices if torch.cuda.is_available() or settings.devices != "auto" else 1,
        num_nodes=settings.nodes,
        strategy=settings.strategy,
        logger=logger,
        log_every_n_steps=5,
        val_check_interval=every,
        num_sanity_val_steps=0,
        callbacks=[TQDMProgressBar(refresh_rate=5), Throughput(), HealthGuard(),
                   History(work / "history.jsonl"), SampleCritiques(chosen), resume],
        plugins=[DurableIO()],
        enable_checkpointing=False,
        use_distributed_sampler=False,
        enable_model_summary=False,
        deterministic="warn",
    )  # fmt: skip
    return trainer, resume


def _checkpoint(work: Path) -> Path | None:
    from callbacks.resume import newest

    found = newest(work)
    if found:
        log.info("going on from %s", found)
    return found


def _save(
    recipe: Recipe,
    base: Base,
    critic: Critic,
    files: dict[str, Path],
    counted: dict[str, Any],
    work: Path,
) -> None:
    """Adapter, learning curve and manifest, all or nothing."""
    with atomic_folder(recipe.sft.out) as box:
        critic.model.save_pretrained(str(box))
        (box / "README.md").unlink(missing_ok=True)  # peft's empty model card
        _sort_lists(box / "adapter_config.json")
        write_atomic(box / "history.jsonl", (work / "history.jsonl").read_bytes())
        facts = {
            "base": base.identity,
            "base_model": recipe.base.model,
            "base_revision": recipe.base.revision,
            "prompt_version": PROMPT_VERSION,
            "critique_version": CRITIQUE_VERSION,
            **counted,
        }
        write_manifest(box, stage="sft", inputs=files, settings=_settings(recipe), facts=facts)


def _sort_lists(path: Path) -> None:
    """Peft writes sets in the order of their hashes, which differs between processes."""
    config = json.loads(path.read_text(encoding="utf-8"))
    ordered = {k: sorted(v) if isinstance(v, list) else v for k, v in config.items()}
    write_json(path, ordered)
