"""Specialists: what they learn from, a real run on the tiny base, killed between two domains."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from data_gen.stage import make_data
from minicrit.adapter_report import report_adapters
from minicrit.adapters import make_adapters
from minicrit.adapters_config import AdaptersConfig
from minicrit.config import Recipe
from minicrit.critic import Critic
from minicrit.files import folder_hashes
from minicrit.manifest import read_manifest
from minicrit.records import Example, read_examples, write_examples
from minicrit.router import Router
from minicrit.settings import load_recipe
from minicrit.specialists import (
    calibrate_once,
    check_settings,
    mixture,
    train_specialists,
    write_parts,
)
from minicrit.train import train_sft
from tests.minicrit.router_case import make_router, save_adapter


def rows(split: str = "train", **counts: int) -> list[Example]:
    """Groups of two of every domain, in turns."""
    return [
        Example(id=f"{domain}{n}{side}", domain=domain, rationale=f"{domain} {n} {side}.",
                label="valid", group=f"{domain}{n}", source="hand", split=split)
        for n in range(max(counts.values())) for domain, most in counts.items() if n < most
        for side in "ab"
    ]  # fmt: skip


def calibration_rows(**counts: int) -> list[Example]:
    """A valid and a flawed item a group, so many groups of each domain."""
    return [
        Example(id=f"{domain}{n}{label}", domain=domain, label=label, group=f"{domain}{n}",
                rationale=f"{domain} {n} was {label}, so it is.", source="hand",
                split="calibration", flaw_type="anchoring" if label == "flawed" else None,
                severity="low" if label == "flawed" else None)
        for domain, most in counts.items() for n in range(most) for label in ("valid", "flawed")
    ]  # fmt: skip


def test_a_share_of_other_domains_is_mixed_in():
    settings = AdaptersConfig(limit=24, mixed=0.25)
    every = rows(trading=20, medical=20, defense=20)
    chosen = mixture(every, "trading", settings, seed=0)
    assert Counter(e.domain == "trading" for e in chosen) == {True: 24, False: 8}
    assert [e for e in every if e in chosen] == chosen  # twins stay neighbours
    assert set(Counter(e.group for e in chosen).values()) == {2}
    assert mixture(every, "trading", settings, seed=1) != chosen
    alone = mixture(every, "trading", replace(settings, mixed=0.0, limit=0), seed=0)
    assert alone == [e for e in every if e.domain == "trading"]
    few = mixture(every, "trading", replace(settings, limit=4, mixed=0.01), seed=0)
    assert Counter(e.domain == "trading" for e in few) == {True: 4, False: 2}  # a whole group


def test_parts_hold_one_domain_but_for_training(tmp_path):
    settings = AdaptersConfig(data=tmp_path, parts=tmp_path / "parts", mixed=0.5)
    found = {name: rows(name, trading=4, medical=4) for name in ("train", "validation")}
    for name in found:
        (tmp_path / f"{name}.jsonl").write_text("x")
    folder = write_parts(settings, "medical", found, seed=0)
    assert {e.domain for e in read_examples(folder / "validation.jsonl").examples} == {"medical"}
    counts = read_manifest(folder)["facts"]["rows"]
    assert counts == {"train": {"medical": 8, "trading": 8}, "validation": {"medical": 8}}
    with pytest.raises(ValueError, match="expected rows of domain defense in train, got none"):
        write_parts(settings, "defense", found, seed=0)


@pytest.mark.parametrize(("settings", "said"), [
    ({"domains": []}, "adapters.domains: expected one or more of"),
    ({"domains": ["trading", "trading"]}, "each once"),
    ({"domains": ["cooking"]}, "got cooking"),
    ({"mixed": 1.0}, "adapters.mixed: expected a share from 0 to under 1, got 1"),
    ({"bar": -0.1}, "adapters.bar"),
])  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        check_settings(AdaptersConfig(**settings))


@pytest.fixture
def recipe(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Composed data and a general adapter on the tiny base; two domains."""
    monkeypatch.chdir(tmp_path)
    sizes = {"train": 48, "fresh": 0, "validation": 24, "calibration": 24, "test": 24}
    flags = [word for name, n in sizes.items() for word in (f"--data.{name}", str(n))]
    made = load_recipe(["tiny"], flags)
    made.base.folder = tiny.folder.parent
    made.data.folder = tmp_path / "data"
    made.sft.samples, made.sft.validate_every = 0, 0
    make_data(made)
    made.adapters = AdaptersConfig(
        start=save_adapter(tiny, tmp_path / "general", 9), domains=["trading", "medical"],
        data=made.data.folder, parts=tmp_path / "parts", out=tmp_path / "run" / "adapters",
        router=tmp_path / "run" / "router", limit=8, calibrated=False, draws=100,
        report=tmp_path / "reports" / "adapters",
    )  # fmt: skip
    # The adapter says what it was trained with, as `sft.start` asks for it.
    path = made.adapters.start / "manifest.json"
    record = json.loads(path.read_text())
    record["settings"] = {"lora": {"alpha": 32.0, "rank": 16}}
    path.write_text(json.dumps(record))
    return made


