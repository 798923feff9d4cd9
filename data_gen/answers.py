"""Questions from prompt files, and answers that are read strictly or not at all."""

import string
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from minicrit.jsonl import parse_object

PROMPTS = Path(__file__).parent / "prompts"


def schema_of(**fields: tuple[str, ...] | None) -> dict[str, Any]:
    """A strict object of texts; a tuple lists the allowed ones."""
    return {
        "type": "object",
        "properties": {
            name: {"type": "string"} | ({"enum": list(allowed)} if allowed else {})
            for name, allowed in fields.items()
        },
        "required": list(fields),
        "additionalProperties": False,
    }


def read_fields(text: str, schema: Mapping[str, Any]) -> dict[str, str]:
    """The answer's fields, all of them text and not empty; {} if it is anything else."""
    try:
        row = parse_object(text.strip().encode())
    except ValueError:
        return {}
    fits = set(row) == set(schema["required"]) and all(
        isinstance(v, str) and v.strip() and v in schema["properties"][k].get("enum", (v,))
        for k, v in row.items()
    )
    return {k: v.strip() for k, v in row.items()} if fits else {}


@cache
def template(name: str, version: str) -> tuple[str, string.Template]:
    """Who the model is to be, and the question with places to fill in, from a prompt file."""
    text = (PROMPTS / f"{name}-{version}.txt").read_text(encoding="utf-8")
    system, prompt = text.removeprefix("SYSTEM\n").split("\nPROMPT\n")
    return system, string.Template(prompt)
