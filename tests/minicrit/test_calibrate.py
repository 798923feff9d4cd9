"""The stage on the tiny critic: fitted, used, refused when stale, resumed, and never trained on."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_gen.compose import compose
from data_gen.verify import verify
from minicrit import calibrate as stage
from minicrit.base import Base, load_model
from minicrit.calibrate import calibrate, fitted, lines, parted
from minicrit.calibrated import Calibration, Scale, calibration_of
from minicrit.cli import MISUSED, main
from minicrit.config import Recipe
from minicrit.critic import Critic
from minicrit.files import sha256_folder, write_json
from minicrit.lora import attach_lora
from minicrit.manifest import check_outputs, read_manifest, write_manifest
from minicrit.measure_config import CalibrateConfig
from minicrit.prompts import PROMPT_VERSION
from minicrit.records import Example, write_examples
from minicrit.recount import RULES, miscounted
from minicrit.selective import logit
from minicrit.taxonomy import LABELS


def save_adapter(tiny: Base, folder: Path, seed: int = 0, **inputs: Path) -> None:
    model = attach_lora(load_model(tiny), rank=2, alpha=4, dropout=0.0, targets="all-linear",
                        seed=seed)  # fmt: skip
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05)
    model.save_pretrained(folder)
    facts = {"base": tiny.identity, "base_model": "tiny", "prompt_version": PROMPT_VERSION}
    write_manifest(folder, stage="sft", inputs=inputs, settings={}, facts=facts)


def composed(count: int = 48) -> list[Example]:
    return [c.example for c in compose(count, 0, "calibration")]


@pytest.fixture(scope="module")
def made(tiny: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run: adapter, calibration items, and the calibration."""
    folder = tmp_path_factory.mktemp("run")
    save_adapter(tiny, folder / "sft")
    write_examples(folder / "calibration.jsonl", composed())
    calibrate(recipe(folder, tiny))
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def recipe(folder: Path, tiny: Base) -> Recipe:
    new = Recipe()
    new.base.folder = tiny.folder.parent
    new.calibrate.model = folder / "sft"
    new.calibrate.data = folder / "calibration.jsonl"
    new.calibrate.alpha = 0.2  # 14 valid items will do
    new.calibrate.batch_tokens = 2048  # 32 items a line of partial scores
    return new


def test_the_critic_uses_it(made: Path, tiny: Base) -> None:
    """Calibrated p and the certified threshold; of the certifying items k are flagged."""
    found = json.loads((made / "sft/calibration.json").read_text())
    raw = Critic.load(made / "sft", base_folder=tiny.folder.parent, calibrated=False)
    critic = Critic.load(made / "sft", base_folder=tiny.folder.parent)
    items = [(e.domain, e.rationale) for e in composed()]
    temperature, shift = found["temperature"]["pooled"], found["shift"]["pooled"]
    expected = 1 / (1 + np.exp(-(raw.log_odds(items) / temperature + shift)))
    false = miscounted([rationale for _, rationale in items])
    expected[false] = 1 - (1 - expected[false]) * (1 - found["sums"]["believed"])
    p = critic.p_flawed(items)
    assert p == pytest.approx(expected, abs=1e-6)
    assert (critic.threshold, raw.threshold) == (found["threshold"], 0.5)
    assert critic.identity != raw.identity
    assert critic.calibration is not None
    assert raw.calibration is None
    assert critic.calibration["abstain"] == found["abstain"]
    assert critic.calibration["domains"] == found["domains"]
    first, *_ = critic.verdict(items[:1])
    assert first.calibrated
    assert first.threshold == found["threshold"]
    assert not raw.verdict(items[:1])[0].calibrated
    _, rest = parted(composed(), 0.3, 0)
    valid = [row for row in rest if composed()[row].label == "valid"]
    assert len(valid) == found["certificate"]["n"] == 17  # one a group, 7 of 24 groups apart
    above = int((p[valid] > found["threshold"] + 1e-6).sum())
    assert above == found["certificate"]["k"] == 0


