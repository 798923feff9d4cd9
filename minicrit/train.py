"""Puts base, data, module and callbacks together and trains. The only file that sees all rooms."""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from minicrit.comparisons import encoded_pairs, grown, read_preferences, selected_groups
from minicrit.config import Recipe
from minicrit.critic import Critic
from minicrit.lessons import sft_groups, validation_examples
from minicrit.lora import load_lora
from minicrit.losses import PairSettings
from minicrit.packing import PackedBatch
from minicrit.pairing import choose_pairs, wide_enough
from minicrit.plan import Group, StepPlan, packs_of, validation_steps
from minicrit.preferring import Mixture, slack_of
from minicrit.processes import (
    device_kind,
    first_alone,
    let_go,
    nodes_of_step,
    started_by_lightning,
    under_slurm,
)
from minicrit.records import Example, read_examples
from minicrit.reference import KeptReference, kept_reference, live_reference
from minicrit.run import Run, run_of
from minicrit.schedule import Optimization
from minicrit.stopping import Stopped, held_back
from minicrit.thumbs import Opinions, counted, fitting, mismatched_groups, read_thumbs, thumb_groups
from minicrit.trainee import save_trained, trainee
from minicrit.training_config import DPOConfig
from minicrit.twinning import TwinWeights
from minicrit.whole import SHARED, Tensors, gathered, kept_weights

if TYPE_CHECKING:
    from lightning import Callback, LightningModule, Trainer

    from callbacks.alarms import PairAlarms
    from callbacks.best import Best
    from callbacks.resume import Resume
    from models.data import CriticData
    from models.module import CriticModule

log = logging.getLogger(__name__)


def train_sft(recipe: Recipe) -> Path:
    """Trains the adapter of a recipe and saves it; goes on where an interrupted run stopped."""
    from models.sft import SFTModule

    settings = recipe.sft
    run = run_of(recipe, "sft", settings, recipe.data.folder / "train.jsonl")
    if run.finished:
        return settings.out
    with run.alone():
        train = read_examples(run.files["train"])
        critic = trainee(run)
        groups = sft_groups(train, critic.encoder, settings, recipe.seed)
        plan = _plan(run, groups, settings.batch_examples)

        def module(optimization: Optimization) -> SFTModule:
            twins = TwinWeights(
                settings.coherence, settings.running, settings.deep, settings.steady
            )
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
    run = run_of(recipe, "dpo", settings, settings.pairs)
    if run.finished:
        return settings.out
    with run.alone():
        read = read_preferences(settings.pairs)
        wide = wide_enough(read, settings)
        critic = trainee(run)
        encoded = encoded_pairs(
            wide, critic.encoder, explained=settings.explained, seed=recipe.seed
        )
        critic.encoder.leave_out(settings.pairs, "pairs", encoded.too_long, of=len(wide))
        pairs = encoded.pairs
        groups = grown(encoded, range(len(pairs)))

        def kept() -> KeptReference:
            return first_alone(partial(kept_reference, run, critic, groups, settings.explained))

        choice = choose_pairs(pairs, settings, lambda: kept().means(), recipe.seed)
        facts = {"read": len(read), "under_least_margin": len(read) - len(wide),
                 "too_long": encoded.too_long, "repeated": encoded.repeated,
                 **choice.facts(pairs)}  # fmt: skip
        log.info("pairs: %s", facts)
        plan = _plan(run, grown(encoded, choice.train), settings.batch_pairs)
        aside = packs_of(grown(encoded, choice.held_out), settings.pack_tokens)

        def module(optimization: Optimization) -> DPOModule:
            # Here, as it may take hours: what is validated on is known to fit.
            reference = live_reference(run, critic) if settings.reference == "live" else kept()
            return DPOModule(
                critic, optimization, mixture, reference, loss_chunk=settings.loss_chunk,
                slack=_slack(run), seed=recipe.seed,
            )  # fmt: skip

        return _fit(run, critic, plan, module, {"pairs": facts}, aside)


def train_rsf(recipe: Recipe) -> Path:
    """Trains an adapter on critiques that rejection sampling kept (`rsf.data`)."""
    from models.rsf import RSFModule

    settings = recipe.rsf
    run = run_of(recipe, "rsf", settings, settings.data)
    if run.finished:
        return settings.out
    with run.alone():
        critic = trainee(run)
        groups = selected_groups(
            settings.data, critic.encoder, settings.verdict_weight, weighted=settings.weighted
        )
        plan = _plan(run, groups, settings.batch_examples)

        def module(optimization: Optimization) -> RSFModule:
            return RSFModule(critic, optimization, loss_chunk=settings.loss_chunk, seed=recipe.seed)

        return _fit(run, critic, plan, module, {})


