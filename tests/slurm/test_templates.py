"""The batch files hold to what Vista allows; no cluster is needed to see that."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SLURM = ROOT / "slurm"
SOURCED = {"env.sh", "finish.sh"}
BESIDE = {"launch.sh", "chain.sh"}
JOBS = sorted(p.name for p in SLURM.glob("*.sh") if p.name not in SOURCED | BESIDE)
LONG = ("data", "sft", "dpo", "rsf", "benchmark", "pipeline", "make")
#: Most nodes and hours of a job, by queue.
QUEUES = {"gg": (32, 48), "gh": (64, 48), "gh-dev": (8, 2)}
ALLOWED = {"-J", "-p", "-N", "--ntasks-per-node", "-t", "--signal", "-o", "--open-mode"}
LONGEST = 40
#: How those end that are not called as their stage; an export brings what serves it.
ENDS = {"setup": 'make setup doctor "$@"', "make": 'make "$@"',
        "serve": '$LAUNCH -N 1 -n 1 bash "$EXPORT/serve.sh" "$@"'}  # fmt: skip


def directives(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    parts = [re.fullmatch(r"#SBATCH (-{1,2}[A-Za-z-]+)[ =](\S+)", line) for line in lines]
    assert all(parts), lines
    found = {part[1]: part[2] for part in parts}
    assert len(found) == len(parts), "each once"
    return found


def problems(text: str) -> list[str]:
    """What the queues or the house would refuse in a batch file."""
    lines = text.splitlines()
    if lines[0] != "#!/bin/bash":
        return ["the first line"]
    try:
        given = directives(text)
    except AssertionError:
        return ["a directive that is none, or twice"]
    found = [f"directive {key}" for key in given if key not in ALLOWED]
    commands = [n for n, line in enumerate(lines) if line and not line.startswith("#")]
    late = [n for n, line in enumerate(lines) if line.startswith("#SBATCH") and n > commands[0]]
    found += ["a directive after a command"] if late else []
    found += ["a variable in a directive"] if any("$" in value for value in given.values()) else []
    missing = {"-J", "-p", "-N", "--ntasks-per-node", "-t", "-o"} - given.keys()
    if missing:
        return [*found, f"missing {sorted(missing)}"]
    nodes, hours = QUEUES.get(given["-p"], (0, 0))
    clock = [int(part) for part in given["-t"].split(":")]
    over = clock[0] + clock[1] / 60 + clock[2] / 3600 > hours
    found += ["the queue or its limits"] if int(given["-N"]) > nodes or over else []
    body = "\n".join(line for line in lines if not line.startswith("#"))
    for pattern in (r"(KEY|TOKEN|SECRET)\w*=\S", r"set -\w*x", r"^\s*env\b", r"\bprintenv\b",
                    r"getopts|yq\b|\.yaml", r"\bscontrol requeue\b", r"^\s*sbatch\b"):  # fmt: skip
        found += [pattern] if re.search(pattern, body, re.MULTILINE) else []
    return found


def test_there_is_one_for_each_thing_that_users_do():
    short = {"setup.sh", "preflight.sh", "prefetch.sh", "serve.sh"}
    assert short | {f"{n}.sh" for n in LONG} == set(JOBS)


@pytest.mark.parametrize("name", JOBS)
def test_a_batch_file_is_what_the_queue_takes_and_ends_in_a_command_of_make(name):
    text = (SLURM / name).read_text()
    assert problems(text) == []
    lines = text.splitlines()
    assert len(lines) < LONGEST
    assert "source slurm/env.sh" in lines
    stage = name.removesuffix(".sh")
    assert lines[-1] == ENDS.get(stage, f'make {stage} "$@"')
    if stage not in {"serve", "make"}:
        assert re.search(rf"^{stage}: .*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    given = directives(text)
    assert given["--ntasks-per-node"] == "1"
    assert given["-o"].startswith("slurm/logs/")  # it has to be there when the job is submitted
    if stage in LONG:
        assert given["--signal"] == "USR1@600"  # to the steps, not (B:) to the shell
        assert "trap finish EXIT" in lines


def test_the_folder_of_the_logs_comes_with_a_clone():
    assert (SLURM / "logs" / ".gitignore").read_text() == "*\n!.gitignore\n"


SOUND = (SLURM / "sft.sh").read_text()


@pytest.mark.parametrize(("old", "new"), [
    ("#!/bin/bash", "#!/bin/bash -l"),
    ("#SBATCH -p gh", "#SBATCH --gres=gpu:1"), ("#SBATCH -p gh", "#SBATCH --gpus-per-task=1"),
    ("#SBATCH -p gh", "#SBATCH -p gh\n#SBATCH --mem=100G"),
    ("#SBATCH -p gh", "#SBATCH -p gh\n#SBATCH --export=ALL"),
    ("#SBATCH -p gh", "#SBATCH -p gh\n#SBATCH --exclude=c1"),
    ("#SBATCH -p gh", "#SBATCH -p gh\n#SBATCH -w c1"),
    ("#SBATCH -p gh", "#SBATCH -p $QUEUE"), ("#SBATCH -p gh", "#SBATCH -p gh\n#SBATCH -p gg"),
    ("#SBATCH -p gh", "#SBATCH -p gh-dev"), ("#SBATCH -p gh", "#SBATCH -p normal"),
    ("-t 24:00:00", "-t 48:00:01"), ("-N 4", "-N 65"), ("#SBATCH -N 4\n", ""),
    ("#SBATCH --ntasks-per-node=1\n", ""), ("#SBATCH -t 24:00:00\n", ""),
    ("make sft", "export ANTHROPIC_API_KEY=abc\nmake sft"), ("make sft", "set -x\nmake sft"),
    ("make sft", "env\nmake sft"), ("make sft", "sbatch slurm/sft.sh\nmake sft"),
    ("cd ", "true\n#SBATCH -A mine\ncd "),
])  # fmt: skip
def test_what_the_queue_would_refuse_is_seen(old, new):
    assert old in SOUND
    assert problems(SOUND.replace(old, new)) != []


@pytest.mark.parametrize("path", sorted(SLURM.glob("*.sh")), ids=lambda p: p.name)
def test_bash_reads_it(path):
    assert len(path.read_text().splitlines()) < LONGEST
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("path", sorted(SLURM.glob("*.sh")), ids=lambda p: p.name)
def test_shellcheck_finds_nothing(path):
    command = ["shellcheck", "-x", "-e", "SC1091", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == ""
