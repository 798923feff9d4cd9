"""The whole loop with a critic that can write: learning, stopping, killing, and what is refused."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from data_gen import candidates
from data_gen.backends.protocol import Answer
from data_gen.constitution import improve
from data_gen.journal import Journal
from data_gen.materials import Materials, services_of
from data_gen.oracle import score
from data_gen.revisers import SelfReviser
from data_gen.revision import _revised, make_revisions, pairs_of, report_of, targets_of
from minicrit.cli import OK, main
from minicrit.critic import Critic
from minicrit.files import folder_hashes, sha256_file
from minicrit.jsonl import read_lines, write_rows
from minicrit.manifest import read_manifest
from minicrit.prompts import critique_of, render_critique
from minicrit.records import Preference, write_examples
from minicrit.sampling import Sample
from minicrit.train import train_dpo, train_rsf
from tests.data_gen.scripted_server import ScriptedServer
from tests.data_gen.writing_critic import examples, writing_recipe

TRAIN = {"dpo": train_dpo, "targets": train_rsf}


@pytest.fixture(scope="module")
def recipe(tiny, tmp_path_factory):
    """A critic that can write and what the loop needs beside it."""
    return writing_recipe(tiny, tmp_path_factory.mktemp("writing"))


def told(recipe, out, **settings):
    return replace(recipe, constitution=replace(recipe.constitution, out=out, **settings))


def rows(path):
    return [row for _, row in read_lines(path)]


def run_interrupted(recipe, monkeypatch):
    """Runs the loop, killed in a round's training and twice while writing, to its end."""
    sample, trained, written = candidates.sample_pass, [], []

    def killed_writing(*told):
        written.append(told)
        if len(written) in (2, 5):
            raise KeyboardInterrupt
        return sample(*told)

    def killed_training(recipe):
        from models.dpo import DPOModule

        step = DPOModule.training_step

        def once(self, batch, batch_idx):
            if self.global_step == 1 and not trained:
                trained.append(batch_idx)
                raise KeyboardInterrupt
            return step(self, batch, batch_idx)

        monkeypatch.setattr(DPOModule, "training_step", once)
        return train_dpo(recipe)

    monkeypatch.setattr(candidates, "sample_pass", killed_writing)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            improve(recipe, {"dpo": killed_training})
        assert not Path("out").exists()
    improve(recipe, {"dpo": killed_training})


@pytest.mark.slow
def test_rounds_learn_and_a_run_that_was_killed_ends_in_the_same_files(
    recipe, tmp_path, monkeypatch
):
    found = {}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        here = told(recipe, Path("out"), floor=0.0)
        if name == "whole":
            improve(here, TRAIN)
        else:
            run_interrupted(here, monkeypatch)
        found[name] = {folder.name: folder_hashes(folder) for folder in Path().iterdir()
                       if not folder.name.endswith(".work")}  # fmt: skip
    assert found["whole"] == found["killed"]
    assert sorted(found["whole"]) == [
        "out", "out-0-vitals", "out-1", "out-1-revisions", "out-1-vitals", "out-2",
        "out-2-revisions", "out-2-vitals",
    ]  # fmt: skip
    assert Critic.load("out", base_folder=recipe.base.folder).adapter == sha256_file(
        "out-2/adapter_model.safetensors"
    )
    record = read_manifest(Path("out"))
    assert (record["stage"], record["facts"]["good_rounds"]) == ("constitution", 2)
    assert record["facts"]["rules_version"] == "1"
    assert "rules" in record["inputs"]
    before = Path("out/manifest.json").stat().st_mtime_ns
    improve(told(recipe, Path("out"), floor=0.0), {"dpo": train_dpo})
    assert Path("out/manifest.json").stat().st_mtime_ns == before


