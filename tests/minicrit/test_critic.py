"""The critic at inference, on the tiny base: the readout, its batches, and what it refuses."""

import json
import math
import time

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, OPTConfig

from minicrit import attention
from minicrit.base import load_model, load_tokenizer
from minicrit.cli import main
from minicrit.critic import Critic
from minicrit.encoding import TooLongError
from minicrit.files import write_json
from minicrit.judging import UnreadableError
from minicrit.logprobs import token_logprobs
from minicrit.lora import WEIGHTS, attach_lora
from minicrit.manifest import read_manifest, write_manifest
from minicrit.prompts import LEAD_IN, PROMPT_VERSION, render_prompt
from minicrit.readout import bundles, joined, judging_tree, reading
from minicrit.records import Example
from minicrit.taxonomy import FLAW_TYPES

ITEMS = [
    ("trading", "RSI is low, so buy."),
    (
        "medical",
        "The test was negative in all 40 cases. So the drug is safe for everybody, always.",
    ),
    ("general", "Swans are white."),
]


@pytest.fixture(scope="module")
def critic(tiny) -> Critic:
    return Critic.load("tiny", base_folder=tiny.folder.parent)


def by_hand(critic: Critic, item: tuple[str, str]) -> float:
    """Log-odds from two ordinary forward passes over the whole text."""
    tokenizer, sums = critic.tokenizer, {}
    for label in ("valid", "flawed"):
        head = tokenizer(render_prompt(*item))["input_ids"] + tokenizer(LEAD_IN)["input_ids"]
        word = critic.encoder.verdict_words[label]
        ids = torch.tensor([head + word])
        with torch.inference_mode():
            logits = critic.model(input_ids=ids, use_cache=False).logits[0]
        scores = token_logprobs(logits[:-1], ids[0, 1:])
        sums[label] = float(scores[-len(word) :].sum())
    return sums["flawed"] - sums["valid"]


def test_merged_says_the_same_and_leaves_the_critic_alone(tiny_adapted, tiny):
    critic = Critic(tiny_adapted, load_tokenizer(tiny), name="tiny", identity="tiny")
    items = [("general", "All swans seen were white."), ("trading", "It rose, so it will rise.")]
    before = critic.p_flawed(items)
    exact, low = critic.merged(torch.float64), critic.merged(torch.bfloat16)
    assert exact.p_flawed(items) == pytest.approx(before, rel=1e-9)
    assert low.p_flawed(items) == pytest.approx(before, rel=0.05)
    assert low.identity != exact.identity != critic.identity
    assert isinstance(critic.model, PeftModel)
    assert not isinstance(low.model, PeftModel)
    assert next(low.model.parameters()).dtype == torch.bfloat16
    assert (critic.p_flawed(items) == before).all()


def test_readout_is_the_likelihood_ratio_of_the_two_words(critic):
    odds = critic.log_odds(ITEMS)
    assert odds == pytest.approx([by_hand(critic, item) for item in ITEMS], abs=1e-4)
    chances = critic.p_flawed(ITEMS)
    assert chances == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-9)


def test_batching_and_order_change_no_verdict(critic):
    alone = np.array([critic.p_flawed([item])[0] for item in ITEMS])
    together = critic.p_flawed(ITEMS)
    narrow = critic.p_flawed(ITEMS, batch_tokens=60)
    turned = critic.p_flawed(ITEMS[::-1])[::-1]
    for other in (together, narrow, turned):
        np.testing.assert_allclose(other, alone, atol=1e-6)


def test_twins_share_their_beginning_and_say_the_same(critic):
    """Each alone, both together, and with a stranger between them."""
    start = "Of the 40 wards that were asked 36 had fewer falls after the new floors were laid, "
    twins = [("medical", start + "so floors may help."), ("trading", "Nothing in common here."),
             ("medical", start + "so no ward will ever see a fall again.")]  # fmt: skip
    alone = [critic.log_odds([item])[0] for item in twins]
    assert critic.log_odds(twins) == pytest.approx(alone, abs=1e-5)
    prompts = [critic.encoder.prompt(*item) for item in twins]
    assert sorted(map(len, bundles(prompts, 4096))) == [1, 2]
    (rows,) = [rows for rows in bundles(prompts, 4096) if len(rows) == 2]
    tree = joined([prompts[row] for row in rows], reading(critic.encoder))
    assert tree.tokens < sum(len(prompts[row]) for row in rows)
    assert list(bundles([], 4096)) == []


