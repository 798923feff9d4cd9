"""A critic taken out: what others load says the same, and what was changed is refused."""

import json
import shutil
import stat
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer

from minicrit.base import prepare_base
from minicrit.cli import main
from minicrit.critic import Critic
from minicrit.export import stage
from minicrit.export.card import figures_of, write_card
from minicrit.export.merged import identity_of
from minicrit.export.source import plain_config
from minicrit.export.stage import export
from minicrit.export.template import chat_template
from minicrit.export.vocabulary import _SPLITS
from minicrit.impostors import readings
from minicrit.manifest import check_outputs, read_manifest, write_manifest
from minicrit.prompts import PROMPT_VERSION, render_prompt
from tests.minicrit.export_case import ITEMS, calibrate_by_hand, make_critic, recipe_of


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base, critic and calibration."""
    root = tmp_path_factory.mktemp("export")
    make_critic(root / "critic", prepare_base("tiny", root / "base"))
    calibrate_by_hand(root / "critic")
    return root


@pytest.fixture(scope="module")
def critic(root: Path) -> Critic:
    return Critic.load(root / "critic", base_folder=root / "base")


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    export(recipe_of(root, "hf"))
    return root / "hf"


def plainly(folder: Path, domain: str, rationale: str) -> float:
    """p(flawed) as the card says it is read, with nothing of this project but the prompt."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    start, odds = ids(render_prompt(domain, rationale)) + ids("Verdict:"), {}
    for word in (" valid", " flawed"):
        rest = ids(word)
        with torch.inference_mode():
            said = model(torch.tensor([start + rest])).logits[0].double().log_softmax(-1)
        odds[word] = sum(said[len(start) - 1 + n, token].item() for n, token in enumerate(rest))
    return 1 / (1 + np.exp(odds[" valid"] - odds[" flawed"]))


def test_plain_transformers_says_what_the_critic_says(folder, root):
    raw = Critic.load(root / "critic", base_folder=root / "base", calibrated=False)
    said = raw.p_flawed(ITEMS)
    plain = [max(plainly(folder, domain, text) for text in readings(rationale))
             for domain, rationale in ITEMS]  # fmt: skip
    assert plain == pytest.approx(said, abs=1e-6)
    assert np.ptp(said) > 0.01
    base = Critic.load("tiny", base_folder=root / "base").p_flawed(ITEMS)
    assert np.abs(base - said).max() > 0.01  # so the adapter is in it


