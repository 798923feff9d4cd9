"""What counts as one rationale, and what is kept together."""

from minicrit.feedback.entries import group_of, unit_of


def test_what_is_alike_is_drawn_together_and_counts_apart():
    """Half a superscript lost, or a bit that became a byte, is another rationale."""
    for one, other in (("A  b\n", "a B"), ("10\u00b2 cells", "102 cells"), ("5 Gb", "5 GB")):
        assert group_of("general", one) == group_of("general", other) != group_of("trading", one)
        assert unit_of("general", one) != unit_of("general", other)
    assert unit_of("general", "Cafe\u0301  b\n") == unit_of("general", "Caf\u00e9\u00a0b")
    assert unit_of("general", "a") != unit_of("trading", "a")