def test_what_a_round_writes_can_be_learnt_from(recipe, tmp_path, capsys):
    learnt = []

    def train(recipe):
        learnt.append(recipe.rsf)
        return train_rsf(recipe)

    settings = {"rounds": 1, "learn": "targets", "labels": True, "floor": 0.0}
    improve(told(recipe, tmp_path / "out", **settings), {"targets": train})
    folder = tmp_path / "out-1-revisions"
    assert learnt[0].data == folder / "targets.jsonl"
    report = json.loads((folder / "report.json").read_text())
    known = {e.id: e for e in examples("train", 12)}
    revisions = rows(folder / "revisions.jsonl")
    accepted = [row for row in revisions if row["outcome"] == "accepted"]
    assert sum(report["outcomes"].values()) == report["rationales"] == len(revisions)
    assert report["outcomes"]["accepted"] == len(accepted) > 0
    for row in accepted:
        old, new = (score(known[row["id"]], row[side]).total for side in ("draft", "revision"))
        old = 0.0 if row["broken"] is None else old  # cut off, or not in the form
        assert new > old
        assert row["scores"] == [round(old, 6), round(new, 6)]
        assert row["revision"].startswith(f"Verdict: {row['label']}")
    pairs = [Preference.from_row(row) for row in rows(folder / "pairs.jsonl")]
    assert [(p.chosen, p.rejected) for p in pairs] == [
        (r["revision"], r["draft"]) for r in accepted if r["broken"] is not None
    ]
    assert {pair.scorer for pair in pairs} == {"constitution-1/oracle"}
    targets = {row["id"]: row for row in rows(folder / "targets.jsonl")}
    assert len(targets) == report["targets"] == report["rationales"]  # of the others the label
    for row in revisions:
        whole = {"accepted": row["revision"], "clean": row["draft"]}.get(row["outcome"])
        target = targets[row["id"]]
        assert target["finished"] == (whole is not None)
        assert (
            target["text"] == whole
            if whole
            else target["text"].startswith(f"Verdict: {row['label']}")
        )
    assert not any(row["still_broken"] for row in accepted)
    printed = capsys.readouterr().out
    assert "| round | accepted of revised | distinct-1 |" in printed
    assert "The loop: all rounds were run." in printed
    decided = read_manifest(folder)["settings"]
    assert decided["prompts"] == {"revise": "1", "judge": "1"}
    assert decided["rules"]["version"] == "1"


def test_a_critic_that_collapses_is_not_kept(recipe, tmp_path):
    bare = tmp_path / "bare.jsonl"
    write_rows(bare, [
        {"group": e.group, "domain": e.domain, "rationale": e.rationale, "score": 1.0,
         "text": f"Verdict: {label}"}
        for e in examples("train", 12) for label in ("valid", "flawed")
    ])  # fmt: skip

    def train(recipe):
        if recipe.dpo.out.name == "out-1":
            return train_dpo(recipe)
        rsf = replace(recipe.rsf, start=recipe.dpo.start, out=recipe.dpo.out, data=bare,
                      batch_examples=24, epochs=24, verdict_weight=1.0,
                      learning_rate=2e-2)  # fmt: skip
        return train_rsf(replace(recipe, rsf=rsf))

    improve(told(recipe, tmp_path / "out", floor=0.3), {"dpo": train})
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["stopped"].startswith("stopped in round 2: ")
    assert "words is " in report["stopped"]
    assert report["stopped"].endswith("The critic of round 1 is kept")
    assert [entry["round"] for entry in report["rounds"]] == [1]
    assert report["refused"]["vitals"]["words"] < 0.3 * report["first"]["words"]
    assert read_manifest(tmp_path / "out")["facts"]["stopped"] == report["stopped"]
    weights = "adapter_model.safetensors"
    assert (tmp_path / "out" / weights).read_bytes() == (tmp_path / "out-1" / weights).read_bytes()
    assert "| 2 (refused) |" in (tmp_path / "out/report.md").read_text()


def test_where_nothing_is_better_the_start_is_kept_and_that_is_said(recipe, tmp_path, capsys):
    out = tmp_path / "out"
    flags = {
        "base.model": recipe.base.model, "base.folder": recipe.base.folder,
        "data.folder": recipe.data.folder, "constitution.start": recipe.constitution.start,
        "constitution.data": recipe.constitution.data, "constitution.out": out,
        "constitution.max_new_tokens": 60, "constitution.margin": 2, "constitution.probed": 4,
    }  # fmt: skip
    told = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    assert main(["constitution", "--config", "tiny", *told]) == OK
    assert "stopped in round 1: nothing to learn from (" in capsys.readouterr().out
    assert read_manifest(out)["facts"]["good_rounds"] == 0
    weights = "adapter_model.safetensors"
    assert (out / weights).read_bytes() == (recipe.constitution.start / weights).read_bytes()
    assert not (tmp_path / "out-1").exists()


