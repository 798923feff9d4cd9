"""The matrix of adapters and domains: figures by hand, tests adjusted together, what is said."""

from dataclasses import replace

import numpy as np
import pytest

from minicrit.adapter_matrix import LEVEL, _says, matrix_of
from minicrit.adapter_page import adapters_view, against_rows, page, worth_rows
from minicrit.config import Recipe
from minicrit.files import write_json
from minicrit.records import Example
from minicrit.report import write_report
from minicrit.router import FALLBACK
from minicrit.statistics import mcnemar_exact

PAIRS = 12  # of twins in each domain


def twins(domain: str) -> list[Example]:
    """Pairs of a valid and a flawed item, two a family."""
    return [
        Example(id=f"{domain}/{n}/{label}", domain=domain, rationale=f"{domain} {n} {label}",
                label=label, group=f"{domain}/{n}", source=f"composer/{domain}/f{n // 2}/m",
                flaw_type="anchoring" if label == "flawed" else None,
                severity="low" if label == "flawed" else None, split="test")
        for n in range(PAIRS) for label in ("valid", "flawed")
    ]  # fmt: skip


EXAMPLES = [*twins("trading"), *twins("medical")]
RIGHT = [0.2, 0.8]  # p(flawed) of a valid and a flawed item that is judged rightly
WRONG = [0.6, 0.4]


def scored(trading: int, medical: int) -> np.ndarray:
    """P of a critic that has so many pairs of either domain right."""
    return np.array([x for right in (trading, medical) for n in range(PAIRS)
                     for x in (RIGHT if n < right else WRONG)])  # fmt: skip


@pytest.fixture(scope="module")
def matrix():
    p = {FALLBACK: scored(2, 12), "trading": scored(12, 2), "medical": scored(2, 12)}
    return matrix_of(p, EXAMPLES, draws=300)


def test_cells_by_hand(matrix):
    general = matrix[FALLBACK]["trading"]
    assert general["n"] == 24
    assert general["accuracy"]["value"] == pytest.approx(2 / 12, abs=1e-6)
    assert general["recall"]["value"] == pytest.approx(2 / 12, abs=1e-6)
    assert general["fpr"]["value"] == pytest.approx(10 / 12, abs=1e-6)
    # valid 2 x 0.2 and 10 x 0.6, flawed 2 x 0.8 and 10 x 0.4: of 144 pairs the flawed one is
    # higher where it has 0.8 (2 x 12), or 0.4 against 0.2 (10 x 2)
    assert general["auroc"]["value"] == pytest.approx(44 / 144, abs=1e-6)
    assert "against" not in general


def test_a_specialist_that_hurts_elsewhere_is_seen(matrix):
    """In five of six families, so AUROC is no surer than 2^(1 - 5)."""
    home, away = matrix["trading"]["trading"]["against"], matrix["trading"]["medical"]["against"]
    assert (home["only_it_right"], home["only_general_right"]) == (20, 0)
    assert (away["only_it_right"], away["only_general_right"]) == (0, 20)
    assert home["accuracy"] == -away["accuracy"] == pytest.approx(20 / 24, abs=1e-6)
    assert home["mcnemar_p"] == pytest.approx(mcnemar_exact(20, 0), abs=1e-6)
    assert (home["says"], away["says"]) == ("better at 0.5", "worse at 0.5")
    assert home["auroc"]["value"] == pytest.approx(1 - 44 / 144, abs=1e-6)
    assert min(home["auroc"]["p"], away["auroc"]["p"]) >= 1 / 16
    assert home["auroc"]["low"] == 0 == away["auroc"]["high"]


def test_log_odds_that_are_all_moved_alike_are_no_better_critic():
    """The general adapter is four too low throughout; once both are calibrated they are one."""
    odds = np.random.default_rng(1).normal(size=len(EXAMPLES))
    odds += [2.0 if e.label == "flawed" else -2.0 for e in EXAMPLES]
    p = {FALLBACK: 1 / (1 + np.exp(4 - odds)), "trading": 1 / (1 + np.exp(-odds))}
    told = matrix_of(p, EXAMPLES, draws=300)["trading"]["trading"]["against"]
    assert (told["auroc"]["value"], told["mcnemar_holm_p"] <= LEVEL) == (0.0, True)
    assert told["says"] == "better at 0.5"


def test_the_same_verdicts_are_open(matrix):
    for domain in ("trading", "medical"):
        told = matrix["medical"][domain]["against"]
        assert (told["says"], told["accuracy"], told["mcnemar_holm_p"]) == ("open", 0.0, 1.0)


def test_p_values_are_adjusted_over_both_tests_of_all_cells():
    """Six verdicts more in one cell: by itself p is 0.031, of eight tests it is no longer small."""
    p = {FALLBACK: scored(9, 12), "trading": scored(12, 12), "medical": scored(9, 12)}
    found = matrix_of(p, EXAMPLES, draws=300)
    told = found["trading"]["trading"]["against"]
    assert told["mcnemar_p"] == pytest.approx(2 * 0.5**6, abs=1e-6)
    assert told["mcnemar_p"] < LEVEL
    raw = [x for row in found.values() for cell in row.values() if "against" in cell
           for x in (cell["against"]["mcnemar_p"], cell["against"]["auroc"]["p"])]  # fmt: skip
    assert len(raw) == 8
    assert told["mcnemar_holm_p"] >= told["mcnemar_p"] * (
        8 - sum(x < told["mcnemar_p"] for x in raw)
    )


