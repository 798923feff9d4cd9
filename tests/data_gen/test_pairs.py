"""Preference pairs: which pair comes out, the judge, and the whole stage."""

import json
from collections import Counter
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_gen.compose import compose
from data_gen.judge import judge
from data_gen.pairs import _worth, make_pairs, make_round, references, training_examples
from data_gen.preferences import Scored, pair_of, twin_pairs
from data_gen.scouting import Scouted
from minicrit.config import BaseConfig, Recipe
from minicrit.data_config import FilterConfig, PairsConfig
from minicrit.files import open_alone, sha256_file
from minicrit.jsonl import read_lines
from minicrit.manifest import read_manifest, write_manifest
from minicrit.prompts import PROMPT_VERSION, critique_of, parse_critique, render_critique
from minicrit.records import Preference, write_examples
from minicrit.sampling import Manner
from tests.data_gen.scripted_server import ScriptedServer
from tests.data_gen.test_oracle import FLAWED

SCORES = st.one_of(st.none(), st.floats(0, 1, allow_nan=False))
TEXTS = st.text("abc", min_size=1, max_size=3).map("Verdict: valid\n".__add__)
CANDIDATES = st.lists(st.tuples(TEXTS, SCORES), max_size=8)


@given(CANDIDATES, st.randoms(use_true_random=False))
def test_order_never_changes_the_pair(raw, rng):
    known: dict[str, float | None] = {}
    candidates = [Scored(text, known.setdefault(text, value)) for text, value in raw]
    shuffled = rng.sample(candidates, len(candidates))
    pair = pair_of(FLAWED, candidates, margin=0.1, scorer="oracle")
    assert pair == pair_of(FLAWED, shuffled, margin=0.1, scorer="oracle")
    if isinstance(pair, Preference):
        assert pair.chosen != pair.rejected
        assert pair.margin >= 0.1 - 1e-6
        assert pair.chosen_score == round(max(v for v in known.values() if v is not None), 6)
        Preference.from_row(pair.to_row())


@pytest.mark.parametrize(
    ("scores", "outcome"),
    [
        ([0.9, 0.2, 0.5], ("t0", "t1")),
        # mean 0.6, deviation 0.35: the aim is -0.1, the worst is nearest
        ([0.9, 0.0, 0.5, 0.9], ("best", "t1")),
        ([0.5, 0.45, 0.42], "tie"),
        ([0.5, 0.5], "tie"),
        ([None, 0.5], "unscored"),
        ([None, None], "unscored"),
        ([0.5], "alike"),
    ],
)
def test_which_pair(scores, outcome):
    candidates = [Scored(f"t{n}", value) for n, value in enumerate(scores)]
    pair = pair_of(FLAWED, candidates, margin=0.1, scorer="oracle")
    if isinstance(outcome, str):
        assert pair == outcome
    elif outcome[0] == "best":
        assert (pair.chosen in ("t0", "t3"), pair.rejected) == (True, outcome[1])
    else:
        assert (pair.chosen, pair.rejected) == outcome


def test_without_a_margin_every_difference_parts_a_pair():
    scored = [Scored("a", 0.5), Scored("b", 0.5001)]
    pair = pair_of(FLAWED, scored, margin=0.0, scorer="oracle")
    assert (pair.chosen, pair.rejected) == ("b", "a")
    level = [Scored("a", 0.5), Scored("b", 0.5)]
    assert pair_of(FLAWED, level, margin=0.0, scorer="oracle") == "tie"


def test_rounds_and_seeds_draw_others_of_the_same_undecided_rationales(tmp_path, monkeypatch):
    """All are undecided, and fewer are asked for: what is drawn goes by the seed of the round."""
    examples = [c.example for c in compose(60, 0, "train")]
    everyone = Scouted(undecided=examples, unsure=examples, sure=examples)
    monkeypatch.setattr("data_gen.pairs.scout", lambda *_: everyone)
    settings = PairsConfig(rationales=10, scouted=60, sure=0.25)
    monkeypatch.setattr(Manner, "writer", lambda *_: None)
    found = []
    for seed in (1000, 2000, 1001):
        manner = Manner(2, (1.0,), seed=seed)
        looked, twins = _worth(None, examples, settings, manner, tmp_path, Counter())
        found.append([{e.id for e in some} for some in (looked, twins[len(examples) :])])
        assert [len(some) for some in found[-1]] == [10, 15]
    assert len({frozenset(looked) for looked, _ in found}) == 3
    assert len({frozenset(sure) for _, sure in found}) == 3


