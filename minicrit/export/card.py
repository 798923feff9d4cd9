"""The model card: what the critic is, how it is asked, and how far it may be believed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minicrit.calibrated import read_calibration
from minicrit.jsonl import parse_object, shown
from minicrit.prompts import LEAD_IN, VERDICT_WORDS, render_prompt
from minicrit.tables import known_items, where
from minicrit.taxonomy import DOMAINS, FLAW_TYPES

_METRICS = ("f1", "fpr", "recall", "accuracy", "auroc", "ece")
#: How each format is used; the facts are filled in.
USES = {
    "hf": """\
    from transformers import AutoModelForCausalLM, AutoTokenizer
    model = AutoModelForCausalLM.from_pretrained(".")

or, with the verdict read for you, `minicrit critique --model FOLDER "..."`.""",
    "gguf": """\
    llama-server -m {file} --ctx-size {context}
    make benchmark MODEL_1=openai:http://127.0.0.1:8080/v1#{file}@FOLDER

FOLDER is this one; its calibration is then used, if the server says what it should.""",
    "ollama": """\
    ollama create {name} -f Modelfile
    curl localhost:11434/api/generate -d \\
        '{{"model": "{name}", "system": "trading", "prompt": "...", "stream": false}}'

The domain is the system text, the rationale the prompt. The Modelfile was checked by its grammar
and its template byte by byte; no Ollama has run it. Control tokens in a text count as such.""",
    "vllm": """\
    VLLM=/path/to/bin/vllm bash serve.sh            # the merged model
    LORA=1 BASE=... bash serve.sh                   # the base, with the adapter as a module
    make benchmark MODEL_1=openai:http://127.0.0.1:8000/v1#{name}@FOLDER

The weights are served as {weights}; in another type (DTYPE) they say other things.""",
}  # fmt: skip


def write_card(box: Path, facts: Mapping[str, Any], measured: str) -> None:
    """Writes README.md from the facts of the manifest, what lies in the folder, and `measured`."""
    parts = [_head(facts), _what(facts), _prompt(), _use(facts), _verdict(), _threshold(box, facts),
             measured, _data(facts), _limits(facts), _hashes(facts)]  # fmt: skip
    (box / "README.md").write_text("\n".join(part for part in parts if part), encoding="utf-8")


def _head(facts: Mapping[str, Any]) -> str:
    told = [f"license: {str(facts['licence'] or 'other').lower()}", "language: en",
            "pipeline_tag: text-generation", "tags: [critic, reasoning, verdict]"]  # fmt: skip
    base = str(facts["base_model"])
    told += [f"base_model: {base}"] if "/" in base and not Path(base).exists() else []
    told += ["library_name: transformers"] if facts["format"] == "hf" else []
    return "\n".join(["---", *told, "---", ""])


def _what(facts: Mapping[str, Any]) -> str:
    base = f"`{shown(str(facts['base_model']), 200)}`"
    made = (f"a LoRA adapter merged into {base} in float32, written as" if facts["adapter"] else
            f"all trained, from {base} on, and written as")  # fmt: skip
    return f"""\
# {facts["name"]}

A critic: it reads a rationale and says whether the reasoning is **valid** or **flawed**, how sure
it is, which flaw, where it stands, why, and what would mend it. {facts["parameters"]:,} parameters:
{made}
{facts["weights"]}. Prompt {facts["prompt_version"]}, critique {facts["critique_version"]}.
"""


def _prompt() -> str:
    shape = render_prompt("{domain}", "{rationale}")
    indented = "".join(f"    {line}\n".replace("    \n", "\n") for line in shape.split("\n")[:-1])
    return f"""\
## Prompt

{indented}
Plain text with a line break at the end. The chat template is this prompt, not the base's: the
system message is the domain, the user's the rationale.
Domains: {", ".join(DOMAINS)}.
Text of a user must not become control tokens (`split_special_tokens=True` in transformers).
"""


def _use(facts: Mapping[str, Any]) -> str:
    return "## Use\n\n" + USES[facts["format"]].format(**facts) + "\n"


def _verdict() -> str:
    valid, flawed = (VERDICT_WORDS[label] for label in ("valid", "flawed"))
    return f"""\
## Reading the verdict

Append `{LEAD_IN}` to the prompt and take the log-probabilities of the two continuations `{valid}`
and `{flawed}` (with their blank; the sum over their tokens if a word has several):

    log_odds = logprob("{flawed}") - logprob("{valid}")
    p_flawed = 1 / (1 + exp(-(log_odds / temperature + shift)))     # 1 and 0 without a calibration

