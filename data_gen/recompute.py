"""Stub."""
from minicrit.records import Example


def recomputed_label(example: Example) -> str | None:
    return None
