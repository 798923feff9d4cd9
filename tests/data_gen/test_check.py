"""The checker finds what it should find, and its arithmetic is safe."""

from dataclasses import replace

import pytest

from data_gen.case import Derived
from data_gen.check import faults, recomputes, value_of
from data_gen.compose import Composed, compose
from data_gen.recompute import READERS, recomputed_label


def of(mechanism: str, label: str) -> Composed:
    """The first composed example of a mechanism and label."""
    return next(
        c for c in compose(4000, 0, "train")
        if c.example.source.endswith(f"/{mechanism}") and c.example.label == label
    )  # fmt: skip


def test_arithmetic() -> None:
    assert value_of("100*0.5**3") == 12.5
    assert value_of("abs(70-110)") == 40
    assert value_of("100*90/(90+5*(2-1))") == pytest.approx(94.7368, abs=1e-4)


@pytest.mark.parametrize(
    "formula",
    ["__import__('os')", "a+1", "1 if 1 else 2", "[1]", "1//2", "True+1", "1/0", "(", "abs"],
)
def test_anything_but_arithmetic_is_refused(formula: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        value_of(formula)


def test_rounding() -> None:
    assert recomputes(Derived("95%", "100*90/(90+5*(2-1))"))
    assert recomputes(Derived("1,200", "40*30"))
    assert not recomputes(Derived("94%", "100*90/(90+5*(2-1))"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"evidence": "not there"}, "verbatim"),
        ({"fix": None}, "fix: expected text"),
        ({"strengths": "x"}, "strengths: expected nothing"),
        ({"critique": "It makes 7,777,777."}, "neither stands"),
        ({"critique": "No full stop"}, "full sentence"),
        ({"critique": "Two  blanks."}, "two blanks"),
        ({"critique": "A {hole}."}, "placeholder"),
        ({"critique": "It is a error."}, "a before a vowel"),
        ({"critique": "It is an car."}, "an before a consonant"),
        ({"critique": "It is is so."}, "doubled word"),
        ({"critique": "It ends. and goes on."}, "starts small"),
    ],
)
def test_faults_are_found(change: dict[str, str | None], expected: str) -> None:
    good = of("product", "flawed")
    assert faults(good) == []
    bad = replace(good, example=replace(good.example, **change))  # type: ignore[arg-type]
    assert any(expected in fault for fault in faults(bad))


def test_a_wrong_derivation_is_found_even_if_not_cited() -> None:
    good = of("product", "valid")
    bad = replace(good, derived=(*good.derived, Derived("5", "2*2")))
    assert any("2*2 is 4.0, not 5" in fault for fault in faults(bad))


@pytest.mark.parametrize("mechanism", sorted(READERS))
def test_a_swapped_label_is_found(mechanism: str) -> None:
    valid, flawed = of(mechanism, "valid"), of(mechanism, "flawed")
    assert recomputed_label(valid.example) == "valid"
    assert recomputed_label(flawed.example) == "flawed"
    wrong = replace(valid.example, rationale=flawed.example.rationale, id=flawed.example.id,
                    source=flawed.example.source)  # fmt: skip
    found = faults(Composed(wrong, flawed.derived))
    assert any("label: expected flawed by the figures" in fault for fault in found)


def test_arithmetic_agrees_with_every_label() -> None:
    decided = 0
    for split in ("train", "validation", "calibration", "test"):
        for composed in compose(600, 11, split):
            label = recomputed_label(composed.example)
            decided += label is not None
            assert label in (None, composed.example.label), composed.example.id
    assert decided >= 600  # nine of 24 mechanisms
