"""Adapters: attached, saved, gone on from."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PhimoeConfig

from minicrit import attention
from minicrit.base import load_model
from minicrit.lora import WEIGHTS, attach_lora, load_lora, open_lora
from minicrit.packing import Branch, Tree, pack


def test_fresh_adapter_is_seeded_and_changes_nothing(tiny, tiny_model):
    from minicrit.base import load_model

    batch = pack([Tree((), (Branch((5, 6, 7), (0.0, 1.0, 1.0)),))])
    before = tiny_model(**batch.model_inputs()).logits.detach()
    state = torch.random.get_rng_state()
    options = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": "all-linear", "seed": 3}
    one = attach_lora(tiny_model, **options)
    two = attach_lora(load_model(tiny, torch.float64), **options)
    assert torch.equal(state, torch.random.get_rng_state())
    after = one.double().get_base_model()(**batch.model_inputs()).logits
    torch.testing.assert_close(before, after)
    pairs = zip(one.named_parameters(), two.double().named_parameters(), strict=True)
    assert all(torch.equal(a, b) for (_, a), (_, b) in pairs)


def adapted(tiny, rank: int, seed: int):
    return attach_lora(
        load_model(tiny), rank=rank, alpha=2 * rank, dropout=0.0, targets="all-linear", seed=seed
    )


@pytest.mark.parametrize(("alpha", "kept"), [(32.0, "32"), (0.5, "0.5"), (12.5, "12.5")])
def test_the_scale_is_the_one_that_was_asked_for(tiny, alpha, kept):
    model = attach_lora(
        load_model(tiny), rank=4, alpha=alpha, dropout=0.0, targets="q_proj", seed=0
    )
    assert model.base_model.model.model.layers[0].self_attn.q_proj.scaling == {"default": alpha / 4}
    assert repr(model.peft_config["default"].lora_alpha) == kept


def test_names_of_layers_may_have_blanks_and_must_all_be_known(tiny):
    options = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "seed": 0}
    model = attach_lora(load_model(tiny), targets="q_proj, v_proj", **options)
    named = {n.split(".")[-4] for n, _ in model.named_parameters() if "lora_A" in n}
    assert named == {"q_proj", "v_proj"}
    message = (
        r"lora.targets: expected all-linear or names of linear layers \(.*q_proj.*\), got 'vproj'"
    )
    with pytest.raises(ValueError, match=message):
        attach_lora(load_model(tiny), targets="q_proj,vproj", **options)


@pytest.mark.parametrize("called", ["lm_head", "top"])
def test_the_output_layer_takes_no_adapter_whatever_it_is_called(tiny, called):
    """On a tied base the merged copy was another critic: the embedding had changed with it."""
    model = load_model(tiny)
    head = model.lm_head
    if called != "lm_head":
        del model.lm_head
        setattr(model, called, head)
        model.get_output_embeddings = lambda: head
    options = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "seed": 0}
    message = rf"lora.targets: .*below the output layer, got '{called}'.*all-linear"
    with pytest.raises(ValueError, match=message):
        attach_lora(model, targets=f"q_proj, {called}", **options)
    with pytest.raises(ValueError, match=r"lora.targets: .* linear layers \((?!.*(lm_head|top))"):
        attach_lora(model, targets="no_proj", **options)


def test_a_layer_that_only_derives_from_a_linear_one_takes_no_adapter(caplog):
    """The router of PhiMoE gives weights and experts beside its logits: peft raised over them.

    That its experts, which hold most of the weights, learn nothing is said.
    """
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "vocab_size": 64}
    config = PhimoeConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, pad_token_id=0)
    options = {"rank": 2, "alpha": 4.0, "dropout": 0.0, "seed": 0}

    def fresh():
        return AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME)

    model = attach_lora(fresh(), targets="all-linear", **options)
    batch = pack([Tree((5, 6), (Branch((7, 8), (1.0, 1.0)), Branch((9,), (1.0,))))])
    model.get_base_model()(**batch.model_inputs()).logits.sum().backward()
    named = {n.split(".")[-4] for n, _ in model.named_parameters() if "lora_A" in n}
    assert named == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert "phimoe: its experts (model.layers.0.mlp.experts.gate_up_proj and 1 more)" in caplog.text
    with pytest.raises(ValueError, match=r"lora.targets: .* linear layers \((?!.*router.*\))"):
        attach_lora(fresh(), targets="q_proj, router", **options)


def test_a_saved_adapter_goes_on_where_it_was(tiny, tmp_path):
    saved, fresh = adapted(tiny, 4, seed=1), adapted(tiny, 4, seed=2)
    for name, p in saved.named_parameters():
        if "lora_B" in name:
            p.data.normal_()
    saved.save_pretrained(tmp_path)
    load_lora(fresh, tmp_path)
    for (name, a), (_, b) in zip(saved.named_parameters(), fresh.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    with pytest.raises(ValueError, match="expected an adapter of the layers and the rank"):
        load_lora(adapted(tiny, 2, seed=2), tmp_path)


def without_second_layer(weights):
    return {name: value for name, value in weights.items() if "layers.1." not in name}


def of_a_fourth_layer(weights):
    return weights | {name.replace("layers.1.", "layers.3."): value.clone()
                      for name, value in weights.items() if "layers.1." in name}  # fmt: skip


def of_rank_one(weights):
    return {name: (value[:1] if "lora_A" in name else value[:, :1]).contiguous()
            for name, value in weights.items()}  # fmt: skip


@pytest.mark.parametrize(("changed", "message"), [
    (without_second_layer, r"got one that lacks .*layers\.1\.mlp\.down_proj\.lora_A.* \(14 such\)"),
    (of_a_fourth_layer, r"has no place for .*layers\.3\.mlp\.down_proj\.lora_A.* \(14 such\)"),
    (of_rank_one, "peft reads into its base, got: .*size mismatch"),
])  # fmt: skip
def test_an_adapter_is_applied_as_a_whole_or_refused(tiny, tmp_path, changed, message):
    """Seven layers of a block with an A and a B each."""
    adapted(tiny, rank=2, seed=0).save_pretrained(tmp_path / "sft")
    assert open_lora(load_model(tiny), tmp_path / "sft").active_adapters == ["default"]
    weights = changed(load_file(tmp_path / "sft" / WEIGHTS))
    save_file(weights, tmp_path / "sft" / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"sft: expected .*{message}"):
        open_lora(load_model(tiny), tmp_path / "sft")
