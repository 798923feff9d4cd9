"""The ladder of stages: every critic of a run that was benchmarked, a row each.

Reads all benchmark reports in a folder of reports. A critic is held against the rung below (what it
was made from; SFT with twins against plain SFT) by exact McNemar on the verdicts that stand in both
`.items.jsonl`, if both judged the same items; p values are adjusted for all rows (Holm). All are
read at 0.5: stages that leave a certified threshold would else be held against others that have
none, and what differs would be the operating point. A temperature moves no verdict at 0.5, but sums
that count and a shift do: two that differ in them are not tested, as a stage has not learnt them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from minicrit import tables
from minicrit.contrast_tables import chance
from minicrit.jsonl import parse_object, raw_lines
from minicrit.measures import HALF
from minicrit.pages import read_results
from minicrit.paired import holm
from minicrit.plots import Dot, dot_plot
from minicrit.statistics import mcnemar_exact

BASE = "base"
#: Stages in the order of the ladder, and what each critic was made from; what rounds any critic
#: was made from the one whose adapter it names.
STARTS = {BASE: None, "plain": BASE, "sft": "plain", "dpo": "sft", "router": "sft", "rsf": "sft",
          "rsf-control": "sft", "kto": "sft", "constitution": "sft", "int16": None, "int8": None,
          "int4": None}  # fmt: skip
ROUTER = "router"
SERVED = "openai:"  # begins the name of a critic behind a server
COLUMNS = {"model_1": "p_1", "model_2": "p_2"}


@dataclass(frozen=True)
class Rung:
    """A critic on the ladder.

    Attributes:
        stage: what made it, or the name of its folder.
        judge: its part of the report.
        items: hash of the items that it judged.
        right: by item, whether its verdict at 0.5 is right; unscored ones are left out.
    """

    stage: str
    judge: Mapping[str, Any]
    items: str
    right: Mapping[str, bool]


def ladder(folder: Path) -> tuple[tables.Row, list[tables.Row]] | None:
    """Head and rows; None if fewer than two critics were benchmarked."""
    rungs = rungs_of(folder)
    if len(rungs) < 2:  # noqa: PLR2004
        return None
    found = [(rung, below(rung, rungs)) for rung in rungs]
    tests = [only_right(rung, other) for rung, other in found]
    known = [test for test in tests if test]
    adjusted = iter(holm([mcnemar_exact(*test) for test in known]))
    head: tables.Row = ("stage", "critic", "items", "false positives at 0.5", "F1 at 0.5", "AUROC",
                        "against", "only it : only that", "p (McNemar)", "Holm")  # fmt: skip
    most = max((rung.items for rung in rungs), key=[r.items for r in rungs].count)
    rows = [
        (*_facts(rung, most), _against(rung, other), *_chances(test, adjusted))
        for (rung, other), test in zip(found, tests, strict=True)
    ]
    return head, rows


def ladder_plots(folder: Path) -> list[tuple[str, Markup]]:
    """F1 and false-positive rate at 0.5, a line a rung; none without two rungs."""
    rungs = rungs_of(folder)
    found = []
    for key, name in (("f1", "F1"), ("fpr", "False-positive rate")) if len(rungs) > 1 else ():
        known = [(rung.stage, one) for rung in rungs if (one := at_half(rung, key))]
        dots = [Dot(stage, one["value"], one["low"], one["high"], one["n"])
                for stage, one in known if one["low"] is not None]  # fmt: skip
        found.append((f"{name} at 0.5 by stage", dot_plot(dots, f"{name} at 0.5 by stage")))
    return found


def stage_of(judge: Mapping[str, Any]) -> str:
    """The stage that made a judge, by the name of its folder; one that is not trained is a base.

    What is behind a server goes by its own name, as only the server knows what it is.
    """
    if judge["name"].startswith(SERVED):
        return str(judge["name"])
    name = Path(judge["name"]).name
    trained = judge.get("trained") or judge.get("adapter")
    return name if name in STARTS or trained else BASE


def _facts(rung: Rung, most: str) -> tuple[str, ...]:
    n = f"{rung.judge['n']}" + ("" if rung.items == most else " others")
    return (rung.stage, rung.judge["name"], n,
            *(tables.cell(at_half(rung, key)) for key in ("fpr", "f1", "auroc")))  # fmt: skip


def _against(rung: Rung, other: Rung | None) -> str:
    if other is None:
        return "-"
    apart = _apart(rung, other)
    return other.stage + (f", not tested: {apart} of the calibrations differ" if apart else "")


def at_half(rung: Rung, key: str) -> Mapping[str, Any] | None:
    """A metric at 0.5 with its interval; None where it is undefined."""
    metrics = rung.judge["metrics"]
    found: Mapping[str, Any] | None = metrics.get(f"{key}_threshold_half") or metrics.get(key)
    return found


def _chances(test: tuple[int, int] | None, adjusted: Iterator[float]) -> tuple[str, ...]:
    if test is None:
        return ("-",) * 3
    return (" : ".join(map(str, test)), chance(mcnemar_exact(*test)), chance(next(adjusted)))


def rungs_of(folder: Path) -> list[Rung]:
    """The critics of all reports, each once, in the order of the stages.

    Two stages may have the same weights: one that no round made better keeps those of its start.
    """
    found: dict[tuple[str, str, str], Rung] = {}
    for path, report in benchmarks_in(folder):
        rows = _items(path.with_name(f"{path.stem}.items.jsonl"))
        for key, judge in report["judges"].items():
            if key in COLUMNS:
                items = report["items"]["sha256"]
                rung = Rung(stage_of(judge), judge, items, _right(rows, COLUMNS[key]))
                found.setdefault((rung.stage, judge["identity"], items), rung)
    return sorted(found.values(), key=lambda r: (*place(r.stage), r.judge["name"]))


def benchmarks_in(folder: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Files of a folder that are benchmarks' reports, whatever their names, and what they hold."""
    for path in sorted(folder.glob("*.json")):
        report = read_results(path) or {}
        if report.get("form") == tables.FORM and "judges" in report:
            yield path, report