def test_many_that_begin_alike_are_still_read_in_bounded_forwards(critic):
    start = "Of the 40 wards that were asked 36 had fewer falls after the new floors were laid. "
    items = [("medical", f"{start} So it was on ward {n}. {'It is so. ' * n}") for n in range(40)]
    prompts = [critic.encoder.prompt(*item) for item in items]
    tail = reading(critic.encoder)
    for most in (150, 400, 1000):
        groups = list(bundles(prompts, most, tail.tokens))
        assert sorted(row for rows in groups for row in rows) == list(range(40))
        sizes = [joined([prompts[row] for row in rows], tail).tokens for rows in groups]
        assert all(size <= most or len(g) == 1 for size, g in zip(sizes, groups, strict=True))
        assert sum(sizes) < sum(len(prompt) + tail.tokens for prompt in prompts)
    read = []
    seen = critic.causal_lm.model.register_forward_pre_hook(
        lambda _, given, named: read.append(named["input_ids"].shape[1]), with_kwargs=True
    )
    found = critic.log_odds(items, batch_tokens=1000)
    seen.remove()
    assert max(read) <= 1000
    alone = [critic.log_odds([item])[0] for item in items[::13]]
    assert found[::13] == pytest.approx(alone, abs=1e-5)


def test_the_same_text_twice_is_one_bundle(critic):
    assert critic.log_odds([ITEMS[1], ITEMS[1]]) == pytest.approx(
        [critic.log_odds([ITEMS[1]])[0]] * 2, abs=1e-5
    )


def test_types_are_those_of_whole_passes_over_the_text(critic):
    """The likeliest line `Flaw: <name>` after the verdict, from ordinary forward passes."""
    p, types = critic.p_and_types(ITEMS)
    assert p == pytest.approx(critic.p_flawed(ITEMS), abs=1e-6)
    for item, said in zip(ITEMS, types, strict=True):
        head = critic.encoder.prompt(*item) + critic.encoder.lead_in
        sums = []
        for line in critic.encoder.flaw_lines:
            ids = torch.tensor([head + line])
            with torch.inference_mode():
                logits = critic.model(input_ids=ids, use_cache=False).logits[0]
            sums.append(float(token_logprobs(logits[:-1], ids[0, 1:])[-len(line) :].sum()))
        assert list(FLAW_TYPES)[int(np.argmax(sums))] == said


def test_verdict_follows_the_threshold_strictly(critic):
    p = float(critic.p_flawed(ITEMS[:1])[0])
    for threshold, label in ((p, "valid"), (math.nextafter(p, 0.0), "flawed")):
        critic.threshold = threshold
        verdict = critic.verdict(ITEMS[:1])[0]
        assert verdict.label == label
        assert verdict.threshold == threshold
    critic.threshold = 0.5
    json.dumps(verdict.to_row())
    assert verdict.prompt_version == PROMPT_VERSION


def test_critique_begins_with_the_verdict_and_counts_what_is_not_parsed(critic):
    written = critic.critique(ITEMS, max_new_tokens=5, batch=2)
    assert len(written) == 3
    for item, answer in zip(ITEMS, written, strict=True):
        assert answer.text.startswith(f"Verdict: {answer.verdict.label}")
        assert answer.verdict.domain == item[0]
        assert (answer.parsed is None) == (answer.reason is not None)
        assert answer.tokens <= 5


def test_company_in_generation_changes_nothing(critic):
    together = [w.text for w in critic.critique(ITEMS, max_new_tokens=8, batch=3)]
    alone = [critic.critique([item], max_new_tokens=8)[0].text for item in ITEMS]
    assert together == alone


def test_judging_reads_verdict_type_and_perplexity(critic):
    flawed = Example(id="1", domain="general", rationale="Three of three, so always.",
                     label="flawed", flaw_type="small_sample", critique="Too few.",
                     group="g", source="s", split="test")  # fmt: skip
    valid = Example(id="2", domain="general", rationale="Two and two make four.", label="valid",
                    group="h", source="s", split="test")  # fmt: skip
    first, second = critic.judge([flawed, valid])
    odds = critic.log_odds([(e.domain, e.rationale) for e in (flawed, valid)])
    assert [first.log_odds, second.log_odds] == pytest.approx(odds.tolist(), abs=1e-5)
    assert first.flaw_type in FLAW_TYPES
    assert second.flaw_type is None
    tree = judging_tree(critic.encoder, flawed)
    assert len(tree.leaves) == 3 + len(FLAW_TYPES)
    assert first.tokens == len(tree.leaves[2].ids)
    assert first.nll > 0


