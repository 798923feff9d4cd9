"""What rejection sampling keeps: the best of what is right, where something is to be learnt."""

import math
import shutil
from collections import Counter
from dataclasses import replace

import pytest

from data_gen.compose import compose
from data_gen.rejection import (
    Kept,
    _decides,
    _fits,
    _kept,
    check_selection,
    control,
    equal_tokens,
    facts,
    make_selection,
    rated,
    rest,
    select,
)
from minicrit.config import BaseConfig, Recipe
from minicrit.files import sha256_json
from minicrit.manifest import read_manifest, write_manifest
from minicrit.prompts import critique_of, render_critique
from minicrit.records import write_examples
from minicrit.sampling import Sample
from minicrit.training_config import RSFConfig

EXAMPLES = [c.example for c in compose(6, 0, "train")]


def pool(number, *scores):
    return [Kept(EXAMPLES[number], f"text {n}", score) for n, score in enumerate(scores)]


def texts(kept):
    return [(EXAMPLES.index(one.example), one.text[5:]) for one in kept]


POOLS = [
    pool(0, 0.9, 0.0, 0.6, 0.95, 0.0, 0.0, 0.8, 0.7),
    pool(1, 0.0, 0.0, 0.0),  # nothing right: nothing to imitate
    pool(2, 0.9, 0.8, 0.7),  # nothing wrong: nothing to learn
    pool(3, 0.0, 0.5, 0.0, 0.0),
]


def test_best_quarter_of_each_rationale():
    # 2 of 8, and 1 of 4, where only one is right
    assert texts(select(POOLS, 0.25, "rationale")) == [(0, "3"), (0, "0"), (3, "1")]
    assert texts(select(POOLS, 1.0, "rationale")) == [
        (0, "3"), (0, "0"), (0, "6"), (0, "7"), (0, "2"), (3, "1")]  # fmt: skip


def test_best_quarter_of_all():
    # a quarter of the 12 critiques of the two rationales that teach something
    assert texts(select(POOLS, 0.25, "global")) == [(0, "3"), (0, "0"), (0, "6")]
    assert list(select(POOLS[1:3], 0.5, "global")) == []


def test_of_equal_ones_of_all_no_domain_comes_first_by_its_name():
    """An id begins with the domain: of equal scores those of half of the domains were learnt."""
    rows = [replace(EXAMPLES[0], id=f"composer/{domain}/{n}", domain=domain)
            for domain in ("cybersecurity", "medical", "trading") for n in range(20)]  # fmt: skip
    pools = [[Kept(row, "a", 1.0), Kept(row, "b", 1.0), Kept(row, "c", 0.0)] for row in rows]
    kept = Counter(one.example.domain for one in select(pools, 1 / 3, "global"))
    assert kept.total() == 60
    assert min(kept[row.domain] for row in rows) >= 12  # of 20, were they alike


def test_a_critique_may_have_to_be_argued_well_to_count_as_right():
    # of the third rationale all verdicts are right, but only one critique is worth 0.85
    assert texts(select(POOLS, 0.25, "rationale", 0.85)) == [(0, "3"), (0, "0"), (2, "0")]
    assert list(select(POOLS, 0.25, "rationale", 0.97)) == []
    found = facts(EXAMPLES[:1], [[sample_of("text 0")] * 2], POOLS[2:3], POOLS[2][:1],
                  RSFConfig(drawn=2, least_score=0.85))  # fmt: skip
    assert (found["right"], found["rationales_with_none_right"]) == (1, 0)


def sample_of(text):
    return Sample(text, (1, 2), 1.0, True, -3.0)


def test_equal_texts_count_once_and_what_does_not_parse_is_wrong():
    right = render_critique(critique_of(EXAMPLES[0]))
    found = rated(EXAMPLES[0], [sample_of(t) for t in (right, right, "No flaw here.")])
    assert [(one.text, one.score) for one in found] == [(right, 1.0), ("No flaw here.", 0.0)]
    told = facts(EXAMPLES[:1], [[sample_of(right)] * 8], [found], found[:1], RSFConfig(drawn=8))
    assert (told["critiques"], told["different"], told["right"], told["kept"]) == (8, 2, 1, 1)
    assert told["mean_score"] == 1.0
    assert told["kl_bound_nats"] == pytest.approx(math.log(8) - 7 / 8, abs=1e-4)


