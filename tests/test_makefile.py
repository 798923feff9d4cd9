"""What make redoes and what it leaves alone, with a stand-in that writes each stage's files."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

#: Writes what the stage would; the adapter only changes with its training data and settings.
STAND_IN = """
import pathlib, sys
stage, told = sys.argv[1], sys.argv[2:]
values = {flag: value for flag, value in zip(told, told[1:]) if flag.startswith("--")}
def write(path, text="x"):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
with open("log", "a") as log:
    log.write(" ".join([stage, *told]) + "\\n")
if stage == "base":
    write("checkpoints/base/x/config.json")
    print("checkpoints/base/x", values.get("--base.model"))
if stage == "data":
    for name in ("train", "train-fresh", "validation", "calibration", "test", "manifest"):
        write(f"{values['--data.folder']}/{name}.json" + "l" * (name != "manifest"), name)
if stage == "sft":
    data = pathlib.Path(values["--data.folder"], "train.jsonl").read_text()
    adapter = pathlib.Path(values["--sft.out"], "manifest.json")
    if not adapter.exists() or adapter.read_text() != data + values.get("--lora.rank", ""):
        write(adapter, data + values.get("--lora.rank", ""))
if stage == "calibrate":
    write(values["--calibrate.model"] + "/calibration.json")
if stage == "benchmark":
    write(values["--benchmark.out"] + ".json")
