"""A tiny critic, shrunk, saved and loaded."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from minicrit.base import load_model, load_tokenizer, prepare_base
from minicrit.calibrate import calibrate
from minicrit.cli import main
from minicrit.config import Recipe
from minicrit.critic import Critic
from minicrit.files import folder_hashes
from minicrit.int8 import (
    Int8Linear,
    JoinedPart,
    dequantize_embedding,
    dequantize_rows,
    quantize_rows,
)
from minicrit.manifest import check_outputs, read_manifest, write_manifest
from minicrit.measure_config import CalibrateConfig
from minicrit.prompts import PROMPT_VERSION
from minicrit.quantize import quantize
from minicrit.quantize_compare import load_float
from minicrit.quantized import WEIGHTS, build_model, load_quantized
from minicrit.records import Example, read_examples, write_examples
from minicrit.shrinking import shrink_8

RANK = 2


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base, critic and data."""
    root = tmp_path_factory.mktemp("quantize")
    base = prepare_base("tiny", root / "base")
    lora = LoraConfig(r=RANK, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(0)
    adapted = get_peft_model(load_model(base), lora)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.save_pretrained(root / "critic")
    sign(root / "critic", base.identity)
    rows = [
        Example(id=f"{g}-{label}", domain="trading", rationale=f"Sign {g} is {label}, so I buy.",
                label=label, flaw_type="overconfidence" if label == "flawed" else None,
                severity="low" if label == "flawed" else None, group=f"g{g}", source="hand",
                split="test")
        for g in range(20) for label in ("valid", "flawed")
    ]  # fmt: skip
    write_examples(root / "test.jsonl", rows)
    return root


def sign(folder: Path, identity: str) -> None:
    facts = {"base": identity, "base_model": "tiny", "prompt_version": PROMPT_VERSION}
    write_manifest(folder, stage="sft", inputs={}, settings={}, facts=facts)


def recipe_of(world: Path, bits: int, name: str = "", critic: str = "critic") -> Recipe:
    recipe = Recipe()
    recipe.base.folder = world / "base"
    recipe.quantize.model = world / critic
    recipe.quantize.bits = bits  # type: ignore[assignment]
    recipe.quantize.data = world / "test.jsonl"
    recipe.quantize.out = world / f"int{bits}{name}"
    recipe.quantize.report = world / f"report{bits}{name}"
    settings = recipe.quantize
    settings.latency_items, settings.rounds, settings.draws = 2, 1, 200
    settings.written, settings.max_new_tokens = 1, 4
    return recipe


def test_a_margin_that_shows_nothing_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, 8)  # where there is no critic
    recipe.quantize.margin = 0.0
    with pytest.raises(ValueError, match=r"quantize\.margin: expected more than 0, got 0;"):
        quantize(recipe)


def test_neither_critic_nor_base_is_replaced_by_its_own_rounding(world: Path) -> None:
    for out, said in (("critic", "is or holds .*critic"), ("base/tiny", "is or holds .*tiny"),
                      (".", "is or holds .*critic"), ("base", "holds other things")):  # fmt: skip
        recipe = recipe_of(world, 8)
        recipe.quantize.out = world / out
        with pytest.raises(ValueError, match=said):
            quantize(recipe)
    assert check_outputs(world / "critic") == check_outputs(world / "base" / "tiny") == []


@pytest.fixture(scope="module", params=[16, 8, 4])
def made(world: Path, request: pytest.FixtureRequest) -> tuple[Path, dict, int]:
    """(folder, report, bits)."""
    report = quantize(recipe_of(world, request.param))
    return world / f"int{request.param}", report, request.param


def test_report_and_manifest(world: Path, made: tuple[Path, dict, int]) -> None:
    folder, report, bits = made
    assert json.loads((world / f"report{bits}.json").read_text()) == report
    table = (world / f"report{bits}.md").read_text()
    assert "by group and by family and, but for differences, of Wilson's" in table
    assert all(word in table for word in ("F1", "false-positive", "perplexity", report["status"]))
    facts = read_manifest(folder)["facts"]
    assert facts["status"] == report["status"] in ("released", "not released")
    assert (facts["bits"], facts["prompt_version"]) == (bits, PROMPT_VERSION)
    assert report["flips"]["n"] == 40
    assert report["p_difference"]["max"] < 0.1
    ratio = {16: 1.01, 8: 0.56, 4: 0.40}[bits]  # norms, scales and the adapter weigh more in 0.2 M
    assert report["size"]["ratio_to_bfloat16"] < ratio
    assert list(report["measured"]["verdict"]) == ["1", "8"]  # 40 items are no batch of 64
    assert report["measured"]["verdict"]["8"]["speedup_cpu"] > 0
    assert report["measured"]["writing"]["tokens"] == 4