def test_a_calibration_is_fitted_once_and_shares_its_delta(tiny, tmp_path):
    made = load_recipe(["tiny"], [])
    made.base.folder, made.calibrate.alpha = tiny.folder.parent, 0.3
    made.adapters = AdaptersConfig(domains=["trading", "medical"])
    folder, parts = save_adapter(tiny, tmp_path / "medical", 3), tmp_path / "parts"
    write_examples(parts / "calibration.jsonl", calibration_rows(medical=20))
    calibrate_once(made, folder, parts)
    path = folder / "calibration.json"
    assert read_manifest(path)["settings"]["delta"] == made.calibrate.delta / 2
    assert Critic.load(folder, base_folder=tiny.folder.parent).calibration is not None
    first = path.stat().st_mtime_ns
    calibrate_once(made, folder, parts)
    assert path.stat().st_mtime_ns == first
    made.calibrate.alpha = 0.4
    calibrate_once(made, folder, parts)
    assert path.stat().st_mtime_ns > first
    assert json.loads(path.read_text())["certificate"]["alpha"] == 0.4


def test_a_domain_of_one_family_keeps_the_scale_of_the_general_adapter(tiny, tmp_path):
    made = load_recipe(["tiny"], [])
    made.base.folder, made.calibrate.alpha = tiny.folder.parent, 0.3
    general, special = (save_adapter(tiny, tmp_path / name, n) for n, name in enumerate("gs", 3))
    made.adapters = AdaptersConfig(domains=["medical"], start=general)
    many, one = tmp_path / "many", tmp_path / "one"
    every = calibration_rows(medical=20)
    write_examples(many / "calibration.jsonl", every)
    write_examples(one / "calibration.jsonl",
                   [replace(e, source="composer/medical/ward/m") for e in every])  # fmt: skip
    calibrate_once(made, special, one)  # before the general one is calibrated: its own
    alone = json.loads((special / "calibration.json").read_text())["temperature"]
    assert alone["n"] > 0
    calibrate_once(made, general, many)
    calibrate_once(made, special, one)
    found = [json.loads((folder / "calibration.json").read_text())["temperature"]
             for folder in (general, special)]  # fmt: skip
    assert (found[1]["pooled"], found[1]["n"]) == (found[0]["pooled"], 0)
    assert "scale" in read_manifest(special / "calibration.json")["inputs"]
    first = (special / "calibration.json").stat().st_mtime_ns
    calibrate_once(made, special, one)
    assert (special / "calibration.json").stat().st_mtime_ns == first


def test_too_few_items_to_calibrate_are_refused_before_the_first_training(recipe):
    settings = recipe.adapters
    settings.calibrated = True
    write_examples(settings.data / "calibration.jsonl", calibration_rows(trading=70, medical=20))
    trained: list[Recipe] = []
    with pytest.raises(ValueError, match=r"medical/calibration.jsonl: expected at least 45 valid"):
        make_adapters(recipe, lambda told: trained.append(told) or told.sft.out)
    assert not trained


def drop(path: Path, *domains: str) -> None:
    write_examples(path, [e for e in read_examples(path).examples if e.domain not in domains])


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda data: drop(data / "test.jsonl", "trading", "medical"),
     r"test.jsonl: expected test items of trading, medical, got none; make more data"),
    (lambda data: (data / "test.jsonl").unlink(), r"test.jsonl: expected a file"),
    (lambda data: write_examples(data / "test.jsonl", rows(trading=2)),
     r"test.jsonl: expected rows of split test alone, got train"),
    (lambda data: write_examples(data / "train.jsonl", rows(trading=9)),
     r"train.jsonl: expected texts of two domains at least .*got trading"),
])  # fmt: skip
def test_what_detector_and_report_lack_is_refused_before_the_first_training(recipe, spoil, said):
    recipe.adapters.elsewhere = False
    spoil(recipe.adapters.data)
    trained: list[Recipe] = []
    with pytest.raises(ValueError, match=said):
        make_adapters(recipe, lambda told: trained.append(told) or told.sft.out)
    assert not trained