def test_a_shift_is_fitted_if_asked_for_and_certifies_the_same_items(tiny: Base) -> None:
    examples = composed(400)
    settings = recipe(Path(), tiny).calibrate
    rng = np.random.default_rng(3)
    odds = np.array([1.0 if e.label == "flawed" else -1.0 for e in examples]) + 2.0
    raw = 1 / (1 + np.exp(-odds - rng.normal(size=len(examples))))
    rows = parted(examples, settings.temperature_share, 0)
    plain = stage.fitted(settings, examples, raw, *rows, 0)
    shifted = stage.fitted(replace(settings, shift=True), examples, raw, *rows, 0)
    assert (plain["shift"]["pooled"], shifted["shift"]["pooled"] < -1) == (0.0, True)
    assert shifted["quality"]["after"]["nll"] < plain["quality"]["after"]["nll"]
    at = [f["temperature"]["pooled"] * (logit(np.array([f["threshold"]]))[0] - f["shift"]["pooled"])
          for f in (plain, shifted)]  # fmt: skip
    assert at[0] == pytest.approx(at[1], abs=1e-4)  # in log-odds as the critic has them
    assert plain["recall"] == shifted["recall"]
    assert f"shift of the log-odds {shifted['shift']['pooled']:+.3f}" in lines(shifted)


@pytest.mark.parametrize(("families", "kept"), [(2, True), (3, False)])
def test_a_scale_that_is_lent_is_kept_where_families_are_few(
    tiny: Base, families: int, kept: bool
) -> None:
    examples = [replace(e, domain="medical", source=f"composer/medical/f{n // 2 % families}/m")
                for n, e in enumerate(composed(120))]  # fmt: skip
    settings = recipe(Path(), tiny).calibrate
    odds = np.where([e.label == "flawed" for e in examples], 3.0, -3.0)
    raw = 1 / (1 + np.exp(-odds - np.random.default_rng(3).normal(0, 3, len(odds))))
    rows = parted(examples, settings.temperature_share, 0)
    lent = Calibration(0.9, Scale(1.5), {"medical": Scale(7.0, -1.0)}, None, {})
    alone = stage.fitted(settings, examples, raw, *rows, 0)
    found = stage.fitted(settings, examples, raw, *rows, 0, lent)
    assert (found == alone) is not kept
    if kept:
        assert found["temperature"] == {"pooled": 1.5, "n": 0, "domains": {"medical": 7.0}}
        assert found["shift"]["domains"] == {"medical": -1.0}
        assert found["certificate"]["n"] == alone["certificate"]["n"]  # its own, by its own items


def test_what_the_file_holds(made: Path) -> None:
    found = json.loads((made / "sft/calibration.json").read_text())
    assert (found["certificate"]["alpha"], found["certificate"]["delta"]) == (0.2, 0.05)
    assert set(found["domains"]) == {e.domain for e in composed()}
    assert all(row["needed"] == 21 for row in found["domains"].values())  # delta / 5
    assert found["risk_coverage"][-1][0] == 1
    assert found["items"] == {"n": 48, "valid": 24, "groups": 24, "families": 5}
    assert found["families"]["at_threshold"]["value"] == 0
    record = read_manifest(made / "sft/calibration.json")
    assert record["stage"] == "calibrate"
    assert set(record["inputs"]) == {"critic", "data"}
    assert {"base", "adapter", "prompt_version", "rows"} < set(record["facts"])
    assert record["facts"]["firewalled"] is False  # no manifest beside the items
    said = lines(found)
    assert "n = 17 independent valid items, k = 0" in said