if stage == "quantize":
    write(values["--quantize.out"] + "/manifest.json")
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


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the Makefile, small sources, and a stand-in for the installed command."""
    for name in [n for n in os.environ if n in ("RECIPE", "RUN", "BITS", "PYTHON") or "MAKE" in n]:
        monkeypatch.delenv(name)
    for name in SOURCES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "mine.yaml").write_text(RECIPE)
    (tmp_path / ".venv/bin/minicrit").write_text(f"#!{sys.executable} -SE{STAND_IN}")
    (tmp_path / ".venv/bin/minicrit").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*words: str) -> subprocess.CompletedProcess[str]:
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


def test_the_ladder_judges_every_critic_of_the_run(project):
    """SFT with the benchmark, each other one by itself; what was judged is not judged again."""
    redone("pipeline")
    assert redone("ladder") == ["benchmark"]  # int8, which the pipeline made
    critic = Path("checkpoints/mine/dpo/manifest.json")
    critic.parent.mkdir(parents=True)
    critic.write_text("x")
    assert redone("ladder") == ["benchmark"]
    (line,) = Path("log").read_text().splitlines()
    assert line.rindex("--benchmark.model_1 checkpoints/mine/dpo") > line.index("mine/sft")
    assert "--benchmark.model_2 null --benchmark.words false" in line
    assert line.endswith("--benchmark.out reports/mine/benchmark-dpo")
    assert redone("ladder") == []
    assert redone("pipeline") == ["report"]


def edit(name: str, old: str, new: str) -> None:
    text = Path(name).read_text()
    assert old in text
    time.sleep(0.02)
    Path(name).write_text(text.replace(old, new))


def test_a_second_run_does_nothing(project):
    assert redone("pipeline") == ALL
    assert redone("pipeline") == []
    assert make("pipeline").stdout.splitlines() == [
        "",
        "SUMMARY",
        "report: reports/mine/index.html",
    ]
    assert redone("sft") == redone("benchmark") == redone("data") == []


@pytest.mark.parametrize(("touched", "stages"), [
    ("data_gen/families/general/bees.yaml", ["data", "report"]),  # the same rows come out
    ("minicrit/records.py", ["data", "report"]),
    ("minicrit/benchmark.py", ["benchmark", "report"]),
    ("minicrit/report.html", ["report"]),
    ("minicrit/packing.py", []),
    ("mine.yaml", []),
])  # fmt: skip
def test_an_edited_source_redoes_what_it_is_part_of(project, touched, stages):
    make("pipeline")
    edit(touched, "", "")
    assert redone("pipeline") == stages
    assert redone("pipeline") == []


@pytest.mark.parametrize(("split", "stages"), [
    ("train", ["sft", "benchmark", "quantize", "report"]), ("validation", ["sft"]),
    ("test", ["benchmark", "quantize", "report"]), ("calibration", []),
])  # fmt: skip
def test_an_edited_data_file_redoes_what_reads_it(project, split, stages):
    make("pipeline")
    edit(f"data/mine/{split}.jsonl", split, "other")
    assert redone("pipeline") == stages
    assert redone("pipeline") == []


@pytest.mark.parametrize(("old", "new", "stages"), [
    ("limit: 3", "limit: 4", ["benchmark", "report"]),
    ("epochs: 1", "epochs: 2", ["sft"]),  # the stand-in then finds nothing to change
    ("train: 8", "train: 9", ["data", "sft", "report"]),
    ("seed: 1", "seed: 2", ["data", "sft", "benchmark", "quantize", "report"]),
    ("# about", "# more about", []),
    (RECIPE, "{seed: 2}\n", ["base", "data", "sft", "benchmark", "quantize", "report"]),
])  # fmt: skip
def test_an_edited_recipe_redoes_the_stages_of_its_section(project, old, new, stages):
    make("pipeline")
    edit("mine.yaml", old, new)
    assert redone("pipeline") == stages
    assert redone("pipeline") == []


def test_the_page_about_the_data_follows_data_and_pairs(project):
    assert redone("data-report") == ["base", "data", "data-report"]
    assert redone("data-report") == []
    make("data", "ARGS=--data.train 9")
    assert redone("data-report", "ARGS=--data.train 9") == ["data-report"]
    Path("data/mine-pairs").mkdir()
    Path("data/mine-pairs/manifest.json").write_text("x")
    Path("data/mine-pairs/pairs.jsonl").write_text("x")
    assert redone("data-report", "ARGS=--data.train 9") == ["data-report"]
    assert "--pairs.out data/mine-pairs" in Path("log").read_text()
    assert redone("data-report", "ARGS=--data.train 9") == []


def test_learning_from_revisions_and_from_thumbs(project):
    told = ("constitution", "ROUNDS=3", "REVISER=ollama", "MODEL_NAME=m")
    assert redone(*told) == ["base", "data", "sft", "constitution"]
    assert redone(*told) == []
    assert redone("constitution", "ROUNDS=3") == ["constitution"]
    assert "--constitution.out checkpoints/mine/constitution --constitution.rounds 3" in (
        Path("log").read_text()
    )
    assert redone("constitution", "ROUNDS=3", "ARGS=--dpo.beta 0.2") == ["constitution"]
    Path("thumbs.jsonl").write_text("x")
    assert redone("kto", "THUMBS=thumbs.jsonl") == ["kto"]
    assert redone("kto", "THUMBS=thumbs.jsonl") == []
    edit("thumbs.jsonl", "x", "y")
    assert redone("kto", "THUMBS=thumbs.jsonl") == ["kto"]
    assert redone("kto") == ["pairs", "kto"]


def test_settings_on_the_command_line_count_for_their_stages(project):
    make("pipeline")
    assert redone("pipeline", "ARGS=--benchmark.limit 9") == ["benchmark", "report"]
    assert redone("pipeline", "ARGS=--benchmark.limit 9") == []
    rank = "ARGS=--lora.rank 2 --benchmark.limit=9"
    assert redone("pipeline", rank) == ["sft", "benchmark", "quantize", "report"]
    assert "--lora.rank 2 --benchmark.limit=9" in Path("log").read_text()


def test_a_calibration_follows_critic_and_split_and_reaches_the_benchmark(project):
    make("pipeline")
    assert redone("calibrate") == ["calibrate"]
    assert "--calibrate.model checkpoints/mine/sft" in Path("log").read_text()
    assert redone("calibrate") == []
    assert redone("pipeline") == ["benchmark", "report"]
    assert redone("calibrate", "ALPHA=0.02") == ["calibrate"]
    assert "--calibrate.alpha 0.02" in Path("log").read_text()
    make("calibrate")
    edit("data/mine/calibration.jsonl", "calibration", "other")
    assert redone("calibrate") == ["calibrate"]
    edit("mine.yaml", "epochs: 1", "epochs: 1\nlora:\n  rank: 2")
    edit("data/mine/train.jsonl", "train", "other")
    assert redone("calibrate") == ["sft", "calibrate"]


def test_the_calibration_of_another_critic_lies_with_it(project):
    make("quantize")
    small = "MODEL=checkpoints/mine/int8"
    assert redone("calibrate", small) == ["calibrate"]
    assert Path("checkpoints/mine/int8/calibration.json").exists()
    assert not Path("checkpoints/mine/sft/calibration.json").exists()
    assert redone("calibrate", small) == []


def test_base_reaches_the_stages_that_read_it(project):
    make("pipeline")
    assert redone("sft", "BASE=tiny") == ["base", "data", "sft"]
    assert Path("log").read_text().count("--base.model tiny") == 3
    assert redone("benchmark", "BASE=tiny") == ["benchmark"]
    assert "--benchmark.model_2 tiny" in Path("log").read_text()


def test_a_lost_base_comes_back_and_makes_nothing_else_stale(project):
    make("pipeline")
    shutil.rmtree("checkpoints/base")
    assert redone("pipeline") == ["base"]
    assert redone("pipeline") == []


def test_both_sizes_live_side_by_side(project):
    make("pipeline")
    assert redone("quantize", "BITS=4") == ["quantize"]
    assert "--quantize.out checkpoints/mine/int4" in Path("log").read_text()
    assert redone("quantize") == redone("quantize", "BITS=4") == []


def test_a_failed_stage_is_tried_again(project):
    make("data")
    edit(".venv/bin/minicrit", 'if stage == "sft":', 'if stage == "sft":\n    sys.exit(1)')
    assert make("pipeline").returncode != 0
    edit(".venv/bin/minicrit", "    sys.exit(1)\n", "")
    assert redone("pipeline") == ["sft", "benchmark", "quantize", "report"]


def test_a_failed_installation_leaves_no_stamp(project):
    edit("constraints.txt", "x", "y")
    done = make("data", "PYTHON=false")
    assert done.returncode != 0
    assert not Path("data").exists()
    Path(".venv/.ready").unlink()
    assert make("lint", "PYTHON=false").returncode != 0
    assert not Path(".venv/.ready").exists()


def test_a_rationale_arrives_as_it_was_typed(project):
    text = """made $500; "so" it's `fine` \\n #1"""
    assert make("critique", f"TEXT={text}", "DOMAIN=trading").returncode == 0
    assert Path("log").read_text() == (
        f"critique {text} --domain trading --model checkpoints/mine/sft\n"
    )


