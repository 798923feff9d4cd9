"""Reports of critics on a ladder: stand-ins in the folder of a stage."""

# mypy: disable-error-code="import-untyped"
from pathlib import Path

from minicrit.benchmark import benchmark
from tests.minicrit.benchmark_case import StandIn, recipe


class Named(StandIn):
    """Critic a or b in the folder of a stage."""

    def __init__(self, name: str, letter: str) -> None:
        super().__init__(letter)
        self.name = name
        is_base = not name.startswith("checkpoints/")
        self.identity = name if is_base else f"embedded+{name}"
        self.adapter = None if is_base else name  # type: ignore[assignment]


def judged(folder: Path, file: str, *models: tuple[str, str], examples: object = None) -> None:
    """A benchmark of these (name, letter) in `<folder>/reports/<file>.json`."""
    made = recipe(folder, examples)  # type: ignore[arg-type]
    letters = dict(models)
    made.benchmark.model_1 = models[0][0]
    made.benchmark.model_2 = models[1][0] if len(models) > 1 else None
    made.benchmark.words = False
    made.benchmark.out = folder / "reports" / file
    benchmark(made, load=lambda name: Named(name, letters[name]), draws=5)


SFT, BASE, DPO = ("checkpoints/x/sft", "a"), ("embedded", "b"), ("checkpoints/x/dpo", "b")