def test_it_is_no_part_of_what_the_adapter_is(run: Path, tiny: Base) -> None:
    """With it or without, the folder is the same, and its manifest holds."""
    before = sha256_folder(run / "sft")
    assert check_outputs(run / "sft") == []
    (run / "sft/calibration.json").unlink()
    (run / "sft/calibration.json.manifest.json").unlink()
    assert sha256_folder(run / "sft") == before
    assert Critic.load(run / "sft", base_folder=tiny.folder.parent).calibration is None


def test_fitted_again_to_the_byte(run: Path, tiny: Base) -> None:
    files = [run / "sft/calibration.json", run / "sft/calibration.json.manifest.json"]
    before = [files[0].read_bytes(), read_manifest(files[0])["outputs"]]
    calibrate(recipe(run, tiny))
    assert [files[0].read_bytes(), read_manifest(files[0])["outputs"]] == before
    assert not list(run.glob(".*"))


def test_another_adapter_refuses_it(run: Path, tiny: Base) -> None:
    """The message says what differs and what to do."""
    kept = {name: (run / "sft" / name).read_bytes()
            for name in ("calibration.json", "calibration.json.manifest.json")}  # fmt: skip
    shutil.rmtree(run / "sft")
    save_adapter(tiny, run / "sft", seed=1)
    for name, data in kept.items():
        (run / "sft" / name).write_bytes(data)
    with pytest.raises(ValueError, match=r"adapter: expected .*make calibrate MODEL=.*sft"):
        Critic.load(run / "sft", base_folder=tiny.folder.parent)


@pytest.mark.parametrize("fact", ["prompt_version", "base", "adapter"])
def test_another_prompt_or_base_refuses_it(run: Path, tiny: Base, fact: str) -> None:
    path = run / "sft/calibration.json.manifest.json"
    record = json.loads(path.read_text())
    record["facts"][fact] = "other"
    write_json(path, record)
    with pytest.raises(ValueError, match=rf"{fact}: expected .*got 'other'|{fact}: expected"):
        Critic.load(run / "sft", base_folder=tiny.folder.parent)


def test_a_changed_or_half_written_file_is_refused(run: Path, tiny: Base) -> None:
    path = run / "sft/calibration.json"
    text = path.read_text()
    write_json(path, {**json.loads(text), "threshold": 0.01})
    with pytest.raises(ValueError, match=r"calibration.json: expected the calibration of this"):
        Critic.load(run / "sft", base_folder=tiny.folder.parent)
    path.write_text(text)
    path.with_name("calibration.json.manifest.json").unlink()  # killed between the two files
    with pytest.raises(ValueError, match="expected a manifest, got none"):
        Critic.load(run / "sft", base_folder=tiny.folder.parent)
    calibrate(recipe(run, tiny))  # fitting it again mends it
    assert Critic.load(run / "sft", base_folder=tiny.folder.parent).calibration is not None


def test_a_quantized_critic_needs_its_own(run: Path, tiny: Base, tmp_path: Path) -> None:
    """That of the float critic is refused; fitted again it is used."""
    from minicrit.quantize import quantize

    new = recipe(run, tiny)
    items = [replace(e, split="test") for e in composed(8)]
    write_examples(tmp_path / "test.jsonl", items)
    new.quantize.model, new.quantize.data = run / "sft", tmp_path / "test.jsonl"
    new.quantize.out, new.quantize.report = run / "int8", tmp_path / "int8"
    report = quantize(new)
    assert report["flips"]["n"] == 8
    for name in ("calibration.json", "calibration.json.manifest.json"):
        shutil.copy(run / "sft" / name, run / "int8" / name)
    with pytest.raises(ValueError, match="quantized: expected"):
        Critic.load(run / "int8", base_folder=tiny.folder.parent)
    new.calibrate.model = run / "int8"
    calibrate(new)
    assert Critic.load(run / "int8", base_folder=tiny.folder.parent).calibration is not None