@pytest.fixture
def adapter(tiny, tmp_path):
    """A saved adapter that does something, with its manifest."""
    model = attach_lora(load_model(tiny), rank=2, alpha=4, dropout=0.0, targets="all-linear",
                        seed=0)  # fmt: skip
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05)
    folder = tmp_path / "sft"
    model.save_pretrained(folder)
    sign(folder, tiny.identity)
    return folder


def sign(folder, identity: str, prompt: str = PROMPT_VERSION) -> None:
    (folder / "manifest.json").unlink(missing_ok=True)
    facts = {"base": identity, "base_model": "tiny", "prompt_version": prompt}
    write_manifest(folder, stage="sft", inputs={}, settings={}, facts=facts)


def test_adapter_is_loaded_and_applied(adapter, critic, tiny):
    adapted = Critic.load(adapter, base_folder=tiny.folder.parent)
    assert adapted.adapter is not None
    assert not np.allclose(adapted.log_odds(ITEMS), critic.log_odds(ITEMS), atol=1e-4)


def test_other_base_other_prompt_and_changed_files_are_refused(adapter, tiny):
    bases = tiny.folder.parent
    sign(adapter, "another")
    with pytest.raises(ValueError, match="base: expected"):
        Critic.load(adapter, base_folder=bases)
    sign(adapter, tiny.identity, prompt="plain-0")
    with pytest.raises(ValueError, match="prompt_version"):
        Critic.load(adapter, base_folder=bases)
    sign(adapter, tiny.identity)
    config = json.loads((adapter / "adapter_config.json").read_text())
    write_json(adapter / "adapter_config.json", {**config, "lora_alpha": 1})
    with pytest.raises(ValueError, match="expected the files of its manifest"):
        Critic.load(adapter, base_folder=bases)


def test_adapter_that_changes_nothing_is_refused(tiny, tmp_path):
    fresh = attach_lora(load_model(tiny), rank=2, alpha=4, dropout=0.0, targets="all-linear",
                        seed=0)  # fmt: skip
    fresh.save_pretrained(tmp_path / "sft")
    sign(tmp_path / "sft", tiny.identity)
    with pytest.raises(ValueError, match="expected an adapter that changes"):
        Critic.load(tmp_path / "sft", base_folder=tiny.folder.parent)


def test_missing_model_says_what_to_do(tmp_path):
    for path in (str(tmp_path / "nothing"), "/nothing", "checkpoints/nothing", "./nothing"):
        with pytest.raises(ValueError, match=r"nothing.*: expected the folder of a critic, got"):
            Critic.load(path)
    with pytest.raises(ValueError, match=r"got neither manifest.json nor config.json"):
        Critic.load(tmp_path)
    with pytest.raises(ValueError, match=r"or a Hugging Face id .*BASE=embedded"):
        Critic.load("nobody/nothing")  # may be a model of the hub


def test_manifest_of_the_tiny_base_is_its_identity(tiny):
    assert read_manifest(tiny.folder)["facts"]["identity"] == tiny.identity
    assert load_tokenizer(tiny).decode(load_tokenizer(tiny)("a b")["input_ids"]) == "a b"


def test_a_folder_of_another_stage_is_no_critic(tmp_path):
    """It was refused for a prompt version that data have none of, and unnamed."""
    (tmp_path / "train.jsonl").write_text("")
    write_manifest(tmp_path, stage="data", inputs={}, settings={}, facts={})
    with pytest.raises(ValueError, match=r"expected the folder of a critic, got what .* data made"):
        Critic.load(tmp_path)


