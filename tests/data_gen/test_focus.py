"""What the composer is told to make more of."""

import json
from collections import Counter

import pytest

from data_gen.compose import compose
from data_gen.focus import LEAST, mechanism_shares, shares_of
from data_gen.mechanisms import MECHANISMS


def report(split="validation", **accuracy):
    rows = {name: {"n": 18, "accuracy": {"value": value}} for name, value in accuracy.items()}
    slices = {"mechanism": rows} if rows else {}
    return {"settings": {"split": split}, "judges": {"model_1": {"slices": slices}}}


def test_shares_follow_the_errors(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report(product=0.5, calibration=1.0, anchoring=2 / 3)))
    # errors (9 + 1) / 20, (0 + 1) / 20 and (6 + 1) / 20, doubled, at least LEAST
    expected = {"product": 1.0, "calibration": LEAST, "anchoring": 0.7}
    assert mechanism_shares(path) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(report("test", product=0.5)), "what is tested on must not steer training"),
        (json.dumps(report("all", product=0.5)), "got split all"),
        (json.dumps(report()), "expected figures by mechanism, got none"),
        ("{}", "expected the JSON report of a benchmark"),
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
        {"product": 0.55, "anchoring": 1.0}  # (4.5 + 1) / 20 * 2
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
