"""Stand-ins for Slurm's commands: what scripts see of it, in processes of this machine.

`sbatch FILE` runs the job at once, as links of a chain run one after the other anyway; its output
goes where the file says. `srun` starts so many tasks with the variables that srun gives them, and
leaves their process ids in a file: Slurm's signal before the limit goes to these, not to the shell.
"""

import os
import sys
from pathlib import Path

SBATCH = r"""
import os, pathlib, re, subprocess, sys, time
words = sys.argv[1:]
dependency = None
while words and words[0].startswith("-"):
    word = words.pop(0)
    if word in ("-d", "-A", "-p", "-N"):
        value = words.pop(0)
        dependency = value if word == "-d" else dependency
script, *told = words
text = pathlib.Path(script).read_text()
given = dict(re.findall(r"^#SBATCH (-{1,2}[A-Za-z-]+)[ =](\S+)$", text, re.M))
counter = pathlib.Path("jobs"); jobs = counter.read_text().split() if counter.exists() else []
if dependency:
    kind, _, before = dependency.partition(":")
    assert kind in ("afterany", "afterok") and before in jobs, dependency
job = str(100001 + len(jobs))
counter.write_text(" ".join([*jobs, job]))
nodes = os.environ.get("STAND_IN_NODES", given["-N"])
assert given["--ntasks-per-node"] == "1"
environment = {**os.environ, "SLURM_JOB_ID": job, "SLURM_JOB_NAME": given["-J"],
    "SLURM_NNODES": nodes, "SLURM_NTASKS": nodes, "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_JOB_NODELIST": "localhost", "SLURM_SUBMIT_DIR": os.getcwd(),
    "SLURM_JOB_PARTITION": given["-p"]}
out = given["-o"].replace("%x", given["-J"]).replace("%j", job)
with open(out, "a") as log:  # fails like Slurm if the folder is not there
    process = subprocess.Popen(["bash", script, *told], env=environment, stdout=log, stderr=log)
    limit = os.environ.get("STAND_IN_LIMIT")  # a file: when it appears, the time is nearly over
    limit = None if pathlib.Path("signalled").exists() else limit
    while process.poll() is None:
        pids = pathlib.Path(f"steps.{job}")
        if limit and "--signal" in given and pathlib.Path(limit).exists() and pids.exists():
            assert given["--signal"] == "USR1@600"
            for pid in pids.read_text().split():
                os.kill(int(pid), 10)
            limit = None
            pathlib.Path("signalled").touch()  # later jobs have time enough
        time.sleep(0.02)
pathlib.Path(f"job.{job}").write_text(str(process.returncode))
print(job)
"""
SRUN = r"""
import os, pathlib, subprocess, sys
words, told = sys.argv[1:], {"-N": os.environ["SLURM_NNODES"], "-n": os.environ["SLURM_NTASKS"]}
while words[0].startswith("-"):
    word = words.pop(0)
    if word in told:
        told[word] = words.pop(0)
    else:
        assert word.startswith(("--kill-on-bad-exit=0", "--wait=")), word
assert told["-N"] == told["-n"], "one task a node"
tasks = []
for rank in range(int(told["-n"])):
    more = {"SLURM_PROCID": rank, "SLURM_NODEID": rank, "SLURM_LOCALID": 0,
            "SLURM_NTASKS": told["-n"], "SLURM_NNODES": told["-N"],
            "SLURM_STEP_NUM_NODES": told["-N"]}
    environment = {**os.environ, **{k: str(v) for k, v in more.items()}}
    tasks.append(subprocess.Popen(words, env=environment))
pids = pathlib.Path(f"steps.{os.environ['SLURM_JOB_ID']}")
pids.write_text(" ".join(str(task.pid) for task in tasks))
ended = [task.wait() for task in tasks]
pids.unlink()
sys.exit(max(128 - status if status < 0 else status for status in ended))
"""
SCONTROL = (
    '#!/bin/bash\necho "$*" >> scontrol.log\n[ "$1 $2" = "show hostnames" ] && echo 127.0.0.1\n'
)
MODULE = '#!/bin/bash\necho "$*" >> module.log\n'


def put_on_path(folder: Path) -> str:
    """Writes the commands; the PATH that finds them first."""
    folder.mkdir()
    for name, text in {
        "sbatch": f"#!{sys.executable} -SE{SBATCH}",
        "srun": f"#!{sys.executable} -SE{SRUN}",
        "scontrol": SCONTROL,
        "module": MODULE,
    }.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"
