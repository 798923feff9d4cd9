"""Rejection sampling in rounds: sample, select, train, again from what came out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from minicrit.config import Recipe

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
    if settings.rounds < 1:
        raise ValueError(f"rsf.rounds: expected at least 1, got {settings.rounds}; raise it")
    adapter = settings.start
    for number in range(1, settings.rounds + 1):
        last = number == settings.rounds
        name = settings.out.name
        selection = select(
            recipe, adapter, settings.out.with_name(f"{name}-{number}-selection"), number
        )
        out = settings.out if last else settings.out.with_name(f"{name}-{number}")
        told = replace(settings, start=adapter, data=selection / "selected.jsonl", out=out)
        adapter = train(replace(recipe, rsf=told))
    return adapter
