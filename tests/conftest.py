"""What many tests share: the tiny base, one torch thread, no network."""

import gc
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bars import lock_bars_apart
from tests.make_project import enter, lay_out, make

# What takes seconds to load is loaded by fixtures: the process that hands out tests needs none.
if TYPE_CHECKING:
    from minicrit.base import Base
    from minicrit.encoding import Encoder

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
# Nobody here speaks TLS, and every client would read the certificates of the whole world.
os.environ["SSL_CERT_DIR"] = os.path.dirname(__file__)


#: So many more than before hold enough objects to be frozen.
MANY_MODULES = 200


@pytest.hookimpl(tryfirst=True)
def pytest_warning_recorded(warning_message: warnings.WarningMessage) -> None:
    """Makes warnings of packages Python's own before they leave a process.

    For the class of one, the process that gathers the results would import peft or torch, in a
    thread for each other process; two at once have failed, and with them the whole run.
    """
    if warning_message.category.__module__ != "builtins":
        warning_message.message = UserWarning(str(warning_message.message))
        warning_message.category = UserWarning


def pytest_collection_finish() -> None:
    """One thread, a lock of its own for bars; and what was imported is no garbage."""
    import torch

    lock_bars_apart()
    torch.set_num_threads(1)
    gc.set_threshold(20_000)  # after so many new objects, not 700
    _freeze()


def _freeze() -> None:
    """Takes what there is out of garbage collection: a full one would take half a second."""
    gc.collect()
    gc.freeze()
    _frozen[:] = [len(sys.modules)]


_frozen = [0]


@pytest.fixture(autouse=True, scope="module")
def _imported_is_no_garbage() -> None:
    """Fixtures load more, and a benchmark collects after each judge."""
    if len(sys.modules) > _frozen[0] + MANY_MODULES:
        _freeze()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny base is kept for this test run."""
    return tmp_path_factory.mktemp("bases")


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> "Base":
    """The tiny random base."""
    from minicrit.base import prepare_base

    return prepare_base("tiny", tiny_folder)


@pytest.fixture(scope="session")
def tiny_encoder(tiny: "Base") -> "Encoder":
    """An encoder of the tiny base with room for long texts."""
    from minicrit.base import load_tokenizer
    from minicrit.encoding import Encoder

    return Encoder(load_tokenizer(tiny), max_tokens=4096)


def _exact(model):
    """Lets the norms work in float64: Llama's own round to float32 whatever the model has."""
    import torch

    def forward(norm, x):
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
        return norm.weight * x * scale

    for module in model.modules():
        if type(module).__name__ == "LlamaRMSNorm":
            module.forward = forward.__get__(module)
    return model


@pytest.fixture
def tiny_model(tiny: "Base"):
    """A fresh tiny model in float64, so that equalities can be tested closely."""
    import torch

    from minicrit.base import load_model

    return _exact(load_model(tiny, torch.float64))


@pytest.fixture
def tiny_adapted(tiny: "Base"):
    """A tiny model with an adapter that does something, in float64."""
    import torch

    from minicrit.base import load_model
    from minicrit.lora import attach_lora

    model = attach_lora(
        _exact(load_model(tiny, torch.float64)),
        rank=4,
        alpha=8,
        dropout=0.0,
        targets="all-linear",
        seed=1,
    ).double()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data.copy_(0.05 * noise)
    return model


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """See `make_project.lay_out`; the working directory is there."""
    return lay_out(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def piped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose pipeline was made."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = lay_out(tmp_path_factory.mktemp("piped"), monkeypatch)
        assert make("pipeline").returncode == 0
    return folder


@pytest.fixture
def piped(piped_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `project`, with its pipeline made: a copy, as old as what it is a copy of."""
    shutil.copytree(piped_once, tmp_path, dirs_exist_ok=True)
    return enter(tmp_path, monkeypatch)
