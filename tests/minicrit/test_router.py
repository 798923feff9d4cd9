"""The router on a tiny base: who judges what, in one forward, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from minicrit.base import Base, load_model
from minicrit.config import Recipe
from minicrit.critic import Critic
from minicrit.experiments import experiments
from minicrit.files import write_json
from minicrit.lora import WEIGHTS
from minicrit.manifest import write_manifest
from minicrit.readout import reading
from minicrit.records import Example, write_examples
from minicrit.router import AUTO, FALLBACK, Route, Router
from minicrit.sampling import Manner
from minicrit.serving.results import result_of
from minicrit.serving.worker import Answer
from tests.minicrit.router_case import DOMAINS, ITEMS, lessons, make_router, save_adapter, sign

SICK = (AUTO, "The patient on the ward had a fever after the first dose.")


@pytest.fixture(scope="module")
def root(tiny: Base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("router")
    make_router(tiny, folder)
    return folder


@pytest.fixture
def own(root: Path, tmp_path: Path) -> Path:
    """The same folders, to be changed."""
    shutil.copytree(root, tmp_path / "own")
    return tmp_path / "own"


def load(root: Path, tiny: Base) -> Router:
    found = Critic.load(root / "router", base_folder=tiny.folder.parent)
    assert isinstance(found, Router)
    return found


@pytest.fixture(scope="module")
def router(root: Path, tiny: Base) -> Router:
    return load(root, tiny)


@pytest.fixture(scope="module")
def alone(root: Path, tiny: Base) -> dict[str, Critic]:
    """Every adapter as a critic of its own."""
    folders = {name: root / "adapters" / name for name in DOMAINS} | {FALLBACK: root / "general"}
    return {name: Critic.load(path, base_folder=tiny.folder.parent)
            for name, path in folders.items()}  # fmt: skip


def expected(alone: dict[str, Critic], item: tuple[str, str]) -> Critic:
    return alone.get(item[0], alone[FALLBACK])


def test_five_adapters_judge_in_one_forward_as_each_by_itself(router, alone):
    calls = []
    handle = router.causal_lm.model.register_forward_hook(lambda *_: calls.append(1))
    mixed = router.log_odds(ITEMS)
    handle.remove()
    assert len(calls) == 1
    separate = [expected(alone, item).log_odds([item])[0] for item in ITEMS]
    np.testing.assert_allclose(mixed, separate, atol=1e-5)
    assert len({round(x, 4) for x in separate}) == len(ITEMS)
    turned = router.log_odds(ITEMS[::-1] + ITEMS)
    np.testing.assert_allclose(turned, [*separate[::-1], *separate], atol=1e-5)


def test_it_answers_as_a_critic_does(router, alone):
    p, types = router.p_and_types(ITEMS)
    np.testing.assert_allclose(p, router.p_flawed(ITEMS), atol=1e-6)
    for at, item in enumerate(ITEMS):
        one, kind = expected(alone, item).p_and_types([item])
        assert (p[at], types[at]) == (pytest.approx(one[0], abs=1e-6), kind[0])
    for item, written in zip(ITEMS, router.critique(ITEMS, max_new_tokens=10), strict=True):
        one = expected(alone, item).critique([item], max_new_tokens=10)[0]
        assert written.text == one.text
        assert written.verdict.label == one.verdict.label
    examples = [
        Example(id=text, domain=domain, rationale=text, label="valid", group=text, source="hand",
                split="test", critique="It follows.")
        for domain, text in ITEMS
    ]  # fmt: skip
    for example, judged in zip(examples, router.judge(examples), strict=True):
        one = expected(alone, (example.domain, "")).judge([example])[0]
        assert (judged.log_odds, judged.nll) == pytest.approx((one.log_odds, one.nll), abs=1e-3)


def test_twins_of_two_domains_share_nothing(router, alone):
    """The same words go to two adapters, although their tokens would make one tree."""
    text = "The same long words stand here for both of them, and nobody can tell them apart."
    items = [("trading", text), ("medical", text), ("trading", text + " So yes.")]
    separate = [expected(alone, item).log_odds([item])[0] for item in items]
    np.testing.assert_allclose(router.log_odds(items), separate, atol=1e-5)


def test_a_verdict_says_which_adapter_judged(router, root, alone):
    verdicts = router.verdict([*ITEMS, SICK, (AUTO, "Xylophone.")])
    homes = [*(root / "adapters" / name for name in DOMAINS), root / "general",
             root / "adapters" / "medical", root / "general"]  # fmt: skip
    assert [v.model for v in verdicts] == [str(home) for home in homes]
    assert verdicts[0].adapter == alone["trading"].adapter
    assert [v.domain for v in verdicts[-3:]] == ["planning", "medical", "general"]
    assert len({v.request_id for v in verdicts}) == len(verdicts)


def test_routes(router):
    given, planned, sick, unknown = router.routes([ITEMS[0], ITEMS[4], SICK, (AUTO, "Xylophone.")])
    assert given == Route("trading", "trading")
    assert (planned.key, planned.domain) == (FALLBACK, "planning")  # detected, but has no adapter
    assert (sick.key, sick.domain, sick.detected > 0.7) == ("medical", "medical", True)
    assert (unknown.key, unknown.domain, unknown.detected < 0.7) == (FALLBACK, "general", True)
    known = router.routes([("planning", SICK[1])])[0]
    assert (known.key, known.domain) == ("medical", "medical")


def test_below_the_bar_the_general_adapter_judges(tiny, own):
    told = json.loads((own / "router" / "router.json").read_text())
    write_json(own / "router" / "router.json", {**told, "bar": 0.999})
    resign(own / "router")
    assert load(own, tiny).routes([SICK])[0].key == FALLBACK


def resign(folder: Path, **facts: str) -> None:
    """A manifest for what now lies there."""
    old = json.loads((folder / "manifest.json").read_text())
    write_manifest(folder, stage=old["stage"], inputs={}, settings=old["settings"],
                   facts={**old["facts"], **facts})  # fmt: skip


def test_log_odds_without_texts_are_the_general_adapters(router, alone):
    prompt = router.encoder.prompt("general", "No domain is told.")
    one = alone[FALLBACK].odds_after([prompt])
    np.testing.assert_allclose(router.odds_after([prompt]), one, atol=1e-6)
    item = ("general", "No domain is told.")
    np.testing.assert_allclose(router.chances(one, [item]), 1 / (1 + np.exp(-one)))


def test_a_swap_leaves_no_trace(tiny, own):
    """Another adapter comes and goes; the others, and memory, are to the bit what they were."""
    router = load(own, tiny)
    before, names, identity = router.log_odds(ITEMS), parameters(router), router.identity
    other = save_adapter(tiny, own / "other", 77, rank=8)
    router.swap("medical", other)
    swapped = router.log_odds(ITEMS)
    assert swapped[3] != before[3]
    assert (np.delete(swapped, 3) == np.delete(before, 3)).all()
    assert router.verdict([ITEMS[3]])[0].model == str(other)
    assert router.identity != identity
    router.swap("medical", own / "adapters" / "medical")
    assert (router.log_odds(ITEMS) == before).all()
    assert (parameters(router), router.identity) == (names, identity)


def parameters(router: Router) -> tuple[int, int]:
    """How many tensors there are, and how many numbers."""
    sizes = [p.numel() for p in router.model.parameters()]
    return len(sizes), sum(sizes)


def test_an_adapter_taken_out_is_replaced_by_the_general_one(tiny, own):
    router = load(own, tiny)
    router.swap("trading", None)
    assert router.routes([ITEMS[0]])[0].key == FALLBACK
    alone = Critic.load(own / "general", base_folder=tiny.folder.parent)
    assert router.log_odds(ITEMS[:1]) == pytest.approx(alone.log_odds(ITEMS[:1]), abs=1e-5)
    for name in ("trading", FALLBACK):
        with pytest.raises(ValueError, match="expected a domain with an adapter of its own"):
            router.swap(name, None)


def test_a_refused_adapter_changes_nothing(tiny, own):
    router = load(own, tiny)
    before, sizes = router.log_odds(ITEMS), parameters(router)
    useless = save_adapter(tiny, own / "useless", 3, strength=0.0)
    with pytest.raises(ValueError, match="changes the answer of its base, got none"):
        router.swap("medical", useless)
    with pytest.raises(ValueError, match=r"whose log-odds are numbers, got none \(medical"):
        router.swap("medical", save_adapter(tiny, own / "nan", 3, strength=np.nan))
    half = save_adapter(tiny, own / "half", 3) / WEIGHTS
    save_file({name: one for name, one in load_file(half).items() if "layers.0." in name}, half)
    sign(half.parent, tiny.identity)
    with pytest.raises(ValueError, match=r"half: expected .*, got one that lacks .*layers\.1\."):
        router.swap("medical", half.parent)
    foreign = save_adapter(tiny, own / "foreign", 3)
    sign(foreign, "another base")
    with pytest.raises(ValueError, match=r"adapter for medical: .*foreign: base: expected"):
        router.swap("medical", foreign)
    broken = save_adapter(tiny, own / "broken", 3)
    (broken / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="expected the files of its manifest"):
        router.swap("medical", broken)
    biased = save_adapter(tiny, own / "biased", 3)
    told = json.loads((biased / "adapter_config.json").read_text())
    write_json(biased / "adapter_config.json", {**told, "bias": "all"})
    sign(biased, tiny.identity)
    with pytest.raises(ValueError, match="of LoRA alone, got bias"):
        router.swap("medical", biased)
    assert (router.log_odds(ITEMS) == before).all()
    assert parameters(router) == sizes


@pytest.mark.parametrize("targets", [["q_proj", "embed_tokens"], ["q_proj", "lm_head"]])
def test_an_adapter_of_other_layers_is_refused_before_it_is_in_memory(tiny, own, targets):
    """Once in the layers it would have been in the way of every later exchange."""
    router = load(own, tiny)
    before, sizes = router.log_odds(ITEMS), parameters(router)
    told = LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False)
    wide = get_peft_model(load_model(tiny), told)
    wide.save_pretrained(own / "wide", save_embedding_layers=False)
    sign(own / "wide", tiny.identity)
    with pytest.raises(ValueError, match=r"adapter for medical: .*wide: expected .* plain linear"):
        router.swap("medical", own / "wide")
    assert (router.log_odds(ITEMS) == before).all()
    assert parameters(router) == sizes
    router.swap("medical", save_adapter(tiny, own / "other", 77))
    assert router.log_odds(ITEMS)[3] != before[3]


def test_a_bias_of_an_adapter_is_not_left_out_in_silence(tiny, own):
    told = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", lora_bias=True)
    get_peft_model(load_model(tiny), told).save_pretrained(own / "biased")
    sign(own / "biased", tiny.identity)
    with pytest.raises(ValueError, match="of LoRA alone, got lora_bias"):
        load(own, tiny).swap("medical", own / "biased")


def test_an_adapter_exchanged_meanwhile_is_never_silently_the_base(tiny, own):
    router = load(own, tiny)
    gone = router.member(router.routes([ITEMS[3]])[0]).name
    router.swap("medical", None)
    with pytest.raises(ValueError, match="exchanged meanwhile; ask again"):
        router._ask([router.encoder.prompt(*ITEMS[3])], reading(router.encoder), 99, None, [gone])
    assert np.isfinite(router.log_odds(ITEMS)).all()


@pytest.mark.parametrize("which", ["general", "adapters/defense"])
def test_an_adapter_that_was_changed_since_is_refused(tiny, own, which):
    save_adapter(tiny, own / which, 50)
    with pytest.raises(ValueError, match=r"router.json: expected the adapter .* made with, got"):
        load(own, tiny)
    shutil.rmtree(own / which)
    with pytest.raises(ValueError, match="got none; put it there or make the router again"):
        load(own, tiny)


def test_a_router_of_another_base_or_form_is_refused(tiny, own):
    folder = own / "router"
    resign(folder, base="another")
    with pytest.raises(ValueError, match="base: expected"):
        load(own, tiny)
    resign(folder, base=tiny.identity)
    told = json.loads((folder / "router.json").read_text())
    write_json(folder / "router.json", {**told, "form": 2})
    resign(folder)
    with pytest.raises(ValueError, match="expected a router of form 1"):
        load(own, tiny)
    (folder / "detector.json").write_text("{}")
    with pytest.raises(ValueError, match="expected the files of its manifest"):
        load(own, tiny)


def calibrate(
    folder: Path, threshold: float, temperature: float, shift: float = 0.0,
    sums: float | None = None, domains: dict[str, float] | None = None, **critic: str,
) -> None:  # fmt: skip
    """A calibration as the stage writes it, with chosen numbers."""
    found = {"threshold": threshold, "each_domain": False, "abstain": {"low": 0.4, "high": 0.6},
             "certificate": {"alpha": 0.1, "delta": 0.05, "n": 50, "k": 1},
             "temperature": {"pooled": temperature, "domains": domains or {}, "n": 20},
             "shift": {"pooled": shift, "domains": {}},
             "sums": sums and {"believed": sums, "n": 8, "k": 8}}  # fmt: skip
    write_json(folder / "calibration.json", found)
    write_manifest(folder / "calibration.json", stage="calibrate", inputs={}, settings={},
                   facts={"prompt_version": "plain-1", **critic})  # fmt: skip


def test_every_adapter_brings_its_calibration(tiny, own, alone):
    """Each item by its own temperature and shift; one threshold, the highest certified one."""
    plain = load(own, tiny)
    for name, *numbers in (("medical", 0.55, 2.0, -0.7), ("trading", 0.7, 0.5, 0.0)):
        adapter = alone[name].adapter
        calibrate(own / "adapters" / name, *numbers, base=tiny.identity, adapter=adapter)
    router = load(own, tiny)
    odds = plain.log_odds(ITEMS)
    heats = np.array([0.5, 1, 1, 2.0, 1])
    expected = 1 / (1 + np.exp(-(odds / heats + np.array([0, 0, 0, -0.7, 0]))))
    np.testing.assert_allclose(router.p_flawed(ITEMS), expected, atol=1e-9)
    assert router.threshold == 0.7
    assert [v.unsure for v in router.verdicts(ITEMS, [0.65] * 5)] == [False] * 3 + [True, False]
    assert [v.calibrated for v in router.verdict(ITEMS)] == [True, False, False, True, False]
    told = [result_of(router, *item, Answer(0.8))["certificate"] for item in ITEMS]
    assert [one is not None for one in told] == [True, False, False, True, False]
    assert [told[at]["temperature"]["pooled"] for at in (0, 3)] == [0.5, 2.0]
    assert (router.calibrated, plain.calibrated) == (True, False)
    assert router.identity != plain.identity
    assert router.fitted_to == plain.fitted_to
    raw = Critic.load(own / "router", base_folder=tiny.folder.parent, calibrated=False)
    assert raw.threshold == 0.5


def test_what_the_general_adapter_judges_has_no_certificate(tiny, own, alone):
    """It was certified over all domains, not over what the specialists leave to it."""
    calibrate(own / "general", 0.6, 2.0, base=tiny.identity, adapter=alone[FALLBACK].adapter)
    router = load(own, tiny)
    left = [item for item, route in zip(ITEMS, router.routes(ITEMS), strict=True)
            if route.key == FALLBACK]  # fmt: skip
    assert left
    for item in left:
        (verdict,) = router.verdict([item])
        assert (verdict.calibrated, router.certificate(item)) == (True, None)
        assert result_of(router, *item, Answer(0.8))["certificate"] is None


def test_a_calibration_of_the_whole_router_comes_first_and_ends_with_a_swap(tiny, own, alone):
    plain = load(own, tiny)
    calibrate(own / "router", 0.61, 4.0, router=plain.fitted_to["router"])
    router = load(own, tiny)
    assert router.threshold == 0.61
    assert router.calibration["alpha"] == 0.1
    odds = plain.log_odds(ITEMS)
    np.testing.assert_allclose(router.p_flawed(ITEMS), 1 / (1 + np.exp(-odds / 4)), atol=1e-9)
    assert all(v.calibrated for v in router.verdict(ITEMS))
    assert all(router.certificate(item) == router.calibration for item in ITEMS)
    router.swap("medical", None)
    assert (router.threshold, router.calibration) == (0.5, None)
    write_json(own / "router" / "router.json",
               json.loads((own / "router" / "router.json").read_text()) | {"bar": 0.5})  # fmt: skip
    resign(own / "router")
    with pytest.raises(ValueError, match="expected the calibration of this critic"):
        load(own, tiny)


def test_a_calibration_of_the_whole_goes_by_the_domains_that_it_was_fitted_by(tiny, own, alone):
    """These are the given ones; the detected one where none was given, or for an adapter's own."""
    plain, heats = load(own, tiny), {"planning": 2.0, "medical": 8.0}
    items = [("planning", SICK[1]), SICK, ("", SICK[1]), (AUTO, "Xylophone."), ITEMS[0]]
    assert [route.domain for route in plain.routes(items)] == [
        "medical", "medical", "medical", "general", "trading"
    ]  # fmt: skip
    calibrate(own / "router", 0.61, 4.0, domains=heats, router=plain.fitted_to["router"])
    whole, odds = load(own, tiny), plain.log_odds(items)
    expected = 1 / (1 + np.exp(-odds / np.array([2, 8, 8, 4, 4])))
    np.testing.assert_allclose(whole.p_flawed(items), expected, atol=1e-9)
    np.testing.assert_allclose(whole.p_and_types(items)[0], expected, atol=1e-5)
    assert whole.verdict(items[:1])[0].p_flawed == pytest.approx(expected[0])
    (own / "router" / "calibration.json").unlink()
    calibrate(own / "adapters" / "medical", 0.5, 4.0, domains=heats, base=tiny.identity,
              adapter=alone["medical"].adapter)  # fmt: skip
    np.testing.assert_allclose(load(own, tiny).p_flawed(items[:2]),
                               1 / (1 + np.exp(-odds[:2] / 8)), atol=1e-9)  # fmt: skip