def test_few_of_one_label_cannot_decide_however_many_are_of_the_other():
    """AUROC holds four families of flawed items against six of valid ones: p is at least 2^-3."""
    kept = [e.label == "valid" or int(e.group.partition("/")[2]) < 8 for e in EXAMPLES]
    p = {FALLBACK: scored(2, 12)[kept], "trading": scored(12, 12)[kept]}
    few = [e for e, keep in zip(EXAMPLES, kept, strict=True) if keep]
    told = matrix_of(p, few, draws=300)["trading"]["trading"]["against"]["auroc"]
    assert (told["clusters"], told["testable"], told["holm_p"]) == (4, False, None)


def test_what_so_few_families_cannot_decide_takes_nothing_from_other_tests(found):
    """Two families give no p of AUROC below one half: four tests are adjusted for, not eight."""
    few = [replace(e, source=f"composer/{e.domain}/f{int(e.group[-1]) % 2}/m") for e in EXAMPLES]
    p = {FALLBACK: scored(9, 12), "trading": scored(12, 12), "medical": scored(9, 12)}
    matrix = matrix_of(p, few, draws=300)
    told = matrix["trading"]["trading"]["against"]
    assert (told["auroc"]["clusters"], told["auroc"]["holm_p"]) == (2, None)
    assert told["mcnemar_holm_p"] == pytest.approx(4 * 2 * 0.5**6, abs=1e-6)
    assert "| cannot be tested, 2 families |" in page({**found, "matrix": matrix})


def test_unscored_items_are_left_out():
    p = {FALLBACK: scored(12, 12), "trading": scored(12, 12)}
    p["trading"][0] = np.nan
    found = matrix_of(p, EXAMPLES, draws=100)
    assert (found["trading"]["trading"]["n"], found[FALLBACK]["trading"]["n"]) == (23, 24)
    assert found["trading"]["trading"]["against"]["n"] == 23
    p["trading"][:] = np.nan
    with pytest.raises(ValueError, match="trading: expected test items that trading can read"):
        matrix_of(p, EXAMPLES, draws=100)


@pytest.mark.parametrize(("tests", "said"), [
    ([(0.01, 0.1), (0.9, -0.1)], "better at 0.5"), ([(0.9, 0.1), (0.05, -0.1)], "worse"),
    ([(0.01, -0.1), (None, None)], "worse at 0.5"), ([(0.01, 0.1), (0.01, 0.1)], "better"),
    ([(0.01, 0.1), (0.01, -0.1)], "mixed"), ([(0.06, 0.1), (None, None)], "open"),
    ([(0.01, 0.0), (1.0, 0.0)], "open"),
])  # fmt: skip
def test_what_two_tests_say(tests, said):
    assert _says(tests) == said


@pytest.fixture(scope="module")
def found(matrix):
    """A whole report."""
    return {
        "form": 1,
        "matrix": matrix,
        "sizes": {"adapters": {FALLBACK: 2_000_000, "trading": 1_000_000}, "base": 5_000_000,
                  "routing": 10_000},
        "detector": {"n": 48, "bar": 0.7, "right": 5, "wrong": 1, "general": 42,
                     "right_if_routed": {"value": 5 / 6, "low": 0.44, "high": 0.97}},
        "measured": {"items": 24, "adapters": 3, "rounds": 5, "seconds": {"mixed": 1.5},
                     "separate_to_mixed": 1.4, "mixed_to_one_adapter": 1.1,
                     "log_odds_apart": 1e-6},
    }  # fmt: skip


def test_the_page_marks_who_is_at_home(found):
    head, rows = worth_rows(found)
    assert head == ("adapter", "trading (n=24)", "medical (n=24)")
    assert [row[0] for row in rows] == ["general", "trading", "medical"]
    assert [cell.endswith("*") for cell in rows[1][1:]] == [True, False]
    told = {row[:2]: row for row in against_rows(found)[1]}
    assert told[("trading*", "trading")][2:4] == ("+0.833", "20 : 0")
    assert told[("trading", "medical")][-1] == "worse at 0.5"
    text = page(found)
    assert "general 2.0, trading 1.0" in text
    assert "5 to the right specialist, 1 to a wrong one, 42 to the general adapter" in text
    assert len(adapters_view(found)["about"]) == 3


def test_the_page_of_a_run_has_a_section(found, tmp_path):
    recipe = Recipe()
    recipe.benchmark.out, recipe.sft.out = tmp_path / "benchmark", tmp_path / "sft"
    recipe.data.folder = tmp_path
    write_json(tmp_path / "adapters.json", found)
    text = write_report(recipe).read_text()
    assert '<h2 id="adapters">Adapters by domain</h2>' in text
    assert "<td>+0.833</td>" in text
    assert "48 items of families" in text
