"""The report on writing with drafts for people: Markdown."""

from collections.abc import Mapping
from typing import Any

from minicrit.tables import markdown

Report = Mapping[str, Any]
READ = (
    "Times as fast as the same writing without drafts (`plain`), whole critiques with their "
    "verdict, 95 % interval resampled by item. `Identical`: with the text of greedy writing that "
    "shares nothing with these. A draft is accepted as far as it is what the model writes. `Others "
    "at most`: exact one-sided 95 % bound of the share of critiques that might come out otherwise. "
    "`Near ties`: critiques with a place where the two likeliest tokens lie within 1e-4, where "
    "another order of summation can exchange them."
)

BATCHES = (
    "Seconds of the processor, against greedy writing in the same batch: another program, so this "
    "is what drafts and all that comes with them cost there, where `plain` above is the same one "
    "without drafts. Each was measured once."
)


def page(report: Report) -> str:
    """The report for the terminal and for pull requests."""
    told = report["measured"]
    machine = told["hardware"]
    parts = [
        "# Writing with drafts",
        f"{report['target']['name']}; {machine['cpu']}, {machine['torch_threads']} thread(s), "
        f"torch {machine['torch']}.",
        markdown(*_speed(told["arms"])),
        f"Greedy writing that reads the prompt for the verdict and again for the text: "
        f"{told['reread']['cpu_seconds']:.2f} s of the processor a critique, "
        f"{told['reread']['wall_seconds']:.2f} s by the clock.",
        markdown(*_sources(told["arms"])),
        markdown(*_identity(report["identity"])),
        *_flips(report["identity"]),
        *_batches(told["break_even"]),
        READ,
    ]
    return "\n\n".join(parts) + "\n"


def _speed(arms: Report) -> tuple[Any, Any]:
    head = ("drafts", "n", "processor", "clock", "s plain", "s", "tokens a forward",
            "accepted a draft")  # fmt: skip
    rows = [
        (name, str(a["n"]), _times(a["cpu"]), _times(a["wall"]), f"{a['cpu']['plain_seconds']:.2f}",
         f"{a['cpu']['seconds']:.2f}", f"{a['tokens_per_forward']:.2f}",
         f"{a['accepted_per_draft']:.2f}")
        for name, a in arms.items()
    ]  # fmt: skip
    return head, rows


def _times(ratio: Report) -> str:
    return f"{ratio['value']:.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def _sources(arms: Report) -> tuple[Any, Any]:
    rows = [
        (name, source, str(drafted), str(arm["accepted"].get(source, 0)),
         f"{arm['accepted'].get(source, 0) / drafted:.2f}")
        for name, arm in arms.items() for source, drafted in sorted(arm["drafted"].items())
    ]  # fmt: skip
    return ("drafts", "from", "drafted", "accepted", "share"), rows


def _identity(found: Report) -> tuple[Any, Any]:
    rows = [(name, f"{a['identical']} of {a['n']}", f"{a['most_others']:.2%}",
             str(a["near_ties"]), f"{a['closest']:.2g}") for name, a in found.items()]  # fmt: skip
    return ("drafts", "identical", "others at most", "near ties", "closest logits"), rows


def _flips(found: Report) -> list[str]:
    lines = [f"* {name}: at token {flip['at']}, logits {flip['gap']:.2g} apart"
             for name, arm in found.items() for flip in arm["flips"]]  # fmt: skip
    return ["\n".join(["Texts that part:", "", *lines])] if lines else []


def _batches(found: Report) -> list[str]:
    if not found["sizes"]:
        return []
    rows = [(str(r["batch"]), f"{r['plain']:.2f}", f"{r['drafts']:.2f}", f"{r['speedup']:.2f}")
            for r in found["sizes"]]  # fmt: skip
    best = found["pays_up_to"]
    end = "No batch gains." if best is None else f"Drafts gain up to {best} critiques at a time."
    return [markdown(("together", "s greedy", "s with drafts", "times"), rows), f"{end} {BATCHES}"]
