"""The table of a quantized critic: `<report>.json` for programs, `<report>.md` for people."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minicrit.files import write_atomic, write_json

LABELS = {"f1": "F1", "fpr": "false-positive rate", "recall": "recall", "auroc": "AUROC"}


def write_table(target: Path, report: dict[str, Any]) -> None:
    """`<target>.json` and `<target>.md`."""
    write_json(target.with_name(f"{target.name}.json"), report)
    write_atomic(target.with_name(f"{target.name}.md"), "\n".join(_lines(report)) + "\n")


def _lines(report: dict[str, Any]) -> list[str]:
    gap, limits, flips = report["p_difference"], report["thresholds"], report["flips"]
    basis = f" ({report['basis']})" if report["basis"] else ""
    machine, load = report["measured"]["hardware"], report["measured"]["load"]
    flagged = "certified for it" if report["calibrated"] else "0.5, not calibrated"
    return [
        f"# Quantized critic, {report['bits']} bits: {report['status']}{basis}", "",
        f"{report['scheme']}. {report['reason']}.", "",
        f"Each flags above its own threshold ({flagged}): {limits['float']:.4f} and "
        f"{limits['quantized']:.4f}. |dp| at most {gap['max']:.4f}, mean {gap['mean']:.5f}; "
        f"{report['unscored']} items unscored; {flips['not_judged']} of them, which only the small "
        "critic could not read, count as flips.", "",
        "| | float | quantized | quantized against float |", "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in _rows(report)), "",
        "Intervals are 95 %, the widest of those resampled by group and by family and, but for "
        f"differences, of Wilson's; p: that the small critic is worse by {report['margin']:g} or "
        "more. Times in ms are medians on the clock, those in brackets of the processor alone; "
        "ratios are medians over turns in one run.", "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['torch_threads']} threads, "
        f"{machine['gpu'] or 'no GPU'}, torch {machine['torch']}; load "
        f"{', '.join(f'{one:.1f}' for one in load) or 'unknown'}.",
    ]  # fmt: skip


def _rows(report: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    size, flips = report["size"], report["flips"]
    yield ("weights (MB)", f"{size['float_critic'] / 1e6:.1f}", f"{size['quantized'] / 1e6:.1f}",
           f"{size['ratio_to_float_critic']:.3f} of float, {size['ratio_to_bfloat16']:.3f} of "
           "bf16")  # fmt: skip
    yield (
        "verdicts flipped",
        "",
        f"{flips['count']} of {flips['n']}",
        f"{flips['value']:.4f} {_bounds(flips)} (Wilson), at most {flips['upper']:.4f} (95 %; "
        f"{flips['apart']} of {flips['groups']} groups have a flip)",
    )
    for name, row in report["metrics"].items():
        p = report["no_worse"].get(name)
        yield (LABELS[name], _cell(row["float"]), _cell(row["quantized"]),
               _gap(row["difference"]) + ("" if p is None else f", p = {p:.4f}"))  # fmt: skip
    yield "perplexity", *(f"{report['perplexity'][k]:.3f}" for k in ("float", "quantized")), ""
    for batch, row in report["measured"]["verdict"].items():
        yield (
            f"verdict, batch {batch} (ms)",
            *(
                f"{row[side]['wall_ms']:.1f} ({row[side]['cpu_ms']:.1f})"
                for side in ("float", "quantized")
            ),
            _ratio(row),
        )
    if writing := report["measured"]["writing"]:
        yield ("writing (tokens/s)", *(f"{writing[side]['tokens_per_wall_second']:.1f} "
               f"({writing[side]['tokens_per_cpu_second']:.1f})"
               for side in ("float", "quantized")), _ratio(writing))  # fmt: skip


def _ratio(row: dict[str, Any]) -> str:
    return (f"{row['speedup']:.2f} ({row['speedup_cpu']:.2f}) times as fast, {row['turns']} "
            "turns")  # fmt: skip


def _cell(found: dict[str, Any]) -> str:
    return "-" if found["value"] is None else f"{found['value']:.3f} {_bounds(found)}"


def _gap(found: dict[str, Any]) -> str:
    return "-" if found["value"] is None else f"{found['value']:+.3f} {_bounds(found)}"


def _bounds(found: dict[str, Any]) -> str:
    low, high = found["low"], found["high"]
    return "[-, -]" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"