def test_a_critique_that_was_cut_off_is_not_learnt_from():
    right = render_critique(critique_of(EXAMPLES[0]))
    cut = replace(sample_of(right), finished=False)
    assert [one.score for one in rated(EXAMPLES[0], [cut, cut])] == [0.0]
    assert [one.score for one in rated(EXAMPLES[0], [cut, sample_of(right)])] == [1.0]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"keep": 25.0}, "rsf.keep: expected a share above 0 up to 1, got 25"),
        ({"keep": 0.0}, "keep"),
        ({"least_score": 0.4}, "rsf.least_score: expected a score from 0.5"),
        ({"least_score": 1.0}, "least_score"),
        ({"drawn": 1}, r"rsf.drawn: expected 2 critiques or more .* got 1 at .* \(rsf.labels\)"),
        ({"drawn": 8, "temperatures": [0.0]}, r"rsf.drawn: .* got 8 at the temperatures \[0.0\]"),
        ({"temperatures": []}, "temperatures: expected numbers from 0 on, got none"),
    ],
)
def test_settings_are_looked_at_before_anything_is_read(tmp_path, told, words):
    recipe = Recipe(rsf=RSFConfig(data=tmp_path / "none.jsonl", **told))
    with pytest.raises(ValueError, match=words):
        make_selection(recipe, tmp_path / "none", tmp_path / "selection", 1)


def test_the_control_takes_no_selection_of_other_settings(tmp_path, tiny):
    """Made with seed 0: another seed, other data or another adapter would compare other compute."""
    write_examples(tmp_path / "train.jsonl", EXAMPLES)
    adapter, out = tmp_path / "sft", tmp_path / "selection"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    recipe = Recipe(rsf=RSFConfig(data=tmp_path / "train.jsonl"))
    with pytest.raises(ValueError, match=r"rsf.control: expected \S+selection, got none; make rsf"):
        check_selection(recipe, adapter, out, 1)
    out.mkdir()
    key = sha256_json(_decides(recipe, adapter, 1))
    write_manifest(out, stage="rejection", inputs={}, settings={}, facts={"key": key})
    assert check_selection(recipe, adapter, out, 1) == out
    others = [(replace(recipe, seed=7), 1), (recipe, 2),
              (replace(recipe, rsf=replace(recipe.rsf, drawn=3)), 1),
              (replace(recipe, rsf=replace(recipe.rsf, epochs=1)), 1)]  # fmt: skip
    for other, number in others:
        with pytest.raises(ValueError, match="got another selection, whose compute"):
            check_selection(other, adapter, out, number)
    cut = replace(recipe, data=replace(recipe.data, truncate=True))
    older = _decides(cut, adapter, 1) | {"room": [cut.data.max_tokens, True]}  # lost its evidence
    assert _decides(recipe, adapter, 1)["room"] == [cut.data.max_tokens, False]  # as ever
    facts = {"key": sha256_json(older)}
    write_manifest(out, stage="rejection", inputs={}, settings={}, facts=facts)
    with pytest.raises(ValueError, match="got another selection, whose compute"):
        check_selection(cut, adapter, out, 1)
    write_manifest(out, stage="rejection", inputs={}, settings={}, facts={"key": key})
    write_examples(tmp_path / "test.jsonl", [replace(EXAMPLES[0], split="test")])
    with pytest.raises(ValueError, match="got another selection, whose compute"):
        check_selection(recipe, adapter, out, 1)
    (tmp_path / "test.jsonl").unlink()
    (adapter / "adapter_model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ValueError, match="got another selection, whose compute"):
        check_selection(recipe, adapter, out, 1)


def as_an_adapter(tiny, folder):
    """The base itself, with a file that names its weights as an adapter's do."""
    shutil.copytree(tiny.folder, folder, dirs_exist_ok=True)
    (folder / "adapter_model.safetensors").write_bytes(b"of the base itself")
    record = read_manifest(folder)
    told = {key: record[key] for key in ("stage", "inputs", "settings", "facts")}
    write_manifest(folder, **told)


def test_a_critic_that_is_never_right_teaches_nothing(tmp_path, tiny):
    write_examples(tmp_path / "train.jsonl", EXAMPLES)
    adapter = tmp_path / "sft"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"of the base itself")
    settings = RSFConfig(data=tmp_path / "train.jsonl", drawn=2, max_new_tokens=3, rows=4)
    recipe = Recipe(rsf=settings, base=BaseConfig("tiny", folder=tiny.folder.parent))
    facts_of_tiny = {"base": tiny.identity}
    write_manifest(adapter, stage="sft", inputs={}, settings={}, facts=facts_of_tiny)
    with pytest.raises(ValueError, match="prompt_version: expected"):
        make_selection(recipe, adapter, tmp_path / "selection", 1)
    (tmp_path / "sft" / "manifest.json").unlink()
    as_an_adapter(tiny, adapter)
    with pytest.raises(ValueError, match="expected critiques to learn from, got none"):
        make_selection(recipe, adapter, tmp_path / "selection", 1)
    assert not (tmp_path / "selection").exists()
    settings.labels = True  # are known of all that was looked at, whatever was written
    made = read_manifest(make_selection(recipe, adapter, tmp_path / "selection", 1))["facts"]
    assert (made["kept"], made["mean_score_kept"], made["labels"]) == (0, None, len(EXAMPLES))


