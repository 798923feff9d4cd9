"""What the composer is told to make more of."""

import json
from collections import Counter

import pytest

from data_gen.compose import compose
from data_gen.focus import LEAST, cell_weights, mechanism_shares, shares_of
from data_gen.hard import make_hard
from data_gen.mechanisms import MECHANISMS
from minicrit.config import Recipe
from minicrit.data_config import HardConfig
from minicrit.records import read_examples
from tests.data_gen.scripted_server import ScriptedServer


def rows(**accuracy):
    return {name: {"n": 18, "accuracy": {"value": value}} for name, value in accuracy.items()}


def report(split="validation", **accuracy):
    slices = {"mechanism": rows(**accuracy)} if accuracy else {}
    counts = {"n": 18, "unscored": 0}  # a benchmark counts its items, a list of errors names them
    return {"items": counts, "settings": {"split": split},
            "judges": {"model_1": {"slices": slices}}}  # fmt: skip


def test_shares_follow_the_errors(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report(product=0.5, calibration=1.0, anchoring=2 / 3)))
    # errors (9 + 1) / 20, (0 + 1) / 20 and (6 + 1) / 20, doubled, at least LEAST
    expected = {"product": 1.0, "calibration": LEAST, "anchoring": 0.7}
    mean = (1 + LEAST + 0.7) / 3
    assert mechanism_shares(path) == pytest.approx(dict.fromkeys(MECHANISMS, mean) | expected)


def test_cells_follow_the_errors_of_domain_and_flaw_type(tmp_path):
    slices = {
        "domain": rows(medical=0.5, trading=1.0),
        "flaw_type": rows(anchoring=1.0, sunk_cost=0.5, other=0.0),
    }
    path = tmp_path / "report.json"
    whole = report() | {"judges": {"model_1": {"slices": slices}}}
    path.write_text(json.dumps(whole))
    assert cell_weights(path) == pytest.approx({
        ("medical", "anchoring"): LEAST, ("medical", "sunk_cost"): 1.0,
        ("trading", "anchoring"): LEAST**2, ("trading", "sunk_cost"): LEAST,
    })  # fmt: skip


def test_a_list_of_errors_serves_both(tmp_path):
    items = [
        {"domain": "medical", "flaw_type": "anchoring", "mechanism": "anchoring"},
        {"domain": "medical", "flaw_type": "anchoring", "mechanism": "product"},
        {"domain": "trading", "flaw_type": None, "mechanism": "product"},  # flagged, but sound
        {"domain": "medical", "flaw_type": "other"},
    ]
    path = tmp_path / "errors.json"
    path.write_text(json.dumps({"split": "calibration", "items": items}))
    assert cell_weights(path) == {("medical", "anchoring"): 2.0}
    shares = mechanism_shares(path)
    assert (shares["product"], shares["anchoring"], shares["calibration"]) == (1.0, 0.5, LEAST)
    assert set(shares) == set(MECHANISMS)
    path.write_text(json.dumps({"split": "validation", "items": items[3:]}))
    with pytest.raises(ValueError, match="expected figures by mechanism, or by domain and"):
        cell_weights(path)


def test_a_list_that_says_how_many_were_judged_gives_rates(tmp_path):
    items = [{"domain": "medical", "flaw_type": None, "twin_flaw_type": "sunk_cost",
              "mechanism": "product"}] * 2  # fmt: skip
    path = tmp_path / "errors.json"
    judged = {"product": 8, "calibration": 18, "anchoring": 2}
    path.write_text(json.dumps({"split": "validation", "items": items, "judged": judged}))
    # (2 + 1) / 10, (0 + 1) / 20 and (0 + 1) / 4, doubled, at least LEAST
    expected = {"product": 0.6, "calibration": LEAST, "anchoring": 0.5}
    mean = (0.6 + LEAST + 0.5) / 3  # what was not judged is no worse than that
    assert mechanism_shares(path) == pytest.approx(dict.fromkeys(MECHANISMS, mean) | expected)
    assert cell_weights(path) == {("medical", "sunk_cost"): 2.0}
    path.write_text(json.dumps({"split": "validation", "items": items, "judged": {"product": "x"}}))
    with pytest.raises(ValueError, match="expected the JSON report of a benchmark"):
        mechanism_shares(path)