def train_kto(recipe: Recipe) -> Path:
    """Trains an adapter on critiques that were liked or not (`kto.thumbs`)."""
    from models.kto import KTOModule

    settings = recipe.kto
    run = run_of(recipe, "kto", settings, settings.thumbs)
    if run.finished:
        return settings.out
    with run.alone():
        read = read_thumbs(settings.thumbs)
        critic = trainee(run)
        thumbs = fitting(settings.thumbs, read, critic.encoder)
        own = thumb_groups(thumbs, critic.encoder)
        others = mismatched_groups(thumbs, critic.encoder, recipe.seed)
        plan, beside = (_plan(run, some, settings.batch_examples) for some in (own, others))

        def module(optimization: Optimization) -> KTOModule:
            reference, reference_others = (
                first_alone(partial(kept_reference, run, critic, groups, name))
                for groups, name in ((own, "own"), (others, "others"))
            )
            opinions = Opinions(
                torch.tensor([thumb.good for thumb in thumbs]), reference, reference_others,
                settings.beta, settings.good_weight, settings.bad_weight,
            )  # fmt: skip
            return KTOModule(
                critic, optimization, opinions, beside, loss_chunk=settings.loss_chunk,
                slack=_slack(run), seed=recipe.seed,
            )  # fmt: skip

        return _fit(run, critic, plan, module, {"thumbs": counted(thumbs)})


def _slack(run: Run) -> float | None:
    recipe = run.recipe
    return slack_of(
        run.settings.precision, dropout=recipe.lora.dropout > 0, dtype=recipe.base.dtype
    )


def _plan(run: Run, groups: Sequence[Group], batch: int) -> StepPlan:
    plan = StepPlan(
        groups, epochs=run.settings.epochs, batch_examples=batch,
        pack_tokens=run.settings.pack_tokens, seed=run.recipe.seed,
    )  # fmt: skip
    count = sum(group.examples for group in groups)
    things = {"sft": "examples", "dpo": "pairs", "rsf": "critiques", "kto": "thumbs"}[run.stage]
    log.info("%d %s, %d optimizer steps", count, things, len(plan))
    return plan


def _fit(
    run: Run,
    critic: Critic,
    plan: StepPlan,
    make_module: "Callable[[Optimization], CriticModule]",
    facts: dict[str, Any],
    held_out: Sequence[PackedBatch] = (),
) -> Path:
    """Trains, resumably, and saves what was trained."""
    from models.data import CriticData

    encoded = dict(critic.encoder.ledger)
    validation = validation_examples(run.files["validation"], critic.encoder)
    data = CriticData(plan, validation, fingerprint=run.fingerprint, held_out=held_out)
    module: LightningModule = make_module(Optimization.of(run.settings, len(plan)))
    watchers = _watchers(run, critic, plan, validation)
    trainer = _trainer(run, watchers)
    try:
        _train(trainer, module, data, run.work)
        first = trainer.is_global_zero
        weights = {} if run.recipe.lora.rank else gathered(critic.causal_lm, keep=first)
        if first:
            known = {"fingerprint": run.fingerprint, "steps": len(plan), "encoded": encoded}
            best = _keep_best(critic, weights, watchers.best, trainer.global_step)
            alarms = {"alarms": watchers.alarms.raised} if watchers.alarms else {}
            save_trained(run, critic, weights, known | facts | best | alarms)
            watchers.resume.clear()
        trainer.strategy.barrier()  # the critic is there before anybody goes on from it
    except Stopped:
        if started_by_lightning():
            sys.exit()  # Lightning kills the first process for another status
        let_go(getattr(trainer.strategy.launcher, "procs", []))
        raise
    return run.settings.out


def _train(trainer: "Trainer", module: "LightningModule", data: "CriticData", work: Path) -> None:
    """All steps from the newest checkpoint on; signals wait until there is a step to stop at."""
    from callbacks.resume import newest

    if found := newest(work):
        log.info("going on from %s", found)
    try:
        with held_back():
            trainer.fit(module, data, ckpt_path=found)
    except SystemExit as stop:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from stop


