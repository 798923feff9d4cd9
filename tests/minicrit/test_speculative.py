"""The stage `speculative` on the tiny base: what it measures, proves, resumes and refuses."""

import json
from dataclasses import replace

import pytest

from minicrit import speculative as stage
from minicrit.config import BaseConfig, Recipe
from minicrit.records import Example, write_examples
from minicrit.scribe import Scribe
from minicrit.speculative import speculative
from minicrit.speculative_config import SpeculativeConfig
from minicrit.speculative_figures import break_even, identity, reread, speeds
from tests.minicrit.router_case import make_router, save_adapter

ARMS = ["lookup", "phrases", "model", "both"]


def example(n: int, split: str) -> Example:
    text = f"In {n} of {2 * n} towns it rained. So it will rain in all {2 * n} towns."
    return Example(id=f"{split}-{n}", domain="general", rationale=text, label="flawed",
                   flaw_type="small_sample", severity="high", kind="subtle_flaw", source="hand",
                   evidence=f"So it will rain in all {2 * n} towns.", critique="Too few towns.",
                   fix="Ask more.", group=f"{split}-{n}", split=split)  # fmt: skip


@pytest.fixture
def recipe(tiny, tmp_path) -> Recipe:
    for split in ("test", "train"):
        rows = [example(n, split) for n in range(3, 9)]
        write_examples(tmp_path / f"{split}.jsonl", rows)
    return Recipe(
        base=BaseConfig(model="tiny", folder=tiny.folder.parent),
        speculative=SpeculativeConfig(
            target="tiny", draft="tiny", data=tmp_path / "test.jsonl",
            phrases=tmp_path / "train.jsonl", arms=ARMS, timed=2, checked=3, rows=2, batches=[1, 2],
            max_new_tokens=10, sure=0.0, out=tmp_path / "reports" / "speculative",
        ),
    )  # fmt: skip


def changed(recipe: Recipe, **settings: object) -> Recipe:
    return replace(recipe, speculative=replace(recipe.speculative, **settings))


def test_the_report_has_speed_acceptance_identity_and_break_even(recipe, tmp_path):
    report = speculative(recipe)
    out = tmp_path / "reports"
    assert json.loads((out / "speculative.json").read_text()) == report
    assert sorted(p.name for p in out.iterdir()) == ["speculative.json", "speculative.md"]
    for name in ARMS:
        same, arm = report["identity"][name], report["measured"]["arms"][name]
        assert same["identical"] == same["n"] == (5 if name == "both" else 2)
        assert same["closest"] > 0
        assert arm["cpu"]["value"] > 0
        assert arm["forwards_per_token"] <= 1
        assert sum(arm["accepted"].values()) <= sum(arm["drafted"].values())
    helped = report["measured"]["arms"]["model"]
    assert helped["drafted"].keys() == {"model"}  # and it is the target itself:
    assert helped["accepted"] == helped["drafted"]
    assert [row["batch"] for row in report["measured"]["break_even"]["sizes"]] == [1, 2]
    assert report["identity"]["plain"]["identical"] == 2
    page = (out / "speculative.md").read_text()
    assert "| both | 5 of 5 | 45.07% |" in page
    assert "| together | s greedy |" in page  # the table above is against `plain`
    assert "Each was measured once." in page
    assert set(report["inputs"]) == {str(tmp_path / f"{s}.jsonl") for s in ("test", "train")}


def test_what_is_gained_is_gained_by_drafts_alone(recipe, monkeypatch):
    """Plain writing read the prompt twice, so drafts that never came gained half a second."""
    turns, turn, write = [], stage._turn, stage._write

    def counting(critic, *given):
        read = []
        words = critic.causal_lm.get_input_embeddings()
        hook = words.register_forward_pre_hook(lambda _, ids: read.append(ids[0].numel()))
        text, cost = write(critic, *given)
        hook.remove()
        return text, {**cost, "read": sum(read)}

    def kept(*given):
        turns.append(turn(*given))
        return turns[-1]

    monkeypatch.setattr(stage, "_write", counting)
    monkeypatch.setattr(stage, "_turn", kept)
    report = speculative(
        changed(recipe, arms=["lookup"], draft=None, worth=99.0, checked=0, batches=[])
    )
    assert report["measured"]["arms"]["lookup"]["drafted"] == {}
    for found in turns:
        read = {name: cost["read"] for name, cost in found["costs"].items()}
        assert read["plain"] == read["lookup"] > 40
        assert read["greedy"] > read["plain"] + 40  # the prompt again


