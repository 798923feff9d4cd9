"""The index of runs is what manifests, curves, reports and logs say, and nothing else."""

import json
import shutil
import struct
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from minicrit import cli
from minicrit.care_config import RunsConfig
from minicrit.eventlog import seconds_logged
from minicrit.files import write_json
from minicrit.manifest import read_manifest, write_manifest
from minicrit.runs import facts, find_runs, flat, table


def stage(
    run: str, name: str, data: str, *, rank: int = 4, f1: float = 0.8, start: str | None = None
) -> None:
    folder = Path("checkpoints", run, name)
    folder.mkdir(parents=True)
    (folder / "history.jsonl").write_text(
        '{"step": 1, "val/f1": 0.1}\n' + json.dumps({"step": 2, "val/f1": f1}) + "\n"
    )
    rows = Path("data", f"{data}.jsonl")
    rows.parent.mkdir(exist_ok=True)
    rows.write_text(data)
    (folder / "adapter_model.safetensors").write_text(name)
    inputs = {"train": rows}
    if start:
        inputs["start"] = folder.parent / start / "adapter_model.safetensors"
    settings = {"lora": {"rank": rank}, "seed": 0}
    write_manifest(folder, stage="sft", inputs=inputs, settings=settings,
                   facts={"steps": 2})  # fmt: skip


@pytest.fixture(autouse=True)
def _two(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stage("one", "sft", "a")
    stage("one", "dpo", "b", f1=0.9, start="sft")
    stage("two", "sft", "a", rank=8)
    metrics = {"f1": {"value": 0.85, "low": 0.8, "high": 0.9}, "fpr": {"value": None}}
    report = {"judges": {"model_1": {"metrics": metrics}},
              "command": "minicrit benchmark --config recipes/mine.yaml --seed 1"}  # fmt: skip
    write_json(Path("reports/two/benchmark.json"), report)
    Path("reports/two/broken.json").write_text("{")
    stage("base", "tiny", "c")  # bases are no runs
    stage("released", "embedded-1", "c")


def run(capsys, *words: str) -> tuple[int, str, str]:
    status = cli.main(["runs", *words])
    return status, *capsys.readouterr()


def test_one_line_a_run(capsys):
    status, out, _ = run(capsys)
    rows = [line.split() for line in out.splitlines()]
    assert status == 0
    assert rows[0] == ["run", "recipe", "data", "stages", "f1", "fpr", "auroc", "twin_consistency",
                       "minutes"]  # fmt: skip
    # The last stage's validation where nothing was benchmarked, marked so, and the mark explained.
    assert rows[1][0] == "one"
    assert rows[1][-5:] == ["0.900v", "-", "-", "-", "-"]
    assert rows[2] == ["two", "mine.yaml", rows[2][2], "sft", "0.850", "-", "-", "-", "-"]
    assert rows[2][2] in rows[1]
    assert " ".join(rows[3]) == "v: of the last validation, of few items; no benchmark was run"
    assert len(rows) == 4
    shutil.rmtree("checkpoints/one")
    assert "v:" not in run(capsys)[1]


def test_two_runs_differ_in_what_is_listed_and_in_nothing_else(capsys):
    status, out, _ = run(capsys, "--runs.compare", "one,two")
    assert status == 0
    found = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:]}
    assert found["sft.settings.lora.rank"] == ["4", "8"]
    assert found["dpo.facts.steps"] == ["2", "-"]
    assert found["benchmark.f1"] == ["-", "0.85"]
    assert found["validation.f1"] == ["0.9", "-"]  # the last of the run that has no benchmark
    assert "sft.inputs.train" not in found
    assert "sft.settings.seed" not in found
    assert run(capsys, "--runs.compare", "one, two")[:2] == (0, out)
    _, out, _ = run(capsys, "--runs.compare", "one,one")
    assert out.split() == ["what", "one", "one"]


