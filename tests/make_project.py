"""A folder for make, with a stand-in for the command that writes each stage's files."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDS_MAKE = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

#: Writes what the stage would; the adapter only changes with its training data and settings. It is
#: started a thousand times, and to load pathlib would take longer than all else.
STAND_IN = """
import os, sys
stage, told = sys.argv[1], sys.argv[2:]
values = {flag: value for flag, value in zip(told, told[1:]) if flag.startswith("--")}
def write(path, text="x"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
with open("log", "a") as log:
    log.write(" ".join([stage, *told]) + "\\n")
if stage == "base":
    write("checkpoints/base/x/config.json")
    print("checkpoints/base/x", values.get("--base.model"))
if stage == "data":
    for name in ("train", "train-fresh", "validation", "calibration", "test", "manifest"):
        write(f"{values['--data.folder']}/{name}.json" + "l" * (name != "manifest"), name)
if stage == "sft":
    adapter = values["--sft.out"] + "/manifest.json"
    made = open(values["--data.folder"] + "/train.jsonl").read() + values.get("--lora.rank", "")
    if not os.path.exists(adapter) or open(adapter).read() != made:
        write(adapter, made)
if stage == "calibrate":
    write(values["--calibrate.model"] + "/calibration.json")
if stage == "explain":
    write(values["--explain.out"] + ".json")
if stage == "errors":
    write(values["--errors.out"] + ".json")
if stage == "benchmark":
    write(values["--benchmark.out"] + ".json")
if stage == "quantize":
    write(values["--quantize.out"] + "/manifest.json")
if stage == "export":
    write(values["--export.out"] + "/manifest.json")
if stage == "constitution":
    write(values["--constitution.out"] + "/manifest.json")
if stage == "kto":
    write(values["--kto.out"] + "/manifest.json")
if stage == "pairs":
    write(values["--pairs.out"] + "/manifest.json")
if stage == "data-report":
    write("reports/mine/data.html")
if stage == "report":
    write("reports/mine/index.html")
    write("reports/mine/summary.md", "SUMMARY")
"""
SOURCES = (
    "data_gen/case.py", "data_gen/families/general/bees.yaml", "minicrit/records.py",
    "minicrit/report.html", "minicrit/benchmark.py", "minicrit/packing.py", "pyproject.toml",
    "constraints.txt", ".venv/bin/minicrit", ".venv/.ready",
)  # fmt: skip
ALL = ["base", "data", "sft", "benchmark", "quantize", "report"]
RECIPE = "seed: 1\ndata:\n  train: 8\nsft:\n  epochs: 1\n\n# about it\nbenchmark:\n  limit: 3\n"


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the folder the working directory and takes out of the environment what make reads."""
    for name in [n for n in os.environ if n in ("RECIPE", "RUN", "BITS", "PYTHON") or "MAKE" in n]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    return folder


def lay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the Makefile, small sources, and a stand-in for the installed command."""
    for name in SOURCES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "mine.yaml").write_text(RECIPE)
    (tmp_path / ".venv/bin/minicrit").write_text(f"#!{sys.executable} -SE{STAND_IN}")
    (tmp_path / ".venv/bin/minicrit").chmod(0o755)
    return enter(tmp_path, monkeypatch)


def make(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs make in the project."""
    time.sleep(0.02)  # so that times differ, whatever the clock of the file system
    command = ["make", "RECIPE=mine.yaml", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def redone(*words: str) -> list[str]:
    """The stages that a make command runs, in order."""
    log = Path("log")
    log.write_text("")
    done = make(*words)
    assert done.returncode == 0, done.stderr
    return [line.split()[0] for line in log.read_text().splitlines()]


def edit(name: str, old: str, new: str) -> None:
    """Changes a file, which is then newer than what was made from it."""
    text = Path(name).read_text()
    assert old in text
    time.sleep(0.02)
    Path(name).write_text(text.replace(old, new))


def trains_more(*names: str) -> None:
    """Lets the stand-in do stages that few tests need."""
    for name in names:
        edit(".venv/bin/minicrit", 'if stage == "kto":', f"""if stage == "{name}":
    write(values["--{name}.out"] + "/manifest.json")
if stage == "kto":""")  # fmt: skip
