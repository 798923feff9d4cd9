"""Several adapters in one forward equal one adapter at a time, at every token."""

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn

from minicrit.decoding import greedy
from minicrit.fused import fuse
from minicrit.lanes import Lanes, lay_lanes, mixed_greedy
from minicrit.packing import Branch, Tree, pack

NAMES = ("default", "one", "two")


class Net(nn.Module):
    """Two layers, one of them with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 10), nn.Linear(10, 4, bias=False)

    def forward(self, x):
        return self.two(torch.tanh(self.one(x)))

    def get_output_embeddings(self):
        return None


def noisy(model, seed: int = 0):
    """Gives every adapter an update of its own."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data.copy_(0.3 * noise)
    return model


def net(dtype=torch.float64):
    torch.manual_seed(0)
    ranks = {"default": 3, "one": 2, "two": 5}
    configs = {n: LoraConfig(r=r, lora_alpha=6, target_modules=["one", "two"])
               for n, r in ranks.items()}  # fmt: skip
    configs["two"].target_modules = {"one"}  # adapters need not have the same layers
    model = get_peft_model(Net(), configs["default"])
    for name in NAMES[1:]:
        model.add_adapter(name, configs[name])
    noisy(model).to(dtype)
    fuse(model)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize(("dtype", "apart"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@settings(max_examples=25, deadline=None)
@given(runs=st.lists(st.tuples(st.sampled_from([*NAMES, ""]), st.integers(1, 5)), min_size=1,
                     max_size=8), seed=st.integers(0, 99))  # fmt: skip
def test_mixed_equals_one_adapter_at_a_time(dtype, apart, runs, seed):
    model, lanes = net(dtype), Lanes()
    total = sum(length for _, length in runs)
    x = torch.randn(1, total, 6, generator=torch.Generator().manual_seed(seed)).to(dtype)
    alone = []
    for part, (name, _) in zip(x.split([n for _, n in runs], dim=1), runs, strict=True):
        if name:
            model.set_adapter(name)
            alone.append(model(part))
        else:
            with model.disable_adapter():
                alone.append(model(part))
    assert lay_lanes(model, lanes) == 2
    with lanes.over(runs):
        mixed = model(x)
    assert (mixed - torch.cat(alone, dim=1)).abs().max() <= apart


def test_without_runs_nothing_has_changed():
    model, lanes = net(), Lanes()
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    before = model(x)
    lay_lanes(model, lanes)
    lay_lanes(model, lanes)  # a second time wraps nothing twice
    with lanes.over([("one", 6)]):
        other = model(x)
    assert not other.equal(before)
    assert model(x).equal(before)
    assert lanes.runs == ()


def test_runs_must_cover_the_tokens():
    model, lanes = net(), Lanes()
    lay_lanes(model, lanes)
    with lanes.over([("one", 2)]), pytest.raises(AssertionError, match="2 tokens for 3"):
        model(torch.randn(3, 6, dtype=torch.float64))


def test_neighbours_of_one_adapter_are_one_run():
    lanes = Lanes()
    with lanes.over([("one", 2), ("one", 3), ("two", 1), ("one", 1)]):
        assert lanes.runs == (("one", 5), ("two", 1), ("one", 1))


def test_threads_take_turns():
    """Two threads that ask for different adapters at once get each their own answer."""
    model, lanes = net(), Lanes()
    lay_lanes(model, lanes)
    x = torch.randn(40, 6, dtype=torch.float64)
    right, wrong = {}, []
    for name in NAMES:
        with lanes.over([(name, 40)]):
            right[name] = model(x)

    def ask(name):
        for _ in range(40):
            with lanes.over([(name, 40)]):
                if not model(x).equal(right[name]):
                    wrong.append(name)

    threads = [threading.Thread(target=ask, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_dora_is_refused():
    config = LoraConfig(r=2, target_modules=["one"], use_dora=True)
    with pytest.raises(ValueError, match="without DoRA"):
        lay_lanes(get_peft_model(Net(), config), Lanes())


def two_adapters(tiny_adapted):
    tiny_adapted.add_adapter("other", tiny_adapted.peft_config["default"])
    noisy(tiny_adapted, 5).double().requires_grad_(False)
    lanes = Lanes()
    lay_lanes(tiny_adapted, lanes)
    return tiny_adapted, lanes


def test_a_packed_batch_of_trees_in_one_forward(tiny_adapted):
    """Logits of a whole model, trees of two adapters and of the base in turns."""
    model, lanes = two_adapters(tiny_adapted)
    trees = [Tree(tuple(range(5 + n, 12 + n)), tuple(Branch((30 + b, 7, b), (1.0,) * 3)
             for b in range(2))) for n in range(4)]  # fmt: skip
    names = ["other", "default", "", "other"]

    def logits(some, adapters):
        sizes = [pack([tree]).tokens for tree in some]
        with lanes.over(zip(adapters, sizes, strict=True)):
            return model.get_base_model()(**pack(some).model_inputs()).logits[0]

    alone = [logits([tree], [name]) for tree, name in zip(trees, names, strict=True)]
    mixed = logits(trees, names)
    assert (mixed - torch.cat(alone)).abs().max() < 1e-10
    assert not torch.allclose(alone[0], logits([trees[0]], ["default"]))


def test_critiques_are_written_as_by_each_alone(tiny_adapted):
    model, lanes = two_adapters(tiny_adapted)
    prompts = [[5, 6, 7], [9, 8, 7, 6], [5, 6, 7], [40, 41]]
    names = ["other", "default", "default", "other"]
    lm = model.get_base_model()
    ends = []
    alone = []
    for prompt, name in zip(prompts, names, strict=True):
        model.set_adapter(name)
        alone += greedy(lm, [prompt], longest=9, end=-1)
    ends = {row[4] for row in alone}
    for end in [-1, *ends]:  # some stop early, so that rows leave the batch
        expected = [row[: row.index(end)] if end in row else row for row in alone]
        assert mixed_greedy(lm, prompts, names, lanes, longest=9, end=end) == expected
    assert alone[0] != alone[2]
