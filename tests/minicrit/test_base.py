"""Bases: made once, the same everywhere, and never with code of their own."""

import errno
import json
import math
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
import torch
import yaml
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
)

from minicrit import attention
from minicrit.base import (
    Base,
    identity_of,
    load_model,
    load_tokenizer,
    places_of,
    prepare_base,
)
from minicrit.critic import Critic
from minicrit.embedded import PARAGRAPH, perplexity
from minicrit.encoding import TooLongError
from minicrit.manifest import write_manifest
from minicrit.pins import pin
from minicrit.prompts import PROMPT_VERSION
from minicrit.reader import Reader
from tests.minicrit.random_base import SIZE, folder_of
from tests.minicrit.router_case import save_adapter


def test_tiny_base_is_the_same_every_time(tiny, tmp_path):
    again = prepare_base("tiny", tmp_path)
    assert again.identity == tiny.identity
    assert again.folder != tiny.folder


def test_prepared_base_is_not_made_again(tiny):
    stamp = (tiny.folder / "model.safetensors").stat().st_mtime_ns
    assert prepare_base("tiny", tiny.folder.parent) == tiny
    assert (tiny.folder / "model.safetensors").stat().st_mtime_ns == stamp


def test_a_base_that_has_changed_since_it_was_made_is_refused(tiny, tmp_path):
    folder = Path(shutil.copytree(tiny.folder, tmp_path / "tiny"))
    assert prepare_base("tiny", tmp_path).identity == tiny.identity
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"!")
    for load in (lambda: prepare_base("tiny", tmp_path), lambda: Critic.load(folder)):
        with pytest.raises(ValueError, match=r"files of its manifest, got .*model\.safetensors"):
            load()


def test_a_folder_is_a_base_and_its_identity_follows_its_content(tiny, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(tiny.folder, copy)
    (copy / "manifest.json").unlink()
    base = prepare_base(str(copy), tmp_path)
    assert base.identity == tiny.identity
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-5}))
    assert identity_of(copy) != tiny.identity


def test_folder_with_code_of_its_own_or_pickled_weights_is_refused(tiny, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(tiny.folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(ValueError, match="needs no code of its own"):
        prepare_base(str(copy), tmp_path)
    for damaged in ("{torn", "[" * 100_000):
        (copy / "config.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"config\.json: expected JSON, got .*; get the model"):
            prepare_base(str(copy), tmp_path)
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"expected \*.safetensors"):
        identity_of(copy)


def test_an_adapter_beside_a_base_is_not_applied_unasked(tiny, tmp_path):
    folder = tmp_path / "model"
    save_adapter(tiny, folder, 1)
    shutil.copytree(tiny.folder, folder, dirs_exist_ok=True)
    (folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match="model: expected a model alone, got an adapter beside it"):
        Critic.load(folder)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).unlink()
    item = [("general", "All swans are white.")]
    plain = Critic.load("tiny", base_folder=tiny.folder.parent)
    assert Critic.load(folder).log_odds(item) == plain.log_odds(item)


def broken(tiny, folder, name: str, content: bytes) -> Base:
    """The tiny base with another file, as a folder that somebody got elsewhere."""
    shutil.copytree(tiny.folder, folder)
    (folder / "manifest.json").unlink()
    (folder / name).write_bytes(content)
    return Base(folder, "broken")


@pytest.mark.parametrize(("changed", "message"), [
    ({"num_hidden_layers": 3}, r"none for model\.layers\.2\.input_layernorm\.weight \(9 such\)"),
    ({"vocab_size": 900}, r"another shape for model\.embed_tokens\.weight \(1 such\)"),
])  # fmt: skip
def test_no_weight_is_made_up_at_random(tiny, tmp_path, changed, message):
    told = json.loads((tiny.folder / "config.json").read_text()) | changed
    base = broken(tiny, tmp_path / "model", "config.json", json.dumps(told).encode())
    with pytest.raises(ValueError, match=f"model: expected all weights of .*, got {message}"):
        load_model(base)


def test_weights_beyond_the_config_are_told(tiny, tmp_path, caplog):
    told = json.loads((tiny.folder / "config.json").read_text()) | {"num_hidden_layers": 1}
    load_model(broken(tiny, tmp_path / "model", "config.json", json.dumps(told).encode()))
    assert "beyond config.json, got model.layers.1.input_layernorm.weight (9 such)" in caplog.text
    caplog.clear()
    load_model(tiny)
    assert caplog.text == ""


@pytest.mark.parametrize(("name", "content", "what"), [
    ("model.safetensors", b"", "model"),
    ("model.safetensors", b"\xff" * 20, "model"),
    ("config.json", b"[]", "config"),
    ("config.json", b'{"model_type": "llama", "hidden_size": "x"}', "config"),
    ("config.json", b'{"model_type": "llama", "rope_parameters": {"rope_type": "new"}}', "model"),
    ("tokenizer.json", b"{", "tokenizer"),
    ("tokenizer.json", b'{"version": "1.0", "model": {"type": "new"}}', "tokenizer"),
])  # fmt: skip
def test_a_folder_that_cannot_be_read_is_named(tiny, tmp_path, name, content, what):
    base = broken(tiny, tmp_path / "model", name, content)
    with pytest.raises(ValueError, match=f"model: expected a {what} that .* reads, got: .+;"):
        (load_tokenizer if what == "tokenizer" else load_model)(base)
    if what == "config":
        with pytest.raises(ValueError, match=r"model: expected a config that .* reads, got: .+;"):
            places_of(base)


@pytest.mark.parametrize("places", [512, 4096, 8192])
def test_no_more_is_read_than_a_base_has_places(tiny, places):
    """Behind a prompt: lead-in, verdict, what is written, 40 tokens of a quotation and its end."""
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZE, max_position_embeddings=places))
    reader = Reader(model, load_tokenizer(tiny))
    lead_in, (valid, flawed) = reader.encoder.lead_in, reader.encoder.verdict_words.values()
    behind = len(lead_in) + max(len(valid), len(flawed)) + 160 + 40 + 1
    assert reader.encoder.max_tokens == min(4096, places)
    assert min(4096, places) - reader.reserve(160) == min(4096, places - behind)
    lines = max(map(len, reader.encoder.flaw_lines))  # no critique: a verdict and a flaw type
    assert min(4096, places) - reader.reserve(0) == min(4096, places - len(lead_in) - lines)


