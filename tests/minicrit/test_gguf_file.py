"""The GGUF, read back by the package's reader and by transformers' own loader of such files."""

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from minicrit.export.gguf_file import TYPES, arranged, check_config, write_gguf
from minicrit.export.stage import export
from minicrit.export.vocabulary import Vocabulary, pre_tokenizer
from minicrit.manifest import check_outputs, read_manifest
from tests.minicrit.export_case import ITEMS, calibrate_by_hand, make_critic, recipe_of, tiny_qwen2

LLAMA = {"model_type": "llama", "hidden_act": "silu", "rope_parameters": {"rope_type": "default"}}


@pytest.fixture(scope="module")
def root(tmp_path_factory, tiny) -> Path:
    root = tmp_path_factory.mktemp("gguf")
    shutil.copytree(tiny.folder, root / "base" / "tiny")
    make_critic(root / "critic", tiny)
    calibrate_by_hand(root / "critic")
    export(recipe_of(root, "hf"))
    tiny_qwen2(root / "qwen2", tiny)
    return root


def written(root: Path, model: str, weights: str) -> tuple[Path, dict[str, np.ndarray]]:
    """The file, and its tensors in float32, in numpy's order of axes."""
    path = root / f"{model}-{weights}.gguf"
    if not path.exists():
        write_gguf(root / model, path, weights=weights, name="tiny")
    rows = {t.name: t for t in gguf.GGUFReader(path).tensors}
    return path, {n: gguf.quants.dequantize(t.data, t.tensor_type) for n, t in rows.items()}