def test_loser_is_two_deviations_down_not_the_very_worst():
    scores = [1.0] * 18 + [0.6, 0.0]
    # mean 0.93, deviation 0.231: the aim is 0.468, nearer to 0.6 than to 0
    candidates = [Scored(f"t{n}", value) for n, value in enumerate(scores)]
    assert pair_of(FLAWED, candidates, margin=0.1, scorer="o").rejected_score == 0.6


def test_twins_make_each_other_s_hardest_negative():
    squares = [c.example for c in compose(8, 0, "train", squares=True)][:4]
    pairs = twin_pairs(squares)
    assert len(pairs) == 4
    for example, pair in zip(squares, pairs, strict=True):
        assert pair.rationale == example.rationale
        assert parse_critique(pair.chosen).label == example.label
        assert parse_critique(pair.rejected).label != example.label
    assert twin_pairs(squares[:1]) == []


def test_composed_twins_are_chosen_by_all_their_characters():
    made = [c.example for c in compose(80, 0, "train", squares=True)]
    for start in range(0, len(made), 4):
        square = made[start : start + 4]
        for example, pair in zip(square, twin_pairs(square), strict=True):
            likes = [(SequenceMatcher(None, example.rationale, e.rationale, autojunk=False).ratio(),
                      e.id, e) for e in square if e.label != example.label]  # fmt: skip
            assert pair.rejected == render_critique(critique_of(max(likes)[-1]))


def test_long_texts_are_compared_by_words_and_a_lone_twin_not_at_all(monkeypatch):
    """By characters a group of 32 took 44 s."""
    compared: list[int] = []

    def matcher(junk, one, other, *more, **named):
        compared.append(max(len(one), len(other)))
        return SequenceMatcher(junk, one, other, *more, **named)

    monkeypatch.setattr("data_gen.preferences.SequenceMatcher", matcher)
    texts = [" ".join(f"word{n * k % 97}" for n in range(800)) for k in range(1, 5)]
    texts[3] = f"{texts[0]} at last"
    long = [replace(FLAWED, id=str(n), rationale=text, label=("flawed", "valid")[n % 2],
                    critique=f"Critique {n}.", evidence=None)
            for n, text in enumerate(texts)]  # fmt: skip
    pairs = twin_pairs(long)
    assert "Critique 3." in pairs[0].rejected
    assert "Critique 0." in pairs[3].rejected
    assert max(compared) < 900 < min(map(len, texts))
    compared.clear()
    assert len(twin_pairs(long[:2])) == 2
    assert compared == []


def test_judge_compares_in_both_orders(ask):
    counts: Counter[str] = Counter()
    found = judge(FLAWED, ["long enough", "mid", "s", "s"], ask, counts)
    assert [s.score for s in found] == [1.0, 0.5, 0.0, 0.0]
    assert counts == {"agreed": 3}


def test_a_judge_that_goes_by_place_decides_nothing(ask):
    counts: Counter[str] = Counter()
    found = judge(FLAWED, ["PLACE", "s"], ask, counts)
    assert [s.score for s in found] == [0.5, 0.5]
    assert counts == {"swapped": 1}
    assert pair_of(FLAWED, found, margin=0.1, scorer="judge") == "tie"


def recipe(tmp_path, tiny, **pairs):
    settings = PairsConfig(
        model=tiny.folder, data=tmp_path / "train.jsonl", out=tmp_path / "pairs",
        max_new_tokens=6, rows=4, **{"candidates": 2, "rationales": 8, "scouted": 0, **pairs},
    )  # fmt: skip
    return Recipe(pairs=settings, base=BaseConfig("tiny", folder=tiny.folder.parent))