def test_where_a_base_has_few_places_there_is_room_behind_every_prompt(tiny):
    """Its positions are learnt: a token behind the last place has none, which was an IndexError."""
    config = OPTConfig(
        vocab_size=1100, hidden_size=16, word_embed_proj_dim=16, ffn_dim=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME)
    short = Critic(model.eval(), load_tokenizer(tiny), name="short", identity="short")
    used, most = len(short.encoder.prompt("general", "")), 256 - short.reserve(160)
    fits, longer = (("general", " a" * (most - used + more)) for more in (0, 1))
    assert len(short.encoder.prompt(*fits)) == most
    p, _ = short.p_and_types([fits])
    short.encoder.end = -1  # no critique comes to it
    for drafts in (True, False):
        (written,) = short.critique([fits], drafts=drafts)
        assert written.verdict.p_flawed == pytest.approx(p[0], abs=1e-6)
        assert written.tokens == 160
        with pytest.raises(TooLongError, match=rf"expected at most {most - 1} prompt tokens"):
            short.critique([fits], max_new_tokens=161, drafts=drafts)
    with pytest.raises(TooLongError, match=rf"at most {most} prompt tokens, got {most + 1}"):
        short.critique([longer])
    most = 256 - short.reserve(0)  # nothing is written
    fits, longer = (("general", " a" * (most - used + more)) for more in (0, 1))
    for read in (short.p_flawed, short.p_and_types):
        read([fits])
        with pytest.raises(TooLongError, match=rf"at most {most} prompt tokens, got {most + 1}"):
            read([longer])


def test_characters_that_no_record_may_hold_are_shown_as_unreadable(critic, monkeypatch):
    decode = critic.tokenizer.decode
    monkeypatch.setattr(critic.tokenizer, "decode", lambda *a, **k: decode(*a, **k) + "\x0b.")
    (written,) = critic.critique(ITEMS[:1], max_new_tokens=4)
    assert written.text.endswith("\ufffd.")


def test_without_an_answer_nothing_is_called_valid(tiny):
    model = load_model(tiny)
    model.model.norm.weight.data.fill_(math.nan)
    critic = Critic(model, load_tokenizer(tiny), name="broken", identity="broken")
    assert np.isnan(critic.p_flawed(ITEMS)).all()
    said = r"broken: expected an item that it can read, got none \(undefined p\)"
    for ask in (critic.verdict, critic.critique):
        for items in (ITEMS[:1], ITEMS):
            with pytest.raises(UnreadableError, match=said):
                ask(items)
    with pytest.raises(UnreadableError, match=said):
        critic.verdicts(ITEMS[:1], [1.5])


def test_an_adapter_with_broken_weights_is_refused(adapter, tiny):
    weights = load_file(adapter / WEIGHTS)
    next(value for name, value in weights.items() if "lora_B" in name).fill_(math.nan)
    save_file(weights, adapter / WEIGHTS, metadata={"format": "pt"})
    sign(adapter, tiny.identity)
    with pytest.raises(ValueError, match="sft: expected an adapter whose log-odds are numbers"):
        Critic.load(adapter, base_folder=tiny.folder.parent)


def test_the_time_of_a_critique_holds_that_of_its_verdict(tiny):
    class Slow(Critic):
        def p_flawed(self, items, **settings):
            time.sleep(0.2 * len(items))
            return super().p_flawed(items, **settings)

    critic = Slow(load_model(tiny), load_tokenizer(tiny), name="slow", identity="slow")
    start = time.perf_counter()
    found = critic.critique(ITEMS, max_new_tokens=2, batch=2)
    most = 1000 * (time.perf_counter() - start)
    times = [one.verdict.latency_ms for one in found]
    assert min(times) >= 200
    assert sum(times) <= most


def test_no_more_is_written_than_leaves_room_for_a_prompt(critic):
    """Of 4096 places an empty prompt, the lead-in, a verdict and a quotation take some."""
    with pytest.raises(
        ValueError, match=r"--most: expected at most .* 4096 places, got 9999;"
    ) as e:
        critic.require_room(9999, "--most")
    most = int(str(e.value).split("at most ")[1].split(" ")[0])
    critic.require_room(most, "--most")
    critic.prompt("general", "a", most)
    with pytest.raises(ValueError, match=f"expected at most {most} tokens"):
        critic.require_room(most + 1, "--most")
    with pytest.raises(TooLongError):
        critic.prompt("general", "a", most + 1)


def test_asking_for_too_long_a_critique_is_not_blamed_on_the_text(tiny, capsys):
    told = ["--model", "tiny", "--max-new-tokens", "9999",
            "--base-folder", str(tiny.folder.parent)]  # fmt: skip
    for command in (["critique", "Swans are white."], ["mcp"]):
        assert main([*command, *told]) == 1
        assert "minicrit: --max-new-tokens: expected at most 4" in capsys.readouterr().err