def expected(root: Path, model: str) -> dict[str, np.ndarray]:
    """The merged weights under llama.cpp's names, queries and keys reordered row by row."""
    config = json.loads((root / model / "config.json").read_text())
    names = {"embed_tokens": "token_embd", "lm_head": "output", "norm": "output_norm",
             "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
             "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
             "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}  # fmt: skip
    found = {}
    for label, tensor in load_file(root / model / "model.safetensors").items():
        *before, layer, kind = label.split(".")
        place = f"blk.{before[2]}." if "layers" in before else ""
        value = tensor.numpy()
        if config["model_type"] == "llama" and layer in ("q_proj", "k_proj"):
            value = by_rows(value, config["head_dim"])
        found[f"{place}{names[layer]}.{kind}"] = value
    return found


def by_rows(matrix: np.ndarray, size: int) -> np.ndarray:
    """Row i of a head of `size` rows goes to 2i, row i + size/2 to 2i + 1."""
    out = np.empty_like(matrix)
    for row in range(len(matrix)):
        head, at = divmod(row, size)
        half, pair = divmod(at, size // 2)
        out[head * size + 2 * pair + half] = matrix[row]
    return out


@pytest.mark.parametrize("model", ["hf", "qwen2"])
def test_in_float32_every_tensor_comes_back_exactly(root, model):
    _, found = written(root, model, "f32")
    wanted = expected(root, model)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert ("output.weight" in found) == (model == "qwen2")  # tied: llama.cpp takes the embedding


@pytest.mark.parametrize("model", ["hf", "qwen2"])
def test_transformers_own_loader_reads_the_same_model(root, model):
    path, _ = written(root, model, "f32")
    tokenizer = AutoTokenizer.from_pretrained(root / model)
    again = AutoModelForCausalLM.from_pretrained(root, gguf_file=path.name, dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(root / model)
    ids = tokenizer(ITEMS[0][1], return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        there, here = (m.eval()(ids).logits for m in (again, merged))
    assert (there - here).abs().max() < 1e-4
    assert here.std() > 0.01


@pytest.mark.parametrize(("weights", "error"), [
    ("q8_0", 1 / 127), ("q4_0", 1 / 7), ("q5_0", 1 / 15), ("f16", 2.0**-10), ("bf16", 2.0**-7),
])  # fmt: skip
def test_rounding_is_within_half_a_step_of_the_blocks_largest(root, weights, error):
    _, found = written(root, "hf", weights)
    for name, value in expected(root, "hf").items():
        if value.ndim == 1:
            np.testing.assert_array_equal(found[name], value)
            continue
        blocks = value.reshape(-1, 32)
        # Half a step, or a whole one at the end that the sign of the largest does not reach; the
        # scale itself is rounded to half precision.
        step = np.abs(blocks).max(axis=1, keepdims=True) * error
        share = 1.01 if weights in ("q4_0", "q5_0") else 0.55
        gaps = np.abs(found[name].reshape(-1, 32) - blocks)
        assert (gaps <= share * step + 1e-7).all(), name
        assert gaps.max() > 0


def test_what_the_file_says_of_the_model(root):
    path, _ = written(root, "hf", "q8_0")
    reader = gguf.GGUFReader(path)
    said = {name: field.contents() for name, field in reader.fields.items()}
    config = json.loads((root / "hf" / "config.json").read_text())
    assert said["general.architecture"] == "llama"
    assert said["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q8_0
    assert said["llama.block_count"] == config["num_hidden_layers"]
    assert said["llama.attention.head_count_kv"] == config["num_key_value_heads"]
    assert said["llama.context_length"] == config["max_position_embeddings"]
    assert said["llama.rope.freq_base"] == 10_000.0
    assert said["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert (said["tokenizer.ggml.model"], said["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    assert said["tokenizer.ggml.add_bos_token"] is False
    assert said["tokenizer.ggml.eos_token_id"] == 2
    tokenizer = AutoTokenizer.from_pretrained(root / "hf")
    assert said["tokenizer.ggml.tokens"] == tokenizer.convert_ids_to_tokens(range(1024))
    assert said["tokenizer.ggml.token_type"][:4] == [3, 3, 3, 1]
    assert len(said["tokenizer.ggml.merges"]) == 765
    kinds = {t.name: t.tensor_type for t in reader.tensors}
    assert (kinds["blk.0.attn_q.weight"], kinds["output_norm.weight"]) == (Kind.Q8_0, Kind.F32)


def test_ids_beyond_the_tokenizer_are_filled_up(root):
    said = gguf.GGUFReader(written(root, "qwen2", "f32")[0]).fields
    tokens = said["tokenizer.ggml.tokens"].contents()
    assert (len(tokens), tokens[1024], tokens[-1]) == (1100, "[PAD1024]", "[PAD1099]")
    assert said["tokenizer.ggml.token_type"].contents()[-1] == gguf.TokenType.UNUSED


def test_a_chat_template_goes_along(root, tmp_path):
    copy = shutil.copytree(root / "hf", tmp_path / "chat")
    (copy / "chat_template.jinja").write_text("{{ messages[0].content }}")
    write_gguf(copy, tmp_path / "x.gguf", weights="f16", name="x")
    fields = gguf.GGUFReader(tmp_path / "x.gguf").fields
    assert fields["tokenizer.chat_template"].contents() == "{{ messages[0].content }}"
    (copy / "chat_template.jinja").unlink()
    write_gguf(copy, tmp_path / "y.gguf", weights="f16", name="y")
    assert "tokenizer.chat_template" not in gguf.GGUFReader(tmp_path / "y.gguf").fields


def test_vectors_of_biases_are_reordered_like_their_rows():
    config = {"model_type": "llama", "num_attention_heads": 1, "num_key_value_heads": 1}
    bias = np.arange(4.0)
    assert arranged("model.layers.0.self_attn.q_proj.bias", bias, config).tolist() == [0, 2, 1, 3]
    assert arranged("model.layers.0.self_attn.v_proj.bias", bias, config).tolist() == [0, 1, 2, 3]
    assert arranged("x.q_proj.bias", bias, {**config, "model_type": "qwen2"}).tolist() == [
        0, 1, 2, 3,
    ]  # fmt: skip


@pytest.mark.parametrize(("changed", "what"), [
    ({"model_type": "mistral"}, "expected model_type llama or qwen2, got mistral"),
    ({"rope_parameters": {"rope_type": "llama3"}}, "got another rope_type"),
    ({"rope_scaling": {"type": "yarn"}, "rope_parameters": None}, "got another rope_type"),
    ({"use_sliding_window": True}, "got another use_sliding_window"),
    ({"mlp_bias": True}, "got another mlp_bias"), ({"hidden_act": "gelu"}, "another hidden_act"),
    ({"quantization_config": {"bits": 4}}, "got another quantization_config"),
])  # fmt: skip
def test_what_would_come_out_wrong_is_refused(changed, what):
    check_config(LLAMA, "x")
    with pytest.raises(ValueError, match=what):
        check_config({**LLAMA, **changed}, "config.json")


def steps(*names: dict, normalizer: str | None = None, whole: bool = False) -> dict:
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(names)},
            "normalizer": normalizer and {"type": normalizer},
            "model": {"ignore_merges": whole}}  # fmt: skip


def split(pattern: str, **more: object) -> dict:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
            "invert": False, **more}  # fmt: skip


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
BARE = {**BYTES, "use_regex": False}
DIGITS = {"type": "Digits", "individual_digits": True}
# As Qwen2.5's and Llama 3's tokenizer.json have them.
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")  # fmt: skip
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")  # fmt: skip


@pytest.mark.parametrize(("told", "name"), [
    (steps(BYTES), "gpt-2"), (steps(DIGITS, BYTES), "smollm"),
    (steps(split(QWEN2), BARE, normalizer="NFC"), "qwen2"),
    (steps(split(LLAMA3), BARE, whole=True), "llama-bpe"),
])  # fmt: skip
def test_ways_of_parting_that_llamacpp_has(told, name):
    assert pre_tokenizer(told, "x") == name


@pytest.mark.parametrize("told", [
    steps(), steps({**BYTES, "add_prefix_space": True}), steps(BARE), steps(BYTES, DIGITS),
    steps(split(r"\p{N}{1,2}|.+"), BARE), steps(split(QWEN2, behavior="Removed"), BARE),
    steps(split(QWEN2), BARE, whole=True), steps(split(LLAMA3), BARE),
    steps(BYTES, normalizer="Lowercase"), steps({**DIGITS, "individual_digits": False}, BYTES),
])  # fmt: skip
def test_another_way_is_refused_and_may_be_named(told):
    with pytest.raises(ValueError, match=r"expected a pre-tokenizer that llama.cpp is known"):
        pre_tokenizer(told, "tokenizer.json")


def changed(folder: Path, *, parting: object = None, **model: object) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder with other steps."""
    told = json.loads((folder / "tokenizer.json").read_text())
    told["pre_tokenizer"] = parting or told["pre_tokenizer"]
    told["model"] |= model
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(told)))


def test_a_name_given_by_hand_wins(root):
    odd = changed(root / "hf", parting={"type": "Whitespace"})
    with pytest.raises(ValueError, match=r"or name it: --export\.pre_tokenizer"):
        Vocabulary.of(odd, 1024, where="x")
    assert Vocabulary.of(odd, 1024, where="x", pre="falcon").pre == "falcon"


def test_what_a_gguf_cannot_hold_is_refused(root):
    with pytest.raises(ValueError, match=r"x: expected at most 1000 tokens.*got 1024"):
        Vocabulary.of(changed(root / "hf"), 1000, where="x")
    with pytest.raises(ValueError, match="expected a tokenizer that is a byte-level BPE"):
        Vocabulary.of(changed(root / "hf", byte_fallback=True), 1024, where="x")


def test_the_tokenizer_in_memory_counts_not_its_file(root):
    """Transformers parts for a Qwen2 as Qwen2 does, whatever the file says."""
    assert "ByteLevel" in (root / "qwen2" / "tokenizer.json").read_text()
    fields = gguf.GGUFReader(written(root, "qwen2", "f32")[0]).fields
    assert fields["tokenizer.ggml.pre"].contents() == "qwen2"
    tokenizer = AutoTokenizer.from_pretrained(root / "qwen2")
    assert tokenizer.tokenize("In 2019") == [*tokenizer.tokenize("In "), *"2019"]


def test_rows_that_blocks_do_not_fit_are_refused(tmp_path, tiny):
    from minicrit.export.gguf_file import _announce

    with pytest.raises(ValueError, match=r"multiple of 32 weights, got 48; set export.weights"):
        _announce(gguf.GGUFWriter(tmp_path / "x", "llama"), "x", (4, 48), TYPES["q8_0"][0])


def test_the_stage_writes_one_file_and_carries_the_calibration(root):
    recipe = recipe_of(root, "gguf")
    recipe.export.weights, recipe.export.name = "q8_0", "mine"
    facts = export(recipe)["facts"]
    names = {p.name for p in (root / "gguf").iterdir()}
    assert names == {"mine-q8_0.gguf", "README.md", "manifest.json", "calibration.json",
                     "calibration.json.manifest.json"}  # fmt: skip
    assert (facts["exact"], facts["pre_tokenizer"]) == (False, "gpt-2")
    assert facts["bytes"] == (root / "gguf" / "mine-q8_0.gguf").stat().st_size
    assert facts["merged"] == read_manifest(root / "hf")["facts"]["merged"]
    card = (root / "gguf" / "README.md").read_text()
    assert "rounded to q8_0, it is used and not certified anew" in card
    assert "llama-server -m mine-q8_0.gguf" in card
    assert check_outputs(root / "gguf") == []


def test_a_refusal_leaves_nothing_behind(root):
    recipe = recipe_of(root, "gguf", out="refused")
    told = json.loads((root / "critic" / "manifest.json").read_text())
    assert told["stage"] == "sft"
    recipe.export.model = root / "qwen2"  # a base, not a critic
    with pytest.raises(ValueError, match="expected a manifest"):
        export(recipe)
    assert not (root / "refused").exists()
    assert not list(root.glob(".refused*"))