def test_of_several_processes_the_first_alone_writes_what_is_not_trained(recipe, monkeypatch):
    """All wrote router and report at once: one was refused its lock, and all of it had failed."""
    settings, done = recipe.adapters, []
    monkeypatch.setattr("minicrit.adapters.write_router", lambda *_: done.append("router"))
    monkeypatch.setattr("minicrit.adapters.report_adapters", lambda _: done.append("report"))
    monkeypatch.setattr("minicrit.adapters.page", lambda _: "")
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        make_adapters(recipe, lambda told: told.sft.out)
        made = {path: path.stat().st_ino for path in settings.parts.rglob("*")}
        done.append(made)
    assert done[:2] == ["router", "report"]
    assert done[2:] == [made, made]  # nor are the parts pulled away from under the others


def test_a_calibration_is_fitted_by_one_process_while_the_others_wait(recipe, monkeypatch):
    recipe.adapters.calibrated, called = True, []
    monkeypatch.setattr("minicrit.specialists.first_alone",
                        lambda work: called.append(work.func.__name__))  # fmt: skip
    monkeypatch.setattr("minicrit.specialists._calibration", lambda *_: None)
    monkeypatch.setattr("minicrit.specialists.check_items", lambda *_: None)
    train_specialists(recipe, lambda told: told.sft.out)
    assert called == ["write_parts"] * 2 + ["calibrate_once"] * 2


def test_an_item_too_long_to_be_read_is_not_timed(tiny, tmp_path):
    make_router(tiny, tmp_path)
    told = replace(AdaptersConfig(), data=tmp_path / "data", router=tmp_path / "router",
                   report=tmp_path / "report", domains=["trading"], draws=50)  # fmt: skip
    every = [replace(e, split="test") for e in calibration_rows(trading=12)]
    long = replace(every[0], rationale="word " * 5000)
    write_examples(told.data / "test.jsonl", [long, *every[1:]])
    recipe = replace(Recipe(), adapters=told)
    recipe.base.folder = tiny.folder.parent
    found = report_adapters(recipe)
    assert found["matrix"]["trading"]["trading"]["n"] == 23
    assert found["measured"]["items"] == 4


@pytest.mark.slow
def test_a_run_killed_between_two_domains_goes_on(recipe, tiny):
    settings = recipe.adapters
    recipe.lora = replace(recipe.lora, rank=4, alpha=8.0)
    asked: list[str] = []

    def dying(told: Recipe) -> Path:
        if asked:
            raise KeyboardInterrupt
        asked.append(told.sft.out.name)
        return train_sft(told)

    with pytest.raises(KeyboardInterrupt):
        make_adapters(recipe, dying)
    first = folder_hashes(settings.out / "trading")
    assert (asked, (settings.out / "medical").exists()) == (["trading"], False)
    written = (settings.out / "trading" / "manifest.json").stat().st_mtime_ns
    make_adapters(recipe, train_sft)
    assert folder_hashes(settings.out / "trading") == first
    assert (settings.out / "trading" / "manifest.json").stat().st_mtime_ns == written
    check_outcome(recipe, tiny)


def check_outcome(recipe: Recipe, tiny) -> None:
    """A router that tells its adapters apart, and a report on both."""
    settings = recipe.adapters
    for domain in settings.domains:
        record = read_manifest(settings.out / domain)
        assert record["inputs"]["start"]["path"].startswith("general")
        assert record["settings"]["sft"]["learning_rate"] == settings.learning_rate
    router = Critic.load(settings.router, base_folder=tiny.folder.parent)
    assert isinstance(router, Router)
    text = "It rose three times after this sign, so it always will."
    odds = router.log_odds([(name, text) for name in ("trading", "medical", "planning")])
    assert len(set(odds.tolist())) == 3
    found = json.loads(settings.report.with_name("adapters.json").read_text())
    assert list(found["matrix"]) == ["fallback", "medical", "trading"]
    domains = {e.domain for e in read_examples(settings.data / "test.jsonl").examples}
    assert set(found["matrix"]["trading"]) == domains
    assert found["measured"]["log_odds_apart"] < 1e-5
    assert found["sizes"]["adapters"]["trading"] == (
        (settings.out / "trading" / "adapter_model.safetensors").stat().st_size
    )
    assert "says" in settings.report.with_name("adapters.md").read_text()
    left = [p.name for p in settings.report.parent.iterdir()]
    assert sorted(left) == ["adapters.json", "adapters.md"]
