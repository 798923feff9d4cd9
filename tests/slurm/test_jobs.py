"""Every batch file, run with stand-ins for Slurm: what it starts, what it leaves, how it ends."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.slurm.clone import assert_same_adapters, with_the_real_command

ROOT = Path(__file__).parents[2]
JOBS = {
    "setup": ["doctor"], "preflight": ["doctor", "preflight", "preflight"], "prefetch": ["base"],
    "data": ["base", "data"], "sft": ["base", "data", "sft", "sft"],
    "dpo": ["base", "data", "sft", "pairs", "dpo", "calibrate"],
    "rsf": ["base", "data", "sft", "rsf", "calibrate"],
    "benchmark": ["base", "data", "sft", "benchmark"],
    "pipeline": ["base", "data", "sft", "benchmark", "quantize", "report"],
}  # fmt: skip


def submit(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def statuses() -> list[int]:
    return [int(p.read_text()) for p in sorted(Path().glob("job.*"))]


def log_of(job: str) -> str:
    (log,) = Path("slurm/logs").glob(f"*{job}.out")
    return log.read_text()


@pytest.mark.parametrize("name", JOBS)
def test_each_file_starts_its_stages_as_steps(vista, name):
    # Pairs of one node, as the recipes say; fine-tuning is on all nodes of its job.
    os.environ["STAND_IN_NODES"] = "2" if name in ("sft", "preflight") else "1"
    job = submit("sbatch", f"slurm/{name}.sh").strip()
    assert statuses() == [0], log_of(job)
    starts = [line.split() for line in Path("starts").read_text().splitlines()]
    assert [words[0] for words in starts] == JOBS[name]
    assert all(words[1].startswith("rank=") and "/" in words[1] for words in starts)
    ranks = sorted(words[1] for words in starts if words[0] in ("sft", "preflight"))
    if name in ("sft", "preflight"):
        assert ranks == ["rank=0/2", "rank=1/2"]
    offline = {words[2] for words in starts}
    assert offline == ({"offline=0"} if name == "prefetch" else {"offline=1"})
    assert {words[3] for words in starts} == {"to=127.0.0.1"}
    assert "requeue" not in Path("scontrol.log").read_text()
    finished = name not in ("setup", "preflight", "prefetch")
    assert Path(f"slurm/logs/{job}.DONE").exists() == finished
    archived = vista.parents[1] / "work/minicrit"
    assert archived.exists() == finished


def test_any_goal_of_make_can_be_a_job_and_modules_can_be_none(vista, monkeypatch):
    monkeypatch.setenv("MODULES", "")
    job = submit("sbatch", "slurm/make.sh", "doctor", "RUN=mine").strip()
    assert statuses() == [0], log_of(job)
    assert [line.split()[0] for line in Path("starts").read_text().splitlines()] == ["doctor"]
    assert not Path("module.log").exists()
    assert Path(f"slurm/logs/{job}.DONE").exists()


def test_a_job_of_no_goal_is_refused(vista):
    job = submit("sbatch", "slurm/make.sh").strip()
    assert statuses() == [1]
    assert "expected goals of make, got none" in log_of(job)


@pytest.mark.parametrize("words", [(), ("3",), ("x", "slurm/sft.sh"), ("3", "slurm/none.sh")])
def test_a_chain_of_what_nobody_can_submit_is_refused(vista, words):
    done = subprocess.run(["bash", "slurm/chain.sh", *words], check=False, capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("chain: expected a number of jobs and a batch file, got: ")
    assert [path.name for path in Path("slurm/logs").iterdir()] == [".gitignore"]


def test_a_chain_goes_on_until_it_is_done_and_no_further(vista):
    Path("fail.sft").write_text("85\n")
    os.environ["STAND_IN_NODES"] = "1"
    out = submit("bash", "slurm/chain.sh", "4", "slurm/sft.sh", "ARGS=--sft.epochs 2")
    assert [line.split()[2] for line in out.splitlines()] == [
        "100001",
        "100002",
        "100003",
        "100004",
    ]
    assert statuses() == [85, 0, 0, 0]
    starts = [line.split()[0] for line in Path("starts").read_text().splitlines()]
    assert starts == ["base", "data", "sft", "sft"]  # the last two started nothing
    assert "done: slurm/logs/sft-" in log_of("100003")
    assert "--sft.epochs 2" in log_of("100001")
    archive = vista.parents[1] / "work/minicrit"
    assert (archive / "checkpoints/mine/sft/manifest.json").exists()
    assert (archive / "data/mine/train.jsonl").exists()
    # Another chain is another piece of work: it looks for itself what there is to do.
    submit("bash", "slurm/chain.sh", "1", "slurm/sft.sh")
    assert "done: " not in log_of("100005")


def test_a_chain_may_wait_for_a_job_before_it(vista, monkeypatch):
    monkeypatch.setenv("STAND_IN_NODES", "1")
    data = submit("sbatch", "slurm/data.sh").strip()
    monkeypatch.setenv("AFTER", f"afterok:{data}")
    submit("bash", "slurm/chain.sh", "2", "slurm/sft.sh")
    assert statuses() == [0, 0, 0]
    monkeypatch.setenv("AFTER", "afterok:1")  # which the first link is told to wait for
    done = subprocess.run(["bash", "slurm/chain.sh", "1", "slurm/sft.sh"], check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert "afterok:1" in done.stderr


def test_a_job_that_was_cancelled_is_not_done(vista):
    """Bash takes the status of the last command that ended for its own: that of a success."""
    Path(".venv/bin/minicrit").write_text("#!/bin/bash\ntouch begun; sleep 60\n")
    told = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "localhost", "SLURM_NNODES": "1",
            "SLURM_NTASKS": "1", "SLURM_SUBMIT_DIR": str(Path.cwd())}  # fmt: skip
    job = subprocess.Popen(["bash", "slurm/data.sh"], env={**os.environ, **told},
                           start_new_session=True)  # fmt: skip
    while not Path("begun").exists():
        assert job.poll() is None
        time.sleep(0.02)
    os.killpg(job.pid, signal.SIGTERM)
    assert job.wait(20) not in (0, None)
    assert not Path("slurm/logs/7.DONE").exists()
    assert not (vista.parents[1] / "work/minicrit").exists()


def test_a_failure_is_no_success_and_the_number_of_tries_is_that_of_the_links(vista):
    os.environ["STAND_IN_NODES"] = "1"
    job = submit("sbatch", "slurm/data.sh").strip()
    for path in (Path("fail.sft"), Path(f"job.{job}")):
        path.write_text("1\n")
    submit("sbatch", "slurm/sft.sh")
    assert statuses()[-1] == 1
    assert not list(Path("slurm/logs").glob("100002.DONE"))


def test_work_in_progress_is_not_archived(vista):
    os.environ["STAND_IN_NODES"] = "1"
    Path("checkpoints/mine/dpo.work").mkdir(parents=True)
    Path("checkpoints/mine/dpo.work/step-1.ckpt").write_text("x")
    submit("sbatch", "slurm/sft.sh")
    copied = vista.parents[1] / "work/minicrit/checkpoints/mine"
    assert [p.name for p in copied.iterdir()] == ["sft"]


def alone(**environment: str) -> subprocess.CompletedProcess[str]:
    told = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "localhost", "SLURM_NNODES": "1",
            "SLURM_NTASKS": "1", "SLURM_SUBMIT_DIR": str(Path.cwd()), **environment}  # fmt: skip
    return subprocess.run(["bash", "slurm/data.sh"], env={**os.environ, **told},
                          capture_output=True, text=True, check=False)  # fmt: skip


def test_keys_come_from_a_file_of_ones_own_and_are_not_shown(vista):
    keys = vista.parent / ".minicrit-keys"
    keys.write_text("CANARY_KEY=sk-canary-123\n")
    keys.chmod(0o644)
    done = alone()
    assert done.returncode == 1
    assert "expected mode 600" in done.stderr
    keys.chmod(0o400)  # stricter still
    done = alone()
    assert done.returncode == 0, done.stderr
    assert "key=yes" in Path("starts").read_text()
    written = [p.read_bytes() for p in vista.rglob("*") if p.is_file()]
    assert b"sk-canary-123" not in b"".join([*written, done.stdout.encode(), done.stderr.encode()])


@pytest.mark.parametrize(("environment", "host", "message"), [
    ({}, "login2.vista.tacc.utexas.edu", "no AI work on login nodes"),
    ({"SLURM_JOB_ID": ""}, "c1", "expected a job, got none"),
    ({"SCRATCH": ""}, "c1", "expected $SCRATCH, got none; set it"),
    ({"SCRATCH": "/elsewhere"}, "c1", r"expected a clone below $SCRATCH"),
])  # fmt: skip
def test_wrong_places_are_refused_before_anything_starts(vista, environment, host, message):
    command = Path(os.environ["PATH"].partition(":")[0], "hostname")
    command.write_text(f"#!/bin/bash\necho {host}\n")
    command.chmod(0o755)
    done = alone(**environment)
    assert done.returncode == 1
    assert message in done.stderr
    assert not Path("starts").exists()


def test_a_fetch_that_broke_off_goes_on_and_is_verified(vista):
    """Rsync is a stand-in that copies one file a call and breaks off before the last."""
    far = vista.parents[1] / "far/checkpoints/mine/sft"
    far.mkdir(parents=True)
    for name in ("a", "b"):
        (far / name).write_text(name)
    rsync = Path(os.environ["PATH"].partition(":")[0], "rsync")
    rsync.write_text("""#!/bin/bash
