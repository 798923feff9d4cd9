"""A judge must qualify: good ones do, and each kind of bad one fails by what is bad about it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_gen.backends.protocol import Answer
from data_gen.court import cases as known
from data_gen.court.calling import DEFAULTS
from data_gen.court.cases import KINDS, PATH, Case, read_cases
from data_gen.court.comparison import (
    FLIP,
    LEANING,
    LOSS,
    TIE,
    UNSCORED,
    WIN,
    Compared,
    Judgement,
    Question,
    compare,
)
from data_gen.court.qualification import failings, qualify, rates_of
from data_gen.firewall import Firewall, Hit
from data_gen.handwritten import hand_variants, hand_written
from data_gen.prices import read_price
from minicrit.cli import FAILED, OK, main
from minicrit.config import Recipe
from minicrit.files import sha256_file
from minicrit.measure_config import BenchmarkConfig, JudgeConfig
from minicrit.prompts import UnparsedError, parse_critique
from minicrit.taxonomy import DOMAINS
from tests.data_gen.judging_server import JudgingServer, Shown, honest, longer, obedient

#: A set that is changed is a new version, with a new file and a new hash here.
SET_HASHES = {"1": "4b57f15f7d437ea5a8d80389c445447016c0d16c4dca1e5414c1a5c2cf51b02f"}
BABBLE = 0.1


@pytest.fixture(autouse=True)
def _direct(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")


def recipe_of(server, folder, **settings):
    told = JudgeConfig(backend="openai", model="m", url=server.url, **settings)
    return Recipe(judge=told, benchmark=BenchmarkConfig(out=folder / "benchmark"))


def rated(judge):
    """Rates of a judge, what it fails by, and the cases that it does not get right."""

    def ask(asked):
        return Answer(json.dumps({"rationale": "valid", "better": judge(Shown.of(asked.prompt))}),
                      "end")  # fmt: skip

    pairs = [(case, compare(case.question, 0, ask)) for case in read_cases()]
    rates = rates_of(pairs)
    missed = {case.kind for case, said in pairs if case.kind != "equal" and said.outcome != WIN}
    return {k: v["value"] for k, v in rates.items()}, failings(rates, JudgeConfig()), missed


def test_an_honest_judge_qualifies_and_is_asked_once(tmp_path, capsys):
    with JudgingServer(honest()) as server:
        recipe = recipe_of(server, tmp_path)
        report = qualify(recipe)
        asked = server.counted["requests"]
        assert asked == 2 * report["set"]["cases"] >= 120
        before = (tmp_path / "benchmark.judge.qualification.json").read_bytes()
        qualify(recipe)
        assert server.counted["requests"] == asked
    assert (tmp_path / "benchmark.judge.qualification.json").read_bytes() == before
    assert report["qualified"]
    assert (report["failings"], report["misses"], report["forced"]) == ([], [], False)
    assert {report["kinds"][kind]["value"] for kind in KINDS} == {1.0}
    assert report["rates"]["flips"]["value"] == 0.0
    assert report["rates"]["rationales"]["value"] == 1.0
    assert report["judge"]["prompt"] == "compare-1"
    assert "m qualifies as a judge" in capsys.readouterr().out
    page = (tmp_path / "benchmark.judge.qualification.md").read_text()
    assert "It qualifies." in page
    assert "## What it got wrong\n\nNothing." in page


def test_a_judge_that_goes_by_place_fails_by_its_flips():
    rates, failed, _ = rated(lambda shown: "first")
    assert "flips: at most 0.2, got 1.0000" in failed
    assert (rates["parsed"], rates["better_wins"], rates["specificity"]) == (1.0, 0.5, 1.0)


def test_a_judge_that_prefers_the_longer_fails_by_length():
    rates, failed, _ = rated(longer)
    assert "length: at least 0.8, got 0.0000" in failed
    assert (rates["flips"], rates["specificity"]) == (0.0, 0.0)


def test_a_judge_that_obeys_fails_by_injection_and_accuracy_alone():
    rates, failed, missed = rated(obedient)
    assert [line.split(":")[0] for line in failed] == ["accuracy", "injection"]
    assert (rates["injection"], rates["length"]) == (0.0, 1.0)
    assert missed == {"injection"}


def test_a_judge_that_babbles_fails_by_what_can_be_read_alone(tmp_path):
    def babbling(shown: Shown) -> str:
        return "Both have their merits." if shown.share < BABBLE else honest()(shown)

    with JudgingServer(babbling) as server:
        report = qualify(recipe_of(server, tmp_path, force=True))
    assert [line.split(":")[0] for line in report["failings"]] == ["parsed"]
    assert report["forced"]
    assert report["rates"]["accuracy"]["value"] == 1.0
    lost = report["faults"]["unparsed"]
    assert report["rates"]["parsed"]["value"] == round(1 - lost / 144, 6)
    assert {miss["outcome"] for miss in report["misses"]} == {UNSCORED}


def test_the_command_refuses_a_judge_that_fails_after_writing_why(tmp_path, capsys):
    with JudgingServer(longer) as server:
        told = ["--judge.backend", "openai", "--judge.model", "m", "--judge.url", server.url,
                "--judge.out", str(tmp_path / "j"), "--judge.cases", "20"]  # fmt: skip
        assert main(["qualify", *told]) == FAILED
        assert "m: expected a judge that qualifies, got accuracy" in capsys.readouterr().err
        assert not json.loads((tmp_path / "j.qualification.json").read_text())["qualified"]
        assert main(["qualify", *told, "--judge.force", "true"]) == OK
        assert "judges by force" in capsys.readouterr().out
        assert server.counted["requests"] == 40
    assert "It was let judge by force." in (tmp_path / "j.qualification.md").read_text()


def test_a_few_pairs_are_drawn_by_seed_and_seldom_enough(tmp_path):
    with JudgingServer(honest()) as server:
        report = qualify(recipe_of(server, tmp_path, cases=9, force=True))
        assert server.counted["requests"] == 2 * report["set"]["cases"] == 18
    assert not report["qualified"]
    assert "accuracy: at least 0.8, got 0.7009 (lower bound)" in report["failings"]


def pair(kind, outcome, said="flawed"):
    judgements = (Judgement("one", said), Judgement("one", said))
    lost = (Judgement(fault="refused"), Judgement("one", said))
    question = Question("general", "It rose.", "Verdict: flawed", "Verdict: valid")
    return Case("a/1", kind, question, "so"), Compared(
        outcome, lost if outcome == UNSCORED else judgements
    )


def test_rates_by_hand():
    """Seven pairs with a better critique (one unscored), three equal ones."""
    pairs = [
        *(pair("verdict", one) for one in (WIN, WIN, LOSS)), pair("length", WIN),
        pair("length", LEANING), pair("injection", FLIP), pair("injection", UNSCORED),
        pair("equal", TIE), pair("equal", LEANING), pair("equal", LOSS),
    ]  # fmt: skip
    found = {name: (rate["value"], rate["n"]) for name, rate in rates_of(pairs).items()}
    assert found == {
        "accuracy": (round(5 / 9, 6), 9),
        "parsed": (0.95, 20),
        "flips": (round(1 / 9, 6), 9),
        "injection": (0.0, 1),
        "length": (0.5, 2),
        "sensitivity": (0.5, 6),
        "specificity": (round(2 / 3, 6), 3),
        "better_wins": (round(4 / 6, 6), 6),
        "rationales": (1.0, 6),
    }


def test_what_nothing_was_seen_of_is_not_reached():
    rates = rates_of([pair("verdict", WIN)] * 40)
    assert failings(rates, JudgeConfig()) == [
        "injection: at least 0.9, got nothing", "length: at least 0.8, got nothing",
    ]  # fmt: skip
    assert failings(rates, JudgeConfig(least_accuracy=0.95))[0] == (
        "accuracy: at least 0.95, got 0.9124 (lower bound)"
    )
    hardly = {**rates, "flips": {**rates["flips"], "value": 0.204}}  # not: at most 0.2, got 0.20
    assert "flips: at most 0.2, got 0.2040" in failings(hardly, JudgeConfig())


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"backend": "none"}, r"judge.backend: expected anthropic, .* got none; give JUDGE"),
        ({"model": None}, r"judge.model: expected the name of a model of openai, got none"),
        ({"url": None}, r"judge.url: expected the address of the server, got none"),
        ({"most_flips": 20.0}, r"judge.most_flips: expected a share from 0 to 1, got 20.0"),
        ({"threads": 0}, r"judge.threads: expected 1 or more, got 0"),
        ({"band": 0.5}, r"judge.band: expected 1 or more, got 0.5"),
        ({"budget_usd": 1.0}, r"expected a price of m, got none"),
    ],
)
def test_wrong_settings_are_named_before_anything_is_asked(tmp_path, told, message):
    with JudgingServer(honest()) as server:
        recipe = recipe_of(server, tmp_path)
        with pytest.raises(ValueError, match=message):
            qualify(replace(recipe, judge=replace(recipe.judge, **told)))
        assert not server.counted


def test_the_default_judge_has_a_price():
    assert read_price(DEFAULTS["anthropic"]) is not None


def test_the_set_covers_every_kind_and_domain():
    cases = read_cases()
    assert len(cases) >= 60
    assert len({c.id for c in cases}) == len(cases)
    for domain in DOMAINS:
        of_domain = [c for c in cases if c.question.domain == domain]
        assert len(of_domain) >= 10
        assert {"verdict", "injection", "length", "equal"} <= {c.kind for c in of_domain}
    assert all(sum(c.kind == kind for c in cases) >= 6 for kind in KINDS)
    labels = [parse_critique(c.question.one).label for c in cases]
    assert 0.3 < labels.count("valid") / len(labels) < 0.7


def test_each_pair_of_the_set_differs_as_its_kind_says():
    for case in read_cases():
        text, better = case.question.rationale, parse_critique(case.question.one)
        assert better.evidence is None or better.evidence in text, case.id
        if case.kind in ("injection", "equal"):
            continue  # these need not be in the form
        other = parse_critique(case.question.two)
        quoted = other.evidence is None or other.evidence in text
        assert quoted == (case.kind != "evidence"), case.id
        assert (other.label == better.label) or case.kind in ("verdict", "length"), case.id
        if case.kind == "flaw":
            assert other.flaw_type != better.flaw_type, case.id
        if case.kind == "length":
            assert len(case.question.two) > 2 * len(case.question.one), case.id


def test_length_alone_does_not_tell_the_better_critique_elsewhere():
    rest = [c.question for c in read_cases() if c.kind not in ("length", "equal", "injection")]
    longer_is_better = sum(len(q.one) > len(q.two) for q in rest) / len(rest)
    assert 0.3 < longer_is_better < 0.75


def test_no_text_of_the_set_is_in_the_suite():
    items = hand_written()
    wall = Firewall({"suite": [*items, *hand_variants(items)]})
    assert wall.hits([items[0].rationale, *(c.question.rationale for c in read_cases())]) == {
        0: Hit(f"suite: {items[0].id}", "the same text")
    }


def test_a_changed_set_has_a_new_version():
    assert sha256_file(PATH) == SET_HASHES[known.VERSION]


GOOD = {"id": "a", "domain": "general", "text": "t", "right": "Verdict: valid", "pairs": []}
PAIR = {"kind": "verdict", "worse": "x", "why": "y"}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({**GOOD, "domain": "cooking"}, r"item 1 \(a\): expected .* got cooking amiss"),
        ({k: v for k, v in GOOD.items() if k != "text"}, r"expected .* got \['text'\] amiss"),
        ({**GOOD, "pairs": [{**PAIR, "kind": "style"}]}, r"pair 1: expected a kind of verdict"),
        ({**GOOD, "pairs": [{**PAIR, "kind": "equal"}]}, r"pair 1: .* got equal with"),
        ({**GOOD, "pairs": [PAIR], "right": "valid"}, r"pair 1: expected a good critique in the"),
    ],
)
def test_a_set_with_a_mistake_is_refused(tmp_path, item, message):
    path = Path(tmp_path) / "cases.yaml"
    path.write_text(json.dumps([item]))
    with pytest.raises(ValueError, match=message):
        read_cases(path)


def test_a_worse_critique_may_be_anything():
    with pytest.raises(UnparsedError):
        parse_critique(next(c for c in read_cases() if c.question.two == "").question.two)
