"""What make redoes and what it leaves alone, with a stand-in that writes each stage's files."""

import shutil
from pathlib import Path

import pytest

from tests.make_project import ALL, NEEDS_MAKE, RECIPE, ROOT, edit, make, redone

pytestmark = NEEDS_MAKE


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
def test_an_edited_source_redoes_what_it_is_part_of(piped, touched, stages):
    edit(touched, "", "")
    assert redone("pipeline") == stages
    assert redone("pipeline") == []


@pytest.mark.parametrize(("split", "stages"), [
    ("train", ["sft", "benchmark", "quantize", "report"]), ("validation", ["sft"]),
    ("test", ["benchmark", "quantize", "report"]), ("calibration", []),
])  # fmt: skip
def test_an_edited_data_file_redoes_what_reads_it(piped, split, stages):
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
def test_an_edited_recipe_redoes_the_stages_of_its_section(piped, old, new, stages):
    edit("mine.yaml", old, new)
    assert redone("pipeline") == stages
    assert redone("pipeline") == []


def test_settings_on_the_command_line_count_for_their_stages(piped):
    assert redone("pipeline", "ARGS=--benchmark.limit 9") == ["benchmark", "report"]
    assert redone("pipeline", "ARGS=--benchmark.limit 9") == []
    rank = "ARGS=--lora.rank 2 --benchmark.limit=9"
    assert redone("pipeline", rank) == ["sft", "benchmark", "quantize", "report"]
    assert "--lora.rank 2 --benchmark.limit=9" in Path("log").read_text()


def test_base_reaches_the_stages_that_read_it(piped):
    assert redone("sft", "BASE=tiny") == ["base", "data", "sft"]
    assert Path("log").read_text().count("--base.model tiny") == 3
    assert redone("benchmark", "BASE=tiny") == ["benchmark"]
    assert "--benchmark.model_2 tiny" in Path("log").read_text()


def test_a_lost_base_comes_back_and_makes_nothing_else_stale(piped):
    shutil.rmtree("checkpoints/base")
    assert redone("pipeline") == ["base"]
    assert redone("pipeline") == []


def test_both_sizes_live_side_by_side(piped):
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
    text = """made $500; "so" it's `fine` \\n #1 $(shell touch run) $(id)"""
    assert make("critique", f"TEXT={text}", "DOMAIN=trading").returncode == 0
    assert Path("log").read_text() == (
        f"critique {text} --domain trading --model checkpoints/released/embedded-10\n"
    )
    assert not Path("run").exists()


def test_clean_removes_this_run_only(piped):
    shutil.copytree("data/mine", "data/other")
    Path("checkpoints/released").mkdir()
    for folder in ("checkpoints/.mine.fetched", "reports/mine-seeds", "reports/other-seeds"):
        Path(folder).mkdir()
    out = make("clean").stdout
    assert out.split()[1::2] == ["data/mine", "checkpoints/mine", "checkpoints/.mine.fetched",
                                 "reports/mine", "reports/mine-seeds", ".make/mine"]  # fmt: skip
    assert Path("reports/other-seeds").exists()
    assert Path("data/other/train.jsonl").exists()
    assert Path("checkpoints/base/x/config.json").exists()
    Path("checkpoints/.mine.fetched").mkdir()
    make("distclean")
    assert {path.name for path in Path().iterdir()} == {
        "Makefile", "checkpoints", "constraints.txt", "data_gen", "log", "mine.yaml", "minicrit",
        "pyproject.toml",
    }  # fmt: skip
    assert [path.name for path in Path("checkpoints").iterdir()] == ["released"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../x",
        "..",
        "a b",
        "base",
        "released",
        "/",
        "*",
        "rel*",
        "?ublic",
        "{a,b}",
        "public",
        "hard-composer",
        "-rf",
        "lr:2",
        "50%",
        "a,b",
    ],
)
def test_a_run_name_that_could_remove_something_else_is_refused(project, name):
    done = make("clean", f"RUN={name}")
    assert done.returncode != 0
    assert "RUN: expected one plain name" in done.stderr
    assert Path("data_gen").exists()


@pytest.mark.parametrize("sign", ["$$", "&", ";", "|", "<", ">", "(", ")", "`", "'", '"', "\\"])
@pytest.mark.parametrize("name", ["RUN", "DATA", "DOMAIN", "ARCHIVE"])
def test_what_the_shell_would_read_is_refused(project, name, sign):
    done = make("data", f"{name}=R{sign}D")
    assert done.returncode != 0
    assert f"{name}: expected none of $ & ;" in done.stderr
    assert f"got R{sign}D; name it otherwise" in done.stderr
    assert not Path(".make").exists()


def test_a_word_beside_a_rationale_runs_nothing(project):
    for domain in ("trading; touch run;", "trading$(shell touch run)"):
        assert make("critique", "TEXT=x", f"DOMAIN={domain}").returncode != 0
    assert not Path("run").exists()


