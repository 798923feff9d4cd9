"""The plan of optimizer steps: nothing left out, nothing twice, the same for every process."""

import pytest

from minicrit.packing import Branch, Tree, grow
from minicrit.plan import Group, StepPlan, _cut, grouped, validation_steps
from minicrit.records import Example


def groups(count: int, members: int = 2) -> list[Group]:
    made = []
    for g in range(count):
        leaves = tuple(Branch((g, m + 3, 9), (0.0, 1.0, 2.0)) for m in range(members))
        made.append(Group(f"g{g}", (Tree((g,) * (g % 5 + 1), leaves),), members))
    return made


def plan(count: int = 11, **changed) -> StepPlan:
    options = {"epochs": 2, "batch_examples": 4, "pack_tokens": 20, "seed": 0, **changed}
    return StepPlan(groups(count), **options)


def targets(step) -> list[int]:
    return sorted(t for p in step.packs for t, w in zip(p.targets.tolist(), p.weights.tolist(),
                                                        strict=True) if w > 1e-20)  # fmt: skip


def test_each_epoch_holds_every_group_once_in_another_order():
    steps = plan().steps
    flat = [i for step in steps for i in step]
    assert sorted(flat[:11]) == sorted(flat[11:]) == list(range(11))
    assert flat[:11] != flat[11:]
    assert sorted(len(s) for s in steps) == [1, 1] + [2] * 10


@pytest.mark.parametrize(("sizes", "batch", "found"), [
    ((1,) * 9, 8, [4, 5]),  # the last pair does not count as much as eight
    ((1,) * 16, 8, [8, 8]), ((1,) * 17, 8, [6, 5, 6]), ((1,) * 3, 8, [3]), ((4,) * 5, 8, [8, 4, 8]),
    ((4,) * 4, 1, [4] * 4), ((2, 1, 3, 1, 1), 4, [3, 5]),
    ((1, 1, 20, 1, 1), 2, [2, 20, 2]), ((1, 1, 1, 1, 20, 1, 1, 1, 1), 2, [4, 20, 4]),
])  # fmt: skip
def test_steps_of_an_epoch_are_about_the_same_size(sizes, batch, found):
    order = list(range(len(sizes)))
    steps = _cut(order, list(sizes), batch)
    assert [i for step in steps for i in step] == order
    assert [sum(sizes[i] for i in step) for step in steps] == found


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_a_step_without_gap_or_overlap(world):
    whole = plan()
    for number in range(len(whole)):
        shares = [whole.step(number, rank, world) for rank in range(world)]
        alone = whole.step(number)
        assert sorted(t for s in shares for t in targets(s)) == targets(alone)
        assert {s.weight for s in shares} == {alone.weight}
        assert {s.tokens for s in shares} == {sum(p.tokens for p in alone.packs)}
        assert len({len(s.packs) for s in shares}) == 1
        scored = sum(float(p.weights.sum()) for s in shares for p in s.packs)
        assert scored == pytest.approx(alone.weight)


def test_packs_respect_the_token_limit_unless_one_tree_is_longer():
    longer = Group("longer", (Tree((7,) * 30, (Branch((3, 4), (0.0, 1.0)),)),), 1)
    whole = StepPlan([*groups(11), longer], epochs=2, batch_examples=4, pack_tokens=20, seed=0)
    packs = [packed for number in range(len(whole)) for packed in whole.step(number).packs]
    assert sorted(packed.tokens for packed in packs if packed.tokens > 20) == [32, 32]
    assert len(packs) > 10


def test_a_group_that_is_too_long_for_one_pass_is_spread_over_steps():
    """Thirty texts of one source, two of them a pair by their key; twins of a square stay one."""
    rows = [Branch((7, n, n, 9), (0.0, 0.0, 0.0, 1.0), key=min(n, 28)) for n in range(30)]
    square = [Branch((7, n, 9), (0.0, 0.0, 1.0), (1, 2, 1 - 2 * (n % 2))) for n in range(12)]
    options = {"epochs": 1, "batch_examples": 4, "pack_tokens": 20, "seed": 0}
    groups = (Group("desk", (grow(rows),), 30, keys=1),
              Group("square", (grow(square),), 12, keys=1))  # fmt: skip
    found = StepPlan(groups, **options)
    steps = [found.step(number) for number in range(len(found))]
    assert sum(step.examples for step in steps) == 42
    assert sum(step.weight for step in steps) == 42
    assert {step.departures for step in steps} == {0, 12}
    assert len(steps) >= 4  # six parts of 6 and 12, of which neighbours may share a step
    sizes = [packed.tokens for step in steps for packed in step.packs]
    assert [size for size in sizes if size > 20] == [25]
    assert sum(step.versions for step in steps) == 1


@pytest.mark.parametrize(("steps", "every", "found"), [
    (8, 3, (2, 5, 8)), (7, 3, (3, 7)), (350, 100, (87, 175, 262, 350)), (8, 4, (4, 8)),
    (3, 1, (1, 2, 3)), (5, 0, (5,)), (5, 200, (5,)),
])  # fmt: skip
def test_validations_are_spaced_evenly_and_the_last_is_at_the_end(steps, every, found):
    assert validation_steps(steps, every) == found


def test_plan_is_the_same_for_the_same_seed_and_another_for_another():
    assert plan().steps == plan().steps
    assert plan().steps != plan(seed=1).steps


def test_twins_stay_neighbours():
    def example(name: str, group: str) -> Example:
        return Example(id=name, domain="general", rationale=name, label="valid", group=group,
                       source="s", split="train")  # fmt: skip

    rows = [example("a", "g2"), example("b", "g1"), example("c", "g2")]
    assert [[e.id for e in members] for members in grouped(rows)] == [["b"], ["a", "c"]]