def test_stage_writes_pairs_candidates_and_what_became_of_them(tmp_path, tiny, capsys):
    write_examples(tmp_path / "train.jsonl", [c.example for c in compose(20, 0, "train")])
    make_pairs(recipe(tmp_path, tiny))
    rows = [row for _, row in read_lines(tmp_path / "pairs" / "pairs.jsonl")]
    assert {Preference.from_row(row).scorer for row in rows} == {"twins"}
    assert len(rows) == 8
    candidates = list(read_lines(tmp_path / "pairs" / "candidates.jsonl"))
    assert len(candidates) == 16
    counts = json.loads((tmp_path / "pairs" / "report.json").read_text())["counts"]
    # a random model writes nothing that parses, and that is said
    assert counts == {"candidates": 16, "no_pair_unscored": 8, "unparsed": 16, "verdict_right": 0}
    assert "| unparsed | 16 |" in capsys.readouterr().out


def test_without_candidates_twins_alone_make_pairs(tmp_path, tiny):
    write_examples(tmp_path / "train.jsonl", [c.example for c in compose(20, 0, "train")])
    make_pairs(recipe(tmp_path, tiny, candidates=0, rationales=0))
    rows = [row for _, row in read_lines(tmp_path / "pairs" / "pairs.jsonl")]
    assert [row["scorer"] for row in rows] == ["twins"] * 20
    assert not list(read_lines(tmp_path / "pairs" / "candidates.jsonl"))
    with pytest.raises(ValueError, match=r"pairs\.candidates: expected 0 or more, got -1"):
        make_pairs(recipe(tmp_path, tiny, candidates=-1))
    with pytest.raises(ValueError, match=r"pairs.margin: expected 0 or more, got -0.1"):
        make_pairs(recipe(tmp_path, tiny, margin=-0.1))
    with pytest.raises(ValueError, match="expected at least one pair, got none"):
        make_pairs(recipe(tmp_path, tiny, candidates=0, twins=False))


def test_no_pair_at_all_and_rows_of_other_splits_stop_the_stage(tmp_path, tiny):
    write_examples(tmp_path / "train.jsonl", [c.example for c in compose(20, 0, "train")])
    with pytest.raises(ValueError, match="expected at least one pair, got none of 8 rationales"):
        make_pairs(recipe(tmp_path, tiny, twins=False))
    write_examples(tmp_path / "train.jsonl", [c.example for c in compose(20, 0, "test")])
    with pytest.raises(ValueError, match=r"expected training rows alone, got \S+ of split test"):
        make_pairs(recipe(tmp_path, tiny))


def test_what_the_run_is_measured_on_is_never_criticized(tmp_path, tiny):
    rows = [c.example for c in compose(8, 0, "train")]
    write_examples(tmp_path / "train.jsonl", rows)
    write_examples(tmp_path / "test.jsonl", [replace(rows[0], split="test")])
    make_pairs(recipe(tmp_path, tiny))
    pairs = [row for _, row in read_lines(tmp_path / "pairs" / "pairs.jsonl")]
    assert {row["group"] for row in pairs} == {e.group for e in rows[2:]}
    facts = read_manifest(tmp_path / "pairs")["facts"]
    assert facts["removed"] == {"composer": {"leak": 2}}


@pytest.fixture
def tiny_adapter(tmp_path, tiny, tiny_adapted):
    """The folder of an adapter that changes something."""
    folder = tmp_path / "adapter"
    tiny_adapted.float().save_pretrained(folder)
    facts = {"base": tiny.identity, "base_model": "tiny", "prompt_version": PROMPT_VERSION}
    write_manifest(folder, stage="dpo", inputs={}, settings={}, facts=facts)
    return folder


