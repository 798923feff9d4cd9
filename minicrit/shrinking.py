"""From a float critic to small tensors, named `<module>.<part>`.

Linear layers become `rows`, `scales` (int8, smoothed) or `codes`, `scales`, `offsets` (4 bits; or
`base.rows`, `base.scales` where groups do not fit), with `bias` and `smoothing`; embeddings become
`rows`, `scales` or `wide`, `scales`. What is left stays float32. At 16 bits
all is bfloat16, with the adapter merged.

4 bits and an adapter: the update that an adapter makes is smaller than half a 4-bit step, so where
the base itself comes from a 4-bit file (the embedded one does) rounding the merged weights gives
the base back, without the adapter. Therefore the base is rounded and the update is kept beside it,
as int8 factors `left`, `right`; they are added in float when the critic is loaded.

Shapes: O outputs, I inputs, R rank.
"""

from collections.abc import Mapping
from functools import partial

import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from minicrit import int4
from minicrit.int8 import quantize_embedding, quantize_rows, siblings
from minicrit.prompts import render_prompt
from minicrit.taxonomy import FLAW_TYPES

Tensors = dict[str, Tensor]
Adapted = PreTrainedModel | PeftModel
#: Smoothing factors are powers of 2 ** (1 / OCTAVE), so that the last bit of a measured peak, which
#: depends on the number of threads, does not matter.
OCTAVE = 4
_FLOOR = 1e-5


def shrink_16(adapted: Adapted, tokenizer: PreTrainedTokenizerBase) -> Tensors:
    """The merged critic in bfloat16, shared weights once; `adapted` is used up."""
    del tokenizer  # as the others
    named = merged(adapted).named_parameters()
    return {name: p.detach().bfloat16().contiguous() for name, p in named}


def shrink_8(adapted: Adapted, tokenizer: PreTrainedTokenizerBase) -> Tensors:
    """The merged critic in 8 bits; `adapted` is used up."""
    model = merged(adapted)
    exponents = smoothing_exponents(model, tokenizer)
    tensors: Tensors = {}
    for name, layer in _shrinkable(model).items():
        weight = layer.weight.detach()
        if name in exponents:
            weight = weight * smoothing(exponents[name])
        looked_up = isinstance(layer, nn.Embedding)
        rows, scales = (quantize_embedding if looked_up else quantize_rows)(weight)
        tensors |= {f"{name}.rows": rows, f"{name}.scales": scales}
    return _with_rest(tensors, model, exponents)


def shrink_4(adapted: Adapted, tokenizer: PreTrainedTokenizerBase) -> Tensors:
    """The base in 4 bits with the adapter's factors in 8; `adapted` is used up.

    Raises:
        ValueError: if the adapter is more than plain low-rank updates of linear layers.
    """
    tensors: Tensors = {}
    updated = _plain_layers(adapted)
    for name, layer in updated.items():
        tensors |= _in_groups(name, _weight(layer.base_layer)) | _factors(name, layer)
    model = merged(adapted)
    for name, module in _shrinkable(model).items():
        if isinstance(module, nn.Embedding):
            tensors |= _in_wide(name, module.weight)
        elif name not in updated:
            tensors |= _in_groups(name, module.weight)
    return _with_rest(tensors, model, smoothing_exponents(model, tokenizer))


def smoothing(exponents: Tensor) -> Tensor:
    """Factors (I,) from stored exponents (I,) int8."""
    return torch.exp2(exponents.float() / OCTAVE)


