"""Agreement with operators: a log by hand, refusals, the page, the command."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from minicrit.agreement import agreement, certainty
from minicrit.base import Base
from minicrit.cli import main
from minicrit.config import Recipe
from minicrit.decisions import read_decisions
from minicrit.files import sha256_file
from minicrit.targets import targets
from tests.minicrit.benchmark_case import StandIn, growing

HEAD = "rationale,domain,operator,decision,request_id"
#: p of critic a; what ann, bob and cy said (r reject, a accept, . nothing).
CASES = (
    (0.99, "rrr"), (0.95, "rr."), (0.9, "r.a"), (0.8, "a.."), (0.7, "rra"),
    (0.4, "aaa"), (0.3, "a.r"), (0.2, ".a."), (0.1, "rra"), (0.05, "aa."),
)  # fmt: skip
WORDS = {"r": "Reject", "a": "accept"}


def made(tmp_path: Path, *more: str, head: str = HEAD) -> Recipe:
    lines = [
        f"Case {n}: <i>why</i> a={p} .,{('trading', 'medical')[n % 2]},{name},{WORDS[said]},q{n}"
        for n, (p, decisions) in enumerate(CASES)
        for name, said in zip(("ann", "bob", "cy"), decisions, strict=True) if said in WORDS
    ]  # fmt: skip
    path = tmp_path / "log.csv"
    path.write_text("\n".join([head, *lines, *more]) + "\n")
    recipe = Recipe()
    settings = recipe.agreement
    settings.log, settings.model, settings.draws = path, "a", 200
    settings.out = tmp_path / "out" / "agreement"
    return recipe


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, dict]:
    recipe = made(tmp_path_factory.mktemp("log"))
    return recipe, agreement(recipe, load=StandIn)


def test_rates_by_hand(case: tuple[Recipe, dict]) -> None:
    """Ties at .9 and .3; of the 8 others critic and majority differ at .8 and .1.

    Both flawed: .99, .95, .7; both valid: .4, .2, .05. Kappa = (6/8 - 1/2) / (1/2) = 1/2.
    """
    _, report = case
    assert report["log"] == {"rationales": 10, "decisions": 22, "operators": 3, "ties": 2,
                             "unscored": {}, "used": 8}  # fmt: skip
    assert report["table"] == {"valid_valid": 3, "valid_flawed": 1, "flawed_valid": 1,
                               "flawed_flawed": 3}  # fmt: skip
    assert (report["agreement"]["value"], report["agreement"]["n"]) == (0.75, 8)
    assert report["agreement"]["low"] == pytest.approx(0.349142, abs=1e-5)  # Clopper-Pearson
    assert report["kappa"]["value"] == report["adjusted_kappa"]["value"] == 0.5
    assert report["adjusted_kappa"]["low"] == pytest.approx(2 * 0.349142 - 1, abs=1e-5)
    assert report["proof"] | {"needed": 0} == {
        "target": 0.98, "n": 8, "disagreements": 2, "allowed": -1, "proven": False, "needed": 0,
        "constant": {"verdict": "valid", "disagreements": 4, "proven": False, "p": 0.625,
                     "beaten": False},
    }  # fmt: skip
    assert report["domains"]["trading"]["agreement"]["n"] == 3


def test_coverage_by_hand(case: tuple[Recipe, dict]) -> None:
    """By certainty: .99, then .95 and .05, then .1 (wrong), .8 (wrong) and .2, .7, .4."""
    _, report = case
    found = [(row["n"], round(row["value"] * row["n"])) for row in report["coverage"]]
    assert found[0] == (1, 1)
    assert (3, 3) in found
    assert (4, 3) in found
    assert (6, 4) in found
    assert found[-1] == (8, 6)


def test_operators_by_hand(case: tuple[Recipe, dict]) -> None:
    """Pairs: of 8 rationales with several, 4 unanimous, 2 at 1/3, 2 at none: 14/24.

    Against the others: rrr, rr, aaa, aa give 3 + 2 + 3 + 2 hits; in rra only cy's others agree (a
    miss), twice; r.a and a.r give 2 misses each.
    """
    _, report = case
    among = report["operators"]["among"]
    assert report["operators"]["rationales"] == 8
    assert among["pairwise"]["value"] == pytest.approx(14 / 24, abs=1e-5)
    assert among["against_the_others"]["value"] == pytest.approx(10 / 16, abs=1e-5)
    # with each: rrr, rr, aaa, aa are hits; half of r.a and a.r; rra is 2/3 of a hit, and once 1/3
    assert (among["critic_with_each"]["value"], among["critic_with_each"]["n"]) == (
        pytest.approx((4 + 1 / 2 + 1 / 2 + 2 / 3 + 1 / 3) / 8, abs=1e-5),
        8,
    )
    ann = report["operators"]["each"]["ann"]
    assert (ann["n"], ann["value"]) == (9, pytest.approx(7 / 9, abs=1e-5))


def test_rationales_on_which_operators_split_count_against_those_who_differ(tmp_path: Path) -> None:
    """Ann says what the critic says on all of 20 rationales, Bob on every second one."""
    recipe = made(tmp_path)
    said = [("ann", "reject"), ("bob", "accept")], [("ann", "reject"), ("bob", "reject")]
    rows = [f"Case {n} a=0.9 .,general,{name},{word}," for n in range(20)
            for name, word in said[n % 2]]  # fmt: skip
    recipe.agreement.log.write_text("\n".join([HEAD, *rows]))
    report = agreement(recipe, load=StandIn)
    each, among = report["operators"]["each"], report["operators"]["among"]
    assert {name: (row["value"], row["n"]) for name, row in each.items()} == {
        "ann": (1.0, 20), "bob": (0.5, 20)}  # fmt: skip
    assert among["pairwise"]["value"] == 0.5
    assert (among["critic_with_each"]["value"], among["critic_with_each"]["n"]) == (0.75, 20)
    assert (report["agreement"]["value"], report["agreement"]["n"]) == (1.0, 10)


def test_disagreements_are_listed_and_text_can_do_nothing(case: tuple[Recipe, dict]) -> None:
    recipe, report = case
    out = recipe.agreement.out
    rows = list(csv.DictReader(Path(f"{out}.disagreements.csv").read_text().splitlines()))
    assert [(r["p_flawed"], r["critic"], r["operators"], r["said_flawed"]) for r in rows] == [
        ("0.1", "valid", "flawed", "2 of 3"), ("0.8", "flawed", "valid", "0 of 1"),
    ]  # fmt: skip
    assert rows[0]["request_ids"] == "q8 q8 q8"
    page = Path(f"{out}.html").read_text()
    assert "&lt;i&gt;why" in page
    assert "<i>why" not in page
    assert json.loads(Path(f"{out}.json").read_text()) == report
    assert "| two operators on one rationale say the same |" in Path(f"{out}.md").read_text()
    assert "where several decided, the wider of that and of Wilson" in page  # not Clopper-Pearson's
    assert list(out.parent.glob("*.scores.jsonl")) == []


def test_perfect_agreement_of_200_proves_98_percent(tmp_path: Path) -> None:
    recipe = Recipe()
    path = tmp_path / "log.csv"
    lines = [f"Case {n} a={0.9 if n % 2 else 0.1} .,general,ann,{'no' if n % 2 else 'yes'}"
             for n in range(200)]  # fmt: skip
    path.write_text("\n".join(["rationale,domain,operator,decision", *lines]))
    settings = recipe.agreement
    settings.log, settings.out, settings.model = path, tmp_path / "agreement", "a"
    settings.valid, settings.flawed, settings.draws = "yes", "no, never", 20
    report = agreement(recipe, load=StandIn)
    assert report["proof"]["proven"]
    assert report["operators"]["among"]["alpha"]["value"] is None
    assert "is proven" in Path(f"{settings.out}.md").read_text()


@pytest.mark.parametrize(("p_of_flawed", "beaten", "said"), [
    (0.1, False, "agrees no more than that beyond chance"), (0.9, True, "agrees more than that"),
])  # fmt: skip
def test_who_says_valid_of_everything_stands_beside_the_proof(
    tmp_path: Path, p_of_flawed: float, beaten: bool, said: str
) -> None:
    """Operators call 6 of 700 flawed, and so few disagreements prove 98 %."""
    recipe = made(tmp_path)
    rows = [f"Case {n} a={p_of_flawed if n < 6 else 0.1} .,general,ann,"
            f"{'reject' if n < 6 else 'accept'}," for n in range(700)]  # fmt: skip
    recipe.agreement.log.write_text("\n".join([HEAD, *rows]))
    recipe.agreement.draws = 20
    report = agreement(recipe, load=StandIn)
    constant = report["proof"]["constant"]
    assert report["proof"]["proven"]
    assert (constant["verdict"], constant["disagreements"]) == ("valid", 6)
    assert constant["proven"]
    assert constant["beaten"] is beaten
    assert said in Path(f"{recipe.agreement.out}.md").read_text()
    assert targets(None, None, report)[2]["status"] == ("met" if beaten else "open")


def test_certainty_counts_from_the_threshold_in_log_odds() -> None:
    assert certainty(np.array([0.9, 0.1]), 0.5) == pytest.approx([np.log(9), np.log(9)])
    assert certainty(np.array([0.8, 0.2]), 0.8)[0] == 0
    assert np.isfinite(certainty(np.array([0.0, 1.0]), 0.5)).all()


@pytest.mark.parametrize(("line", "message"), [
    ("Why,trading,ann,maybe,", ":24: expected decision of valid, accept"),
    ("Why,sports,ann,accept,", ":24: expected domain of trading"),
    ("Why,trading,,accept,", ":24: expected operator with something in it"),
    (" ,trading,ann,accept,", ":24: expected rationale with something in it"),
    ("Case 0: <i>why</i> a=0.99 .,trading,ann,accept,", "on a rationale, got a second one (first "
     "on line 2)"),
    ("Why,trading,ann", ":24: expected 5 columns, got 3"),
])  # fmt: skip
def test_a_bad_line_is_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"log.csv:24") as error:
        agreement(made(tmp_path, line), load=StandIn)
    assert message in str(error.value)


def test_settings_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    path = made(tmp_path).agreement.log
    with pytest.raises(ValueError, match=r"got no in both; keep it in one"):
        read_decisions(path, "yes,no", "No")
    with pytest.raises(ValueError, match=r"agreement.flawed: expected words"):
        read_decisions(path, "yes", " , ")
    path.write_text(HEAD + "\n")
    with pytest.raises(ValueError, match=r":2: expected at least one decision, got none"):
        read_decisions(path, "yes", "no")
    with pytest.raises(ValueError, match=r"give LOG=log.csv"):
        agreement(Recipe(), load=StandIn)


def test_ties_alone_are_refused(tmp_path: Path) -> None:
    recipe = made(tmp_path)
    rows = ["X a=0.9 .,general,ann,accept,", "X a=0.9 .,general,bob,reject,"]
    recipe.agreement.log.write_text("\n".join([HEAD, *rows]))
    with pytest.raises(ValueError, match=r"expected a rationale with a majority and a verdict"):
        agreement(recipe, load=StandIn)


def test_the_command_with_a_real_critic(tmp_path: Path, tiny: Base, capsys) -> None:
    recipe = made(tmp_path)
    out = tmp_path / "cli" / "agreement"
    command = ["agreement", "--config", "tiny", "--base.folder", str(tiny.folder.parent),
               "--agreement.model", "tiny", "--agreement.log", str(recipe.agreement.log),
               "--agreement.out", str(out)]  # fmt: skip
    assert main(command) == 0
    assert "# Agreement with operators" in capsys.readouterr().out
    assert json.loads(Path(f"{out}.json").read_text())["log"]["used"] == 8
    recipe.agreement.log.write_text("rationale\n")
    assert main(command) == 1
    assert "domain: it is missing, add it; operator: " in capsys.readouterr().err


def test_operators_who_always_agree_prove_no_more_than_their_number(tmp_path: Path) -> None:
    """Twelve rationales, two operators of one mind: Wilson from 0.758, no interval of kappas."""
    recipe = made(tmp_path)
    recipe.agreement.log.write_text("\n".join(
        [HEAD, *(f"Case {n} a={0.9 if n % 2 else 0.1} .,trading,{name},{'r' if n % 2 else 'a'},q{n}"
                 for n in range(12) for name in ("ann", "bob"))]
    ).replace(",r,", ",reject,").replace(",a,", ",accept,") + "\n")  # fmt: skip
    report = agreement(recipe, load=StandIn)
    among = report["operators"]["among"]
    for name in ("pairwise", "against_the_others"):
        assert (among[name]["value"], among[name]["high"]) == (1, 1)
        assert among[name]["low"] == pytest.approx(0.7575, abs=1e-4)
    assert [among["alpha"][key] for key in ("value", "low", "high")] == [1, None, None]
    assert [report["kappa"][key] for key in ("value", "low", "high")] == [1, None, None]


def test_a_rationale_that_two_systems_spell_otherwise_is_one(tmp_path):
    """An accent of its own (NFD) made it another rationale, with a decision of one each."""
    path = tmp_path / "log.csv"
    path.write_text("rationale,domain,operator,decision\n"
                    "The caf\u00e9 is full.,general,ann,valid\n"
                    "The cafe\u0301 is full.,general,bob,flawed\n")  # fmt: skip
    (case,) = read_decisions(path, "valid", "flawed")
    assert [(one.operator, one.flawed) for one in case.decisions] == [("ann", False), ("bob", True)]
    assert case.rationale == "The caf\u00e9 is full."


def test_an_operator_whose_name_two_systems_spell_otherwise_is_one(tmp_path):
    """As two, Ren\u00e9 alone was a majority against Ann."""
    path = tmp_path / "log.csv"
    path.write_text("rationale,domain,operator,decision\nIt is full.,general,Ren\u00e9,flawed\n"
                    "It is full.,general,Rene\u0301,flawed\n")  # fmt: skip
    with pytest.raises(ValueError, match=r"log.csv:3: expected one decision of Ren\u00e9 on a"):
        read_decisions(path, "valid", "flawed")


def test_a_word_for_a_verdict_may_be_spelt_either_way(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("rationale,domain,operator,decision\n"
                    "It is full.,general,ann,gu\u0308ltig\n"
                    "It is empty.,general,ann,g\u00fcltig\n")  # fmt: skip
    for word in ("gu\u0308ltig", "g\u00fcltig"):
        cases = read_decisions(path, word, "flawed")
        assert [case.majority for case in cases] == [False, False]


def test_the_hash_of_the_log_is_that_of_what_was_read(tmp_path: Path) -> None:
    """Hashed at the end, a log that is written to all day vouched for what nobody had judged."""
    recipe = made(tmp_path)
    log = tmp_path / "log.csv"
    before = sha256_file(log)
    report = agreement(recipe, load=growing(log))
    assert report["inputs"] == {log.as_posix(): before} != {log.as_posix(): sha256_file(log)}
