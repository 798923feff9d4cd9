"""What make does for seeds, with the same stand-in: one of any stage, a ladder over several."""

from pathlib import Path

from tests.make_project import NEEDS_MAKE, edit, make, redone, trains_more

pytestmark = NEEDS_MAKE


def test_a_seed_is_one_of_data_and_training_and_a_run_of_its_own(project):
    """Every stage hears it, settings win over it, and another seed makes stale what it decides."""
    assert redone("sft", "SEED=5", "ARGS=--sft.epochs 2") == ["base", "data", "sft"]
    lines = Path("log").read_text().splitlines()
    assert all(line.endswith("--seed 5 --sft.epochs 2") for line in lines)
    assert redone("sft", "SEED=5", "ARGS=--sft.epochs 2") == []
    assert redone("data", "SEED=6") == ["data"]
    for words, said in ((("sft", "SEED=1 2"), "one number"), (("sft", "SEEDS=1 2"), 'got "sft"'),
                        (("ladder", "report", "SEEDS=1 2"), 'got "ladder report"'),
                        (("ladder", "SEEDS=1 2", "SEED=1"), "and SEED=1"),
                        (("ladder", "SEEDS=1"), "two whole numbers or more, got \"1\""),
                        (("ladder", "SEEDS=1,2"), "two whole numbers or more, got \"1,2\""),
                        (("ladder", "SEEDS=1 2 1"), "each seed once, got")):  # fmt: skip
        done = make(*words)
        assert done.returncode == 2
        assert said in done.stderr


def test_the_ladder_over_seeds_is_a_ladder_each_and_one_table(project):
    trains_more("dpo", "rsf")
    edit(".venv/bin/minicrit", '"reports/mine/', 'os.path.dirname(values["--benchmark.out"]) + "/')
    one = redone("ladder", "RUN=other", "SEED=4")
    found = redone("ladder", "SEEDS=0 1", "ARGS=--sft.epochs 2")
    assert found == ([*one, "report"] * 2) + ["seeds"]
    lines = Path("log").read_text().splitlines()
    each = len(one) + 1
    assert all("--seed 0 --sft.epochs 2" in line for line in lines[:each])
    assert all("--seed 1 --sft.epochs 2" in line for line in lines[each:-1])
    assert any("--sft.out checkpoints/mine-seed1/sft" in line for line in lines[each:])
    assert "--seeds.reports reports/mine-seed0,reports/mine-seed1" in lines[-1]
    assert "--seeds.out reports/mine-seeds/ladder --sft.epochs 2" in lines[-1]
    assert redone("ladder", "SEEDS=0 1", "ARGS=--sft.epochs 2") == ["report", "report", "seeds"]
    Path("reports/mine-seeds").mkdir()
    Path("reports/mine-seeds/ladder.json").write_text("{}")
    assert make("archive", "SEEDS=0 1", "ARCHIVE=kept").returncode == 0
    kept = {path.relative_to("kept").as_posix() for path in Path("kept").glob("*/*")}
    each = ("data/{}", "data/{}-pairs", "checkpoints/{}", "reports/{}")
    runs = {path.format(f"mine-seed{seed}") for seed in "01" for path in each}
    assert kept == runs | {"reports/mine-seeds"}
