"""What make does for the stages beside the pipeline, with the same stand-in."""

from pathlib import Path

import pytest

from tests.make_project import NEEDS_MAKE, edit, make, redone, trains_more

pytestmark = NEEDS_MAKE


def test_the_ladder_trains_every_rung_and_judges_it(project):
    trains_more("dpo", "rsf")
    found = redone("ladder")
    assert found[:3] == ["base", "data", "data"]
    assert found.count("sft") == 2
    assert found.count("benchmark") == 6  # sft with the base; plain, dpo, rsf, constitution, int8
    lines = Path("log").read_text().splitlines()
    (plain,) = [line for line in lines if "--sft.out checkpoints/mine/plain" in line]
    assert "--data.folder data/mine-plain" in plain
    assert "--sft.coherence 0 --sft.running 0 --sft.deep 0" in plain
    assert "--data.alone true" in lines[2]
    assert redone("ladder") == []


def test_rungs_are_every_critic_of_the_run(piped):
    """SFT with the benchmark, each other one by itself; what was judged is not judged again."""
    assert redone("rungs") == ["benchmark"]  # int8, which the pipeline made
    critic = Path("checkpoints/mine/dpo/manifest.json")
    critic.parent.mkdir(parents=True)
    critic.write_text("x")
    assert redone("rungs") == ["benchmark"]
    (line,) = Path("log").read_text().splitlines()
    assert line.rindex("--benchmark.model_1 checkpoints/mine/dpo") > line.index("mine/sft")
    assert "--benchmark.model_2 null --benchmark.words false" in line
    assert line.endswith("--benchmark.out reports/mine/benchmark-dpo")
    assert redone("rungs") == []
    assert redone("pipeline") == ["report"]


def test_what_rounds_leave_beside_a_critic_is_no_rung(piped):
    """Neither their critics, which are not those of the run, nor what they wrote and chose."""
    redone("rungs")
    for name in ("rsf-1", "rsf-1-selection", "constitution-0-vitals", "constitution-2-revisions",
                 "dpo-10", "dpo-10-pairs"):  # fmt: skip
        manifest = Path(f"checkpoints/mine/{name}/manifest.json")
        manifest.parent.mkdir(parents=True)
        manifest.write_text("x")
    assert redone("rungs") == []