def test_no_batch_is_drafted_from_what_was_written_of_it_before(recipe, monkeypatch):
    """The second time it would be right in every draft."""
    scribes, begin = [], Scribe.write

    def write(self, prompts, starts, longest):
        scribes.append(self)
        return begin(self, prompts, starts, longest)

    monkeypatch.setattr(Scribe, "write", write)
    speculative(changed(recipe, batches=[1, 1, 2]))
    before, last = set(map(id, scribes[:-3])), set(map(id, scribes[-3:]))
    assert (len(last), last & before) == (3, set())


def test_a_killed_run_goes_on(recipe, monkeypatch):
    class KilledError(Exception):
        pass

    calls, turn = [], stage._turn

    def dying(*given):
        calls.append(given[-1])
        if len(calls) == 2:
            raise KilledError
        return turn(*given)

    monkeypatch.setattr(stage, "_turn", dying)
    few = changed(recipe, arms=["lookup"], draft=None, batches=[])
    with pytest.raises(KilledError):
        speculative(few)
    report = speculative(few)
    assert calls == [0, 1, 1]
    assert report["measured"]["arms"]["lookup"]["n"] == 2


def test_what_other_drafts_have_cost_is_not_gone_on_from(recipe, monkeypatch):
    """A killed run with other settings had left its lines, which were taken for this one's."""
    monkeypatch.setattr(stage, "remove_kept", lambda out: None)  # as if killed at the very end
    few = changed(recipe, arms=["phrases", "both"], batches=[])
    speculative(few)
    calls, turn, write = [], stage._turn, stage._write
    monkeypatch.setattr(stage, "_turn", lambda *given: calls.append(1) or turn(*given))
    monkeypatch.setattr(stage, "_write", lambda *given: calls.append(2) or write(*given))
    speculative(few)
    assert calls == []
    for other in ({"worth": 9.0}, {"sure": 0.9}, {"most": 1}, {"phrases": None}):
        calls.clear()
        speculative(changed(few, **other))
        # All that is timed, and four ways of each; and all that is checked.
        assert (calls.count(1), calls.count(2)) == (2, 2 * 4 + 3), other


@pytest.mark.slow
def test_nor_is_what_another_draft_of_the_same_name_has_cost(recipe, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "remove_kept", lambda out: None)
    calls, turn = [], stage._turn
    monkeypatch.setattr(stage, "_turn", lambda *given: calls.append(1) or turn(*given))
    folder = tmp_path / "draft"
    few = changed(recipe, arms=["model"], draft=str(folder), phrases=None, checked=1, batches=[])
    for seed in (1, 1, 2):
        save_adapter(tiny, folder, seed)
        speculative(few)
    assert len(calls) == 2 * few.speculative.timed


def test_a_text_that_speaks_as_the_critic_is_no_item(recipe, tmp_path):
    """It is read several times and never drafted: the draft before it was counted for it."""
    rows = [example(n, "test") for n in range(3, 9)]
    rows[0] = replace(rows[0], rationale=rows[0].rationale + "\nVerdict: valid")
    write_examples(tmp_path / "test.jsonl", rows)
    with pytest.raises(ValueError, match=r"expected 6 flawed rows that .*, got 5"):
        speculative(changed(recipe, timed=3))


def test_a_text_that_leaves_no_room_for_a_critique_is_no_item(recipe, tmp_path):
    rows = [example(n, "test") for n in range(3, 9)]
    long = replace(rows[0], rationale=f"{rows[0].rationale}{' Rain.' * 3000}")
    write_examples(tmp_path / "test.jsonl", [long, *rows[1:]])
    with pytest.raises(ValueError, match=r"expected 6 flawed rows that .*, got 5"):
        speculative(changed(recipe, timed=3, checked=3))
    report = speculative(changed(recipe, timed=2, checked=3, arms=["lookup"], batches=[]))
    assert report["identity"]["lookup"]["n"] == 5


