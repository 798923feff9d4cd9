"""What Ollama and vLLM are given: read by their grammar, run with a stand-in for the server."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicrit.base import prepare_base
from minicrit.export import ollama, vllm
from minicrit.export.stage import export
from minicrit.manifest import check_outputs
from minicrit.prompts import render_prompt
from minicrit.taxonomy import DOMAINS
from tests.minicrit.export_case import calibrate_by_hand, make_critic, recipe_of

#: Instructions and parameters of Ollama's Modelfile reference, as far as they are of use here.
INSTRUCTIONS = {"FROM", "PARAMETER", "TEMPLATE", "SYSTEM", "ADAPTER", "LICENSE", "MESSAGE"}
PARAMETERS = {"temperature": float, "top_k": int, "seed": int, "repeat_penalty": float,
              "num_ctx": int, "num_predict": int, "stop": str}  # fmt: skip


def parse(text: str) -> list[tuple[str, str]]:
    """Instructions and arguments: a word, then a line, a quoted string, or three quotes around."""
    found, rest = [], text
    while rest.strip():
        word, _, rest = rest.lstrip().partition(" ")
        assert word.upper() in INSTRUCTIONS, word
        if word == "PARAMETER":
            name, _, rest = rest.partition(" ")
            word = f"PARAMETER {name}"
        if rest.startswith('"""'):
            value, closing, rest = rest[3:].partition('"""')
            assert closing
        else:
            line, _, rest = rest.partition("\n")
            value = json.loads(line) if line.startswith('"') else line
        found.append((word, value))
    return found


def rendered(template: str, system: str, prompt: str) -> str:
    """What Go's text/template makes of it up to .Response, as far as this template goes."""

    def chosen(match: re.Match[str]) -> str:
        return match[2] if {"System": system, "Prompt": prompt}[match[1]] else match[3]

    text, marker, after = template.partition("{{ .Response }}")
    assert (marker, after) == ("{{ .Response }}", "")
    condition = r"\{\{ if \.(\w+) \}\}(.*?)\{\{ else \}\}(.*?)\{\{ end \}\}"
    text = re.sub(condition, chosen, text, flags=re.DOTALL)
    text = re.sub(r"\{\{ \.(\w+) \}\}", lambda m: {"System": system, "Prompt": prompt}[m[1]], text)
    assert "{{" not in text.replace(system, "").replace(prompt, "")
    return text


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("serving")
    make_critic(root / "critic", prepare_base("tiny", root / "base"))
    calibrate_by_hand(root / "critic")
    return root


@pytest.fixture(scope="module")
def for_vllm(root: Path) -> Path:
    recipe = recipe_of(root, "vllm")
    recipe.export.name, recipe.export.context = "mine", 2048
    export(recipe)
    return root / "vllm"


PLAIN = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), min_size=1)


@given(st.sampled_from(sorted(DOMAINS)), PLAIN)
def test_the_template_gives_the_bytes_of_the_prompt(domain, rationale):
    made = dict(parse(ollama.modelfile("x.gguf", end="</s>", context=1)))
    assert rendered(made["TEMPLATE"], domain, rationale) == render_prompt(domain, rationale)


def test_without_a_domain_it_is_general():
    assert rendered(ollama.template(), "", "So it is.") == render_prompt("general", "So it is.")


def test_the_modelfile_decodes_greedily_and_stops_at_the_end_token():
    text = ollama.modelfile("x.gguf", end='<"\\end>', context=2048, longest=99)
    made = parse(text)
    assert made[0] == ("FROM", "./x.gguf")
    given = {word.split()[1]: value for word, value in made if word.startswith("PARAMETER")}
    assert {name: kind(given[name]) for name, kind in PARAMETERS.items()} == {
        "temperature": 0, "top_k": 1, "seed": 0, "repeat_penalty": 1, "num_ctx": 2048,
        "num_predict": 99, "stop": '<"\\end>',
    }  # fmt: skip
    assert given.keys() == PARAMETERS.keys()
    assert [word for word, _ in made].count("TEMPLATE") == 1


def test_the_folder_for_ollama_holds_file_and_modelfile(root):
    export(recipe_of(root, "ollama"))
    made = dict(parse((root / "ollama" / "Modelfile").read_text()))
    assert (root / "ollama" / made["FROM"]).is_file()
    assert made["PARAMETER stop"] == "<|im_end|>"
    card = (root / "ollama" / "README.md").read_text()
    assert "ollama create minicrit-critic -f Modelfile" in card
    assert "no Ollama has run it" in card
    assert check_outputs(root / "ollama") == []


def called(folder: Path, *told: str, where: Path | None = None, **environment: str) -> list[str]:
    """How serve.sh calls vLLM, if it is itself called from `where`."""
    stand_in = folder.parent / "vllm-stand-in"
    stand_in.write_text(f"#!{sys.executable}\nimport json, os, sys\n"
                        "print(json.dumps([os.getcwd(), *sys.argv[1:]]))\n")  # fmt: skip
    stand_in.chmod(0o755)
    done = subprocess.run([folder / "serve.sh", *told], capture_output=True, text=True, check=True,
                          env={**os.environ, "VLLM": str(stand_in), **environment},
                          cwd=where)  # fmt: skip
    there, *words = json.loads(done.stdout)
    assert Path(there) == folder
    return words