def test_models_revise_and_judge_and_are_not_asked_twice(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with ScriptedServer() as server:
        models = told(
            recipe, tmp_path / "out", reviser="openai", model="m", url=server.url, scorer="both",
            judge="openai", judge_model="j", judge_url=server.url,
        )  # fmt: skip
        materials = Materials.of(models)
        for name in ("one", "two"):
            services = services_of(models.constitution)
            report = make_revisions(
                materials, models.constitution.start, tmp_path / name, 1, services
            )
            asked = server.counted["answers"]
            revised = report["asked"]["revised"]
            assert revised == report["revised"] > 0
            compared = report["asked"].get("agreed", 0)
            assert asked == revised + 2 * compared  # and no more in the second run
        assert report["outcomes"]["accepted"] <= compared + report["drafts_unread"]
        # The scripted model always says `flawed`: wrong for half of them.
        assert report["outcomes"]["verdict_wrong"] > 0
    found = folder_hashes(tmp_path / "one")
    assert found == folder_hashes(tmp_path / "two")


def test_who_finds_a_round_made_leaves_its_journal_alone(recipe, tmp_path, monkeypatch):
    """All processes but the first do, at the same time, and a journal is open in one alone."""
    monkeypatch.setenv("NO_PROXY", "*")
    train = {"dpo": lambda told: told.dpo.start}
    with ScriptedServer() as server:
        models = told(
            recipe, tmp_path / "out", reviser="openai", model="m", url=server.url, rounds=1,
            rationales=2, probed=2, max_new_tokens=4,
        )  # fmt: skip
        improve(models, train)
        with Journal(tmp_path / "out.work" / "journal.jsonl"):
            assert improve(models, train) == tmp_path / "out"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 0}, r"constitution.rounds: expected 1 or more, got 0"),
        ({"revisions": 0}, r"constitution.revisions: expected 1 or more, got 0"),
        ({"probed": 0}, r"constitution.probed: expected 1 or more, got 0"),
        # 12 rationales, in twins, less the 4 whose text stands in the validation file, too
        ({"probed": 1}, r"constitution.probed: expected room for a group of rationales, got 1; "),
        ({"labels": True}, r"constitution.labels: expected learn: targets, got learn: dpo"),
        ({"temperatures": []}, r"constitution.temperatures: expected at least one, got none"),
        ({"start": Path("none")}, r"constitution.start: expected the folder of a trained adapter"),
        ({"reviser": "ollama"}, r"constitution.model: expected the name of a model of ollama"),
        ({"scorer": "both"}, r"constitution.judge_model: expected the name of a model"),
        ({"scorer": "judge", "judge": "openai", "judge_model": "m"},
         r"constitution.judge_url: expected the address of the server"),
        ({"scorer": "judge", "judge": "ollama", "judge_model": "m", "judge_url": "localhost:8080"},
         r"constitution.judge_url: expected an address like http://HOST:PORT"),
    ],
)  # fmt: skip
def test_what_is_missing_is_asked_for_before_anything_is_written(
    recipe, tmp_path, settings, message
):
    with pytest.raises(ValueError, match=message):
        improve(told(recipe, tmp_path / "out", **settings), TRAIN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("learn", "section", "settings", "message"),
    [
        ("dpo", "dpo", {"clip": 0.0}, r"dpo.clip: expected more than 0, got 0"),
        ("targets", "rsf", {"clip": 0.0}, r"rsf.clip: expected more than 0, got 0"),
        ("dpo", "dpo", {"losses": ["dpo", "nl"]}, r"dpo.losses: expected names of .*, got nl"),
        ("dpo", "dpo", {"best": "val/f2"}, r"dpo.best: expected one of .*, got 'val/f2'"),
        ("dpo", "lora", {"alpha": 1.0}, r"expected lora.alpha / lora.rank as it was trained with"),
        ("targets", "data", {"folder": Path("none")},
         r"none/validation.jsonl: expected a file to validate on, got none; make the data first"),
    ],
)  # fmt: skip
def test_what_training_would_refuse_is_refused_before_anything_is_written(
    recipe, tmp_path, learn, section, settings, message
):
    wrong = replace(recipe, **{section: replace(getattr(recipe, section), **settings)})
    with pytest.raises(ValueError, match=message):
        improve(told(wrong, tmp_path / "out", learn=learn), TRAIN)
    assert list(tmp_path.iterdir()) == []