def test_a_critic_that_is_sure_of_all_it_looks_at_learns_labels_alone(tmp_path, tiny):
    """One critique of a rationale is never judged both ways, so none is written."""
    write_examples(tmp_path / "train.jsonl", EXAMPLES)
    adapter = tmp_path / "sft"
    as_an_adapter(tiny, adapter)
    settings = RSFConfig(data=tmp_path / "train.jsonl", drawn=1, scouted=6, labels=True)
    recipe = Recipe(rsf=settings, base=BaseConfig("tiny", folder=tiny.folder.parent))
    out = make_selection(recipe, adapter, tmp_path / "selection", 1)
    made = read_manifest(out)["facts"]
    assert (made["scouted_undecided"], made["critiques"], made["labels"]) == (0, 0, len(EXAMPLES))
    assert (made["mean_score"], made["mean_score_kept"], made["kl_bound_nats"]) == (None, None, 0.0)
    assert len((out / "selected.jsonl").read_bytes().splitlines()) == len(EXAMPLES)
    bound = facts([], [], [], [], RSFConfig(drawn=8))["kl_bound_nats"]
    assert bound == pytest.approx(math.log(8) - 7 / 8, abs=1e-4)


def test_control_gets_what_sampling_and_training_cost(tiny_encoder):
    """Sampling is paid once, however often is trained: 1,200 forwards are 600 tokens or 300."""
    encoder = tiny_encoder
    kept = [Kept(EXAMPLES[0], render_critique(critique_of(EXAMPLES[0])), 1.0)]
    prompts = [len(encoder.prompt(e.domain, e.rationale)) for e in EXAMPLES[:2]]
    own = prompts[0] + len(encoder.written(kept[0].text))
    # two rationales are read and three critiques written, 1,200 tokens together
    long = replace(sample_of("a"), ids=(1,) * (1200 - sum(prompts) - 4))
    drawn = [[long, sample_of("b")], [sample_of("c")]]
    assert equal_tokens(encoder, EXAMPLES[:2], drawn, kept, 1) == own + 600
    assert equal_tokens(encoder, EXAMPLES[:2], drawn, kept, 2) == own + 300


def test_the_control_learns_whole_groups_of_references_until_its_tokens_are_spent(tiny_encoder):
    encoder = tiny_encoder
    one = list(control(EXAMPLES, encoder, 1, "s"))
    assert len({k.example.group for k in one}) == 1  # whole groups, and no more than it takes
    assert [k.text for k in one] == [render_critique(critique_of(k.example)) for k in one]
    most = list(control(EXAMPLES, encoder, 10**9, "s"))
    assert most[: len(one)] == one
    assert sorted(k.example.id for k in most) == sorted(e.id for e in EXAMPLES)
    other = list(control(EXAMPLES, encoder, 10**9, "t"))
    assert [k.example.id for k in other] != [k.example.id for k in most]


def test_without_reference_critiques_the_control_learns_the_labels(tiny_encoder):
    bare = [replace(e, critique=None, fix=None, strengths=None) for e in EXAMPLES]
    found = list(control(bare, tiny_encoder, 10**6, "s"))
    assert {one.example.id for one in found} == {e.id for e in EXAMPLES}
    assert not any(one.finished for one in found)  # nor that nothing more is to be said
    flawed = next(one for one in found if one.example.label == "flawed")
    assert [line.split(":")[0] for line in flawed.text.split("\n")] == [
        "Verdict", "Flaw", "Severity", "Evidence"]  # fmt: skip
    mixed = control([*EXAMPLES[:2], *bare[2:]], tiny_encoder, 10**6, "s")
    assert {one.example.id for one in mixed} == {e.id for e in EXAMPLES[:2]}