Flawed is what is above the threshold. A critique is what is written after the word, greedily, to
the end token: lines `Flaw`, `Severity`, `Evidence`, `Critique`, `Fix`, or `Strengths`, `Critique`.
The verdict is never searched for in text. Flaw types: {", ".join(FLAW_TYPES)}.
"""


def _threshold(box: Path, facts: Mapping[str, Any]) -> str:
    fitted = facts["calibrated_as"]
    found = read_calibration(box, **fitted) if fitted else None
    if found is None:
        dropped = facts.get("calibration_left")
        why = ("The critic's calibration was fitted to float32 weights and stays there; fit one to "
               "this folder: `make calibrate MODEL=FOLDER`." if dropped else
               "No calibration was fitted.")  # fmt: skip
        return f"## Threshold\n\n0.5, and nothing is certified. {why}\n"
    c = found.facts
    k = "" if c["each_domain"] else f" (k = {c['k']})"  # that of the threshold over all
    held = ("These weights are what it was fitted to." if facts["exact"] else
            f"It was fitted to float32 weights; for these, rounded to {facts['weights']}, it is "
            "used and not certified anew.")  # fmt: skip
    own = ", ".join(f"{name} {t:.4f} {b:+.4f}" for name, (t, b) in found.domains.items())
    sums = ("" if found.believed is None else f"    believed     {found.believed:.6f}\n\n"
            "Texts that state a sum which does not hold (`minicrit.recount`) have 1 - (1 - p) "
            "(1 - believed) here, which a server does not know of.\n")  # fmt: skip
    return f"""\
## Threshold and certificate

    threshold    {found.threshold:.6f}
    temperature  {found.scale.temperature:.6f}
    shift        {found.scale.shift:+.6f}{f"  (of domains, both: {own})" if own else ""}
{sums}
From {c["n"]} calibration items{k}: with confidence {100 * (1 - c["delta"]):g} % at most
{100 * c["alpha"]:g} % of valid rationales are flagged {where(c)}, for new items of the calibration
families. {held} Everything else is in `calibration.json`.
"""


def read_benchmark(path: Path) -> dict[str, Any]:
    """A benchmark's report, with its judges; ValueError, with the file, if it is none."""
    try:
        report = parse_object(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    judges = report.get("judges")
    if not isinstance(judges, dict) or not all(isinstance(j, dict) for j in judges.values()):
        raise ValueError(f"{path}: expected the report of a benchmark, got other JSON; name one, "
                         "like reports/RUN/benchmark.json")  # fmt: skip
    return report


def figures_of(benchmark: Path | None, adapter: str | None, identity: str) -> str:
    """What a report of the benchmark says of a critic, by its identity or that of its adapter.

    A quantized critic, and what a server has made of an export, bear the adapter too, and may well
    stand in the same report: the identity of the float one alone has it behind the base's.

    Raises:
        ValueError: if it is another's, or none.
    """
    if benchmark is None:
        return ""
    report = read_benchmark(benchmark)
    judges, items = report["judges"], report.get("items") or {}
    key, own = ("adapter", adapter) if adapter else ("identity", identity)
    alike = [j for j in judges.values() if _is_of(str(j.get("identity")), adapter, identity)]
    # Two stages may have the same adapter, each with a calibration of its own.
    row = max(alike, key=lambda j: j.get("identity") == identity, default=None)
    if row is None:
        raise ValueError(f"{benchmark}: expected the benchmark of this critic ({key} {own[:12]}), "
                         "got another's; name its own")  # fmt: skip
    found = {name: row["metrics"].get(name, {}) for name in _METRICS}
    lines = [f"| {name} | {m['value']:.3f} | {m['low']:.3f} to {m['high']:.3f} |"
             for name, m in found.items() if m.get("low") is not None]  # fmt: skip
    share = items.get("prevalence")
    flawed = "" if share is None else f" ({100 * share:.0f} % flawed)"
    known = [f"{said}\n"] if (said := known_items(items.get("known") or {})) else []
    return "\n".join([f"## Measured\n\nThe float critic, n = {row['n']}{flawed}, threshold "
                      f"{row['threshold']:.4f}; 95 % intervals.\n", *known,
                      "| | | |", "|---|---|---|", *lines, ""])  # fmt: skip


def _is_of(said: str, adapter: str | None, identity: str) -> bool:
    """Whether a judge's identity is this one, or its base and adapter, whatever the calibration."""
    return said == identity or (adapter is not None and f"+{adapter}" in said)


def _data(facts: Mapping[str, Any]) -> str:
    rows = [
        f"    {shown(name, 60)}  sha256 {digest}" for name, digest in facts["trained_on"].items()
    ]
    return f"""\
## Data and licence

Trained on rationales composed from scenario families and mechanisms of argument, as twins that
differ in one place; what else was mixed in stands in the manifest of the data. Files, by hash:

{chr(10).join(rows) or "    none on record"}

Licence of the weights: {facts["licence"] or "that of the base, which does not say; look it up"}.
"""


def _limits(facts: Mapping[str, Any]) -> str:
    return """\
## Limits

- English, one rationale of a few sentences to a page; other texts are outside of what was measured.
- Composed data have one voice: on what people write it is weaker than on composed items.
- A verdict is about the reasoning as written. It does not know whether the facts are true.
- The reasons that it writes are less reliable than its verdict: evidence may be misquoted.
- Somebody decides after it: it is no authority in medicine, security, defence or trading.
"""


def _hashes(facts: Mapping[str, Any]) -> str:
    names = ("base", "adapter", "merged")
    rows = [f"    {name:<8} {facts[name]}" for name in names if facts.get(name)]
    return ("## Hashes\n\n" + "\n".join(rows) + "\n\nThose of the files are in `manifest.json`; "
            "`minicrit` refuses a folder whose files differ from it.\n")  # fmt: skip