def smoothing_exponents(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Tensor]:
    """Factors sqrt(max |x_i| / max |w_i|) of each linear layer, as rounded logarithms.

    The largest inputs are measured on the taxonomy's examples: no data, so nothing of a test set.
    The head has none, as it mostly shares its rows with the embedding.
    """
    head = model.get_output_embeddings()
    linear = {n: m for n, m in _shrinkable(model).items() if isinstance(m, nn.Linear)}
    layers = {n: m for n, m in linear.items() if m is not head}
    peaks = {n: torch.full((m.in_features,), _FLOOR) for n, m in layers.items()}

    def watch(name: str, _: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen = args[0].detach().abs().flatten(0, -2).amax(dim=0)
        peaks[name] = torch.maximum(peaks[name], seen)

    hooks = [m.register_forward_pre_hook(partial(watch, n)) for n, m in layers.items()]
    try:
        with torch.inference_mode():
            for flaw in FLAW_TYPES.values():
                text = render_prompt("general", flaw.example)
                ids = tokenizer(text, add_special_tokens=False)["input_ids"]
                model(input_ids=torch.tensor([ids]), use_cache=False, logits_to_keep=1)
    finally:
        for hook in hooks:
            hook.remove()
    columns = {n: m.weight.detach().abs().amax(dim=0) for n, m in layers.items()}
    for name in layers:  # layers that read the same input are divided by the same, see `Joined`
        together = [columns[sibling] for sibling in siblings(name) if sibling in columns]
        peaks[name] = _exponents(peaks[name], torch.stack(together).amax(dim=0))
    return peaks


def _exponents(peaks: Tensor, columns: Tensor) -> Tensor:
    columns = columns.clamp_min(_FLOOR)
    exact = OCTAVE * torch.log2(peaks / columns) / 2
    return torch.round(exact).clamp_(-127, 127).to(torch.int8)


def _shrinkable(model: PreTrainedModel) -> dict[str, nn.Linear | nn.Embedding]:
    """Layers that are shrunk; a tied head is none of its own."""
    found = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Embedding)}
    table = model.get_input_embeddings().weight
    return {n: m for n, m in found.items() if isinstance(m, nn.Embedding) or m.weight is not table}


def _with_rest(
    tensors: Tensors, model: PreTrainedModel, exponents: Mapping[str, Tensor]
) -> Tensors:
    """Adds smoothing, and every parameter (norms, biases) that was not shrunk."""
    shrunk = {f"{name}.weight" for name in _shrinkable(model)}
    rest = {n: p.detach().float() for n, p in model.named_parameters() if n not in shrunk}
    smooth = {f"{name}.smoothing": value for name, value in exponents.items()}
    return {n: t.contiguous() for n, t in (tensors | rest | smooth).items()}


def _in_groups(name: str, weight: Tensor) -> Tensors:
    if not int4.fits(weight):
        rows, scales = quantize_rows(weight)
        return {f"{name}.base.rows": rows, f"{name}.base.scales": scales}
    groups = int4.quantize_groups(weight)
    return {f"{name}.{part}": tensor for part, tensor in groups._asdict().items()}


def _in_wide(name: str, weight: Tensor) -> Tensors:
    if not int4.fits(weight, int4.WIDE_GROUP):
        rows, scales = quantize_embedding(weight)
        return {f"{name}.rows": rows, f"{name}.scales": scales}
    wide, scales = int4.quantize_wide(weight)
    return {f"{name}.wide": wide, f"{name}.scales": scales}


def _factors(name: str, layer: LoraLinear) -> Tensors:
    """Update = left' right with left (R, O), right (R, I): one scale for each of the R parts."""
    adapter = layer.active_adapters[0]
    parts: Tensors = {}
    left = _weight(layer.lora_B[adapter]).t() * layer.scaling[adapter]
    for side, factor in (("left", left), ("right", _weight(layer.lora_A[adapter]))):
        rows, scales = quantize_rows(factor)
        parts |= {f"{name}.{side}.rows": rows, f"{name}.{side}.scales": scales}
    return parts


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Linear)
    return layer.weight.detach()


def _plain_layers(adapted: Adapted) -> dict[str, LoraLinear]:
    """The adapted layers by name, all of which must be y = (W + s B A) x."""
    layers: dict[str, LoraLinear] = {}
    if not isinstance(adapted, PeftModel):
        return layers
    for name, layer in adapted.get_base_model().named_modules():
        if not isinstance(layer, BaseTunerLayer | AuxiliaryTrainingWrapper):
            continue
        if type(layer) is not LoraLinear or not _is_plain(layer):
            raise ValueError(f"{name}: expected a plain LoRA of a linear layer for 4 bits, got "
                             f"{type(layer).__name__}; use 8 bits")  # fmt: skip
        layers[name] = layer
    return layers


def _is_plain(layer: LoraLinear) -> bool:
    special = (*layer.use_dora.values(), *layer.lora_bias.values())
    return isinstance(layer.base_layer, nn.Linear) and not any(special)


def merged(adapted: Adapted) -> PreTrainedModel:
    """One plain model; one of which all weights were trained is that already."""
    model = adapted.merge_and_unload() if isinstance(adapted, PeftModel) else adapted
    return model.eval()  # type: ignore[no-any-return]