@pytest.mark.parametrize(("config", "most"), [
    (MistralConfig(**SIZE, sliding_window=4096, max_position_embeddings=32768), 4096),
    (MistralConfig(**SIZE, sliding_window=None, max_position_embeddings=32768), 32768),
    (Qwen2Config(**SIZE, sliding_window=4096, use_sliding_window=False,
                 max_position_embeddings=32768), 32768),
])  # fmt: skip
def test_no_text_is_longer_than_a_window_that_packed_attention_does_not_know(
    tmp_path, config, most
):
    """Texts of `data.max_tokens: 8192` were learnt from with attention that such a base has not."""
    assert places_of(folder_of(config, tmp_path)) == most


def test_where_a_long_text_turns_all_positions_none_is_so_long(tiny):
    """It changed the verdict on a short one that was read with it."""
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 256,
            "short_factor": [1.0] * 4, "long_factor": [8.0] * 4}  # fmt: skip
    told = LlamaConfig(**SIZE | {"vocab_size": 1024}, max_position_embeddings=4096,
                       rope_parameters=rope)  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(told, attn_implementation=attention.NAME).eval()
    reader = Reader(model, load_tokenizer(tiny))
    short, most = ("general", "It rained for a week, so it will rain."), reader.encoder.max_tokens
    assert most == 256
    long = ("general", "x " * (most - reader.reserve(0) - len(reader.prompt("general", "")) - 1))
    assert reader.log_odds([short, long])[0] == pytest.approx(reader.log_odds([short])[0], abs=1e-6)
    with pytest.raises(TooLongError):
        reader.log_odds([(long[0], long[1] * 2)])


@pytest.mark.parametrize(("typed", "meant"), [("embeded", "embedded"), ("tinny", "tiny")])
def test_a_typing_mistake_is_no_name_on_the_hub(tmp_path, monkeypatch, typed, meant):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(ValueError, match=f"base '{typed}': .* did you mean {meant}?"):
        prepare_base(typed, tmp_path)


@pytest.mark.parametrize(("name", "got"), [
    ("nosuch", "nothing fetched of it from the hub, which cannot be reached"),
    ("no-such-owner/no-such-model", "nothing fetched of it from the hub"),
    ("no such critic", "the hub has no names of that form"),
])  # fmt: skip
def test_unknown_name_says_what_to_do(tmp_path, monkeypatch, name, got):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="use BASE=embedded") as said:
        prepare_base(name, tmp_path)
    assert "expected the folder of a critic or base (like checkpoints/RUN/sft)" in str(said.value)
    assert f"(like owner/model), got no folder of that name, and {got}" in str(said.value)
    assert "Error" not in str(said.value)