def test_a_budget_needs_a_price_and_rows_to_measure_on_are_refused(recipe, tmp_path):
    paid = told(recipe, tmp_path / "out", reviser="openai", model="m", url="http://127.0.0.1:9",
                budget_usd=1.0)  # fmt: skip
    with pytest.raises(ValueError, match=r"expected a price of m, got none"):
        improve(paid, TRAIN)
    write_examples(tmp_path / "test.jsonl", examples("test", 4))
    measured = told(recipe, tmp_path / "out", data=tmp_path / "test.jsonl")
    with pytest.raises(ValueError, match=r"expected training rows alone, got test0 of split test"):
        improve(measured, TRAIN)


def answering(critique):
    """A reviser that always writes this."""
    said = {"verdict": critique.label, "flaw": critique.flaw_type, **{
        name: getattr(critique, name) or "none"
        for name in ("severity", "evidence", "strengths", "critique", "fix")
    }}  # fmt: skip
    return lambda request: Answer(json.dumps(said), "end")


def revised(recipe, monkeypatch, pool, samples, asks, **settings):
    """What becomes of drafts that are given."""
    monkeypatch.setattr(Materials, "first_drafts", lambda *_: samples)
    here = told(recipe, Path("out"), rationales=0, **settings)
    critic = Critic.load(recipe.constitution.start, base_folder=recipe.base.folder)
    return _revised(Materials(here, pool, None), critic, 1, asks, Counter())


def test_a_draft_that_was_cut_off_is_begun_anew_and_is_no_rejected_side(recipe, monkeypatch):
    """It ended as if the critic had ended it, and DPO would learn that from the rejected side."""
    pool = [e for e in examples("train", 2) if e.label == "flawed"]
    good = critique_of(pool[0])
    cut = render_critique(replace(good, critique="Too few, so the claim has t", fix=None))
    asks = {"reviser": answering(good)}
    (found,) = revised(recipe, monkeypatch, pool, [Sample(cut, (1, 2), 1.0, False, -1.0)], asks,
                       reviser="openai")  # fmt: skip
    assert (found.outcome, found.draft.text) == ("accepted", cut)
    assert report_of([found], {})["drafts_unread"] == 1
    assert list(pairs_of([found], "oracle")) == []
    (target,) = targets_of([found])
    assert (target.text, target.score) == (render_critique(good), found.weighed.scores[1])


def test_what_was_good_at_once_is_learnt_from_too(recipe, monkeypatch):
    pool = [e for e in examples("train", 4) if e.label == "flawed"]
    good, broken = (critique_of(e) for e in pool)
    texts = [render_critique(good), render_critique(replace(broken, fix=None))]
    samples = [Sample(text, (1, 2), 1.0, True, -1.0) for text in texts]
    monkeypatch.setattr(SelfReviser, "revise", lambda _, drafts: [[]] * len(drafts))
    found = revised(recipe, monkeypatch, pool, samples, {}, reviser="self")
    assert [one.outcome for one in found] == ["clean", "unanswered"]
    assert [one.text for one in targets_of(found)] == texts[:1]
    # A model revises it all the same; where the scorer prefers none, the draft stands.
    asks = {"reviser": answering(replace(good, evidence="nowhere"))}
    found = revised(recipe, monkeypatch, pool, samples, asks, reviser="openai")
    assert [one.outcome for one in found] == ["rule_broken", "rule_broken"]
    assert [one.text for one in targets_of(found)] == texts[:1]


def test_rounds_draft_about_other_rationales_while_there_are_any(recipe, monkeypatch):
    drafted = []

    def drafts(_, critic, found, *told):
        drafted.extend(e.id for e in found)
        return [Sample("", (1,), 1.0, True, -1.0)] * len(found)

    monkeypatch.setattr(Materials, "first_drafts", drafts)
    here = told(recipe, Path("out"), reviser="openai", rationales=4)
    pool = examples("train", 12)
    too_long = replace(pool[0], id="long", group="long", rationale="It rose. " * 5000)
    critic = Critic.load(recipe.constitution.start, base_folder=recipe.base.folder)
    materials = Materials(here, [*pool, too_long], None)
    for number in (1, 2, 3):
        _revised(materials, critic, number, {"reviser": answering(critique_of(pool[0]))}, Counter())
    assert sorted(drafted) == sorted(e.id for e in pool)


def test_a_revision_has_other_chances_than_its_draft(recipe):
    """What begins as the draft did would else be the draft again, where that was wrong."""
    materials = Materials(recipe, [], None)
    seeds = {(number, again): materials.manner(1, (1.0,), number, again=again).seed
             for number in (1, 2, 3) for again in (False, True)}  # fmt: skip
    assert len(set(seeds.values())) == len(seeds)