def test_a_judge_follows_the_benchmark_if_there_is_one(project, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    told = ("benchmark", "JUDGE=anthropic", "JUDGE_SAMPLE=20", "MODEL_2=x", "BUDGET_USD=3")
    assert redone(*told) == ["base", "data", "sft", "benchmark", "judge"]
    line = Path("log").read_text().splitlines()[-1]
    assert "--benchmark.model_2 x" in line
    assert "--benchmark.out reports/mine/benchmark" in line
    assert "--judge.backend anthropic --judge.budget_usd 3 --judge.sample 20" in line
    assert redone(*told) == []
    assert redone("benchmark", "MODEL_2=x") == []
    assert redone("judge", "JUDGE=local", "MODEL_2=x", "ARGS=--judge.force true") == ["judge"]
    edit("data/mine/test.jsonl", "test", "other")
    assert redone(*told) == ["benchmark", "judge"]


def test_a_judge_that_failed_is_asked_again(project):
    edit(
        ".venv/bin/minicrit",
        'if stage == "sft":',
        'if stage == "judge":\n    sys.exit(1)\nif stage == "sft":',
    )
    assert make("judge", "JUDGE=local").returncode != 0
    edit(".venv/bin/minicrit", "    sys.exit(1)\n", "    pass\n")
    assert redone("judge", "JUDGE=local") == ["judge"]
    assert redone("judge", "JUDGE=local") == []


def test_a_judge_is_examined_without_a_critic(project):
    assert redone("qualify", "JUDGE=ollama", "MODEL_NAME=m") == ["qualify"]
    assert Path("log").read_text() == (
        "qualify --config mine.yaml --benchmark.out reports/mine/benchmark --judge.backend ollama "
        "--judge.model m\n"
    )


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


def test_drafts_are_measured_for_the_critic_that_is_named(project):
    assert redone("speculative") == ["base", "data", "sft", "speculative"]
    line = Path("log").read_text().splitlines()[-1]
    assert "--speculative.target checkpoints/mine/sft" in line
    assert "--speculative.phrases data/mine/train.jsonl" in line
    assert "draft" not in line
    assert redone("speculative", "TARGET=a", "DRAFT=b") == ["speculative"]
    line = Path("log").read_text().splitlines()[-1]
    assert "--speculative.target a --speculative.draft b" in line
    assert "--speculative.arms [lookup, phrases, model, both]" in line


def test_learning_from_revisions_and_from_thumbs(project):
    told = ("constitution", "ROUNDS=3", "REVISER=ollama", "MODEL_NAME=m")
    assert redone(*told) == ["base", "data", "sft", "constitution", "calibrate"]
    assert redone(*told) == []
    assert redone("constitution", "ROUNDS=3") == ["constitution", "calibrate"]
    assert "--constitution.out checkpoints/mine/constitution --constitution.rounds 3" in (
        Path("log").read_text()
    )
    beta = ("constitution", "ROUNDS=3", "ARGS=--dpo.beta 0.2")
    assert redone(*beta) == ["constitution", "calibrate"]
    Path("thumbs.jsonl").write_text("x")
    assert redone("kto", "THUMBS=thumbs.jsonl") == ["kto", "calibrate"]
    assert redone("kto", "THUMBS=thumbs.jsonl") == []
    edit("thumbs.jsonl", "x", "y")
    assert redone("kto", "THUMBS=thumbs.jsonl") == ["kto", "calibrate"]
    assert redone("kto") == ["pairs", "kto", "calibrate"]


def test_a_calibration_follows_critic_and_split_and_reaches_the_benchmark(piped):
    assert redone("calibrate") == ["calibrate"]
    assert "--calibrate.model checkpoints/mine/sft" in Path("log").read_text()
    assert redone("calibrate") == []
    assert redone("pipeline") == ["benchmark", "quantize", "report"]
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


def test_what_a_calibration_promises_outlasts_other_commands(project):
    """`make export` once certified anew, at the recipe's limit in place of the one asked for."""
    make("calibrate", "ALPHA=0.02")
    Path("checkpoints/mine/sft/calibration.json.manifest.json").write_text(
        '{\n  "facts": {"alpha": 0.5},\n  "settings": {\n    "alpha": 0.02\n  }\n}'
    )
    for goal, made in (("export", ["export"]), ("errors", ["errors"]), ("explain", ["explain"]),
                       ("benchmark", ["benchmark"]), ("quantize", ["quantize"])):  # fmt: skip
        assert redone(goal) == made
    edit("data/mine/calibration.jsonl", "calibration", "other")
    assert redone("export") == ["calibrate", "export"]
    assert "--calibrate.alpha 0.02" in Path("log").read_text().splitlines()[0]
    assert redone("calibrate") == ["calibrate"]
    assert "--calibrate.alpha" not in Path("log").read_text()


def test_the_calibration_of_another_runs_critic_is_taken_as_it_is(project):
    Path("checkpoints/theirs").mkdir(parents=True)
    for name in ("manifest.json", "calibration.json"):
        Path(f"checkpoints/theirs/{name}").write_text("x")
    model = "MODEL=checkpoints/theirs"
    assert redone("export", model) == ["export"]
    assert redone("explain", model) == ["base", "data", "explain"]
    assert redone("calibrate", model) == ["calibrate"]


def test_what_reads_verdicts_makes_all_that_is_read_stale(project):
    names = ("impostors", "loading", "reader", "recount", "sums", "equations", "rates", "statement",
             "figures", "calibrated")  # fmt: skip
    for name in names:
        Path(f"minicrit/{name}.py").write_text("x")
    goals = ("calibrate", "benchmark", "errors", "explain")
    for goal in goals:
        make(goal)
    assert [redone(goal) for goal in goals] == [[]] * 4
    edit("minicrit/reader.py", "x", "y")
    assert [redone(goal)[-1] for goal in goals] == list(goals)
    for goal, code in code_of(*goals).items():
        assert {f"minicrit/{name}.py" for name in names} <= set(code.split()), goal


def code_of(*stages):
    """What make counts as the code of each stage. (`-n -W` would not tell: it makes all stale.)"""
    shown = "".join(f"echo $({stage.upper()}_CODE);" for stage in stages)
    return dict(
        zip(stages, make(f"--eval=show:;@{shown}", "show").stdout.splitlines(), strict=True)
    )


def test_what_decides_what_is_learnt_from_makes_it_stale(project):
    trains_more("rsf")
    read = [f"data_gen/{name}.py" for name in ("firewall", "public", "screen")]
    scored = [f"minicrit/{name}.py" for name in ("figures", "prompts", "sums", "written")]
    sampled, judged = "minicrit/critic.py", "data_gen/prompts/judge-1.txt"
    for name in (*read, *scored, sampled, judged):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("x")
    goals = ("pairs", "rsf", "constitution", "errors", "explain")
    for stage, code in code_of(*goals).items():
        known = {*scored, sampled, *(read if stage in goals[:3] else ())}
        known |= {judged} if stage in ("pairs", "constitution") else set()
        assert set(code.split()) & {*read, *scored, sampled, judged} == known, stage
    make(*goals[:3])
    edit("data_gen/firewall.py", "x", "y")
    assert [stage for stage in redone(*goals[:3]) if stage in goals] == list(goals[:3])


def test_a_page_shows_what_was_looked_through_and_makes_it_of_no_other_critic(piped):
    """`make report` once looked through the run's own critic instead, and trained specialists."""
    theirs = Path("checkpoints/theirs/manifest.json")
    theirs.parent.mkdir(parents=True)
    theirs.write_text("x")
    make("errors", "MODEL=checkpoints/theirs")
    Path("reports/mine/adapters.json").write_text("x")
    assert redone("report") == ["report"]
    assert redone("report") == []
    assert redone("explain", "report") == ["explain", "report"]


def test_a_page_asked_for_behind_the_ladder_shows_it(piped):
    trains_more("dpo", "rsf")
    assert redone("ladder", "report")[-1] == "report"
    assert redone("report") == []


def test_a_public_set_may_be_without_test_rows(project):
    """As hard examples are, which all are there to be learnt from."""
    Path("public").mkdir()
    Path("public/a.jsonl").write_text("x")
    make("benchmark", "DATA=public")
    assert "--benchmark.data data/mine/test.jsonl --benchmark" in Path("log").read_text()
    Path("data/mine/test-public.jsonl").write_text("x")
    edit("minicrit/benchmark.py", "x", "y")
    make("benchmark", "DATA=public")
    line = Path("log").read_text().splitlines()[-1]
    assert "--benchmark.data data/mine/test.jsonl,data/mine/test-public.jsonl --b" in line


def test_a_public_file_that_is_gone_makes_the_data_stale(project):
    Path("public").mkdir()
    for name in "ab":
        Path(f"public/{name}.jsonl").write_text("x")
    assert redone("data", "DATA=public") == ["base", "data"]
    assert redone("data", "DATA=public") == []
    Path("public/b.jsonl").unlink()
    assert redone("data", "DATA=public") == ["data"]


@pytest.mark.parametrize("told", ["in the recipe", "in a line", "apart", "joined"])
def test_what_a_run_goes_on_from_counts_with_its_content(project, told):
    start, focus = Path("checkpoints/first/sft"), Path("reports/first/validation.json")
    for path in (start / "manifest.json", focus):
        path.parent.mkdir(parents=True)
        path.write_text("x")
    words = {
        "apart": [f"ARGS=--sft.start {start} --data.focus {focus}"],
        "joined": [f"ARGS=--sft.start={start} --data.focus={focus}"],
    }.get(told, [])
    if told == "in the recipe":
        edit("mine.yaml", "epochs: 1", f"epochs: 1\n  start: {start}")
        edit("mine.yaml", "train: 8", f"train: 8\n  focus: {focus}")
    if told == "in a line":
        edit("mine.yaml", "sft:\n  epochs: 1", f"sft: {{start: {start}, epochs: 1}}")
        edit("mine.yaml", "data:\n  train: 8", f'data: {{train: 8, focus: "{focus}"}}')
    assert redone("sft", *words) == ["base", "data", "sft"]
    assert redone("sft", *words) == []
    edit(str(start / "manifest.json"), "x", "y")
    assert redone("sft", *words) == ["sft"]
    edit(str(focus), "x", "y")
    assert redone("sft", *words)[0] == "data"
    assert redone("sft", *words) == []


def test_errors_follow_critic_and_split(project):
    assert redone("errors") == ["base", "data", "sft", "errors"]
    assert "--errors.model checkpoints/mine/sft" in Path("log").read_text()
    assert "--errors.data data/mine/validation.jsonl" in Path("log").read_text()
    assert redone("errors") == []
    told = ("errors", "JUDGE=ollama", "MODEL_NAME=m", "BUDGET_USD=2")
    assert redone(*told) == ["errors"]
    assert "--errors.judge ollama --errors.judge_model m" in Path("log").read_text()
    assert "--errors.budget_usd 2" in Path("log").read_text()
    assert redone("errors", "MODEL_NAME=m") == ["errors"]
    assert "--errors.judge" not in Path("log").read_text()
    make("calibrate")
    assert redone("errors") == ["errors"]
    edit("data/mine/validation.jsonl", "validation", "other")
    assert redone("errors") == ["sft", "errors"]


def test_whole_critiques_follow_critic_and_test_items(project):
    assert redone("explain") == ["base", "data", "sft", "explain"]
    assert "--explain.data data/mine/test.jsonl" in Path("log").read_text()
    assert redone("explain") == []
    edit("data/mine/test.jsonl", "test", "other")
    assert redone("explain") == ["explain"]


def test_rounds_of_dpo_are_told_how_later_pairs_are_made(project):
    edit(
        ".venv/bin/minicrit",
        'if stage == "benchmark":',
        """if stage in ("pairs", "dpo"):
    write(values[f"--{stage}.out"] + "/manifest.json")
if stage == "errors":
    write(values["--errors.out"] + ".json")
if stage == "benchmark":""",
    )
    for name in ("pairs", "oracle", "reasons", "preferences", "judge", "candidates", "scouting"):
        Path(f"data_gen/{name}.py").write_text("x")
    told = ("dpo", "ROUNDS=2", "CANDIDATES=6")
    assert redone(*told) == ["base", "data", "sft", "pairs", "dpo", "calibrate"]
    line, refit = Path("log").read_text().splitlines()[-2:]
    assert "--dpo.pairs data/mine-pairs/pairs.jsonl" in line
    assert "--dpo.rounds 2 --pairs.data data/mine/train-fresh.jsonl --pairs.candidates 6" in line
    assert redone(*told) == []
    assert refit.endswith("--calibrate.model checkpoints/mine/dpo")
    told = ("dpo", "ROUNDS=3", "CANDIDATES=6")
    assert redone(*told) == ["dpo", "calibrate"]
    # Named as any other critic, it has the same calibration.
    named = "MODEL=checkpoints/mine/dpo"
    assert redone("calibrate", named) == []
    assert redone("calibrate", named, "ALPHA=0.02") == ["calibrate"]
    assert redone(*told) == ["calibrate"]


def test_retraining_goes_from_decisions_to_a_calibrated_critic(project):
    Path("data/old").mkdir(parents=True)
    for name in ("test", "holdout"):
        Path(f"data/old/{name}.jsonl").write_text("x")
    more = """ARGS=--data.mechanisms "[calibration, small_sample]" --sft.best 'x y'"""
    done = redone("retrain-from-feedback", "MODEL=checkpoints/a", "STORE=s.db", more)
    assert done == ["feedback-pairs", "base", "data", "sft", "calibrate"]
    lines = Path("log").read_text().splitlines()
    assert "--feedback.store s.db --feedback.out data/operators" in lines[0]
    assert "--filters.held_out data/old/test.jsonl,data/old/holdout.jsonl" in lines[0]
    assert "--data.folder data/feedback --data.public data/operators/examples" in lines[2]
    told = "--data.mechanisms [calibration, small_sample] --sft.best x y"
    assert f"--sft.out checkpoints/feedback/sft --sft.start checkpoints/a {told}" in lines[3]
    assert "--calibrate.model checkpoints/feedback/sft" in lines[4]


def test_an_experiment_is_begun_between_two_critics(project):
    make("sft")
    assert redone("ab", "NAME=longer", "MODEL_2=checkpoints/b") == ["ab"]
    assert Path("log").read_text().splitlines()[-1] == (
        "ab --config mine.yaml --ab.name longer --ab.control checkpoints/mine/sft "
        "--ab.treatment checkpoints/b"
    )
    assert redone("ab") == ["ab"]
    for none in ("BASE=tiny", "MODEL_2="):
        assert redone("ab", "NAME=longer", none) == ["ab"]
        assert "--ab.treatment" not in Path("log").read_text()
    assert redone("bench-ab") == ["ab"]
    assert "--ab.simulate 2000" in Path("log").read_text()


def test_export_is_made_for_each_format_from_the_critic_as_it_is(project):
    make("sft")
    assert redone("export") == ["export"]
    assert Path("log").read_text().splitlines()[-1] == (
        "export --config mine.yaml --export.model checkpoints/mine/sft --export.format hf "
        "--export.out checkpoints/mine/export/sft-hf"
    )
    assert redone("export", "FORMAT=gguf", "ARGS=--export.weights q8_0") == ["export"]
    assert redone("export", "FORMAT=gguf", "ARGS=--export.weights q8_0") == redone("export") == []
    assert redone("export", "FORMAT=gguf", "ARGS=--export.weights f32") == ["export"]
    make("calibrate")
    assert redone("export") == ["export"]  # with it
    assert redone("export") == []


def test_another_critic_is_exported_beside(project):
    Path("checkpoints/released/good").mkdir(parents=True)
    Path("checkpoints/released/good/manifest.json").write_text("x")
    asked = ("export", "MODEL=checkpoints/released/good", "FORMAT=ollama")
    assert redone(*asked) == ["export"]
    assert "--export.out checkpoints/mine/export/good-ollama" in Path("log").read_text()
    assert redone(*asked) == []
