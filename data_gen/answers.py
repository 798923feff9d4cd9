"""Questions from prompt files, and answers that are read strictly or not at all."""

import string
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from minicrit.jsonl import parse_object, shown

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


def read_fields(text: str, schema: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """The answer's fields, all of them text and not empty; or {} and why it is anything else."""
    try:
        row = parse_object(text.strip().encode(errors="surrogatepass"))
    except ValueError as error:
        return {}, f"unparsed: {error}"
    if set(row) != set(schema["required"]):
        names = ", ".join(schema["required"])
        return {}, f"unparsed: expected the fields {names}, got {shown(', '.join(row))}"
    for name, value in row.items():
        allowed = schema["properties"][name].get("enum", (value,))
        if not isinstance(value, str) or not value.strip() or value not in allowed:
            return {}, f"unparsed: {name}: expected text that is allowed, got {shown(repr(value))}"
    return {name: value.strip() for name, value in row.items()}, ""


@cache
def template(name: str, version: str) -> tuple[str, string.Template]:
    """Who the model is to be, and the question with places to fill in, from a prompt file."""
    text = (PROMPTS / f"{name}-{version}.txt").read_text(encoding="utf-8")
    system, prompt = text.removeprefix("SYSTEM\n").split("\nPROMPT\n")
    return system, string.Template(prompt)