def test_a_round_is_made_once_by_its_own_critic_on_its_own_rationales(
    tmp_path, tiny, tiny_adapter, monkeypatch
):
    write_examples(tmp_path / "train.jsonl", [c.example for c in compose(40, 0, "train")])
    told = recipe(tmp_path, tiny)
    second = make_round(told, tiny_adapter, tmp_path / "dpo-2-pairs", 2)
    third = make_round(told, tiny_adapter, tmp_path / "dpo-3-pairs", 3)
    drawn = [{r["group"] for _, r in read_lines(f / "pairs.jsonl")} for f in (second, third)]
    first, _ = training_examples(told, tmp_path / "train.jsonl", 8, "pairs")
    drawn.append({e.group for e in first})  # those of `make pairs`
    assert sum(map(len, drawn)) == len(set.union(*drawn)) == 12
    facts = read_manifest(second)["facts"]
    assert facts["critic"].endswith(sha256_file(tiny_adapter / "adapter_model.safetensors"))
    with monkeypatch.context() as patch:
        patch.setattr("data_gen.pairs.make_pairs", lambda *_: pytest.fail("made twice"))
        assert make_round(told, tiny_adapter, second, 2) == second
    rows = [c.example for c in compose(40, 1, "train")]
    write_examples(tmp_path / "train.jsonl", rows)
    make_round(told, tiny_adapter, second, 2)
    fresh = read_manifest(second)["facts"]["key"]
    assert fresh != facts["key"]
    # nothing is learnt from what came to lie beside since
    (leaked,) = {r["group"] for _, r in islice(read_lines(second / "pairs.jsonl"), 1)}
    item = next(e for e in rows if e.group == leaked)
    write_examples(tmp_path / "test.jsonl", [replace(item, split="test")])
    make_round(told, tiny_adapter, second, 2)
    assert leaked not in {r["group"] for _, r in read_lines(second / "pairs.jsonl")}
    held_out = tmp_path / "held-out.jsonl"
    write_examples(held_out, [replace(next(compose(2, 2, "test")).example, split="test")])
    make_round(replace(told, filters=FilterConfig(held_out=str(held_out))), tiny_adapter, second, 2)
    assert read_manifest(second)["facts"]["key"] != fresh


def test_a_judge_s_scores_count_its_cost_is_told_and_written(tmp_path, tiny, capsys):
    write_examples(tmp_path / "train.jsonl", [c.example for c in compose(20, 0, "train")])
    make_pairs(recipe(tmp_path, tiny))
    (work,) = (tmp_path / "pairs.work").glob("candidates-*.jsonl")
    with_texts(work, ["Verdict: flawed\nCritique: Short.", "Verdict: valid\nCritique: Longer one."])
    table = tmp_path / "prices.yaml"
    costs = "".join(f"  {n}: 1.0\n" for n in ("input", "output", "cache_read", "cache_write"))
    table.write_text(f"m:\n{costs}  date: today\n")
    told = {"scorer": "openai", "judge_model": "m", "twins": False, "prices": table,
            "budget_usd": 1.0, "gate": False}  # fmt: skip
    capsys.readouterr()
    with ScriptedServer() as server:
        make_pairs(recipe(tmp_path, tiny, url=server.url, **told))
        assert server.counted["requests"] == 16  # both orders of two critiques of 8 rationales
        out = capsys.readouterr().out
        assert "judge: 16 requests, at most 0.0" in out
        assert "(prices of today); used so far 0.00 USD" in out
        make_pairs(recipe(tmp_path, tiny, url=server.url, **told))
        assert server.counted["requests"] == 16
        assert "judge: 0 requests" in capsys.readouterr().out
        rows = [Preference.from_row(r) for _, r in read_lines(tmp_path / "pairs" / "pairs.jsonl")]
        assert {(p.chosen_score, p.rejected_score, p.scorer) for p in rows} == {(1, 0, "openai")}
        assert len(rows) == 8
        ledger = json.loads((tmp_path / "pairs" / "ledger.json").read_text())
        assert ledger["answer"] == ledger["sent"] == 16
        assert ledger["input_tokens"] == server.counted["input"]
        # with the gate, what has the wrong verdict scores 0, however long it is
        make_pairs(recipe(tmp_path, tiny, url=server.url, **told | {"gate": True}))
        assert server.counted["requests"] == 16
    rows = [Preference.from_row(r) for _, r in read_lines(tmp_path / "pairs" / "pairs.jsonl")]
    # the judge prefers "flawed", which is longer: of the four sound texts that leaves a tie at 0
    assert [parse_critique(p.chosen).label for p in rows] == ["flawed"] * 4


