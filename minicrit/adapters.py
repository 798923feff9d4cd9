"""The stage `adapters`: a specialist a domain, a router over them, and what each is worth where.

    minicrit adapters --config cpu --adapters.start checkpoints/cpu/sft

Trains the specialists one after the other, each resumable; writes the router; judges the test items
of every domain by every adapter, in one process on one base. A restart goes on where it stopped.
"""

from minicrit.config import Recipe
from minicrit.specialists import Train, train_specialists


def make_adapters(recipe: Recipe, train: Train) -> None:
    """Everything of the stage, in order; `train` as in `train_specialists`."""
    train_specialists(recipe, train)
