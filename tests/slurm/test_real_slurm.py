"""A chain of jobs in a real Slurm of one machine: submitted, signalled, gone on, finished.

    make test-slurm

Needs slurmctld, slurmd and munge (Debian: slurm-wlm), and to be root, as slurmd starts jobs for
users. The daemons run in a folder of the test with ports of their own, without systemd.
"""

import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.slurm.clone import assert_same_adapters, with_the_real_command

TOOLS = ("sbatch", "srun", "scancel", "scontrol", "slurmctld", "slurmd", "munged")
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason="Slurm is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmd needs root"),
]
CONFIG = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
MpiDefault=none
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=5
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cores}
PartitionName=gh Nodes=localhost Default=YES MaxTime=48:00:00
PartitionName=gg Nodes=localhost MaxTime=48:00:00
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def slurm(tmp_path_factory, monkeypatch):
    """A running Slurm; its commands find it by SLURM_CONF."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    config = folder / "slurm.conf"
    told = {"host": socket.gethostname().partition(".")[0], "folder": folder,
            "ports": (free_port(), free_port()), "cores": os.cpu_count()}  # fmt: skip
    config.write_text(CONFIG.format(**told))
    monkeypatch.setenv("SLURM_CONF", str(config))
    own = {name: folder / name for name in ("munged.pid", "slurmctld.pid", "slurmd.pid")}
    munge = [f"--{word}={folder}/munge{end}" for word, end in
             (("key-file", ".key"), ("socket", ".socket"), ("log-file", ".log"),
              ("seed-file", ".seed"), ("pid-file", "d.pid"))]  # fmt: skip
    started = (["munged", "--force", *munge], ["slurmctld", "-f", str(config)],
               ["slurmd", "-f", str(config), "-N", "localhost"])  # fmt: skip
    for command in started:
        subprocess.run(command, check=True)
    wait_for(lambda: "idle" in told_by("sinfo", "-h", "-o", "%T"), 60)
    yield folder
    for name in ("slurmd.pid", "slurmctld.pid", "munged.pid"):
        os.kill(int(own[name].read_text()), 15)


def told_by(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def wait_for(done, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, told_by("scontrol", "show", "job")
        time.sleep(0.2)


def ended(job: str) -> tuple[str, str]:
    """State and exit status of a job, once it has ended."""
    shown = told_by("scontrol", "show", "job", job)
    wait_for(lambda: "EndTime" in shown and not re.search(
        r"JobState=(RUNNING|PENDING|COMPLETING|CONFIGURING)",
        told_by("scontrol", "show", "job", job)), 900)  # fmt: skip
    shown = told_by("scontrol", "show", "job", job)
    state, status = (re.search(rf"{key}=(\S+)", shown) for key in ("JobState", "ExitCode"))
    assert state is not None
    assert status is not None
    return state[1], status[1]


def log_of(job: str) -> str:
    (log,) = Path("slurm/logs").glob(f"*.{job}.out")
    return log.read_text()


def test_a_chain_is_submitted_signalled_and_goes_on_to_the_same_bytes(
    slurm, clone, tiny, tmp_path, monkeypatch
):
    with_the_real_command(tiny, monkeypatch)
    module = tmp_path / "bin/module"  # the only command here that is not Slurm's own
    module.parent.mkdir()
    module.write_text("#!/bin/bash\n")
    module.chmod(0o755)
    monkeypatch.setenv("PATH", f"{module.parent}:{os.environ['PATH']}")
    file = Path("slurm/sft.sh")
    file.write_text(file.read_text().replace("-N 4", "-N 1"))
    whole = told_by("sbatch", "--parsable", str(file), "RUN=whole").strip()
    assert ended(whole) == ("COMPLETED", "0:0"), log_of(whole)
    out = told_by("bash", "slurm/chain.sh", "3", str(file), "RUN=stopped")
    links = re.findall(r"job (\d+)", out)
    assert "Dependency=afterany:" in told_by("scontrol", "show", "job", links[1])
    wait_for(Path("checkpoints/stopped/sft.work/step-2.ckpt.sha256").exists, 600)
    told_by("scancel", "--signal=USR1", links[0])  # to its steps, as --signal=USR1@600 does
    assert ended(links[0]) == ("FAILED", "85:0"), log_of(links[0])
    assert "stopped by SIGUSR1 after step" in log_of(links[0])
    assert ended(links[1]) == ("COMPLETED", "0:0"), log_of(links[1])
    assert "going on from checkpoints/stopped/sft.work/step-" in log_of(links[1])
    assert ended(links[2]) == ("COMPLETED", "0:0")
    assert "done: slurm/logs/sft-" in log_of(links[2])
    assert_same_adapters("whole", "stopped")
    assert (tmp_path / "work/minicrit/checkpoints/stopped/sft/manifest.json").exists()
