"""Rejection sampling in rounds: sample, select, train, again from what came out."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from minicrit.config import Recipe
from minicrit.training_config import RSFConfig

Select = Callable[[Recipe, Path, Path, int], Path]


def run_rounds(recipe: Recipe, select: Select, train: Callable[[Recipe], Path]) -> Path:
    """All rounds of `recipe.rsf`; each is two finished folders, so a restart repeats at most one.

    Args:
        recipe: uses `rsf`.
        select: makes the selection of a round: (recipe, adapter, folder, number).
        train: trains `rsf.start` on the file `rsf.data` to `rsf.out`.

    Returns:
        The folder of the last adapter.

    Raises:
        ValueError: if there are to be no rounds.
    """
    settings = recipe.rsf
    adapter = settings.start
    for number, selection, out in _rounds(settings, settings.out):
        found = select(recipe, adapter, selection, number)
        told = replace(settings, start=adapter, data=found / "selected.jsonl", out=out)
        adapter = train(replace(recipe, rsf=told))
    return adapter


def run_control(recipe: Recipe, train: Callable[[Recipe], Path]) -> Path:
    """The same rounds on reference critiques drawn at random, for the same compute.

    Rejection sampling is worth its cost if its critic is better than this one.

    Returns:
        The folder of the last adapter: that of rejection sampling with `-control` behind.

    Raises:
        ValueError: if rejection sampling has not run yet, as it says what its rounds have cost.
    """
    settings = recipe.rsf
    adapter = settings.start
    for _, selection, out in _rounds(
        settings, settings.out.with_name(f"{settings.out.name}-control")
    ):
        data = selection / "control.jsonl"
        if not data.is_file():
            raise ValueError(f"rsf.control: expected {data}, got none; make rsf first, with the "
                             "same settings")  # fmt: skip
        adapter = train(replace(recipe, rsf=replace(settings, start=adapter, data=data, out=out)))
    return adapter


def _rounds(settings: RSFConfig, last: Path) -> Iterator[tuple[int, Path, Path]]:
    """Number, folder of the selection and folder of the adapter of each round."""
    if settings.rounds < 1:
        raise ValueError(f"rsf.rounds: expected at least 1, got {settings.rounds}; raise it")
    for number in range(1, settings.rounds + 1):
        selection = settings.out.with_name(f"{settings.out.name}-{number}-selection")
        out = last if number == settings.rounds else last.with_name(f"{last.name}-{number}")
        yield number, selection, out
