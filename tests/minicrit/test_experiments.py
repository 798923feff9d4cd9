"""The stage: from a file of items to a report; killed and resumed; refusals; the command."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from minicrit.base import load_model, load_tokenizer
from minicrit.cli import main
from minicrit.config import Recipe
from minicrit.critic import Critic
from minicrit.experiments import experiments
from minicrit.records import write_examples
from tests.minicrit.benchmark_case import small

ARMS = 1 + 3 + 1 + 10 + 1 + 2  # trained, styles, reasoning, layouts, greedy, temperatures


@pytest.fixture(scope="module")
def tiny_critic(tiny):
    """How a critic is loaded, and how often it is asked."""
    model, tokenizer = load_model(tiny), load_tokenizer(tiny)

    class Counting(Critic):
        asked, dies_after = 0, 1_000_000

        def odds_after(self, prompts, **settings):
            type(self).asked += 1
            if self.asked > self.dies_after:
                raise KeyboardInterrupt
            return super().odds_after(prompts, **settings)

    return lambda path: Counting(model, tokenizer, name="tiny", identity="tiny")


def made(folder: Path, **settings) -> Recipe:
    recipe = Recipe(seed=4)
    recipe.experiments = replace(
        recipe.experiments, model="tiny", data=folder / "validation.jsonl", samples=2, sampled=4,
        temperatures=[0.0, 0.9], max_new_tokens=8, thought_tokens=4, rows=4, draws=50,
        out=folder / "reports" / "experiments", **settings,
    )  # fmt: skip
    write_examples(folder / "validation.jsonl", [replace(e, split="validation") for e in small()])
    return recipe


def untimed(report: dict) -> dict:
    return {k: v for k, v in report.items() if k not in ("measured", "settings", "inputs")}


@pytest.fixture(scope="module")
def case(tmp_path_factory, tiny_critic):
    recipe = made(tmp_path_factory.mktemp("whole"))
    return recipe, experiments(recipe, load=tiny_critic)


def test_every_arm_is_in_the_report_with_its_cost(case):
    recipe, report = case
    assert len(report["arms"]) == len(report["measured"]["arms"]) == ARMS
    assert {arm["n"] for arm in report["arms"].values()} == {8, 4}
    assert all(times["n"] for times in report["measured"]["arms"].values())
    assert report["items"]["all"]["n"] == 8
    assert report["items"]["sampled"]["n"] == 4
    assert report["model"]["zero_shot"] is True
    assert len(report["comparisons"]) == ARMS - 2 + 1  # reasoning twice
    written = Path(f"{recipe.experiments.out}.json").read_text()
    assert json.loads(written) == json.loads(json.dumps(report))


def test_temperature_zero_is_greedy_in_every_number(case):
    _, report = case
    greedy, cold = report["arms"]["greedy"], report["arms"]["temperature 0"]
    same = ("verdict_right", "parsed", "evidence_overlap", "distinct_1", "distinct_2",
            "tokens_written", "tokens_read", "finished")  # fmt: skip
    assert {k: greedy[k] for k in same} == {k: cold[k] for k in same}
    assert cold["verdicts_differ"]["value"] == cold["texts_apart"]["value"] == 0


def test_the_page_has_every_arm_and_says_what_is_trained(case):
    recipe, report = case
    page = Path(f"{recipe.experiments.out}.md").read_text()
    assert all(f"| {name} |" in page for name in report["arms"])
    assert "read zero-shot: it was trained on none of these prompts" in page
    assert "Over 11 layouts of one prompt (n=8)" in page


def test_a_trained_critic_is_told_from_a_base(tmp_path, tiny_critic):
    def load(path: str) -> Critic:
        critic = tiny_critic(path)
        critic.adapter = "abc"
        return critic

    recipe = made(tmp_path, arms=["formats"])
    report = experiments(recipe, load=load)
    trained = {name: arm["trained"] for name, arm in report["arms"].items()}
    assert trained == {"plain-1": True, "analyze": False, "expert": False, "cot": False}
    page = Path(f"{recipe.experiments.out}.md").read_text()
    assert "trained on the prompt `plain-1` alone" in page


def test_a_critic_of_all_weights_is_no_base(tmp_path, tiny_critic):
    def load(path: str) -> Critic:
        critic = tiny_critic(path)
        critic.fitted_to |= {"whole": "abc"}
        return critic

    report = experiments(made(tmp_path, arms=["formats"]), load=load)
    assert report["model"]["zero_shot"] is False
    assert report["arms"]["plain-1"]["trained"] is True


def test_killed_and_run_again_it_asks_the_rest_and_says_the_same(case, tmp_path, tiny_critic):
    _, whole = case
    recipe = made(tmp_path)
    dies = type(tiny_critic("tiny"))
    dies.asked, dies.dies_after = 0, 60
    with pytest.raises(KeyboardInterrupt):
        experiments(recipe, load=tiny_critic)
    assert not Path(f"{recipe.experiments.out}.json").exists()
    rows = sorted(Path(f"{recipe.experiments.out}.rows").glob("*.jsonl"))
    with max(rows, key=lambda path: path.stat().st_mtime_ns).open("ab") as file:
        file.write(b'{"ids": ["0/va')  # killed while writing
    dies.asked, dies.dies_after = 0, 1_000_000
    report = experiments(recipe, load=tiny_critic)
    assert untimed(report) == untimed(whole)
    # a first call warms up; of 15 arms of 8 items, 59 answers were there
    assert dies.asked == 1 + 15 * 8 - 59


def test_run_again_with_nothing_changed_asks_nothing_and_writes_the_same(case, tiny_critic):
    recipe, _ = case
    path = Path(f"{recipe.experiments.out}.json")
    before = path.read_text()
    counting = type(tiny_critic("tiny"))
    counting.asked = 0
    experiments(recipe, load=tiny_critic)
    assert counting.asked == 1
    assert path.read_text() == before


def test_answers_of_other_code_or_items_are_removed_of_the_same_arms_only(case, tiny_critic):
    recipe, _ = case
    folder = Path(f"{recipe.experiments.out}.rows")
    (folder / "plain-1.0123456789abcdef.jsonl").write_text("{}\n")
    (folder / "mine.0123456789abcdef.jsonl").write_text("{}\n")
    experiments(recipe, load=tiny_critic)
    assert not (folder / "plain-1.0123456789abcdef.jsonl").exists()
    assert len(list(folder.glob("*.jsonl"))) == ARMS + 1


@pytest.mark.parametrize(("settings", "said"), [
    ({"arms": ["style"]}, "experiments.arms: expected some of temperature, formats, .* got style"),
    ({"arms": []}, "experiments.arms: .* got none"),
    ({"temperatures": [0.3, 0.3]}, "experiments.temperatures: expected different numbers"),
    ({"temperatures": [-1.0]}, "experiments.temperatures: .* got -1"),
    ({"samples": 0}, "experiments.samples: expected 1 or more, got 0"),
    ({"limit": 1}, "limit: expected room for a whole group, got 1"),
])  # fmt: skip
def test_settings_that_are_no_use_are_refused(tmp_path, tiny_critic, settings, said):
    recipe = made(tmp_path)
    recipe.experiments = replace(recipe.experiments, **settings)
    with pytest.raises(ValueError, match=said):
        experiments(recipe, load=tiny_critic)


def test_training_rows_are_refused(tmp_path, tiny_critic):
    recipe = made(tmp_path)
    write_examples(recipe.experiments.data, [replace(e, split="train") for e in small()])
    with pytest.raises(ValueError, match="rows that are not trained on, got 8 of split train"):
        experiments(recipe, load=tiny_critic)


def test_too_many_items_that_do_not_fit_stop_it(tmp_path, tiny_critic):
    def load(path: str) -> Critic:
        critic = tiny_critic(path)
        longest = max(len(critic.encoder.prompt(e.domain, e.rationale)) for e in small())
        critic.encoder = replace(critic.encoder, max_tokens=longest + 3)
        return critic

    recipe = made(tmp_path, arms=["reformatting"])
    with pytest.raises(ValueError, match="expected at most 5% of the items too long, got"):
        experiments(recipe, load=load)


def test_a_first_item_that_is_too_long_is_counted(tmp_path, tiny_critic):
    recipe = made(tmp_path, arms=["formats"])
    rows = [replace(e, id=f"{e.id}/{n}", group=f"{e.group}/{n}") for n in range(3) for e in small()]
    rows = [replace(e, split="validation") for e in rows]
    long = replace(rows[0], rationale="word " * 5000)
    write_examples(recipe.experiments.data, [long, *rows[1:]])
    report = experiments(recipe, load=tiny_critic)
    assert {(arm["n"], arm["unscored"]) for arm in report["arms"].values()} == {(23, 1)}


def test_a_second_run_of_the_same_is_refused(case, tiny_critic, tmp_path):
    recipe, _ = case
    path = next(Path(f"{recipe.experiments.out}.rows").glob("plain-1.*"))
    hold = f"import fcntl, sys\nf = open({str(path)!r}, 'a')\nfcntl.flock(f, fcntl.LOCK_EX)\n"
    other = subprocess.Popen([sys.executable, "-c", hold + "print('held', flush=True); input()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert other.stdout
    other.stdout.readline()
    with pytest.raises(ValueError, match="the only run that writes it"):
        experiments(recipe, load=tiny_critic)
    other.communicate("\n")


def test_the_command(tmp_path, tiny, monkeypatch, capsys):
    recipe = made(tmp_path)
    out = tmp_path / "reports" / "experiments"
    told = ["--config", "tiny", "--base.folder", str(tiny.folder.parent),
            "--experiments.model", "tiny", "--experiments.data", str(recipe.experiments.data),
            "--experiments.arms", "[formats]", "--experiments.out", str(out)]  # fmt: skip
    assert main(["experiments", *told]) == 0
    assert "| plain-1 | no | 8 |" in capsys.readouterr().out
    assert json.loads(Path(f"{out}.json").read_text())["settings"]["arms"] == ["formats"]
    assert main(["experiments", *told, "--experiments.samples", "0"]) == 2
    assert "experiments.samples: expected 1 or more" in capsys.readouterr().err
