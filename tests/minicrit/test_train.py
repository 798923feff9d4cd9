"""How a training is set up, before its first step: device, jobs of Slurm, optimizer."""

from types import SimpleNamespace

import pytest
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.accelerators.mps import MPSAccelerator

from minicrit.base import load_model, load_tokenizer
from minicrit.config import BaseConfig, Recipe
from minicrit.critic import Critic
from minicrit.lora import attach_lora
from minicrit.run import run_of
from minicrit.train import _optimization, _trainer
from minicrit.training_config import SFTConfig
from minicrit.twinning import TwinWeights
from models.sft import PROBE_RATE, SFTModule


@pytest.fixture
def trainer(tiny, tmp_path):
    """Makes the trainer of a run."""

    def made():
        sft = SFTConfig(out=tmp_path / "sft", log_folder=tmp_path / "logs", precision="32-true")
        recipe = Recipe(base=BaseConfig(model="tiny", folder=tiny.folder.parent), sft=sft)
        run = run_of(recipe, "sft", sft, tmp_path / "train.jsonl")
        return _trainer(run, SimpleNamespace(callbacks=[]))

    return made


def test_without_cuda_the_processor_trains_even_beside_a_gpu_of_apple(trainer, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    assert type(trainer().accelerator) is CPUAccelerator


def test_under_slurm_lightning_does_not_requeue_the_job_itself(trainer, monkeypatch):
    told = {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0",
            "SLURM_JOB_NAME": "sft", "SLURM_STEP_NUM_NODES": "1"}  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    environment = trainer()._accelerator_connector.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert not environment.auto_requeue


def test_rates_and_decay_are_those_of_the_recipe(tiny):
    """11 steps, 2 of them rising, then half a cosine over 8 to a tenth."""
    settings = SFTConfig(learning_rate=2e-3, warmup=0.2, final_rate=0.1, weight_decay=0.03,
                         clip=0.7)  # fmt: skip
    adapted = attach_lora(load_model(tiny), rank=2, alpha=4, dropout=0.0, targets="all-linear",
                          seed=0)  # fmt: skip
    critic = Critic(adapted, load_tokenizer(tiny), name="test", identity="test")
    module = SFTModule(critic, _optimization(settings, 11), TwinWeights(0.0, 0.0, 0.0))
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