@pytest.mark.parametrize(("trouble", "said"), [
    (httpx2.RemoteProtocolError("peer closed"), "a connection to the hub that broke off"),
    (httpx2.ReadTimeout("slow"), "check the name and the network"),
    (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    (PermissionError(errno.EACCES, "Permission denied", "hub/x"), "hub/x"),
])  # fmt: skip
def test_what_breaks_off_while_a_base_is_fetched_is_told(tmp_path, monkeypatch, trouble, said):
    """A lost connection is no traceback; a full disk is no fault of name or network."""

    def fetch(*_: object, **__: object) -> None:
        raise trouble

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    system = isinstance(trouble, OSError)
    with pytest.raises(OSError if system else ValueError, match=said) as found:
        prepare_base("owner/name", tmp_path)
    assert (found.value is trouble) == system


FIRST, LATER = "1" * 40, "2" * 40


@pytest.fixture
def hub(tiny, tmp_path, monkeypatch):
    """The hub's cache with two commits of one model; gives what moves its branch to a commit."""
    from huggingface_hub import constants

    cache = tmp_path / "hub" / "models--owner--name"
    for commit in (FIRST, LATER):
        shutil.copytree(tiny.folder, cache / "snapshots" / commit)
        config = cache / "snapshots" / commit / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "commit": commit}))
    (cache / "refs").mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return (cache / "refs" / "main").write_text


def test_what_was_fetched_first_is_taken_ever_after(hub, tmp_path, caplog):
    hub(FIRST)
    bases = tmp_path / "bases"
    first = prepare_base("owner/name", bases)
    assert first.revision == FIRST
    assert f"the newest commit, {FIRST}, is taken and kept in {bases}" in caplog.text
    assert json.loads((bases / "revisions.json").read_text()) == {"owner/name": FIRST}
    hub(LATER)  # its owner has changed it
    caplog.clear()
    assert prepare_base("owner/name", bases) == first
    assert caplog.text == ""
    assert prepare_base("owner/name", tmp_path / "elsewhere").revision == LATER


def test_a_named_commit_wins_and_is_kept(hub, tmp_path):
    hub(FIRST)
    prepare_base("owner/name", tmp_path)
    named = prepare_base("owner/name", tmp_path, LATER)
    assert named.revision == LATER
    assert prepare_base("owner/name", tmp_path) == named  # as whoever loads its critics will ask


def test_a_critic_of_another_commit_moves_nobody_elses(hub, tmp_path):
    """To look at it once changed the base of whatever was trained next, without a word."""
    hub(FIRST)
    first = prepare_base("owner/name", tmp_path)
    facts = {"base_model": "owner/name", "base_revision": LATER, "base": "another",
             "prompt_version": PROMPT_VERSION}  # fmt: skip
    folder = save_adapter(first, tmp_path / "theirs", 1)
    write_manifest(folder, stage="sft", inputs={}, settings={}, facts=facts)
    with pytest.raises(ValueError, match="base: expected"):  # that of LATER, which is not `another`
        Critic.load(folder, base_folder=tmp_path)
    assert prepare_base("owner/name", tmp_path) == first


def test_commits_that_are_pinned_at_one_time_are_all_kept(tmp_path):
    names = [f"owner/{n}" for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: pin(name, tmp_path, tmp_path / FIRST, None), names))
    kept = json.loads((tmp_path / "revisions.json").read_text())
    assert kept == dict.fromkeys(names, FIRST)


@pytest.mark.parametrize("revision", ["main", "v1.0", "1234567", "A" * 40])
def test_what_may_move_is_no_revision(hub, tmp_path, revision):
    hub(FIRST)
    with pytest.raises(ValueError, match=r"base.revision: expected a commit \(40 hex dig"):
        prepare_base("owner/name", tmp_path, revision)
    assert not (tmp_path / "revisions.json").exists()


@pytest.mark.parametrize(("text", "message"), [
    ("[", "expected commits by model"), ('{"owner/name": "main"}', "of owner/name, got 'main'"),
])  # fmt: skip
def test_a_broken_list_of_commits_is_not_guessed_at(hub, tmp_path, text, message):
    hub(FIRST)
    (tmp_path / "revisions.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        prepare_base("owner/name", tmp_path)


def test_every_recipe_that_names_the_hub_names_a_commit():
    for path in (Path(__file__).parents[2] / "minicrit" / "recipes").glob("*.yaml"):
        base = yaml.safe_load(path.read_text()).get("base", {})
        if "/" in base.get("model", ""):
            assert re.fullmatch(r"[0-9a-f]{40}", base["revision"]), path.name


def test_perplexity_of_a_uniform_model_is_its_vocabulary(tiny):
    model, tokenizer = load_model(tiny), load_tokenizer(tiny)
    torch.nn.init.zeros_(model.model.norm.weight)
    assert perplexity(model, tokenizer, PARAGRAPH) == pytest.approx(len(tokenizer), rel=1e-4)
    assert math.isfinite(perplexity(load_model(tiny), tokenizer, PARAGRAPH))