echo "$*" >> rsync.log
from="${*: -2:1}"; to="${*: -1}"; mkdir -p "$to/sft"
for one in a b; do [ -e "$to/sft/$one" ] || { cp "$from/sft/$one" "$to/sft/$one"; exit 30; }; done
""")
    rsync.chmod(0o755)
    told = ["make", "vista-fetch", "RUN=mine", f"VISTA={vista.parents[1]}/far"]
    for _ in range(2):
        done = subprocess.run(told, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert not Path("checkpoints/mine/sft").exists()
    Path("fail.verify").write_text("1\n")  # a hash that does not fit
    assert subprocess.run(told, capture_output=True, check=False).returncode != 0
    assert not Path("checkpoints/mine/sft").exists()
    submit(*told)
    assert sorted(p.name for p in Path("checkpoints/mine/sft").iterdir()) == ["a", "b"]
    assert "--partial" in Path("rsync.log").read_text()
    assert [line.split()[0] for line in Path("starts").read_text().splitlines()] == ["verify"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("nodes", ["1", "2"])
def test_stopped_before_the_limit_a_real_run_ends_in_the_same_bytes(
    vista, tiny, nodes, monkeypatch
):
    """Tiny critics through the real command, in one process and in two that talk through gloo."""
    with_the_real_command(tiny, monkeypatch)
    monkeypatch.setenv("STAND_IN_NODES", nodes)
    submit("sbatch", "slurm/sft.sh", "RUN=whole")
    assert statuses() == [0], log_of("100001")
    monkeypatch.setenv("STAND_IN_LIMIT", "checkpoints/stopped/sft.work/step-2.ckpt.sha256")
    submit("bash", "slurm/chain.sh", "3", "slurm/sft.sh", "RUN=stopped")
    assert statuses()[1:] == [85, 0, 0], log_of("100002")
    assert "stopped by SIGUSR1 after step" in log_of("100002")
    assert "going on from checkpoints/stopped/sft.work/step-" in log_of("100003")
    assert "done: " in log_of("100004")
    assert_same_adapters("whole", "stopped")
