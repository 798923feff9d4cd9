"""A Modelfile: the prompt of the critic as a template of Ollama's, and greedy decoding.

Ollama's text/template takes the domain as system text and the rationale as prompt:

    ollama create minicrit -f Modelfile
    curl localhost:11434/api/generate -d '{"model": "minicrit", "system": "trading", "prompt": ...}'
"""

from minicrit.prompts import render_prompt

#: Where Ollama puts what it is given. A domain that is left out is `general`.
DOMAIN = "{{ if .System }}{{ .System }}{{ else }}general{{ end }}"
RATIONALE, RESPONSE = "{{ .Prompt }}", "{{ .Response }}"
_QUOTES = '"""'


def template() -> str:
    """The prompt up to the answer marker, then what the model writes; nothing is wrapped around."""
    return render_prompt(DOMAIN, RATIONALE) + RESPONSE


def modelfile(weights: str, *, end: str, context: int, longest: int = 200) -> str:
    """The text of a Modelfile.

    Ollama's defaults would sample and punish repetition; a critique quotes its rationale.

    Args:
        weights: name of the GGUF beside it.
        end: the text of the token that ends a critique.
        context: tokens of prompt and critique together.
        longest: of a critique, in tokens.
    """
    quoted = end.replace("\\", "\\\\").replace('"', '\\"')
    settings = (
        ("temperature", 0), ("top_k", 1), ("seed", 0), ("repeat_penalty", 1),
        ("num_ctx", context), ("num_predict", longest), ("stop", f'"{quoted}"'),
    )  # fmt: skip
    lines = [f"FROM ./{weights}", *(f"PARAMETER {name} {value}" for name, value in settings)]
    return "\n".join([*lines, f"TEMPLATE {_QUOTES}{template()}{_QUOTES}", ""])