@pytest.mark.parametrize(("told", "expected"), [
    ("RECIPE=workstaton", "RECIPE: expected one of"),
    ("RECIPE=none.yaml", "or a YAML file, got \"none.yaml\""),
    *((f"{name}=my data/x", f'{name}: expected a path without blanks, got "my data/x"; make a link')
      for name in ("DATA", "FROM", "OUT", "MODEL", "TRADES", "PRICES", "LOG", "STORE", "THUMBS")),
    ("ALHPA=0.02", "ALHPA: expected a variable that make help lists"),
    ("alpha=0.02", "alpha: expected a variable that make help lists"),
    ("BITS=3", "BITS: expected 16, 8 or 4, got \"3\""),
    ("BITS=8 4", "BITS: expected 16, 8 or 4, got \"8 4\""),
    ("FORMAT=onnx", "FORMAT: expected hf, gguf, ollama or vllm, got \"onnx\""),
    ("THUMBS=none.jsonl", "THUMBS: expected a file of thumbs, got none at \"none.jsonl\""),
    ("ROUNDS=two", 'ROUNDS: expected a whole number from 1, got "two"'),
    ("ROUNDS=0", 'ROUNDS: expected a whole number from 1, got "0"'),
    ("COUNT=-5", 'COUNT: expected a whole number from 1, got "-5"'),
    ("CANDIDATES=-1", 'CANDIDATES: expected a whole number, got "-1"'),
    ("KEEP=a.b", 'KEEP: expected a share from 0 to 1, got "a.b"'),
    ("KEEP=25", 'KEEP: expected a share from 0 to 1, got "25"'),
    ("ALPHA=8", 'ALPHA: expected a share from 0 to 1, got "8"'),
    ("ALPHA=8%", 'ALPHA: expected a share from 0 to 1, got "8%"'),
    ("BUDGET_USD=ten", 'BUDGET_USD: expected a number, got "ten"'),
    ("SEED=-1", 'SEED: expected a whole number, got "-1"'),
    ("DOMAIN=a b", 'DOMAIN: expected one word, got "a b"'),
    ("N=4 5", 'N: expected a whole number from 1, got "4_5"'),
    ("SCORER=oracel", 'SCORER: expected one of oracle anthropic ollama openai, got "oracel"'),
    *((f"{name}=anthropic", f"ANTHROPIC_API_KEY: expected a key in the environment for {name}=anth")
      for name in ("JUDGE", "SCORER", "REVISER")),
    ("MODEL=none", "MODEL: expected the folder of a critic, got none at \"none\""),
])  # fmt: skip
def test_what_nobody_can_use_is_refused_before_anything_is_made(
    project, monkeypatch, told, expected
):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    done = make("quantize", told)
    assert done.returncode != 0
    assert expected in done.stderr
    assert not Path(".make").exists()


def test_a_variable_in_front_of_make_does_not_pass_unnoticed(project, monkeypatch):
    monkeypatch.setenv("DATA", "own")
    monkeypatch.setenv("RUN", "other")
    monkeypatch.setenv("BUDGET_USD", "5")
    done = make("--dry-run", "data")
    assert (
        "DATA in front of make, or exported, sets nothing; write it behind the goal" in done.stderr
    )
    assert "BUDGET_USD in front of make" in done.stderr
    assert "RUN in front" not in done.stderr
    assert "data/other" in done.stdout
    heard = make("--dry-run", "data", "DATA=tests-own", "BUDGET_USD=5")
    assert not heard.stderr
    assert ("tests-own" in heard.stdout, "own" in done.stdout) == (True, False)


def test_a_critic_that_the_run_makes_may_come_yet(project):
    done = make("--dry-run", "dpo", "quantize", "MODEL=checkpoints/mine/dpo")
    assert done.returncode == 0
    assert "Circular" not in done.stderr
    assert "--pairs.model checkpoints/mine/sft" in done.stdout
    assert "--quantize.model checkpoints/mine/dpo" in done.stdout


@pytest.mark.parametrize("goals", [["benchmark"], ["dpo"], ["rsf", "benchmark"], ["speculative"]])
def test_a_critic_named_for_what_does_not_read_it_is_refused(project, goals):
    Path("checkpoints/theirs").mkdir(parents=True)
    Path("checkpoints/theirs/manifest.json").write_text("x")
    done = make(*goals, "MODEL=checkpoints/theirs")
    assert done.returncode != 0
    assert f'MODEL: expected a goal that reads it, got "{" ".join(goals)}"' in done.stderr
    assert not Path(".make").exists()


def test_another_base_does_not_keep_the_commit_of_the_recipe_s(project):
    shown = make("--dry-run", "sft", "BASE=tiny").stdout
    assert "--base.model tiny --base.revision null" in shown


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


@pytest.mark.parametrize(
    ("stage", "folder"),
    [("sft", "checkpoints/mine/sft"), ("quantize", "checkpoints/mine/int8")],
)
def test_a_folder_keeps_its_manifest_where_what_comes_after_it_fails(project, stage, folder):
    """Without it, it would be nobody's folder, which no stage replaces."""
    edit(
        ".venv/bin/minicrit",
        "def write(",
        f"""import atexit
if stage == "{stage}":
    atexit.register(os._exit, 1)
def write(""",
    )
    assert make(stage).returncode != 0
    assert Path(folder, "manifest.json").exists()