@pytest.mark.parametrize(("domain", "rationale"), [*ITEMS, ("", "It's {{ x }} \\n\n {% y %} so.")])
def test_a_chat_with_it_is_the_prompt_that_it_was_trained_on(folder, domain, rationale):
    """The base's own template made of it a chat with an assistant, to which it answered as well."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "system", "content": domain}, {"role": "user", "content": "Hello."},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": rationale}]  # fmt: skip
    for messages in (chat, *([] if domain not in ("", "general") else [chat[1:]])):
        said = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert said == render_prompt(domain or "general", rationale)


def test_a_chat_opens_as_the_tokenizer_opens_a_text(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token = "<|im_start|>"
    opens = TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    tokenizer.backend_tokenizer.post_processor = opens
    tokenizer.chat_template = chat_template(tokenizer)
    said = tokenizer.apply_chat_template([{"role": "user", "content": "So."}], tokenize=False)
    assert said == "<|im_start|>" + render_prompt("general", "So.")


@pytest.mark.parametrize("context", [0, 4097])
def test_more_tokens_than_the_base_has_places_for_are_refused(root, context):
    recipe = recipe_of(root, "hf", out="long")
    recipe.export.context = context
    with pytest.raises(ValueError, match=r"export.context: expected 1 to 4096 tokens, as the base"):
        export(recipe)


def test_the_critic_loads_it_with_its_calibration(folder, critic):
    again = Critic.load(folder)
    assert again.p_flawed(ITEMS) == pytest.approx(critic.p_flawed(ITEMS), abs=1e-6)
    assert again.threshold == critic.threshold == 0.4321
    assert (again.adapter, again.calibration) == (critic.adapter, critic.calibration)
    assert [v.label for v in again.verdict(ITEMS)] == [v.label for v in critic.verdict(ITEMS)]
    assert again.verdict(ITEMS)[0].calibrated
    assert again.critique(ITEMS[:1], max_new_tokens=5)[0].text == (
        critic.critique(ITEMS[:1], max_new_tokens=5)[0].text
    )


def test_the_manifest_names_what_it_was_made_of(folder, critic, root):
    record = read_manifest(folder)
    facts, source = record["facts"], read_manifest(root / "critic")
    assert (record["stage"], facts["format"], facts["exact"]) == ("export", "hf", True)
    assert facts["adapter"] == critic.adapter
    assert facts["base"] == source["facts"]["base"]
    assert facts["trained_on"] == {"train": source["inputs"]["train"]["sha256"]}
    assert facts["merged"] == identity_of(folder)
    assert record["inputs"]["critic"]["path"].endswith("critic")
    assert facts["moved"] < 1e-5
    assert check_outputs(folder) == []


def test_files_are_plain_and_can_be_read_by_everybody(folder):
    assert {p.name for p in folder.iterdir()} >= {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "README.md", "manifest.json", "calibration.json", "calibration.json.manifest.json",
    }  # fmt: skip
    told = "".join(p.read_text() for p in folder.glob("*.json"))
    assert "auto_map" not in told
    assert "_name_or_path" not in told
    modes = {stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir() if p.suffix != ".json"}
    assert modes == {0o644}


def test_a_config_loses_what_names_code_or_places(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"auto_map": {"AutoModel": "x.py"}, "_name_or_path": "/home/me", "a": 1}')
    plain_config(path)
    assert json.loads(path.read_text()) == {"a": 1}


def test_the_card_holds_what_a_reader_needs(folder, critic):
    card = (folder / "README.md").read_text()
    facts = read_manifest(folder)["facts"]
    assert "### Domain: {domain}\n    ### Rationale:\n    {rationale}\n\n    ### Critique:" in card
    assert "Append `Verdict:`" in card
    assert 'logprob(" flawed") - logprob(" valid")' in card
    assert "threshold    0.432100" in card
    assert "temperature  1.700000\n    shift        -0.100000  (of domains, both: trading " in card
    assert "From 120 calibration items (k = 4): with confidence 95 % at most\n8 % of valid" in card
    assert f"parameters:\na LoRA adapter merged into `{facts['base_model']}` in float32, " in card
    assert "These weights are what it was fitted to." in card
    for digest in (facts["base"], facts["adapter"], facts["merged"], *facts["trained_on"].values()):
        assert digest in card
    for heading in ("Prompt", "Use", "Reading the verdict", "Data and licence", "Limits", "Hashes"):
        assert f"\n## {heading}\n" in card
    assert card.startswith("---\nlicense: other\n")
    assert PROMPT_VERSION in card
    assert str(folder) not in card


def test_the_card_says_what_was_trained_and_rounds_no_certificate_up(folder, tmp_path):
    copy, facts = shutil.copytree(folder, tmp_path / "copy"), read_manifest(folder)["facts"]
    calibration = json.loads((copy / "calibration.json").read_text())
    calibration["certificate"] |= {"delta": 0.0125, "alpha": 0.0125}
    (copy / "calibration.json").write_text(json.dumps(calibration))
    fitted_to = facts["calibrated_as"]
    write_manifest(copy / "calibration.json", stage="calibrate", inputs={}, settings={},
                   facts={"prompt_version": PROMPT_VERSION, **fitted_to})  # fmt: skip
    write_card(copy, {**facts, "adapter": None, "parameters": 1234567}, "")
    card = (copy / "README.md").read_text()
    assert "with confidence 98.75 % at most\n1.25 % of valid rationales are flagged" in card
    assert "1,234,567 parameters:\nall trained, from `tiny` on, and written as\nf32." in card
    assert "LoRA adapter" not in card


def test_figures_of_the_benchmark_go_into_the_card_if_they_are_its_own(root, critic, monkeypatch):
    row = {"identity": critic.identity, "adapter": critic.adapter, "n": 40, "threshold": 0.4321,
           "metrics": {"f1": {"value": 0.9, "low": 0.8, "high": 0.95}}}  # fmt: skip
    report = root / "benchmark.json"
    report.write_text(json.dumps({"judges": {"model_1": row}}))
    recipe = recipe_of(root, "hf", out="measured")
    recipe.export.benchmark = report
    export(recipe)
    assert "| f1 | 0.900 | 0.800 to 0.950 |" in (root / "measured" / "README.md").read_text()
    report.write_text(json.dumps({"judges": {"model_1": {**row, "identity": "0" * 64}}}))
    before = read_manifest(root / "measured")
    monkeypatch.setattr(stage, "MAKERS", {})  # refused before anything is made
    with pytest.raises(ValueError, match="expected the benchmark of this critic"):
        export(recipe)
    assert read_manifest(root / "measured") == before  # the old folder stays as it is
    assert not list(root.glob(".measured*"))
    whole = {"judges": {"model_1": {**row, "identity": "i" * 64}}}
    report.write_text(json.dumps(whole))
    assert "n = 40" in figures_of(report, None, "i" * 64)  # a critic that is whole has no adapter
    items = {"prevalence": 0.95, "known": {"calibration": 40}}
    report.write_text(json.dumps({**whole, "items": items}))
    told = figures_of(report, None, "i" * 64)
    assert "n = 40 (95 % flawed)" in told  # who always says flawed has an F1 of 0.974 there
    assert "Known items: 40 of split calibration." in told


def test_figures_of_a_smaller_copy_are_not_those_of_the_float_critic(tmp_path):
    """Quantized or behind a server it has the adapter's hash, too, and the report has both."""
    own, metrics = "a" * 64, {"f1": {"value": 0.9, "low": 0.8, "high": 0.95}}
    small = {"identity": "q" * 64, "adapter": own, "n": 39, "threshold": 0.5, "metrics": metrics}
    whole = {**small, "identity": f"{'b' * 64}+{own}+{'c' * 64}", "n": 40}
    report = tmp_path / "benchmark.json"
    report.write_text(json.dumps({"judges": {"model_1": small, "model_2": whole}}))
    assert "n = 40" in figures_of(report, own, "merged")
    assert "n = 39" in figures_of(report, own, small["identity"])
    anew = {**whole, "identity": f"{'b' * 64}+{own}+{'d' * 64}", "n": 41}  # calibrated otherwise
    report.write_text(json.dumps({"judges": {"model_1": whole, "model_2": anew}}))
    assert "n = 40" in figures_of(report, own, whole["identity"])
    assert "n = 41" in figures_of(report, own, anew["identity"])
    report.write_text(json.dumps({"judges": {"model_1": small}}))
    with pytest.raises(ValueError, match="expected the benchmark of this critic"):
        figures_of(report, own, "merged")


