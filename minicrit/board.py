"""A benchmark in TensorBoard: `<log_folder>/<run>/<name of the report>/<judge>`, one run a judge.

    make tensorboard

TensorBoard draws no plot of ours, so each goes to what it has: the precision-recall curve; ROC,
reliability and risk-coverage as scalars whose step is the x axis in thousandths, so that judges lie
over each other; p of valid and of flawed items as histograms; tables (metrics and slices with their
intervals, flaw types) as text.
"""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from minicrit import tables
from minicrit.measures import Truth

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

Floats = npt.NDArray[np.float64]
Judge = Mapping[str, Any]

THRESHOLDS = 127  # of the precision-recall curve
THOUSANDTHS = 1000


def log_benchmark(folder: Path, report: Mapping[str, Any], p: Mapping[str, Floats], truth: Truth
                  ) -> None:  # fmt: skip
    """Write it anew; what an earlier run of the same benchmark wrote there is removed.

    Args:
        folder: of this benchmark.
        report: what its JSON holds.
        p: (n,) of each judge, nan where unscored.
        truth: of the n items.
    """
    from torch.utils.tensorboard.writer import SummaryWriter  # slow: not before it is needed

    for key in ("model_1", "model_2", "words"):  # all that there may be, not only these
        shutil.rmtree(folder / key, ignore_errors=True)
    for key, judge in report["judges"].items():
        with SummaryWriter(str(folder / key)) as writer:
            _curves(writer, judge)
            _scores(writer, p[key], truth)
            for name, text in _texts(judge):
                writer.add_text(name, text, 0)


def _curves(writer: "SummaryWriter", judge: Judge) -> None:
    """Metrics at step 0, and the three curves over their x axis."""
    for name, found in judge["metrics"].items():
        if found["value"] is not None:
            writer.add_scalar(f"metrics/{name}", found["value"], 0)
    bins = [(row["mean_p"], row["value"]) for row in judge["reliability"]]
    curves = {
        "roc/recall over false positives": judge["roc"],
        "reliability/share flawed over p": bins,
        "risk_coverage/wrong over coverage": judge["risk_coverage"],
    }
    for name, points in curves.items():
        for x, y in points:
            writer.add_scalar(name, y, round(THOUSANDTHS * x))


def _scores(writer: "SummaryWriter", p: Floats, truth: Truth) -> None:
    scored = ~np.isnan(p)
    writer.add_pr_curve("precision and recall", truth.flawed[scored], p[scored], 0,
                        num_thresholds=THRESHOLDS)  # fmt: skip
    for name, mask in (("valid", ~truth.flawed), ("flawed", truth.flawed)):
        if (mask & scored).any():
            writer.add_histogram(f"p of {name} items", p[mask & scored], 0)


def _texts(judge: Judge) -> Iterator[tuple[str, str]]:
    """Tables as Markdown, by name."""
    rows: list[tables.Row] = [(label, tables.cell(judge["metrics"].get(key)),
                               str(judge["metrics"][key]["n"]))
                              for key, label in tables.LABELS.items()
                              if key in judge["metrics"]]  # fmt: skip
    yield "metrics", tables.markdown(("metric", "value", "n"), rows)
    for axis, title in tables.AXES.items():
        if found := judge["slices"].get(axis):
            yield f"slices/{axis}", tables.markdown(*tables.slice_rows(title, found))
    types = judge.get("flaw_types") or {}
    if confusion := types.get("confusion"):
        counts = [(true, said, str(n)) for true, row in confusion.items()
                  for said, n in row.items()]  # fmt: skip
        yield "flaw types", tables.markdown(("true", "said", "items"), counts)
    if judge.get("calibration"):
        yield "certificate", f"{tables.certificate(judge)} {tables.abstaining(judge)}"
