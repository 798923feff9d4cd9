"""How a training is set up, before its first step: device, jobs of Slurm, optimizer."""

import errno
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.accelerators.mps import MPSAccelerator

from callbacks.health import HealthGuard
from callbacks.throughput import Throughput
from minicrit.base import load_model, load_tokenizer
from minicrit.config import BaseConfig, Recipe
from minicrit.critic import Critic
from minicrit.data_config import DataConfig
from minicrit.files import open_alone
from minicrit.lora import attach_lora
from minicrit.processes import refuse_devices, refuse_nodes
from minicrit.rounds import refuse_untrainable
from minicrit.run import run_of
from minicrit.schedule import Optimization
from minicrit.train import (
    _trainer,
    _watchers,
    train_dpo,
    train_kto,
    train_rsf,
    train_sft,
)
from minicrit.training_config import SFTConfig
from minicrit.twinning import TwinWeights
from models.sft import PROBE_RATE, SFTModule


@pytest.fixture
def run(tiny, tmp_path):
    """Makes a run."""

    def made(**told):
        sft = SFTConfig(out=tmp_path / "sft", log_folder=tmp_path / "logs", precision="32-true",
                        **told)  # fmt: skip
        recipe = Recipe(base=BaseConfig(model="tiny", folder=tiny.folder.parent), sft=sft)
        return run_of(recipe, "sft", sft, tmp_path / "train.jsonl")

    return made


def test_no_longer_texts_are_trained_on_than_a_base_has_places_for(tiny, tmp_path):
    """What comes of it was trained on, and the critic could not read it."""
    short = tmp_path / "short"
    shutil.copytree(tiny.folder, short, ignore=shutil.ignore_patterns("manifest.json"))
    told = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(told | {"max_position_embeddings": 512}))
    sft = SFTConfig(out=tmp_path / "run" / "sft")

    def asked(most):
        base, data = BaseConfig(model=str(short)), DataConfig(max_tokens=most)
        recipe = Recipe(base=base, data=data, sft=sft)
        return run_of(recipe, "sft", sft, tmp_path / "train.jsonl")

    with pytest.raises(ValueError, match=r"^data.max_tokens: .* 512, as many .*short has, got 513"):
        asked(513)
    assert asked(512).relevant["max_tokens"] == 512


@pytest.fixture
def trainer(run):
    """Makes the trainer of a run."""
    return lambda **told: _trainer(run(**told), SimpleNamespace(callbacks=[]))