def test_a_false_sum_counts_where_the_adapter_that_judges_lets_it(tiny, own, alone):
    plain = load(own, tiny)
    adapter = alone["medical"].adapter
    calibrate(own / "adapters" / "medical", 0.5, 1.0, base=tiny.identity, adapter=adapter, sums=0.8)
    router = load(own, tiny)
    items = [(domain, "We need 3 + 4 = 8 beds.") for domain in ("medical", "trading")]
    before, (counted, other) = plain.p_flawed(items), router.p_flawed(items)
    assert counted == pytest.approx(1 - 0.2 * (1 - before[0]))
    assert other == pytest.approx(before[1])
    assert router.p_and_types(items)[1][0] == "calculation_error"
    first, second = router.critique(items, max_new_tokens=4)
    assert first.verdict.critique == "3 + 4 = 7, not 8."
    assert first.verdict.adapter == adapter
    assert second.verdict.critique is None


def test_the_router_is_not_merged(router):
    assert router.merged(torch.bfloat16) is router


def test_figures_of_one_adapter_are_not_taken_for_the_routers(router, tmp_path):
    said = "router: expected a critic of one adapter, got a router; name one of its adapters"
    with pytest.raises(ValueError, match=said):
        Manner(dtype="float32").writer(router)
    recipe = Recipe()
    write_examples(tmp_path / "test.jsonl", [replace(e, split="test") for e in lessons()])
    recipe.experiments.data, recipe.experiments.out = tmp_path / "test.jsonl", tmp_path / "report"
    with pytest.raises(ValueError, match=said):
        experiments(recipe, load=lambda _: router)