def place(stage: str) -> tuple[int, str]:
    """Sorts stages in the order of the ladder, others by name behind them."""
    order = list(STARTS)
    return (order.index(stage) if stage in STARTS else len(order), stage)


def _items(path: Path) -> list[dict[str, Any]]:
    return [parse_object(raw) for _, raw in raw_lines(path)] if path.is_file() else []


def _right(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, bool]:
    return {row["id"]: (row[column] > HALF) == (row["label"] == "flawed")
            for row in rows if row.get(column) is not None}  # fmt: skip


def below(rung: Rung, rungs: Sequence[Rung]) -> Rung | None:
    """The nearest rung below, on the same items; a stage that was not judged is passed over.

    Of bases only the one that it was made from, and of several critics of a stage the one whose
    folder lies beside its own: the other is of another run. A folder of another name says nothing
    of its start: only what has the adapter of another rung in other weights was made from that one.
    """
    start = STARTS.get(rung.stage)
    if start is None:
        return next((other for other in rungs if _is_source_of(other, rung)), None)
    while start:
        found = [other for other in rungs if (other.stage, other.items) == (start, rung.items)
                 and (start != BASE or _is_base_of(other.judge, rung.judge))]  # fmt: skip
        if found:
            return next((other for other in found if _run(other) == _run(rung)), found[0])
        start = STARTS[start]
    return None


def _run(rung: Rung) -> Path:
    """The folder that holds the critic's own."""
    return Path(rung.judge["name"]).parent


def _is_base_of(base: Mapping[str, Any], judge: Mapping[str, Any]) -> bool:
    """By identity: that of a critic with an adapter is `<base>+<adapter>`, see `loading`."""
    return str(judge["identity"]).startswith(f"{base['identity']}+")


def _is_source_of(other: Rung, rung: Rung) -> bool:
    """Whether this one is the other's adapter, merged into weights that were then written anew."""
    adapter = rung.judge.get("adapter")
    if not adapter or (other.judge.get("adapter"), other.items) != (adapter, rung.items):
        return False
    ours, theirs = (f"+{adapter}" in one.judge["identity"] for one in (rung, other))
    return theirs and not ours


def _apart(rung: Rung, other: Rung) -> str:
    """What moves verdicts at 0.5 in one calibration and not, or not so, in the other; or empty."""
    ours, theirs = _moved(rung), _moved(other)
    return " and ".join(name for name in ours if ours[name] != theirs[name])


def _moved(rung: Rung) -> dict[str, Any]:
    """Sums as far as they are believed, and the shift, by domain; None where there is none."""
    found = rung.judge.get("calibration") or {}
    if rung.stage == ROUTER and not found:  # each of its specialists has its own
        return {"sums": ROUTER, "shift": ROUTER}
    sums, shift = found.get("sums"), found.get("shift") or {}
    by_domain = {"": shift.get("pooled", 0.0), **shift.get("domains", {})}
    return {"sums": sums["believed"] if sums else None,
            "shift": by_domain if any(by_domain.values()) else None}  # fmt: skip


def only_right(rung: Rung, other: Rung | None) -> tuple[int, int] | None:
    """On how many items only this one, and only the other, is right; None if that tells nothing."""
    both = rung.right.keys() & other.right.keys() if other else set()
    if not both or other is None or _apart(rung, other):
        return None
    return (sum(rung.right[item] and not other.right[item] for item in both),
            sum(other.right[item] and not rung.right[item] for item in both))  # fmt: skip