@pytest.mark.parametrize(("name", "whose"), [
    ("checkpoints/two/sft", "of an older critic"),
    ("checkpoints/released/embedded-1", "of checkpoints/released/embedded-1"),
])  # fmt: skip
def test_figures_of_another_critic_are_not_those_of_the_run(capsys, caplog, name, whose):
    path = Path("reports/two/benchmark.json")
    report = json.loads(path.read_text())
    outputs = read_manifest(Path("checkpoints/two/sft"))["outputs"]
    own = {"name": name, "adapter": outputs["adapter_model.safetensors"]}
    report["judges"]["model_1"] |= own
    write_json(path, report)
    assert "0.850" in run(capsys)[1]
    assert "benchmark is" not in caplog.text
    report["judges"]["model_1"]["adapter"] = "0" * 64
    write_json(path, report)
    assert run(capsys)[1].splitlines()[2].split()[-5:] == ["-"] * 5
    assert f"two: the benchmark is {whose}; measure it again" in caplog.text
    caplog.clear()
    _, out, _ = run(capsys, "--runs.compare", "one,two")
    assert f"two: the benchmark is {whose}" in caplog.text
    (line,) = (line for line in out.splitlines() if line.startswith("benchmark"))
    assert line.split(maxsplit=2)[1:] == ["-", whose]


def test_as_json(capsys):
    _, out, _ = run(capsys, "--runs.json", "true")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["run"] for row in rows] == ["one", "two"]
    assert rows[0]["stages"].split() == ["sft", "dpo"]


def test_stages_stand_in_the_order_of_descent(capsys):
    """Whatever their folders are called; of two that end a line, the later by name is last."""
    stage("one", "again", "b", f1=0.7, start="dpo")
    stage("one", "kto", "b", f1=0.6, start="sft")
    assert "sft dpo kto again  0.700v" in run(capsys)[1]
    stage("one", "other", "b", f1=0.5, start="dpo")
    assert "0.500v" in run(capsys)[1]


@pytest.mark.parametrize("names", ["one", "one,two,one", "one,three", ""])
def test_what_cannot_be_compared_is_named(capsys, names):
    status, out, err = run(capsys, "--runs.compare", names)
    assert (status, out) == (1, "")
    assert "runs.compare: expected two of one, two, got" in err


def test_a_run_is_made_of_its_files_alone():
    before = {r.name: facts(r) for r in find_runs(RunsConfig())}
    assert before == {r.name: facts(r) for r in find_runs(RunsConfig())}
    assert not Path("runs").exists()
    Path("checkpoints/two/sft/manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="expected a manifest with stage"):
        list(find_runs(RunsConfig()))


def test_minutes_are_those_that_were_logged(tmp_path):
    folder = Path("runs/one/sft")
    assert seconds_logged(folder) is None
    for start in (1000.0, 5000.0):  # what lies between two starts does not count
        with SummaryWriter(str(folder), filename_suffix=f".{start}") as log:
            for step in range(4):
                log.add_scalar("loss", 1.0, step, walltime=start + 20 * step)
    logs = sorted(folder.iterdir())
    for log in logs:  # the header of a file says when it was opened: now
        log.write_bytes(log.read_bytes()[8 + 4 + header(log) + 4 :])
    assert seconds_logged(folder) == pytest.approx(120)
    logs[1].write_bytes(logs[1].read_bytes()[:-10])  # cut off while it was written
    assert seconds_logged(folder) == pytest.approx(100)
    (one, _) = find_runs(RunsConfig())
    assert one.minutes == pytest.approx(100 / 60)


def header(path: Path) -> int:
    return struct.unpack("<Q", path.read_bytes()[:8])[0]


def test_names_and_tables():
    assert flat({"a": {"b": {"c": 1}, "d": {}}, "e": 2}) == {"a.b.c": 1, "a.d": {}, "e": 2}
    assert table([("a", "b"), ("cc", "d\x1b")]) == "a   b\ncc  d\\x1b\n"
