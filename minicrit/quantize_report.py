"""The table of a quantized critic: `<report>.json` for programs, `<report>.md` for people."""

from pathlib import Path
from typing import Any

from minicrit.files import write_atomic, write_json

LABELS = {"f1": "F1", "fpr": "false-positive rate"}


def write_table(target: Path, report: dict[str, Any]) -> None:
    """`<target>.json` and `<target>.md`."""
    write_json(target.with_name(f"{target.name}.json"), report)
    write_atomic(target.with_name(f"{target.name}.md"), "\n".join(_lines(report)) + "\n")


def _lines(report: dict[str, Any]) -> list[str]:
    size, flips, gap = report["size"], report["flips"], report["p_difference"]
    latency, rate = report["measured"]["latency"], report["measured"]["items_per_second"]
    rows = [
        ("weights (MB)", f"{size['float_critic'] / 1e6:.1f}", f"{size['quantized'] / 1e6:.1f}",
         f"{size['ratio_to_float_critic']:.3f} of float, {size['ratio_to_bfloat16']:.3f} of bf16"),
        *((f"verdict {q} (ms)", f"{latency['float'][f'{q}_ms']:.1f}",
           f"{latency['quantized'][f'{q}_ms']:.1f}", "") for q in ("p50", "p95")),
        ("verdict speed-up", "1", f"{latency['speedup']:.2f}", f"paired, n={latency['n']}"),
        ("batch (items/s)", f"{rate['float']:.1f}", f"{rate['quantized']:.1f}",
         f"{rate['speedup']:.2f} times, paired"),
        *((LABELS[name], _cell(row["float"]), _cell(row["quantized"]), _gap(row["difference"]))
          for name, row in report["metrics"].items()),
        ("perplexity", *(f"{report['perplexity'][k]:.3f}" for k in ("float", "quantized")), ""),
    ]  # fmt: skip
    return [
        f"# Quantized critic, {report['bits']} bits: {report['status']}", "",
        f"{report['scheme']}. {report['reason']}: {flips['value']:.4f} {_bounds(flips)} (Wilson). "
        f"|dp| at most {gap['max']:.4f}, mean {gap['mean']:.5f}.", "",
        "| | float | quantized | quantized against float |", "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows), "",
        "Intervals are 95 %, resampled by family. Times hold for the machine and its load.",
    ]  # fmt: skip


def _cell(found: dict[str, Any]) -> str:
    return "-" if found["value"] is None else f"{found['value']:.3f} {_bounds(found)}"


def _gap(found: dict[str, Any]) -> str:
    return "-" if found["value"] is None else f"{found['value']:+.3f} {_bounds(found)}"


def _bounds(found: dict[str, Any]) -> str:
    low, high = found["low"], found["high"]
    return "[-, -]" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"