def with_texts(path, texts):
    """Puts other critiques into a file of candidates."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        for group in line["written"]:
            for sample, text in zip(group, texts, strict=True):
                sample |= {"text": text, "finished": True}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"scorer": "anthropic", "judge_model": "nobody"}, r"expected a price of nobody"),
        ({"scorer": "anthropic"}, r"pairs.judge_model: expected the name of a model of anthropic"),
        ({"scorer": "openai", "judge_model": "m"}, r"pairs.url: expected the address"),
    ],
)
def test_a_judge_that_is_not_named_is_asked_for(tmp_path, tiny, told, message, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret-for-tests")
    write_examples(tmp_path / "train.jsonl", [c.example for c in compose(20, 0, "train")])
    with pytest.raises(ValueError, match=message):
        make_pairs(recipe(tmp_path, tiny, **told))


def test_scouting_leaves_out_what_teaches_nothing(tmp_path, tiny):
    examples = [c.example for c in compose(20, 0, "train")]
    write_examples(tmp_path / "train.jsonl", examples)
    # so hot that nothing is sure: all twins make pairs, and two are criticized
    make_pairs(recipe(tmp_path, tiny, scouted=12, rationales=2, temperatures=[9.0]))
    facts = read_manifest(tmp_path / "pairs")["facts"]
    assert facts["scouted_unsure"] + facts["scouted_sure"] == 12
    assert facts["candidates"] == 2 * 2
    pairs = [row for _, row in read_lines(tmp_path / "pairs" / "pairs.jsonl")]
    twins = [row for row in pairs if row["scorer"] == "twins"]
    assert len(twins) == facts["scouted_unsure"] + round(0.2 * facts["scouted_sure"])


def test_few_sure_rationales_give_none_and_not_all(tmp_path, tiny, monkeypatch):
    examples = [c.example for c in compose(20, 0, "train")]
    write_examples(tmp_path / "train.jsonl", examples)
    looks = Scouted(undecided=examples[2:4], unsure=[], sure=examples[:2])
    monkeypatch.setattr("data_gen.pairs.scout", lambda *_: looks)
    with pytest.raises(ValueError, match="expected at least one pair, got none of 2 rationales"):
        make_pairs(recipe(tmp_path, tiny, scouted=40, sure=0.2))
    make_pairs(recipe(tmp_path, tiny, scouted=40, sure=0.5))


def test_reference_is_a_candidate_with_full_marks():
    examples = [c.example for c in compose(20, 0, "train")]
    assert references(replace(examples[0], critique=None)) == []
    (one,) = references(examples[0])
    assert one == Scored(render_critique(critique_of(examples[0])), 1.0)


@pytest.mark.slow
def test_a_run_that_was_cut_off_ends_in_the_same_candidates(tmp_path, tiny):
    write_examples(tmp_path / "train.jsonl", [c.example for c in compose(20, 0, "train")])
    make_pairs(recipe(tmp_path, tiny))
    whole = (tmp_path / "pairs" / "candidates.jsonl").read_bytes()
    (work,) = (tmp_path / "pairs.work").glob("candidates-*.jsonl")
    lines = work.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4  # passes of two rationales
    work.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    make_pairs(recipe(tmp_path, tiny))
    assert (tmp_path / "pairs" / "candidates.jsonl").read_bytes() == whole
    assert work.read_bytes() == b"".join(lines)
    with open_alone(work), pytest.raises(ValueError, match="the only run that writes it"):
        make_pairs(recipe(tmp_path, tiny))
    work.write_bytes(b'{"written": 3}\n')
    with pytest.raises(ValueError, match=r"candidates-\w+.jsonl:1: expected a line of candidates"):
        make_pairs(recipe(tmp_path, tiny))


def test_what_is_measured_on_is_known_though_files_share_a_name(tmp_path):
    """Of two files of one name the first was overwritten, and its items were trained on."""
    rows = [c.example for c in compose(12, 0, "train")]
    write_examples(tmp_path / "mine.jsonl", rows)
    for folder, item in (("a", rows[0]), ("b", rows[-1])):
        (tmp_path / folder).mkdir()
        write_examples(tmp_path / folder / "test.jsonl",
                       [replace(item, id=folder, group=folder, split="test")])  # fmt: skip
    recipe = Recipe()
    recipe.filters.held_out = f"{tmp_path / 'a'},{tmp_path / 'b'}"
    left, screening = training_examples(recipe, tmp_path / "mine.jsonl", 0, "x")
    assert {rows[0].group, rows[-1].group} == {e.group for e, _ in screening.removed}
    assert {rows[0].group, rows[-1].group}.isdisjoint(e.group for e in left)


def test_training_rows_in_a_file_of_another_name_are_not_held_against_themselves(tmp_path):
    rows = [c.example for c in compose(4, 0, "train")]
    write_examples(tmp_path / "valid.jsonl", rows)
    left, screening = training_examples(Recipe(), tmp_path / "valid.jsonl", 0, "x")
    assert (left, screening.removed) == (rows, [])