def test_what_a_report_lacks_is_said(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report(product=0.5)))
    with pytest.raises(ValueError, match=r"report.json: expected errors with domain and flaw_type"):
        cell_weights(path)
    items = [{"domain": "medical", "flaw_type": "anchoring"}]
    path.write_text(json.dumps({"split": "validation", "items": items}))
    with pytest.raises(ValueError, match=r"report.json: expected figures by mechanism, got none"):
        mechanism_shares(path)


@pytest.mark.parametrize("backend", ["composer", "openai"])
def test_the_stage_hard_keeps_to_the_focus_whatever_makes_them(backend, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    items = [{"domain": "medical", "flaw_type": "anchoring", "mechanism": "product"}] * 3
    path = tmp_path / "errors.json"
    path.write_text(json.dumps({"split": "validation", "items": items}))
    with ScriptedServer() as server:
        hard = HardConfig(backend=backend, model="m", url=server.url, focus=path,
                          count=400 if backend == "composer" else 24,
                          out=tmp_path / "hard")  # fmt: skip
        make_hard(Recipe(hard=hard))
    rows = read_examples(tmp_path / "hard" / "train.jsonl").examples
    if backend == "composer":
        assert Counter(e.source.split("/")[3] for e in rows)["product"] >= 30
    else:
        assert {(e.domain, e.flaw_type) for e in rows} == {
            ("medical", "anchoring"), ("medical", None)}  # fmt: skip
    manifest = json.loads((tmp_path / "hard" / "manifest.json").read_text())
    assert "focus" in manifest["inputs"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(report("test", product=0.5)), "what is tested on must not steer training"),
        (json.dumps(report("all", product=0.5)), "got split all"),
        (json.dumps(report()), "expected figures by mechanism, or by domain"),
        (json.dumps({"items": [{"domain": "medical"}]}), "got split None"),
        (json.dumps({"split": "test", "items": []}), "got split test"),
        ('{"split": "validation", "items": [3]}', "expected the JSON report of a benchmark"),
        (json.dumps(report(product=None)), "expected the JSON report of a benchmark"),
        (
            json.dumps(report() | {"judges": {"model_1": {"slices": {"mechanism": [1]}}}}),
            "expected the JSON report of a benchmark",
        ),
        ('{"split": "validation", "items": [{"mechanism": []}]}', "expected the JSON report of a"),
        ("[]", "expected the JSON report of a benchmark"),
        ("{}", "expected the JSON report of a benchmark"),
        ("[" * 100_000, "expected the JSON report of a benchmark"),
        ("no json", "expected the JSON report of a benchmark"),
        (None, "run the benchmark with benchmark.split validation"),
    ],
)
def test_other_reports_are_refused(tmp_path, content, message):
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message):
        mechanism_shares(path)


def test_chosen_mechanisms_alone(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report(product=0.75, calibration=1.0)))
    assert shares_of(None, None) is None
    chosen = shares_of(["product", "anchoring"], path)
    assert {name: share for name, share in chosen.items() if share} == pytest.approx(
        {"product": 0.55, "anchoring": (0.55 + LEAST) / 2}  # (4.5 + 1) / 20 * 2; the mean
    )
    with pytest.raises(ValueError, match=r"got small_sampel; did you mean small_sample\?"):
        shares_of(["small_sampel"], None)
    with pytest.raises(ValueError, match="null means all"):
        shares_of([], None)


def test_the_composer_keeps_to_the_shares():
    shares = dict.fromkeys(MECHANISMS, 0.0) | {"product": 1.0, "calibration": 0.25}
    made = compose(2000, 0, "train", shares=shares)
    counts = Counter(c.example.source.split("/")[3] for c in made)
    assert set(counts) == {"product", "calibration"}
    assert 0.17 < counts["calibration"] / counts["product"] < 0.34