def test_the_script_serves_the_merged_model(for_vllm):
    words = called(for_vllm, "--seed", "1", PORT="9000")
    assert words == [
        "serve", "model", "--served-model-name", "mine", "--host", "127.0.0.1", "--port", "9000",
        "--max-model-len", "2048", "--generation-config", "vllm", "--dtype", "float32",
        "--seed", "1",
    ]  # fmt: skip
    assert (for_vllm / "model" / "config.json").is_file()


def test_no_place_of_this_machine_is_left_in_the_adapter(root, tmp_path):
    """A path that JSON escapes was not found, and stayed."""
    told = json.loads((root / "critic" / "adapter_config.json").read_text())
    (tmp_path / "adapter_model.safetensors").write_bytes(b"x")
    place = 'C:\\me\\"base" \u00e4'
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({**told, "base_model_name_or_path": place}))  # fmt: skip
    vllm.copy_adapter(tmp_path, tmp_path / "copy", "tiny")
    copied = json.loads((tmp_path / "copy" / "adapter_config.json").read_text())
    assert copied == {**told, "base_model_name_or_path": "tiny"}


def test_it_is_served_in_the_type_of_its_weights(root):
    """Left to `auto`, vLLM would round float32 to bfloat16."""
    recipe = recipe_of(root, "vllm", out="rounded")
    recipe.export.dtype = "bfloat16"
    export(recipe)
    assert called(root / "rounded")[-2:] == ["--dtype", "bfloat16"]
    config = json.loads((root / "rounded" / "model" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"


def test_the_script_serves_the_base_with_the_adapter(for_vllm):
    words = called(for_vllm, LORA="1", BASE="/somewhere/base", DTYPE="float16")
    assert words[:7] == ["serve", "/somewhere/base", "--enable-lora", "--max-lora-rank", "8",
                         "--lora-modules", "mine=adapters/mine"]  # fmt: skip
    assert words[-2:] == ["--dtype", "float16"]
    assert (for_vllm / words[words.index("--chat-template") + 1]).is_file()
    told = json.loads((for_vllm / "adapters" / "mine" / "adapter_config.json").read_text())
    assert (told["r"], told["base_model_name_or_path"]) == (4, "tiny")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        called(for_vllm, LORA="1")  # the tiny base was made here, no hub has it
    assert "BASE: expected the folder or id of the base" in failed.value.stderr


def test_program_and_base_are_found_from_where_they_were_named(for_vllm, root):
    words = called(for_vllm, where=root, LORA="1", BASE="base/tiny", VLLM="./vllm-stand-in")
    assert words[1] == f"{root}/base/tiny"
    words = called(for_vllm, where=root, LORA="1", BASE="Some/where", VLLM="vllm-stand-in",
                   PATH=f"{root}:{os.environ['PATH']}")  # fmt: skip
    assert words[1] == "Some/where"


@pytest.mark.parametrize("base", ["Qwen/Qwen2.5-7B", "it's/a $(touch x) b"])
def test_a_base_of_the_hub_is_named_whatever_it_is_called(tmp_path, base):
    folder = tmp_path / "box"
    folder.mkdir()
    script = vllm.serve_script("mine", base=base, rank=16, context=64, dtype="float32")
    (folder / "serve.sh").write_text(script)
    (folder / "serve.sh").chmod(0o755)
    assert called(folder, LORA="1")[1] == base


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_reads_the_script(for_vllm):
    for script in (for_vllm / "serve.sh",):
        done = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_without_an_adapter_only_the_merged_model_is_served(root):
    export(recipe_of(root, "hf"))
    export(recipe_of(root, "vllm", model="hf", out="plain"))
    assert "--enable-lora" not in (root / "plain" / "serve.sh").read_text()
    assert not (root / "plain" / "adapters").exists()


@pytest.mark.parametrize(("changed", "what"), [
    ({"use_dora": True}, "got use_dora; serve the merged folder"), ({"bias": "all"}, "got bias"),
    ({"modules_to_save": ["lm_head"]}, "got modules_to_save"),
    ({"rank_pattern": {"q_proj": 2}}, "got rank_pattern"), ({"r": 513}, "at most 512, got 513"),
    ({"init_lora_weights": "pissa"}, "got init_lora_weights"), ({"lora_bias": True}, "lora_bias"),
    ({"layer_replication": [[0, 1]]}, "got layer_replication"),
    ({"trainable_token_indices": [1]}, "got trainable_token_indices"),
    ({"peft_type": "IA3"}, "expected an adapter of type LORA"),
])  # fmt: skip
def test_an_adapter_that_vllm_would_not_apply_is_refused(root, tmp_path, changed, what):
    copy = shutil.copytree(root / "critic", tmp_path / "critic")
    told = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps({**told, **changed}))
    with pytest.raises(ValueError, match=what):
        vllm.lora_rank(copy)


@pytest.mark.parametrize(("rank", "limit"), [(1, 1), (2, 8), (8, 8), (16, 16), (17, 32)])
def test_the_rank_limit_is_the_next_that_vllm_takes(root, tmp_path, rank, limit):
    copy = shutil.copytree(root / "critic", tmp_path / "critic")
    told = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps({**told, "r": rank}))
    assert vllm.lora_rank(copy) == limit