def test_a_changed_file_is_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    config = copy / "generation_config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(ValueError, match="expected the files of its manifest"):
        Critic.load(copy)
    with pytest.raises(ValueError, match="expected the files of its manifest"):
        export(recipe_of(tmp_path, "hf", model="copy", out="again"))
    assert not (tmp_path / "again").exists()


def test_the_calibration_of_another_critic_is_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    facts = read_manifest(copy)["facts"]
    calibrate_by_hand(copy, base=facts["base"], adapter="0" * 64)
    with pytest.raises(ValueError, match="expected the calibration of this critic"):
        Critic.load(copy)
    assert Critic.load(copy, calibrated=False).threshold == 0.5
    calibrate_by_hand(copy, 0.25, export=facts["merged"])  # fitted anew to the folder itself
    assert Critic.load(copy).threshold == 0.25
    assert Critic.load(copy).fitted_to["export"] == facts["merged"]


def test_rounded_weights_are_given_no_certificate(root, critic):
    recipe = recipe_of(root, "hf", out="half")
    recipe.export.dtype = "bfloat16"
    facts = export(recipe)["facts"]
    assert (facts["exact"], facts["weights"], facts["calibrated_as"]) == (False, "bf16", None)
    assert facts["moved"] < 0.05
    assert not (root / "half" / "calibration.json").exists()
    assert "make calibrate MODEL=FOLDER" in (root / "half" / "README.md").read_text()
    stored = AutoModelForCausalLM.from_pretrained(root / "half")
    assert stored.dtype == torch.bfloat16
    again = Critic.load(root / "half")
    assert (again.threshold, again.calibration) == (0.5, None)
    calibrate_by_hand(root / "half", base=facts["base"], adapter=facts["adapter"])
    with pytest.raises(ValueError, match="expected the calibration of this critic"):
        Critic.load(root / "half")  # copied there by hand


def test_an_export_is_exported_further(folder, root, critic):
    recipe = recipe_of(root, "hf", model="hf", out="further")
    facts = export(recipe)["facts"]
    assert facts["merged"] == read_manifest(folder)["facts"]["merged"]
    assert facts["trained_on"] == read_manifest(folder)["facts"]["trained_on"]
    assert Critic.load(root / "further").threshold == critic.threshold


def test_a_rounded_export_with_a_calibration_of_its_own_is_exported_further(root, critic):
    recipe = recipe_of(root, "hf", out="rounded")
    recipe.export.dtype = "bfloat16"
    merged = export(recipe)["facts"]["merged"]
    calibrate_by_hand(root / "rounded", 0.25, export=merged)
    wide = export(recipe_of(root, "hf", model="rounded", out="wide"))["facts"]
    assert wide["calibrated_as"] == {"export": merged} != {"export": wide["merged"]}
    assert Critic.load(root / "wide").threshold == 0.25
    export(recipe_of(root, "hf", model="wide", out="wider"))
    assert Critic.load(root / "wider").threshold == 0.25