def test_rounds_of_dpo_are_told_how_later_pairs_are_made(project):
    edit(
        ".venv/bin/minicrit",
        'if stage == "benchmark":',
        """if stage in ("pairs", "dpo"):
    write(values[f"--{stage}.out"] + "/manifest.json")
if stage == "benchmark":""",
    )
    for name in ("pairs", "oracle", "reasons", "preferences", "judge", "candidates", "scouting"):
        Path(f"data_gen/{name}.py").write_text("x")
    told = ("dpo", "ROUNDS=2", "CANDIDATES=6")
    assert redone(*told) == ["base", "data", "sft", "pairs", "dpo"]
    line = Path("log").read_text().splitlines()[-1]
    assert "--dpo.pairs data/mine-pairs/pairs.jsonl" in line
    assert "--dpo.rounds 2 --pairs.data data/mine/train-fresh.jsonl --pairs.candidates 6" in line
    assert redone(*told) == []
    assert redone("dpo", "ROUNDS=3", "CANDIDATES=6") == ["dpo"]


def test_clean_removes_this_run_only(project):
    make("pipeline")
    shutil.copytree("data/mine", "data/other")
    Path("checkpoints/released").mkdir()
    out = make("clean").stdout
    assert out.split() == ["removing", "data/mine", "removing", "checkpoints/mine", "removing",
                           "reports/mine", "removing", ".make/mine"]  # fmt: skip
    assert Path("data/other/train.jsonl").exists()
    assert Path("checkpoints/base/x/config.json").exists()
    make("distclean")
    assert {path.name for path in Path().iterdir()} == {
        "Makefile", "checkpoints", "constraints.txt", "data_gen", "log", "mine.yaml", "minicrit",
        "pyproject.toml",
    }  # fmt: skip
    assert [path.name for path in Path("checkpoints").iterdir()] == ["released"]


@pytest.mark.parametrize("name", ["", "../x", "..", "a b", "base", "released", "/"])
def test_a_run_name_that_could_remove_something_else_is_refused(project, name):
    done = make("clean", f"RUN={name}")
    assert done.returncode != 0
    assert "RUN: expected one plain name" in done.stderr
    assert Path("data_gen").exists()


def test_help_lists_every_target_and_variable(project):
    text = (ROOT / "Makefile").read_text()
    shown = make().stdout
    for name in (
        "help",
        "setup",
        *ALL,
        "calibrate",
        "pipeline",
        "critique",
        "probe",
        "test",
        "lint",
        "clean",
    ):
        assert f"\n  {name} " in "\n" + shown
        assert f"\n{name}: " in text
    for name in (
        "RECIPE",
        "RUN",
        "BASE",
        "ARGS",
        "BITS",
        "ALPHA",
        "MODEL",
        "MODEL_1",
        "DATA",
        "TEXT",
    ):
        assert f"\n  {name} " in shown


def test_tensorboard_listens_on_this_machine_only():
    text = (ROOT / "Makefile").read_text()
    assert "tensorboard --logdir runs --host 127.0.0.1" in text
    assert "bind_all" not in text


def test_import_says_where_from_and_where_to(project):
    assert redone("import", "FROM=raw", "KIND=medec", "ARGS=--imports.zip true") == ["import"]
    assert Path("log").read_text() == (
        "import --config mine.yaml --imports.source raw --imports.kind medec "
        "--imports.out data/public --imports.zip true\n"
    )