def test_an_item_too_long_to_be_read_is_counted_and_not_timed(world: Path) -> None:
    recipe = recipe_of(world, 16, "long")
    rows = read_examples(recipe.quantize.data).examples
    long = replace(rows[0], id="long", group="long", rationale="Sign " * 5000)
    recipe.quantize.data = world / "long.jsonl"
    write_examples(recipe.quantize.data, [long, *rows])
    recipe.quantize.latency_items = 41  # all, the first of which nobody can read
    report = quantize(recipe)
    assert (report["unscored"], report["flips"]["n"]) == (1, 40)
    assert report["measured"]["verdict"]["1"]["turns"] == 41  # the first one again at the end


def test_a_critic_says_whether_it_was_released(made: tuple[Path, dict, int]) -> None:
    critic = Critic.load(made[0])
    assert critic.bits == made[2]
    assert critic.released == (made[1]["status"] == "released")
    assert critic.release == made[1]["reason"]
    assert critic.merged(torch.float64) is critic or made[2] == 16


def test_what_was_not_released_is_refused_unless_asked_for(
    made: tuple[Path, dict, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "lost"
    shutil.copytree(made[0], folder)
    record = read_manifest(folder)
    facts = {**record["facts"], "status": "not released", "reason": "9 of 40 verdicts flipped"}
    write_manifest(folder, stage="quantize", inputs={}, settings={}, facts=facts)
    critic = Critic.load(folder)  # whoever asks gets it
    with pytest.raises(ValueError, match=r"expected a released critic, got one of .* 9 of 40"):
        critic.require_released("serve.unreleased")
    asked = ["critique", "Buy now.", "--model", str(folder), "--max-new-tokens", "3"]
    assert main(asked) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "9 of 40 verdicts flipped; use the float critic, or set --unreleased" in err
    assert main([*asked, "--unreleased"]) == 0
    assert "p(flawed)" in capsys.readouterr().out
    assert main(["mcp", "--model", str(folder)]) == 1
    assert "or set --unreleased" in capsys.readouterr().err
    facts["status"] = "released"
    write_manifest(folder, stage="quantize", inputs={}, settings={}, facts=facts)
    Critic.load(folder).require_released("serve.unreleased")


def test_what_only_a_cpu_computes_stays_there(
    made: tuple[Path, dict, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if made[2] == 16:
        pytest.skip("bfloat16 goes to the GPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    critic = Critic.load(made[0])
    assert critic.causal_lm.device.type == "cpu"
    assert len(critic.p_flawed([("trading", "Buy now.")])) == 1


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_is_computed_finely_tied_or_not(world: Path, tied: bool) -> None:
    """It reads few tokens, whose difference is the verdict."""
    base = prepare_base("tiny", world / "base")
    model = load_model(base)
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    lora = LoraConfig(r=RANK, target_modules=["q_proj"], task_type="CAUSAL_LM")
    tensors = shrink_8(get_peft_model(model, lora), load_tokenizer(base))
    assert ("lm_head.rows" in tensors) != tied
    small = build_model(model.config, tensors)
    fine = [m for m in small.modules() if isinstance(m, Int8Linear) and m.fine]
    assert fine == [small.get_output_embeddings()]


def test_siblings_are_computed_as_one(made: tuple[Path, dict, int]) -> None:
    model, _ = load_quantized(made[0])
    joined = [name for name, m in model.named_modules() if isinstance(m, JoinedPart)]
    each = {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}
    assert {name.rpartition(".")[2] for name in joined} == (each if made[2] < 16 else set())
    if made[2] < 16:
        assert len(joined) == 5 * model.config.num_hidden_layers


def test_close_to_the_float_critic(world: Path, made: tuple[Path, dict, int]) -> None:
    """Logits of the shrunk critic correlate with those of the float one, the adapter included."""
    model, tokenizer = load_quantized(made[0])
    floating = load_float(world / "critic", world / "base").causal_lm
    base = load_model(prepare_base("tiny", world / "base"))
    ids = tokenizer("The adapter must not be lost.", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        small, full, without = (m(input_ids=ids).logits.flatten() for m in (model, floating, base))
    assert (small - full).norm() < {16: 0.02, 8: 0.1, 4: 0.25}[made[2]] * full.norm()
    assert (small - full).norm() < 0.5 * (small - without).norm()


def test_loads_to_the_same_bits_and_generates(made: tuple[Path, dict, int]) -> None:
    first, tokenizer = load_quantized(made[0])
    second, _ = load_quantized(made[0])
    assert first.config._attn_implementation == "packed"
    ids = tokenizer("Buy now.", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        assert torch.equal(first(input_ids=ids).logits, second(input_ids=ids).logits)
    out = first.generate(input_ids=ids, max_new_tokens=4, do_sample=False)
    assert out.shape[1] > ids.shape[1]


def test_one_scale_a_row_of_the_embedding_is_read_as_before(
    made: tuple[Path, dict, int],
) -> None:
    if made[2] == 16:
        pytest.skip("bfloat16 has no scales")
    model, _ = load_quantized(made[0])
    table = model.get_input_embeddings()
    rows, scales = quantize_rows(dequantize_embedding(table.rows, table.scales))
    tensors = {n: t for n, t in load_file(made[0] / WEIGHTS).items() if ".embed_tokens." not in n}
    tensors |= {"model.embed_tokens.rows": rows, "model.embed_tokens.scales": scales}
    before = build_model(model.config, tensors).get_input_embeddings()
    ids = torch.tensor([[1, 7, 300]])
    assert torch.equal(before(ids), dequantize_rows(rows, scales)[ids])
    assert not torch.equal(before(ids), table(ids))


def test_a_verdict_does_not_depend_on_the_batch(made: tuple[Path, dict, int]) -> None:
    critic = Critic.load(made[0])
    items = [("trading", "Two dips recovered, so this one will."), ("medicine", "It is viral.")]
    alone = [critic.p_flawed([item])[0] for item in items]
    loose = 5e-3 if made[2] == 16 else 1e-6  # bfloat16 products depend on their shape
    assert critic.p_flawed(items) == pytest.approx(alone, abs=loose)
    assert critic.critique(items[:1], max_new_tokens=3)[0].tokens <= 3


def test_again_gives_the_same_bytes(world: Path, made: tuple[Path, dict, int]) -> None:
    folder, report, bits = made
    again = quantize(recipe_of(world, bits, "-again"))
    assert folder_hashes(folder) == folder_hashes(world / f"int{bits}-again")
    names = "manifest.json"
    assert (folder / names).read_bytes() == (world / f"int{bits}-again" / names).read_bytes()
    assert {**report, "measured": 0} == {**again, "measured": 0}


def test_tampered_weights_are_refused(made: tuple[Path, dict, int], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(made[0], broken)
    data = bytearray((broken / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (broken / "weights.safetensors").write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"weights\.safetensors: expected sha256"):
        load_quantized(broken)


def test_another_base_is_refused(world: Path) -> None:
    shutil.copytree(world / "critic", world / "foreign")
    sign(world / "foreign", "0" * 64)
    with pytest.raises(ValueError, match="base: expected"):
        quantize(recipe_of(world, 8, "-foreign", critic="foreign"))
    assert not (world / "int8-foreign").exists()


def test_a_base_is_no_critic(world: Path) -> None:
    with pytest.raises(ValueError, match="expected an adapter folder"):
        quantize(recipe_of(world, 8, "-base", critic="base/tiny"))


def test_four_bits_want_a_plain_adapter(world: Path) -> None:
    base = prepare_base("tiny", world / "base")
    lora = LoraConfig(r=2, use_dora=True, target_modules=["q_proj"], task_type="CAUSAL_LM")
    get_peft_model(load_model(base), lora).save_pretrained(world / "dora")
    sign(world / "dora", base.identity)
    with pytest.raises(ValueError, match="expected a plain LoRA"):
        quantize(recipe_of(world, 4, "-dora", critic="dora"))


def calibration_of(world: Path) -> Path:
    """Rows of the calibration split."""
    rows = [
        Example(id=f"c{g}-{label}", domain="trading", rationale=f"Note {g} is {label}, so I sell.",
                label=label, flaw_type="overconfidence" if label == "flawed" else None,
                severity="low" if label == "flawed" else None, group=f"c{g}", source="hand",
                split="calibration")
        for g in range(24) for label in ("valid", "flawed")
    ]  # fmt: skip
    write_examples(world / "calibration.jsonl", rows)
    return world / "calibration.jsonl"


def test_calibrated_afterwards_with_a_threshold_of_its_own(world: Path) -> None:
    recipe = recipe_of(world, 8, "-calibrated")
    recipe.calibrate.alpha, recipe.calibrate.delta = 0.3, 0.2
    recipe.quantize.calibration = calibration_of(world)
    report = quantize(recipe)
    critic = Critic.load(recipe.quantize.out)
    assert critic.calibration is not None
    assert critic.calibration["alpha"] == 0.3
    assert critic.threshold == pytest.approx(report["thresholds"]["quantized"], abs=1e-6) != 0.5
    assert report["thresholds"]["float"] not in (0.5, report["thresholds"]["quantized"])
    assert Critic.load(world / "critic", base_folder=world / "base").calibration is None
    facts = read_manifest(recipe.quantize.out / "calibration.json")["facts"]
    assert facts["quantized"] == critic.fitted_to["quantized"]

    recipe.quantize.calibration = world / "test.jsonl"
    with pytest.raises(ValueError, match="expected rows of split calibration alone, got test"):
        quantize(recipe)


def test_it_is_calibrated_as_the_float_critic_was(world: Path) -> None:
    """Another limit, or fewer items, give another threshold: flips that no rounding has made."""
    shutil.copytree(world / "critic", world / "certified")
    recipe = recipe_of(world, 16, "-as-float", critic="certified")
    recipe.calibrate.model, recipe.calibrate.data = world / "certified", calibration_of(world)
    recipe.calibrate.alpha, recipe.calibrate.delta = 0.3, 0.2
    recipe.calibrate.shift, recipe.calibrate.sums = True, False
    calibrate(recipe)
    recipe.quantize.calibration = recipe.calibrate.data
    recipe.calibrate = CalibrateConfig()  # as in the recipe of a later run
    recipe.quantize.calibration_limit = 20
    quantize(recipe)
    floating = Critic.load(world / "certified", base_folder=world / "base").calibration
    small = Critic.load(recipe.quantize.out).calibration
    assert {k: small[k] for k in ("alpha", "delta", "n", "k")} == {
        k: floating[k] for k in ("alpha", "delta", "n", "k")}  # fmt: skip
    told = read_manifest(recipe.quantize.out / "calibration.json")["settings"]
    assert (told["shift"], told["sums"]) == (True, False)


@pytest.mark.parametrize("split", ["train", "calibration"])
def test_items_that_were_learnt_from_do_not_release_it(world: Path, split: str) -> None:
    rows = [replace(e, split=split) for e in read_examples(world / "test.jsonl").examples]
    write_examples(world / f"seen-{split}.jsonl", rows)
    recipe = recipe_of(world, 8, "-seen")
    recipe.quantize.data = world / f"seen-{split}.jsonl"
    with pytest.raises(ValueError, match=rf"expected items .* got rows of split {split}"):
        quantize(recipe)


def test_the_limit_takes_whole_groups(world: Path) -> None:
    recipe = recipe_of(world, 16, "-few")
    recipe.quantize.limit = 9  # groups of two
    assert quantize(recipe)["flips"]["n"] == 8


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.minicrit.test_quantize import recipe_of
from minicrit.quantize import quantize
print("ready", flush=True)
quantize(recipe_of(Path(sys.argv[2]), 8, "-killed"))
"""


@pytest.mark.slow
def test_killed_at_any_time_and_run_again(world: Path, made: tuple[Path, dict, int]) -> None:
    """After SIGKILL at five moments a rerun gives the files of an undisturbed run."""
    if made[2] != 8:
        pytest.skip("the same code as for 8 bits")
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", KILLED, root, str(world)]
    target = world / "int8-killed"
    for delay in (0.05, 0.3, 0.6, 1.0, 1.5):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(delay)
            child.kill()
        if target.exists():
            assert folder_hashes(target) == folder_hashes(made[0])
    quantize(recipe_of(world, 8, "-killed"))
    assert folder_hashes(target) == folder_hashes(made[0])
    assert not list(world.glob(".int8-killed.*"))