def _keep_best(critic: Critic, weights: Tensors, best: "Best | None", step: int) -> dict[str, Any]:
    """Takes the adapter, or all `weights`, of the best validation; what the manifest says of it."""
    if best is None:
        return {}
    if best.step is None:
        log.warning("expected a finite %s in one validation at least, got none; the last adapter "
                    "is kept", best.goal.score)  # fmt: skip
    else:
        if weights:
            weights |= kept_weights(best.path(best.step))
        else:
            load_lora(critic.model, best.path(best.step))  # type: ignore[arg-type]
        log.info("the adapter of step %d is kept: %s %.4f", best.step, best.goal.score, best.value)
    found = {"score": best.goal.score, "value": best.value, "step": best.step, "last_step": step}
    return {"best": found}


@dataclass(frozen=True)
class _Watchers:
    """The callbacks of a run that somebody asks for afterwards, and all in their order."""

    best: "Best | None"
    alarms: "PairAlarms | None"
    resume: "Resume"
    callbacks: "list[Callback]"


def _watchers(run: Run, critic: Critic, plan: StepPlan, validation: Sequence[Example]) -> _Watchers:
    from callbacks.alarms import PairAlarms, pair_alarms
    from callbacks.bar import Bar
    from callbacks.best import Best
    from callbacks.health import HealthGuard
    from callbacks.history import History
    from callbacks.resume import Resume
    from callbacks.samples import SampleCritiques, writable
    from callbacks.stopping import Stopping
    from callbacks.throughput import Throughput
    from callbacks.validating import Validating

    settings, work = run.settings, run.work
    validated = validation_steps(len(plan), settings.validate_every)
    resume = Resume(work, every=settings.save_every, validated=validated)
    longer = settings.alarm_length if isinstance(settings, DPOConfig) else 0.0
    samples = SampleCritiques(writable(critic, validation, settings.samples), longer=longer,
                              at_start=isinstance(settings, DPOConfig))  # fmt: skip
    best = Best(run.goal, work, patience=settings.patience) if run.goal else None
    alarms = None
    if isinstance(settings, DPOConfig):
        limits = pair_alarms(
            chosen=settings.alarm_chosen, kl=settings.alarm_kl, margin=settings.alarm_margin
        )
        alarms = PairAlarms(
            limits, length=settings.alarm_length, written=lambda: samples.mean_tokens,
            steps=len(plan),
        )  # fmt: skip
    # Those whose state a checkpoint holds come before the one that writes it; stopping comes last.
    order = [Bar(refresh_rate=5), Validating(validated), HealthGuard(), Throughput(),
             History(work / "history.jsonl"), samples, alarms, best, resume,
             Stopping(resume, steps=len(plan))]  # fmt: skip
    return _Watchers(best, alarms, resume, [one for one in order if one])


def _trainer(run: Run, watchers: _Watchers) -> "Trainer":
    from lightning import Trainer
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.loggers import TensorBoardLogger
    from lightning.pytorch.plugins import DoublePrecision

    from callbacks.resume import DurableIO
    from callbacks.sharing import SharedOut

    settings = run.settings
    assert settings.precision != "auto"  # `run_of` has settled it
    name, version = run.log_names
    logger = TensorBoardLogger(settings.log_folder, name=name, version=version)
    # Lightning's own way is to save and requeue inside of the signal handler.
    slurm = [SLURMEnvironment(auto_requeue=False)] if under_slurm() else []
    kind, shared = device_kind(), settings.strategy == SHARED
    # ModelParallelStrategy refuses the name of this precision, not the precision.
    double = [DoublePrecision()] if shared and settings.precision == "64-true" else []
    try:
        return Trainer(
            max_epochs=1,
            accelerator=kind,
            precision=None if double else settings.precision,
            devices=settings.devices if kind == "cuda" or settings.devices != "auto" else 1,
            num_nodes=nodes_of_step() or settings.nodes,
            strategy=SharedOut() if shared else settings.strategy,
            logger=logger,
            log_every_n_steps=1,
            val_check_interval=1,  # callbacks.validating says when
            num_sanity_val_steps=0,
            callbacks=watchers.callbacks,
            plugins=[DurableIO(), *double, *slurm],
            enable_checkpointing=False,
            use_distributed_sampler=False,
            enable_model_summary=False,
            deterministic="warn",
        )
    except (MisconfigurationException, TypeError, ValueError, ImportError) as error:
        raise ValueError(f"{run.stage}.strategy: expected one that Lightning can train by here, "
                         f"got {settings.strategy} with {run.stage}.devices {settings.devices} ("
                         f"{' '.join(str(error).split())}); set auto, or ddp for several "
                         "processes") from error  # fmt: skip