def test_what_is_quantized_is_not_merged_into(root, tmp_path, capsys):
    quantized = tmp_path / "int8"
    quantized.mkdir()
    (quantized / "weights.safetensors").write_bytes(b"x")
    write_manifest(quantized, stage="quantize", inputs={}, settings={}, facts={})
    with pytest.raises(ValueError, match=r"got the stage quantize; export the float critic"):
        export(recipe_of(tmp_path, "hf", model="int8"))
    base = shutil.copytree(root / "base" / "tiny", tmp_path / "base" / "tiny")
    told = json.loads((base / "config.json").read_text())
    told["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (base / "config.json").write_text(json.dumps(told))
    shutil.copytree(root / "critic", tmp_path / "critic")
    done = main(["export", "--base.folder", str(tmp_path / "base"), "--export.model",
                 str(tmp_path / "critic"), "--export.out", str(tmp_path / "out")])  # fmt: skip
    assert done == 1
    assert "quantized" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_too_full_is_seen_first(root, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**5))
    with pytest.raises(ValueError, match=r"export.out: expected 0.0 GB free .* make room"):
        export(recipe_of(root, "hf", out="full"))
    assert not (root / "full").exists()


@pytest.mark.parametrize("name", ["a b", "../x", "", ".", "x" * 81, "a'b", "-x"])
def test_a_name_that_would_be_no_file_is_refused(root, name):
    recipe = recipe_of(root, "hf", out="named")
    recipe.export.name = name
    with pytest.raises(ValueError, match=r"export.name: expected letters"):
        export(recipe)


@pytest.mark.parametrize("pre", ["x y", "", "Qwen2", "../qwen2", "qwen2\n"])
def test_a_pre_tokenizer_that_llamacpp_cannot_have_is_refused(root, pre):
    recipe = recipe_of(root, "gguf", out="parted")
    recipe.export.pre_tokenizer = pre
    with pytest.raises(ValueError, match=r"^export\.pre_tokenizer: expected a name as llama\.cpp"):
        export(recipe)
    assert not (root / "parted").exists()


def test_a_pre_tokenizer_that_llamacpp_is_not_known_to_have_is_said(root, caplog):
    """It was written without a word, and llama.cpp loads no such file."""
    recipe = recipe_of(root, "gguf", out="parted")
    recipe.export.pre_tokenizer = "qwen-2"
    assert export(recipe)["facts"]["pre_tokenizer"] == "qwen-2"
    said = "expected a name that llama.cpp had in November 2026, got qwen-2, "
    assert said in caplog.text
    assert "did you mean qwen2?" in caplog.text
    caplog.clear()
    for name in {*_SPLITS.values(), "gpt-2", "smollm", "falcon"}:
        stage._check_pre_tokenizer(name)
    assert not caplog.text


@pytest.mark.parametrize(("text", "said"), [
    ("{torn", "expected JSON"), ("[]", "expected"), ("{}", "expected the report of a benchmark"),
    ('{"judges": [1]}', "expected the report"), ('{"judges": {"a": 1}}', "expected the report"),
])  # fmt: skip
def test_a_broken_benchmark_is_named_before_the_critic_is_loaded(tmp_path, text, said):
    recipe = recipe_of(tmp_path, "hf")  # where there is no critic
    recipe.export.benchmark = tmp_path / "benchmark.json"
    recipe.export.benchmark.write_text(text)
    with pytest.raises(ValueError, match=rf"benchmark\.json: {said}"):
        export(recipe)


@pytest.mark.parametrize("out", ["critic", ".", "base/../critic", "base/tiny", "base"])
def test_neither_the_critic_nor_its_base_is_ever_overwritten(root, out):
    with pytest.raises(ValueError, match=r"expected a folder that a stage made, or none, got one"):
        export(recipe_of(root, "hf", out=out))
    assert check_outputs(root / "critic") == check_outputs(root / "base" / "tiny") == []


def test_the_command_says_what_it_wrote(root, capsys):
    told = ["export", "--base.folder", str(root / "base"), "--export.model", str(root / "critic"),
            "--export.format", "vllm", "--export.out", str(root / "told")]  # fmt: skip
    assert main(told) == 0
    said = capsys.readouterr().out
    assert "(vllm, f32," in said
    assert "calibration: carried along" in said
    with pytest.raises(ValueError, match="expected an export of format hf, got vllm; serve it"):
        Critic.load(root / "told")
