"""What each process validates."""

import pytest

from models.data import ValidationLoader


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(("examples", "packs"), [(65, 0), (64, 1), (1, 3), (33, 5)])
def test_everything_once_and_the_same_number_of_batches_everywhere(world, examples, packs):
    rows, pairs = list(range(examples)), [f"pack {n}" for n in range(packs)]
    loaders = [ValidationLoader(rows, pairs, 32, rank=r, world=world) for r in range(world)]
    batches = [[make() for make in loader] for loader in loaders]
    assert {len(loader) for loader in loaders} == {len(batches[0])}
    assert all(len(some) == len(batches[0]) for some in batches)
    flat = [b for some in batches for b in some]
    assert sorted(x for b in flat if not isinstance(b, str) for x in b) == rows
    assert sorted(b for b in flat if isinstance(b, str)) == pairs
