"""What stands in a clone for the command: a stand-in for it, or the real one with a tiny recipe."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What make would find after a stage; the first so many starts of a stage end with a given status.
MINICRIT = """#!/bin/bash
stage=$1
told=" $* "
value() { local rest="${told#* --$1 }"; echo "${rest%% *}"; }
echo "$stage" "rank=$SLURM_PROCID/$SLURM_NTASKS" "offline=$HF_HUB_OFFLINE" "to=$MASTER_ADDR" \\
    "key=${CANARY_KEY:+yes}" >> starts
if [ -s "fail.$stage" ]; then read -r status < "fail.$stage"; rm "fail.$stage"; exit "$status"; fi
write() { mkdir -p "$(dirname "$1")"; echo x > "$1"; }
case $stage in
    base) write checkpoints/base/x/config.json; echo checkpoints/base/x ;;
    data) for one in train train-fresh validation calibration test; do
              write "$(value data.folder)/$one.jsonl"; done
          write "$(value data.folder)/manifest.json" ;;
    sft | dpo | rsf | pairs | quantize) write "$(value "$stage.out")/manifest.json" ;;
    benchmark) write "$(value benchmark.out).json" ;;
    report) write reports/mine/index.html; write reports/mine/summary.md ;;
esac
"""

CRITIC = f'#!/bin/bash\nexec {sys.executable} -m minicrit.cli "$@"\n'


def with_the_real_command(tiny, monkeypatch) -> None:
    """Gives the clone (the working directory) the real command and a tiny run of eight steps."""
    Path(".venv/bin/minicrit").write_text(CRITIC)
    Path("data_gen/x.py").unlink()
    Path("checkpoints").mkdir()
    Path("checkpoints/base").symlink_to(tiny.folder.parent)
    recipe = (ROOT / "minicrit/recipes/tiny.yaml").read_text()
    more = "save_every: 2\n  samples: 0"
    Path("mine.yaml").write_text(recipe.replace("save_every: 2", more))
    for name, value in {"PYTHONPATH": str(ROOT), "THREADS": "1"}.items():
        monkeypatch.setenv(name, value)


def assert_same_adapters(one: str, other: str) -> None:
    """Two runs ended in the same bytes."""
    for name in ("adapter_model.safetensors", "history.jsonl", "adapter_config.json"):
        a, b = (Path("checkpoints", run, "sft", name).read_bytes() for run in (one, other))
        assert a == b, name