def test_a_killed_run_goes_on(run: Path, tiny: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged items are not judged again."""
    (run / "sft/calibration.json").unlink()
    asked: list[int] = []
    true = Critic.p_flawed

    def dying(critic: Critic, items: list[tuple[str, str]], **more: int) -> np.ndarray:
        if len(asked) == 1:
            raise KeyboardInterrupt
        asked.append(len(items))
        return true(critic, items, **more)

    monkeypatch.setattr(Critic, "p_flawed", dying)
    with pytest.raises(KeyboardInterrupt):
        calibrate(recipe(run, tiny))
    assert check_outputs(run / "sft") == []  # nothing lies in the critic's folder
    monkeypatch.setattr(Critic, "p_flawed", true)
    counted: list[int] = []
    monkeypatch.setattr(Critic, "p_flawed", lambda c, items, **more: (
        counted.append(len(items)), true(c, items, **more))[1])  # fmt: skip
    calibrate(recipe(run, tiny))
    assert sum(counted) == 48 - asked[0] == 16


def test_the_fewest_items_that_can_certify_leave_a_critic_that_flags() -> None:
    """52 twins that p separates, but for one sound text of which the critic is sure it is flawed.

    Fitted to 0 and 1 its temperature would fall as far as it can, and every p of flawed be 1.
    """
    rng = np.random.default_rng(0)
    examples = [Example(id=f"{n}/{label}", domain="trading", rationale=f"Case {n}, {label}.",
                        label=label, group=str(n), source="mine", split="calibration")
                for n in range(52) for label in LABELS]  # fmt: skip
    flawed = np.array([e.label == "flawed" for e in examples])
    settings = CalibrateConfig()
    fitting, certifying = parted(examples, settings.temperature_share, 0)
    z = np.where(flawed, 3.0, -3.0) + rng.normal(0, 0.5, len(flawed))
    (odd, *_) = [row for row in certifying if not flawed[row]]
    z[odd] = 3.0
    found = fitted(settings, examples, 1 / (1 + np.exp(-z)), fitting, certifying, 0)
    assert (found["certificate"]["k"], found["items"]["families"]) == (0, 36)  # not those fitted on
    assert found["temperature"]["pooled"] > 0.5
    assert 0.3 < found["recall"] < 0.7  # of the flawed ones half lie above 3
    assert found["threshold"] < 1
    assert f"flagged of the flawed ones beside them: {100 * found['recall']:.1f} %" in lines(found)
    assert "a critic that flags nothing" in lines({**found, "recall": 0.0})
    assert "beside them" not in lines({**found, "recall": None})


def test_too_few_items_are_refused_before_the_critic_is_loaded(
    run: Path, tiny: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "Critic", None)
    new = recipe(run, tiny)
    new.calibrate.alpha = 0.02
    with pytest.raises(ValueError, match=r"at least 149 valid items .* got 17"):
        calibrate(new)
    new.calibrate.temperature_share = 0.0
    with pytest.raises(ValueError, match="expected valid and flawed items to fit"):
        calibrate(new)


def test_each_domain_is_refused_or_kept(
    run: Path, tiny: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too few in each of six domains at 20 %; at 95 % the highest of the thresholds."""
    new = recipe(run, tiny)
    new.calibrate.each_domain = True
    with monkeypatch.context() as patched:
        patched.setattr(stage, "Critic", None)  # refused before it is loaded
        with pytest.raises(ValueError, match=r"in each domain, got cybersecurity 4 of 21"):
            calibrate(new)
    new.calibrate.alpha = 0.95
    found = calibrate(new)
    assert found["threshold"] == max(row["threshold"] for row in found["domains"].values())
    assert found["threshold"] >= found["certificate"]["threshold"]


def test_a_domain_whose_items_are_all_flawed_is_not_certified_in_each_domain(
    run: Path, tiny: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [e for e in composed() if e.label == "flawed" or e.domain != "trading"]
    write_examples(run / "calibration.jsonl", rows)
    monkeypatch.setattr(stage, "Critic", None)  # refused before it is loaded
    new = recipe(run, tiny)
    new.calibrate.alpha, new.calibrate.each_domain = 0.95, True
    with pytest.raises(ValueError, match="in each domain, got trading 0 of 2; give more"):
        calibrate(new)


def test_items_it_was_trained_on_are_refused(run: Path, tiny: Base) -> None:
    shutil.rmtree(run / "sft")
    save_adapter(tiny, run / "sft", train=run / "calibration.jsonl")
    with pytest.raises(ValueError, match="has not seen, got its own input train"):
        calibrate(recipe(run, tiny))


def test_other_splits_are_refused(run: Path, tiny: Base) -> None:
    rows = [Example(**{**e.to_row(), "split": "test"}) for e in composed(8)]
    write_examples(run / "calibration.jsonl", rows)
    with pytest.raises(ValueError, match="expected rows of split calibration alone, got test"):
        calibrate(recipe(run, tiny))


def test_a_base_or_nothing_is_refused(run: Path, tiny: Base) -> None:
    new = recipe(run, tiny)
    new.calibrate.model = tiny.folder
    with pytest.raises(ValueError, match="got a base; train it first"):
        calibrate(new)
    new.calibrate.model = run / "nothing"
    with pytest.raises(ValueError, match="expected the folder of an adapter"):
        calibrate(new)


def test_groups_are_parted_whole_and_by_domain() -> None:
    examples = composed(120)
    first, second = parted(examples, 0.3, 1)
    assert sorted([*first, *second]) == list(range(120))
    assert not {examples[n].group for n in first} & {examples[n].group for n in second}
    for domain in {e.domain for e in examples}:
        groups = {examples[n].group for n in first if examples[n].domain == domain}
        assert len(groups) == round(0.3 * len({e.group for e in examples if e.domain == domain}))
    assert list(parted(examples, 0.3, 2)[0]) != list(first)


def test_a_threshold_given_by_hand_wins(
    run: Path, tiny: Base, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["critique", "Two and two make four.", "--json", "--max-new-tokens", "1", "--model",
             str(run / "sft"), "--base-folder", str(tiny.folder.parent)]  # fmt: skip
    assert main(asked) == 0
    certified = json.loads(capsys.readouterr().out)
    assert main([a for a in asked if a != "--json"]) == 0
    assert "(calibrated), threshold" in capsys.readouterr().out
    assert main([*asked, "--threshold", "0.25"]) == 0
    by_hand = json.loads(capsys.readouterr().out)
    assert (by_hand["threshold"], by_hand["calibrated"]) == (0.25, True)
    assert by_hand["p_flawed"] == certified["p_flawed"]
    assert certified["threshold"] != 0.25
    assert main([*asked, "--threshold", "8"]) == MISUSED
    assert "expected a share from 0 to 1, got 8" in capsys.readouterr().err


def test_verify_follows_the_calibration(
    run: Path, tiny: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is, sound; with other items than it was fitted to, a fault."""
    monkeypatch.chdir(run.parent)
    calibrate(recipe(Path("run"), tiny))
    new = Recipe()
    new.verify.folders = "run"
    verify(new)
    write_examples(run / "calibration.jsonl", composed(46))
    with pytest.raises(ValueError, match="1 faults"):
        verify(new)


@pytest.mark.parametrize(("rules", "warned"), [(None, False), ("same", False), ("others", True)])
def test_a_threshold_certified_under_other_rules_of_sums_says_so(
    made: Path, caplog: pytest.LogCaptureFixture, rules: str | None, warned: bool
) -> None:
    row = json.loads((made / "sft/calibration.json").read_text())
    assert row["sums"]["rules"] == RULES
    if rules is None:  # before they were written down
        del row["sums"]["rules"]
    elif rules == "others":
        row["sums"]["rules"] = "x"
    assert calibration_of(row, "digest").believed == row["sums"]["believed"]
    assert ("certified by another version" in caplog.text) is warned
