"""How the parts of a rationale are set on the page: prose, mail, numbered points, headed memo."""

from collections.abc import Sequence
from dataclasses import dataclass

#: Layout names and how often each is drawn.
LAYOUTS = {"prose": 55, "paragraphs": 15, "numbered": 15, "headed": 15}

_HEADS = {
    "background": "Background",
    "evidence": "Findings",
    "conclusion": "Assessment",
    "closing": "Remarks",
}


@dataclass(frozen=True)
class Part:
    """One stretch of text and its role: background, evidence, conclusion or closing."""

    role: str
    text: str


def lay_out(parts: Sequence[Part], layout: str) -> str:
    """Joins the parts; empty ones vanish. Every sentence stays verbatim, so spans do too."""
    parts = [part for part in parts if part.text]
    if layout == "prose":
        return " ".join(part.text for part in parts)
    if layout == "paragraphs":
        return "\n\n".join(part.text for part in parts)
    if layout == "numbered":
        return "\n".join(f"{n}. {part.text}" for n, part in enumerate(parts, 1))
    return "\n".join(f"{_HEADS[part.role]}: {part.text}" for part in parts)
