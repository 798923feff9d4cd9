"""A confusion with shades."""

from minicrit.heat import heat_table


def test_by_hand() -> None:
    """Shares of the row in fifths, rounded up: 1 of 10 is 1, 3 of 10 is 2, 6 of 10 is 3."""
    found = heat_table({"b": {"a": 1, "b": 6, "valid": 3}, "valid": {"valid": 4}})
    assert found is not None
    assert found.columns == ("a", "b", "valid")
    (name, n, cells), (other, m, rest) = found.rows
    assert (name, n, other, m) == ("b", 10, "valid", 4)
    assert [(c.count, c.shade, c.right) for c in cells] == [
        (1, 1, False), (6, 3, True), (3, 2, False)]  # fmt: skip
    assert [(c.count, c.shade, c.right) for c in rest] == [
        (0, 0, False), (0, 0, False), (4, 5, True)]  # fmt: skip


def test_the_least_share_is_seen_and_nothing_is_not() -> None:
    found = heat_table({"a": {"a": 999, "b": 1}})
    assert found is not None
    assert [cell.shade for cell in found.rows[0][2]] == [5, 1]
    assert heat_table({}) is None
