"""Exports in a real llama.cpp server: the tokens, verdicts and critiques of the critic."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_gen.backends.readout_server import ServerJudge, judge_loader
from data_gen.lineage import trace
from minicrit.base import Base, load_model, load_tokenizer
from minicrit.benchmark import benchmark
from minicrit.critic import Critic
from minicrit.export.gguf_file import write_gguf
from minicrit.export.stage import export
from tests.data_gen.tiny_gguf import served
from tests.minicrit.benchmark_case import recipe, small
from tests.minicrit.export_case import ITEMS, calibrate_by_hand, make_critic, recipe_of, tiny_qwen2

pytest.importorskip("xllamacpp")
ALPHABET = "abcXYZ 0123456789\n\t  .,;:!?'\"-()<>|_#%\u00e4\u4e2d\u0661\u00bd\U0001f600\u00a0"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory, tiny) -> Path:
    root = tmp_path_factory.mktemp("served")
    shutil.copytree(tiny.folder, root / "base" / "tiny")
    make_critic(root / "critic", tiny)
    calibrate_by_hand(root / "critic")
    export(recipe_of(root, "gguf"))
    return root


@pytest.fixture(scope="module")
def critic(root) -> Critic:
    return Critic.load(root / "critic", base_folder=root / "base")


@pytest.fixture(scope="module")
def name(root):
    server = served(root / "gguf" / "minicrit-critic-f32.gguf")
    yield f"openai:{server.listening_address}/v1#minicrit-critic-f32"
    del server


@pytest.fixture(scope="module")
def judge(name, root) -> ServerJudge:
    return ServerJudge.open(f"{name}@{root / 'gguf'}")


def odds(p) -> np.ndarray:
    return np.log(np.array(p)) - np.log1p(-np.array(p))


def test_llamacpp_parts_a_text_into_the_same_tokens(judge, critic):
    drawn = random.Random(0)
    texts = ["".join(drawn.choices(ALPHABET, k=drawn.randint(1, 60))) for _ in range(100)]
    for text in [*texts, "a  12 b", "  3\n\n 3,5", "<|im_end|>", *(r for _, r in ITEMS)]:
        assert judge.server.ids(text) == critic.encoder.ids(text), text
    assert judge.encoder.opening == critic.encoder.opening == []
    assert judge.encoder.verdict_words == critic.encoder.verdict_words


def test_verdicts_are_those_of_the_critic_by_its_threshold(judge, critic):
    here, there = critic.p_flawed(ITEMS), judge.p_flawed(ITEMS)
    assert odds(there) == pytest.approx(odds(here), abs=1e-3)
    assert np.ptp(here) > 0.01
    for ours, theirs in zip(critic.verdict(ITEMS), judge.verdict(ITEMS), strict=True):
        assert theirs.label == ours.label
        assert (theirs.threshold, theirs.calibrated, theirs.adapter, theirs.unsure) == (
            ours.threshold, True, ours.adapter, ours.unsure,
        )  # fmt: skip
    assert judge.calibration == {**critic.calibration, "rounded": None}


def test_a_false_sum_is_told_as_by_the_critic(judge, critic):
    items = [("general", "We have 3 + 4 = 8, so eight will do.")]
    ((here,), (there,)) = critic.critique(items), judge.critique(items)
    assert there.verdict.p_flawed == pytest.approx(here.verdict.p_flawed, abs=1e-4)
    assert there.verdict.p_flawed > 0.9
    assert (there.text, there.tokens) == (here.text, 0)
    assert there.verdict.evidence == "3 + 4 = 8"


def test_without_its_folder_nothing_is_calibrated(name, judge, root):
    alone = ServerJudge.open(name)
    raw = Critic.load(root / "critic", base_folder=root / "base", calibrated=False)
    assert odds(alone.p_flawed(ITEMS)) == pytest.approx(odds(raw.p_flawed(ITEMS)), abs=1e-3)
    assert (alone.threshold, alone.calibration) == (0.5, None)
    assert not alone.verdict(ITEMS[:1])[0].calibrated
    assert judge.identity == f"{alone.identity}+{judge.calibration['sha256']}"


def test_it_writes_what_the_critic_writes(judge, critic):
    critic.grounded = False  # as the server writes
    ours = critic.critique(ITEMS[:2], max_new_tokens=12)
    theirs = judge.critique(ITEMS[:2], max_new_tokens=12)
    assert [w.text for w in theirs] == [w.text for w in ours]
    assert len(ours[0].text) > len("Verdict: flawed")


def test_a_server_of_something_else_is_refused(name, root, tiny):
    make_critic(root / "other", tiny, seed=3)
    export(recipe_of(root, "gguf", model="other", out="other-gguf"))
    with pytest.raises(ValueError, match=r"expected a server of this export, got one whose p"):
        ServerJudge.open(f"{name}@{root / 'other-gguf'}")
    with pytest.raises(ValueError, match=r"stage: expected \"export\""):
        ServerJudge.open(f"{name}@{root / 'critic'}")
    changed = shutil.copytree(root / "gguf", root / "changed")
    (changed / "README.md").write_text("trust me")
    with pytest.raises(ValueError, match="expected the files of its manifest"):
        ServerJudge.open(f"{name}@{changed}")


def test_the_chain_of_an_export_is_verified(root):
    assert trace([root / "gguf", root / "critic"]).faults == []
    copy = shutil.copytree(root / "gguf", root / "torn")
    file = copy / "minicrit-critic-f32.gguf"
    file.write_bytes(file.read_bytes()[:-1])
    assert [f for f in trace([copy]).faults if "minicrit-critic-f32.gguf" in f]


def test_a_benchmark_judges_it_by_its_own_threshold(name, root, tmp_path, critic):
    made = recipe(tmp_path, small()[:6])
    settings = made.benchmark
    settings.model_1, settings.model_2 = f"{name}@{root / 'gguf'}", str(root / "critic")
    settings.words, settings.critiques, settings.latency_items, settings.types = False, 0, 1, False
    report = benchmark(made, load=judge_loader(root / "base"), draws=50)
    one, other = (report["judges"][key] for key in ("model_1", "model_2"))
    assert one["threshold"] == other["threshold"] == critic.threshold
    assert one["adapter"] == other["adapter"]
    assert "threshold certified on 120" in Path(f"{settings.out}.md").read_text()
    rows = Path(f"{settings.out}.items.jsonl").read_text()
    assert rows.count('"p_1"') == 6


def test_rounded_weights_say_so_in_the_report(root, critic):
    recipe = recipe_of(root, "gguf", out="rounded")
    recipe.export.weights = "q8_0"
    export(recipe)
    server = served(root / "rounded" / "minicrit-critic-q8_0.gguf")
    judge = ServerJudge.open(f"openai:{server.listening_address}@".replace("@", "#@")
                             + str(root / "rounded"))  # fmt: skip
    assert judge.calibration["rounded"] == "q8_0"
    assert judge.p_flawed(ITEMS) == pytest.approx(critic.p_flawed(ITEMS), abs=0.1)
    assert judge.threshold == critic.threshold


def test_qwen2_comes_out_right_too(root, tiny):
    folder = tiny_qwen2(root / "qwen2", tiny)
    write_gguf(folder, root / "qwen2.gguf", weights="f32", name="qwen2")
    base = Base(folder, "")
    local = Critic(load_model(base), load_tokenizer(base), name="", identity="")
    server = served(root / "qwen2.gguf")
    judge = ServerJudge.open(f"openai:{server.listening_address}")
    for text in ("In 2019 it's 12 %", "a  12 b\n\n3", "x_y  \u00e9\n z"):
        assert judge.server.ids(text) == local.encoder.ids(text)
    here = odds(local.p_flawed(ITEMS))
    assert odds(judge.p_flawed(ITEMS)) == pytest.approx(here, abs=0.02)  # weights are large
    assert np.ptp(here) > 0.1