def test_without_cuda_the_processor_trains_even_beside_a_gpu_of_apple(trainer, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    assert type(trainer().accelerator) is CPUAccelerator


@pytest.mark.parametrize("stage", ["sft", "dpo", "rsf", "kto"])
@pytest.mark.parametrize("devices", ["two", "0,1", "2", "-1", "1.5", True])
def test_what_is_no_number_of_devices_is_refused_before_anything_is_read(stage, devices, tmp_path):
    recipe = Recipe(base=BaseConfig(model=str(tmp_path / "none")))
    settings = replace(getattr(recipe, stage), devices=devices)
    message = rf"{stage}.devices: expected auto or a whole number from 1, got '?{devices}'?; "
    with pytest.raises(ValueError, match=message):
        run_of(replace(recipe, **{stage: settings}), stage, settings, tmp_path / "none.jsonl")


def test_there_must_be_as_many_gpus_as_are_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refuse_devices("sft", 2)  # processes of the CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for devices in ("auto", 1, 2):
        refuse_devices("sft", devices)
    with pytest.raises(ValueError, match=r"kto.devices: expected at most .* \(2\), got 3;"):
        refuse_devices("kto", 3)


@pytest.mark.parametrize("stage", ["sft", "dpo", "rsf", "kto"])
def test_it_does_not_wait_for_machines_that_nobody_started_it_on(
    stage, tiny, tmp_path, monkeypatch
):
    """As the recipe for four nodes on one machine would, deaf to signals until all have met."""
    for name in ("NODE_RANK", "MASTER_ADDR", "RANK", "SLURM_PROCID", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    recipe = Recipe(base=BaseConfig(model="tiny", folder=tiny.folder.parent))
    settings = replace(getattr(recipe, stage), nodes=4, start=None, out=tmp_path / "run" / stage)
    recipe = replace(recipe, **{stage: settings})
    run = run_of(recipe, stage, settings, tmp_path / "none.jsonl")
    refused = rf"{stage}.nodes: expected 1, as nothing .* got 4; set 1"
    with pytest.raises(ValueError, match=refused), run.alone():
        pytest.fail("it has begun")
    if stage in ("dpo", "rsf"):
        with pytest.raises(ValueError, match=refused):  # before the first critique is sampled
            refuse_untrainable(recipe, stage, settings)
    with monkeypatch.context() as patch:  # a batch file that calls it without srun
        patch.setenv("MASTER_ADDR", "a")
        patch.setenv("SLURM_JOB_ID", "7")
        with pytest.raises(ValueError, match=refused):
            refuse_nodes(stage, 4)
    for told in ({"NODE_RANK": "1"}, {"RANK": "3"}, {"MASTER_ADDR": "a"},
                 {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}):  # fmt: skip
        with monkeypatch.context() as patch:
            for name, value in told.items():
                patch.setenv(name, value)
            refuse_nodes(stage, 4)
    refuse_nodes(stage, 1)


@pytest.mark.parametrize("train", [train_sft, train_dpo, train_rsf, train_kto])
def test_nobody_else_trains_a_run_meanwhile(train, tiny, tmp_path):
    """It stops before it reads or writes anything."""
    stage = train.__name__.removeprefix("train_")
    recipe = Recipe(base=BaseConfig(model="tiny", folder=tiny.folder.parent))
    settings = replace(getattr(recipe, stage), out=tmp_path / stage, start=None)
    recipe = replace(recipe, **{stage: settings})
    lock = tmp_path / f".{stage}.work.lock"
    lock.touch()  # left by one that was killed
    message = rf"{stage}.work.lock: expected to be the only run that writes it, got another; wait"
    with run_of(recipe, stage, settings, tmp_path / "none.jsonl").alone():
        with pytest.raises(ValueError, match=message):
            train(recipe)
        assert list(tmp_path.iterdir()) == [lock]
    assert not lock.exists()


def test_a_lock_that_its_holder_removes_meanwhile_is_taken_anew(run, monkeypatch):
    opened, lock = [], run().work.with_name(".sft.work.lock")

    def slow(path):
        opened.append(open_alone(path))
        if len(opened) == 1:  # between opening it and holding it
            path.unlink()
        return opened[-1]

    monkeypatch.setattr("minicrit.run.open_alone", slow)
    with run().alone():
        assert [file.closed for file in opened] == [True, False]
        assert lock.exists()


@pytest.mark.parametrize(("told", "first"), [
    ({}, True), ({"RANK": "0", "LOCAL_RANK": "0"}, True), ({"RANK": "1", "LOCAL_RANK": "0"}, False),
    ({"RANK": "0", "SLURM_PROCID": "1"}, True), ({"LOCAL_RANK": "1"}, False),
    ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, False), ({"NODE_RANK": "1"}, False),
])  # fmt: skip
def test_of_several_processes_the_first_holds_the_lock(run, monkeypatch, told, first):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with run().alone():
        assert run().work.with_name(".sft.work.lock").exists() == first


def test_where_there_are_no_locks_it_trains_without(run, monkeypatch):
    asked = []

    def refuse(path):
        asked.append(path)
        raise OSError(errno.ENOLCK, "No locks available", path)

    monkeypatch.setattr("minicrit.run.open_alone", refuse)
    with run().alone():
        assert [path.name for path in asked] == [".sft.work.lock"]


@pytest.mark.parametrize("strategy", ["deepspeed", "single_xla", "xla", "no_such"])
def test_a_strategy_that_is_not_to_be_had_is_refused_for_people(trainer, strategy):
    """Lightning raises something else each time, and a traceback told of it."""
    message = rf"sft.strategy: expected one .* got {strategy} with sft.devices 1 \(.*\); set auto"
    with pytest.raises(ValueError, match=message):
        trainer(strategy=strategy, devices=1)


def test_under_slurm_lightning_does_not_requeue_the_job_itself(trainer, monkeypatch):
    told = {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0",
            "SLURM_JOB_NAME": "sft", "SLURM_STEP_NUM_NODES": "1"}  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    environment = trainer()._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue


def test_the_clock_of_a_step_stops_when_the_device_is_done(run, monkeypatch):
    """A GPU is done 1.5 s after the step began, which shows where a value of it is asked for."""
    clock, logged = [10.0], {}
    monkeypatch.setattr("callbacks.throughput.time.perf_counter", lambda: clock[0])

    class OnTheDevice:
        def __float__(self):
            clock[0] = 11.5
            return 1.0

    metrics = dict.fromkeys(("train/loss", "train/grad_norm"), OnTheDevice())
    told = SimpleNamespace(callback_metrics=metrics, global_step=1)
    module = SimpleNamespace(log_dict=logged.update)
    batch = SimpleNamespace(tokens=300, examples=6, ids=("a",))
    both = [one for one in _watchers(run(), None, range(4), []).callbacks
            if isinstance(one, HealthGuard | Throughput)]  # fmt: skip
    for one in both:
        one.on_train_batch_start(told, module, batch, 0)
    for one in both:
        one.on_train_batch_end(told, module, None, batch, 0)
    assert logged["speed/tokens_per_s"] == 200.0


def test_rates_and_decay_are_those_of_the_recipe(tiny):
    """11 steps, 2 of them rising, then half a cosine over 8 to a tenth."""
    settings = SFTConfig(learning_rate=2e-3, warmup=0.2, final_rate=0.1, weight_decay=0.03,
                         clip=0.7)  # fmt: skip
    adapted = attach_lora(load_model(tiny), rank=2, alpha=4, dropout=0.0, targets="all-linear",
                          seed=0)  # fmt: skip
    critic = Critic(adapted, load_tokenizer(tiny), name="test", identity="test")
    module = SFTModule(critic, Optimization.of(settings, 11), TwinWeights(0.0, 0.0, 0.0))
    made = module.configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.03, 0.03]
    assert module.optimization.clip == 0.7
    adapter, probes = optimizer.param_groups
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert {id(p) for p in adapter["params"]} == {id(p) for p in trained}
    assert {id(p) for p in probes["params"]} == {id(p) for p in module.probes.parameters()}
    rates = []
    for _ in range(11):
        rates.append(adapter["lr"])
        assert probes["lr"] == pytest.approx(PROBE_RATE * adapter["lr"])
        optimizer.step()
        scheduler.step()
    at = {0: 1e-3, 1: 2e-3, 2: 2e-3, 6: 2e-3 * 0.55, 10: 2e-4}
    assert {step: rates[step] for step in at} == pytest.approx(at)


def test_what_does_nothing_at_its_default_leaves_older_adapters_up_to_date(tiny, tmp_path):
    def relevant(**told):
        recipe = Recipe(base=BaseConfig(model="tiny", folder=tiny.folder.parent))
        settings = SFTConfig(out=tmp_path / "sft", **told)
        return run_of(recipe, "sft", settings, tmp_path / "train.jsonl").relevant["sft"]

    plain = relevant()
    assert not {"best", "patience", "steady"} & plain.keys()
    assert relevant(steady=0.5) == {**plain, "steady": 0.5}
