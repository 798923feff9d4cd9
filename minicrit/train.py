"""Puts base, data, module and callbacks together and trains. The only file that sees all rooms."""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from minicrit.base import Base, load_model, load_tokenizer, prepare_base
from minicrit.comparisons import (
    comparison_groups,
    read_preferences,
    scorers,
    selected_groups,
)
from minicrit.config import BaseConfig, Recipe
from minicrit.critic import Critic
from minicrit.encoding import Encoder
from minicrit.files import atomic_folder, sha256_file, sha256_json, write_atomic, write_json
from minicrit.lessons import training_groups
from minicrit.lora import attach_lora, load_lora
from minicrit.losses import PairSettings
from minicrit.manifest import check_outputs, read_manifest, require, write_manifest
from minicrit.plan import Group, StepPlan
from minicrit.preferring import Mixture, reference_logprobs
from minicrit.prompts import CRITIQUE_VERSION, PROMPT_VERSION
from minicrit.records import Example, read_examples
from minicrit.schedule import Optimization
from minicrit.training_config import DPOConfig, LoraConfig, RSFConfig, SFTConfig
from minicrit.twinning import TwinWeights

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer

    from models.module import CriticModule

log = logging.getLogger(__name__)
#: Stages whose adapters can be trained on.
_ADAPTERS = ("sft", "dpo", "rsf")
Settings = SFTConfig | DPOConfig | RSFConfig


