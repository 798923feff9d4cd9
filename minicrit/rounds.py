"""Training in rounds: the critic writes, what it wrote is sorted, it is trained, and again."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from minicrit import limits
from minicrit.config import Recipe
from minicrit.files import check_replaceable
from minicrit.losses import PairSettings
from minicrit.preferring import Mixture
from minicrit.processes import first_alone, refuse_nodes
from minicrit.run import run_of
from minicrit.training_config import DPOConfig, RSFConfig

#: Makes what a round learns from: (recipe, adapter, folder, number) -> folder.
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
        ValueError: if there are to be no rounds, or of what training would refuse.
    """
    settings = recipe.rsf
    # Before the first critique is sampled; one process alone, as the base may have to be made.
    first_alone(partial(refuse_untrainable, recipe, "rsf", settings))
    adapter = settings.start
    for number, selection, out in _rounds("rsf", settings, settings.out, "selection"):
        found = first_alone(partial(select, recipe, adapter, selection, number))
        told = replace(settings, start=adapter, data=found / "selected.jsonl", out=out)
        adapter = train(replace(recipe, rsf=told))
    return adapter


def run_control(recipe: Recipe, find: Select, train: Callable[[Recipe], Path]) -> Path:
    """The same rounds on reference critiques drawn at random, for the same compute.

    Rejection sampling is worth its cost if its critic is better than this one.

    Args:
        recipe: uses `rsf`.
        find: the selection that rejection sampling has made, which says what a round has cost:
            (recipe, its adapter, folder, number); it refuses that of other settings.
        train: trains `rsf.start` on the file `rsf.data` to `rsf.out`.

    Returns:
        The folder of the last adapter: that of rejection sampling with `-control` behind.
    """
    settings = recipe.rsf
    sampler = adapter = settings.start
    last = settings.out.with_name(f"{settings.out.name}-control")
    rounds = zip(_rounds("rsf", settings, settings.out, "selection"),
                 _rounds("rsf", settings, last, "selection"), strict=True)  # fmt: skip
    for (number, selection, sampled), (_, _, out) in rounds:
        data = find(recipe, sampler, selection, number) / "control.jsonl"
        adapter = train(replace(recipe, rsf=replace(settings, start=adapter, data=data, out=out)))
        sampler = sampled
    return adapter


def run_dpo_rounds(recipe: Recipe, make: Select, train: Callable[[Recipe], Path]) -> Path:
    """All rounds of `recipe.dpo`: the first on the pairs that are there, later ones on new pairs.

    The adapter of a round writes the pairs of the next, starts it, and is its reference (iterative
    DPO, arXiv 2404.19733). Each round is two finished folders, as above.

    Args:
        recipe: uses `dpo`.
        make: makes the pairs of a round: (recipe, adapter, folder, number).
        train: trains `dpo.start` on the file `dpo.pairs` to `dpo.out`.

    Returns:
        The folder of the last adapter.

    Raises:
        ValueError: if there are to be no rounds.
    """
    settings = recipe.dpo
    adapter, pairs = settings.start, settings.pairs
    for number, folder, out in _rounds("dpo", settings, settings.out, "pairs"):
        if number > 1:
            pairs = first_alone(partial(make, recipe, adapter, folder, number)) / "pairs.jsonl"
        told = replace(settings, start=adapter, pairs=pairs, out=out)
        adapter = train(replace(recipe, dpo=told))
    return adapter


def refuse_untrainable(recipe: Recipe, stage: str, settings: DPOConfig | RSFConfig) -> None:
    """What training would refuse whatever it is to learn from, before that is sampled or paid for.

    Args:
        recipe: of the first round.
        stage: dpo or rsf.
        settings: of this stage.

    Raises:
        ValueError: with the setting to change, or the file that is not there.
    """
    if isinstance(settings, DPOConfig):
        Mixture.of(settings.losses, settings.loss_weights, PairSettings(settings.beta))
    lessons = settings.pairs if isinstance(settings, DPOConfig) else settings.data
    validation = run_of(recipe, stage, settings, lessons).files["validation"]
    refuse_nodes(stage, settings.nodes)
    if not validation.is_file():
        raise ValueError(f"{validation}: expected a file to validate on, got none; make the data "
                         "first")  # fmt: skip


def _rounds(
    stage: str, settings: DPOConfig | RSFConfig, last: Path, kind: str
) -> Iterator[tuple[int, Path, Path]]:
    """Number, folder of what is learnt from and folder of the adapter of each round."""
    limits.require(stage, settings)
    found = []
    for number in range(1, settings.rounds + 1):
        made = settings.out.with_name(f"{settings.out.name}-{number}-{kind}")
        out = last if number == settings.rounds else last.with_name(f"{last.name}-{number}")
        found.append((number, made, out))
    for _, *folders in found:  # all of them, before the first round is sampled and trained
        for folder in folders:
            check_replaceable(folder)
    yield from found
