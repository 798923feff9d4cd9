"""What serves a critic with vLLM: its merged folder, or its base with the adapter as a LoRA module.

vLLM wants other versions of torch and transformers, so `serve.sh` runs in an environment of its
own. The type of the weights is always named there: left to itself, vLLM rounds float32 to bfloat16.
"""

import shlex
import shutil
from pathlib import Path

from minicrit.files import write_json
from minicrit.jsonl import parse_object
from minicrit.lora import WEIGHTS, refuse_foreign

#: What `--max-lora-rank` may be.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
CONFIG = "adapter_config.json"
#: What makes an adapter more than plain LoRA; vLLM refuses it or, which is worse, takes no notice.
_MORE = (
    "use_dora", "lora_bias", "modules_to_save", "rank_pattern", "alpha_pattern",
    "layers_to_transform", "layer_replication", "fan_in_fan_out", "alora_invocation_tokens",
    "trainable_token_indices", "use_bdlora", "use_qalora",
)  # fmt: skip
#: Beginnings that leave the base as it is; others (PiSSA) train against a changed one.
_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")


def lora_rank(folder: Path) -> int:
    """The rank limit that vLLM needs for an adapter.

    Raises:
        ValueError: if it is an adapter that vLLM does not apply, or not as it was trained.
    """
    refuse_foreign(folder)
    told = parse_object((folder / CONFIG).read_bytes())
    wrong = {
        **{name: told.get(name) for name in _MORE},
        "bias": told.get("bias", "none") != "none",
        "init_lora_weights": told.get("init_lora_weights") not in _STARTS,
    }
    if found := [name for name, bad in wrong.items() if bad]:
        raise ValueError(f"{folder / CONFIG}: expected an adapter that is plain LoRA for vLLM, got "
                         f"{found[0]}; serve the merged folder")  # fmt: skip
    fitting = [rank for rank in RANKS if rank >= int(told["r"])]
    if not fitting:
        raise ValueError(f"{folder / CONFIG}: expected a rank of at most {RANKS[-1]}, got "
                         f"{told['r']}; serve the merged folder")  # fmt: skip
    return fitting[0]


def copy_adapter(source: Path, target: Path, base: str) -> None:
    """Copies weights and config of an adapter, with the name of its base in place of a path."""
    target.mkdir(parents=True)
    shutil.copyfile(source / WEIGHTS, target / WEIGHTS)
    told = parse_object((source / CONFIG).read_bytes())
    write_json(target / CONFIG, {**told, "base_model_name_or_path": base})


def serve_script(name: str, *, base: str, rank: int | None, context: int, dtype: str) -> str:
    """`serve.sh`: the merged model, or with LORA=1 the base and the adapter.

    Args:
        name: under which the critic is served.
        base: Hugging Face id or folder of the base.
        rank: see `lora_rank`; None if there is no adapter.
        context: tokens of prompt and critique together.
        dtype: of the weights, as the folder holds them.
    """
    # What was made here has no id that a server could fetch it by.
    there = "/" in base and not Path(base).exists()
    base = f"-{shlex.quote(base)}" if there else "?expected the folder or id of the base"
    shared = (
        f'--host "${{HOST:-127.0.0.1}}" --port "${{PORT:-8000}}" --max-model-len {context} \\\n'
    )
    plain = f'    --generation-config vllm --dtype "${{DTYPE:-{dtype}}}" "$@"\n'
    lora = (
        ""
        if rank is None
        else f"""\
if [ "${{LORA:-0}}" = 1 ]; then # base and adapter; more: name=folder after --lora-modules
    BASE=${{BASE:{base}}}
    [ ! -d "$here/$BASE" ] || BASE=$here/$BASE
    exec "$VLLM" serve "$BASE" --enable-lora --max-lora-rank {rank} \\
    --lora-modules {name}=adapters/{name} --chat-template model/chat_template.jinja \\
    {shared}{plain}fi
"""
    )
    return f"""\
#!/bin/bash
# Serves {name} with vLLM (its own environment: VLLM=.../bin/vllm); also HOST, PORT, and
# DTYPE: another than {dtype} says other things than the critic.
set -euo pipefail
here=$PWD # VLLM and BASE may be named from where this is called
cd "$(dirname "$0")"
case ${{VLLM:=vllm}} in /*) ;; */*) VLLM=$here/$VLLM ;; esac
{lora}exec "$VLLM" serve model --served-model-name {name} {shared}{plain}"""