@dataclass(frozen=True)
class _Run:
    """One training: its recipe, which stage, its settings, and the files it depends on."""

    recipe: Recipe
    stage: str
    settings: Settings
    base: Base
    files: dict[str, Path]

    @property
    def work(self) -> Path:
        """Where checkpoints and what else a restart needs lie until the run is finished."""
        return self.settings.out.with_name(self.settings.out.name + ".work")

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the outcome: settings, base, data, prompt."""
        data = {name: sha256_file(path) for name, path in self.files.items()}
        versions = [PROMPT_VERSION, CRITIQUE_VERSION]
        return sha256_json([self.relevant, self.base.identity, data, *versions])

    @property
    def relevant(self) -> dict[str, Any]:
        """The settings that decide the outcome."""
        own = {k: v for k, v in vars(self.settings).items() if k not in _NOT_PART}
        return {
            "seed": self.recipe.seed,
            "lora": vars(self.recipe.lora),
            self.stage: own,
            "max_tokens": self.recipe.data.max_tokens,
            "truncate": self.recipe.data.truncate,
            "dtype": self.recipe.base.dtype,
        }


#: Settings that change where and how a run is watched, not what comes out.
_NOT_PART = {"out", "start", "pairs", "data", "log_folder", "save_every", "samples", "devices",
             "nodes", "strategy"}  # fmt: skip


def train_sft(recipe: Recipe) -> Path:
    """Trains the adapter of a recipe and saves it; goes on where an interrupted run stopped."""
    from models.sft import SFTModule

    settings = recipe.sft
    run = _run(recipe, "sft", settings, recipe.data.folder / "train.jsonl")
    if _finished(run):
        return settings.out
    train = read_examples(run.files["train"]).examples
    critic = _trainee(run)
    groups = training_groups(train, critic.encoder, settings, recipe.seed)
    plan = _plan(run, groups, settings.batch_examples)

    def module(optimization: Optimization) -> SFTModule:
        twins = TwinWeights(settings.coherence, settings.running, settings.deep)
        return SFTModule(
            critic, optimization, twins, loss_chunk=settings.loss_chunk, seed=recipe.seed
        )

    return _fit(run, critic, plan, module, {})


def train_dpo(recipe: Recipe) -> Path:
    """Trains an adapter on preference pairs; goes on where an interrupted run stopped."""
    from models.dpo import DPOModule

    settings = recipe.dpo
    told = PairSettings(settings.beta, settings.flips, settings.penalty, settings.gamma)
    mixture = Mixture.of(settings.losses, settings.loss_weights, told)
    run = _run(recipe, "dpo", settings, settings.pairs)
    if _finished(run):
        return settings.out
    pairs = [p for p in read_preferences(settings.pairs) if p.margin >= settings.least_margin]
    if not pairs:
        raise ValueError(f"{settings.pairs}: expected pairs with a margin of at least "
                         f"{settings.least_margin}, got none; lower dpo.least_margin")  # fmt: skip
    critic = _trainee(run)
    groups = comparison_groups(
        pairs, critic.encoder, explained=settings.explained, seed=recipe.seed
    )
    plan = _plan(run, groups, settings.batch_pairs)
    reference = _reference(run, critic, groups, settings.explained)

    def module(optimization: Optimization) -> DPOModule:
        return DPOModule(
            critic, optimization, mixture, reference, loss_chunk=settings.loss_chunk,
            exact=not recipe.lora.dropout, seed=recipe.seed,
        )  # fmt: skip

    return _fit(run, critic, plan, module, {"pairs": scorers(pairs)})


def train_rsf(recipe: Recipe) -> Path:
    """Trains an adapter on critiques that rejection sampling kept (`rsf.data`)."""
    from models.rsf import RSFModule

    settings = recipe.rsf
    run = _run(recipe, "rsf", settings, settings.data)
    if _finished(run):
        return settings.out
    critic = _trainee(run)
    groups = selected_groups(
        settings.data, critic.encoder, settings.verdict_weight, weighted=settings.weighted
    )
    plan = _plan(run, groups, settings.batch_examples)

    def module(optimization: Optimization) -> RSFModule:
        return RSFModule(critic, optimization, loss_chunk=settings.loss_chunk, seed=recipe.seed)

    return _fit(run, critic, plan, module, {})


def _run(recipe: Recipe, stage: str, settings: Settings, lessons: Path) -> _Run:
    base = prepare_base(recipe.base.model, recipe.base.folder, recipe.base.revision)
    files = {"train": lessons, "validation": recipe.data.folder / "validation.jsonl"}
    if settings.start:
        _check_start(f"{stage}.start", settings.start, base, recipe.lora)
        files["start"] = settings.start / "adapter_model.safetensors"
    return _Run(recipe, stage, settings, base, files)


def _plan(run: _Run, groups: Sequence[Group], batch: int) -> StepPlan:
    plan = StepPlan(
        groups, epochs=run.settings.epochs, batch_examples=batch,
        pack_tokens=run.settings.pack_tokens, seed=run.recipe.seed,
    )  # fmt: skip
    count = sum(group.examples for group in groups)
    things = {"sft": "examples", "dpo": "pairs", "rsf": "critiques"}[run.stage]
    log.info("%d %s, %d optimizer steps", count, things, len(plan))
    return plan


def _reference(
    run: _Run, critic: Critic, groups: Sequence[Group], explained: float
) -> torch.Tensor:
    """Log-likelihoods of the pairs under the adapter that training starts from."""
    settings = run.settings
    decides = [sha256_file(run.files["start"]), sha256_file(run.files["train"]), run.base.identity,
               PROMPT_VERSION, settings.precision, explained, run.recipe.seed,
               run.relevant["max_tokens"], run.relevant["truncate"], run.relevant["dtype"],
               _counted(groups)]  # fmt: skip
    store = run.work / f"reference-{sha256_json(decides)[:16]}.safetensors"
    model = critic.causal_lm.eval()
    with _precise(model, settings.precision):
        found = reference_logprobs(
            model, groups, store, pack_tokens=settings.pack_tokens, device=model.device
        )
    critic.model.train()
    return found


def _counted(groups: Sequence[Group]) -> list[str]:
    return [f"{group.name} {group.examples}" for group in groups]


@contextlib.contextmanager
def _precise(model: torch.nn.Module, precision: str) -> Iterator[None]:
    """The arithmetic that Lightning will train with."""
    if precision.endswith("-true"):
        kinds = {"32": torch.float32, "64": torch.float64, "bf16": torch.bfloat16}
        model.to(kinds[precision.split("-", maxsplit=1)[0]])
        yield
        return
    with torch.autocast(str(model.device).partition(":")[0], torch.bfloat16):
        yield


def _fit(
    run: _Run,
    critic: Critic,
    plan: StepPlan,
    make_module: "Callable[[Optimization], CriticModule]",
    facts: dict[str, Any],
) -> Path:
    """Trains, resumably, and saves the adapter."""
    from models.data import CriticData

    encoded = dict(critic.encoder.ledger)
    validation = read_examples(run.files["validation"]).examples
    data = CriticData(plan, validation, fingerprint=run.fingerprint)
    module: LightningModule = make_module(_optimization(run.settings, len(plan)))
    trainer, resume = _trainer(run, plan, validation)
    try:
        trainer.fit(module, data, ckpt_path=_checkpoint(run.work))
    except SystemExit as stop:  # what Lightning makes of Ctrl-C and SIGTERM, with any status
        raise KeyboardInterrupt from stop
    if trainer.is_global_zero:
        known = {"fingerprint": run.fingerprint, "steps": len(plan), "encoded": encoded}
        _save(run, critic, known | facts)
        resume.clear()
    return run.settings.out


def _finished(run: _Run) -> bool:
    out = run.settings.out
    if not (out / "manifest.json").is_file():
        return False
    if read_manifest(out)["facts"].get("fingerprint") != run.fingerprint:
        return False
    log.info("%s is up to date", out)
    return True


def _trainee(run: _Run) -> Critic:
    recipe, settings = run.recipe, run.settings
    model = load_model(run.base, **_precision(recipe.base))
    if settings.gradient_checkpointing:
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
    if settings.start:
        load_lora(adapted, settings.start)
    adapted.train()
    tokenizer, data = load_tokenizer(run.base), recipe.data
    encoder = Encoder(tokenizer, max_tokens=data.max_tokens, truncate=data.truncate)
    return Critic(adapted, tokenizer, name="training", identity="training", encoder=encoder)


def _check_start(name: str, folder: Path, base: Base, lora: LoraConfig) -> None:
    """Refuses an adapter of another base, another scale, or whose files have changed."""
    if not (folder / "manifest.json").is_file():
        raise ValueError(f"{name}: expected the folder of a trained adapter, got {folder}; "
                         "train it first")  # fmt: skip
    record = read_manifest(folder)
    if record["stage"] not in _ADAPTERS:
        raise ValueError(f"{name}: expected an adapter ({', '.join(_ADAPTERS)}), got {folder}, "
                         f"made by {record['stage']}; give the adapter it was made of")  # fmt: skip
    require(record, base=base.identity, prompt_version=PROMPT_VERSION)
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


def _optimization(settings: Settings, steps: int) -> Optimization:
    return Optimization(
        steps=steps,
        learning_rate=settings.learning_rate,
        warmup=settings.warmup,
        final_rate=settings.final_rate,
        weight_decay=settings.weight_decay,
        clip=settings.clip,
    )


def _trainer(run: _Run, plan: StepPlan, validation: Sequence[Example]) -> tuple["Trainer", Any]:
    from lightning import Trainer
    from lightning.pytorch.callbacks import TQDMProgressBar
    from lightning.pytorch.loggers import TensorBoardLogger

    from callbacks.health import HealthGuard
    from callbacks.history import History
    from callbacks.resume import DurableIO, Resume
    from callbacks.samples import SampleCritiques
    from callbacks.throughput import Throughput

    settings, work = run.settings, run.work
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


def _save(run: _Run, critic: Critic, known: dict[str, Any]) -> None:
    """Adapter, learning curve and manifest, all or nothing."""
    with atomic_folder(run.settings.out) as box:
        critic.model.save_pretrained(str(box))
        (box / "README.md").unlink(missing_ok=True)  # peft's empty model card
        _sort_lists(box / "adapter_config.json")
        write_atomic(box / "history.jsonl", (run.work / "history.jsonl").read_bytes())
        facts = {
            "base": run.base.identity,
            "base_model": run.recipe.base.model,
            "base_revision": run.recipe.base.revision,
            "prompt_version": PROMPT_VERSION,
            "critique_version": CRITIQUE_VERSION,
            **known,
        }
        write_manifest(box, stage=run.stage, inputs=run.files, settings=run.relevant, facts=facts)


def _sort_lists(path: Path) -> None:
    """Peft writes sets in the order of their hashes, which differs between processes."""
    config = json.loads(path.read_text(encoding="utf-8"))
    ordered = {k: sorted(v) if isinstance(v, list) else v for k, v in config.items()}
    write_json(path, ordered)