def test_the_labels_of_the_rest_are_learnt_and_nothing_of_what_was_written(tiny_encoder):
    kept = [Kept(EXAMPLES[0], "Verdict: valid", 0.9)]
    found = rest(EXAMPLES, tiny_encoder, kept)
    assert [one.example.id for one in found] == [e.id for e in EXAMPLES[1:]]
    headings = {one.example.label: [line.split(":")[0] for line in one.text.split("\n")]
                for one in found}  # fmt: skip
    assert headings == {"valid": ["Verdict"],
                        "flawed": ["Verdict", "Flaw", "Severity", "Evidence"]}  # fmt: skip
    assert not any(one.finished for one in found)
    # what the rest costs, its control may spend too
    alone, both = (equal_tokens(tiny_encoder, [], [], some, 1) for some in (kept, [*kept, *found]))
    assert both == alone + equal_tokens(tiny_encoder, [], [], found, 1)


def test_a_label_needs_room_behind_its_rationale(tiny_encoder):
    example = next(e for e in EXAMPLES if e.label == "flawed")
    (label,) = rest([example], tiny_encoder, [])
    size = len(tiny_encoder.prompt(example.domain, example.rationale))
    needed = size + len(tiny_encoder.begun(label.text))
    for room, found in ((needed, 1), (needed - 1, 0)):
        assert len(rest([example], replace(tiny_encoder, max_tokens=room), [])) == found


def test_the_control_learns_no_critique_that_does_not_fit_behind_its_rationale(tiny_encoder):
    known = {e.id: len(tiny_encoder.prompt(e.domain, e.rationale))
             + len(tiny_encoder.completion(critique_of(e))) for e in EXAMPLES}  # fmt: skip
    room = sorted(known.values())[len(known) // 2]
    small = replace(tiny_encoder, max_tokens=room)
    found = {one.example.id for one in control(EXAMPLES, small, 10**9, "s")}
    assert found == {name for name, size in known.items() if size <= room}
    assert 0 < len(found) < len(known)


def test_what_training_cannot_read_is_not_kept(tiny_encoder):
    right = render_critique(critique_of(EXAMPLES[0]))
    pool = [Kept(EXAMPLES[0], right, 0.7), Kept(EXAMPLES[0], f"{right} So it is.", 1.0),
            Kept(EXAMPLES[0], "No flaw here.", 0.0)]  # fmt: skip
    room = (len(tiny_encoder.prompt(EXAMPLES[0].domain, EXAMPLES[0].rationale))
            + len(tiny_encoder.written(right)))  # fmt: skip
    small = replace(tiny_encoder, max_tokens=room)
    assert _kept(small, [pool], RSFConfig(keep=0.5)) == (pool[:1], 1)
    assert _kept(tiny_encoder, [pool], RSFConfig(keep=0.34)) == (pool[1:2], 0)
    with pytest.raises(ValueError, match="expected critiques to learn from, got none"):
        _kept(replace(tiny_encoder, max_tokens=room - 1), [pool], RSFConfig())


def test_a_draw_too_small_for_a_group_says_so(tmp_path, tiny):
    """It once said that of no rationale some critiques were right and some wrong."""
    write_examples(tmp_path / "train.jsonl", EXAMPLES)
    adapter = tmp_path / "sft"
    as_an_adapter(tiny, adapter)
    settings = RSFConfig(data=tmp_path / "train.jsonl", scouted=0, rationales=1)
    recipe = Recipe(rsf=settings, base=BaseConfig("tiny", folder=tiny.folder.parent))
    with pytest.raises(ValueError, match="rsf: expected room for a group of rationales, got 1;"):
        make_selection(recipe, adapter, tmp_path / "selection", 1)


def test_rounds_look_at_other_rationales_while_there_are_any(tmp_path, tiny, monkeypatch):
    write_examples(tmp_path / "train.jsonl", EXAMPLES)
    adapter, seen = tmp_path / "sft", []
    as_an_adapter(tiny, adapter)
    settings = RSFConfig(data=tmp_path / "train.jsonl", scouted=2)
    recipe = Recipe(rsf=settings, base=BaseConfig("tiny", folder=tiny.folder.parent))

    def looked_at(critic, examples, *_):
        seen.extend(e.id for e in examples)
        raise KeyboardInterrupt

    monkeypatch.setattr("data_gen.rejection._sampled", looked_at)
    for number in (1, 2, 3):
        with pytest.raises(KeyboardInterrupt):
            make_selection(recipe, adapter, tmp_path / "selection", number)
    assert sorted(seen) == sorted(e.id for e in EXAMPLES)


def test_what_the_critic_cannot_read_is_left_out(tiny_encoder):
    long = replace(EXAMPLES[0], rationale="Up. " * tiny_encoder.max_tokens, evidence=None)
    assert [_fits(tiny_encoder, e) for e in (EXAMPLES[0], long)] == [True, False]
