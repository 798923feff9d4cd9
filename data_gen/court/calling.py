"""Who judges, at which price, and where answers and reports lie: the same for both stages."""

# mypy: disable-error-code="import-untyped"
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from data_gen.asker import Asker
from data_gen.asking import Service, open_service
from data_gen.court.comparison import PROMPT_VERSION
from data_gen.rules import VERSION as CONSTITUTION
from minicrit import limits
from minicrit.measure_config import JudgeConfig

if TYPE_CHECKING:
    from minicrit.config import Recipe

T = TypeVar("T")
R = TypeVar("R")
#: Models that judge if none is named.
DEFAULTS = {"anthropic": "claude-haiku-4-5", "local": "embedded"}


def service_of(settings: JudgeConfig) -> Service:
    """The judge; whatever is wrong with the settings is wrong now.

    Raises:
        ValueError: `setting: expected ..., got ...; remedy`.
    """
    if settings.backend == "none":
        raise ValueError("judge.backend: expected anthropic, ollama, openai or local, got none; "
                         "give JUDGE=anthropic")  # fmt: skip
    limits.require("judge", settings)
    return open_service(
        settings.backend, name_of(settings), url=settings.url,
        budget=settings.budget_usd, prices=settings.prices, named="judge.model",
    )  # fmt: skip


def out_of(recipe: "Recipe") -> Path:
    """The report, without ending."""
    beside = recipe.benchmark.out.with_name(recipe.benchmark.out.name + ".judge")
    return recipe.judge.out or beside


def work_of(recipe: "Recipe") -> Path:
    """The folder of what is done so far."""
    out = out_of(recipe)
    return out.with_name(f"{out.name}.work")


def name_of(settings: JudgeConfig) -> str | None:
    """The judge's name at its back end."""
    return settings.model or DEFAULTS.get(settings.backend)


def judge_facts(settings: JudgeConfig, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Who judged by what, for reports."""
    return {"name": name_of(settings), "backend": settings.backend, "identity": dict(identity),
            "prompt": f"compare-{PROMPT_VERSION}", "constitution": CONSTITUTION}  # fmt: skip


def in_threads(
    function: Callable[[T], R], rows: Sequence[T], asker: Asker, threads: int, what: str
) -> list[R]:
    """What a function that asks gives for each row, in order, with a bar."""
    with tqdm(total=len(rows), unit="pair", desc=what) as bar:

        def one(row: T) -> R:
            found = function(row)
            bar.update()
            return found

        return asker.each(one, rows, threads=threads)