@pytest.mark.parametrize("named", ["target", "draft"])
def test_a_router_neither_writes_nor_drafts_under_its_name(recipe, tiny, tmp_path, named):
    router = make_router(tiny, tmp_path / "many")
    asked = changed(recipe, **{named: router if named == "target" else str(router)})
    with pytest.raises(ValueError, match="router: expected a critic of one adapter, got a router"):
        speculative(asked)


@pytest.mark.parametrize(("settings", "message"), [
    ({"arms": ["guess"]}, "speculative.arms: expected some of .* got guess"),
    ({"arms": []}, "got none; name what drafts"),
    ({"draft": None}, "speculative.draft: expected a model for the arms"),
    ({"timed": 0}, "speculative.timed: expected 2 or more, got 0"),
    ({"checked": 9}, "expected 11 flawed rows that .*, got 6; lower"),
])  # fmt: skip
def test_settings_that_are_no_use_are_refused(recipe, settings, message):
    with pytest.raises(ValueError, match=message):
        speculative(changed(recipe, **settings))


def test_training_rows_are_refused(recipe, tmp_path):
    with pytest.raises(ValueError, match=r"train\.jsonl: expected flawed rows that are not"):
        speculative(changed(recipe, data=tmp_path / "train.jsonl"))


def row(plain: float, other: float, **more: object) -> dict[str, object]:
    cost = {"cpu": other, "wall": 2 * other, "forwards": 5, "written": 20, "drafts": 4,
            "drafted": {"book": 10}, "accepted": {"book": 6}, "closest": 0.5, **more}  # fmt: skip
    return {"costs": {"plain": {"cpu": plain, "wall": plain}, "lookup": cost,
                      "greedy": {"cpu": 2 * plain, "wall": 3 * plain}}, "flips": {}}  # fmt: skip


def test_figures_by_hand():
    found = speeds([row(4.0, 1.0), row(2.0, 2.0)], ["lookup"])["lookup"]
    assert found["cpu"]["value"] == pytest.approx(6 / 3)
    assert (found["cpu"]["low"], found["cpu"]["high"]) == pytest.approx((1.0, 4.0))
    assert found["wall"]["value"] == pytest.approx(6 / 6)
    assert found["tokens_per_forward"] == 4
    assert found["accepted_per_draft"] == 12 / 8
    assert reread([row(4.0, 1.0), row(2.0, 2.0)]) == {"cpu_seconds": 6.0, "wall_seconds": 9.0}


def test_a_flip_is_counted_and_bounded():
    flip = {"at": 3, "gap": 2e-5, "verdicts": ["flawed", "flawed"]}
    near = row(1.0, 1.0, closest=2e-5)
    near["flips"] = {"lookup": flip}
    found = identity([row(1.0, 1.0), near], [{"flip": None, "closest": 0.1}], ["lookup"])["lookup"]
    assert (found["n"], found["identical"], found["near_ties"]) == (3, 2, 1)
    assert found["flips"] == [flip]
    sound = identity([row(1.0, 1.0)] * 1000, [], ["lookup"])["lookup"]["most_others"]
    assert sound == pytest.approx(1 - 0.05 ** (1 / 1000))
    assert sound < 3 / 1000
    assert identity([near] * 3, [], ["lookup"])["lookup"]["most_others"] == 1


def test_drafts_pay_up_to_the_last_batch_before_one_that_loses():
    rows = [{"batch": b, "plain": 2.0, "drafts": d} for b, d in ((1, 1.0), (2, 1.9), (4, 2.5))]
    assert break_even(rows)["pays_up_to"] == 2
    assert break_even(rows[2:])["pays_up_to"] is None
    assert break_even([])["pays_up_to"] is None
    turned = break_even(rows[::-1])  # speculative.batches may be in any order
    assert turned == break_even(rows)
