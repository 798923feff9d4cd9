"""A critic whose calibration counts false sums: what it says of them, alone and in company."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from minicrit.calibrated import Calibration, Scale
from minicrit.critic import Critic
from minicrit.recount import FALSE_SUM
from minicrit.sampling import Manner, sample_pass
from minicrit.verdict import explained

FALSE = ("planning", "The gang lays 40 rails a day, and we have 6 days. So the total is 320 rails.")
TRUE = ("planning", FALSE[1].replace("320", "240"))
COUNTED = Calibration(0.55, Scale(2.0, 0.3), {}, None, {"sha256": "counted"}, believed=0.9)


@pytest.fixture
def plain(tiny) -> Critic:
    return Critic.load("tiny", base_folder=tiny.folder.parent)


@pytest.fixture
def counting(tiny) -> Critic:
    critic = Critic.load("tiny", base_folder=tiny.folder.parent)
    critic.calibrate(COUNTED)
    return critic


def test_p_is_that_either_the_critic_or_the_program_is_right(plain, counting):
    odds = plain.log_odds([FALSE, TRUE])
    read = 1 / (1 + np.exp(-(odds / 2 + 0.3)))
    expected = [1 - 0.1 * (1 - read[0]), read[1]]
    assert counting.p_flawed([FALSE, TRUE]) == pytest.approx(expected, abs=1e-6)
    p, types = counting.p_and_types([FALSE, TRUE])
    assert p == pytest.approx(expected, abs=1e-6)
    assert types == ["calculation_error", plain.p_and_types([TRUE])[1][0]]
    assert plain.p_flawed([FALSE]) == pytest.approx(1 / (1 + math.exp(-odds[0])), abs=1e-6)


@pytest.mark.parametrize("items", [[FALSE], [TRUE, FALSE], [FALSE, TRUE, FALSE]])
def test_the_critique_of_a_false_sum_is_a_programs(counting, items):
    found = counting.critique(items, max_new_tokens=6, batch=2)
    assert [w.verdict.domain for w in found] == ["planning"] * len(items)
    for item, written in zip(items, found, strict=True):
        told = item is FALSE
        assert (FALSE_SUM in written.verdict.flags) is told
        assert (written.parsed is not None and written.parsed.evidence is not None) is told
        if told:
            verdict = written.verdict
            assert (verdict.label, verdict.flaw_type) == ("flawed", "calculation_error")
            start, end = verdict.evidence_offsets
            assert FALSE[1][start:end] == "the total is 320 rails"
            assert verdict.critique == "40 a day for 6 days makes 240, not 320."
            assert verdict.fix == "Use 240, and redo whatever was built on 320."
            assert written.tokens == 0


def test_its_evidence_stands_where_the_sum_is_false(counting):
    """Not where the same words stand first, within a longer sum that holds."""
    text = "They had 12 + 2 = 14 rows. Then 2 + 2 = 14, so we order 14."
    (written,) = counting.critique([("planning", text)], max_new_tokens=6)
    assert written.verdict.evidence == "2 + 2 = 14"
    assert written.verdict.evidence_offsets == (32, 42)
    parsed = replace(written.parsed, evidence="12 + 2 = 14")  # a quotation of something else
    assert explained(parsed, text)["evidence_offsets"] == (9, 20)


def test_a_merged_copy_tells_the_same(counting):
    copy = counting.merged(torch.bfloat16)
    ((text, tokens),) = copy.write([FALSE], ["flawed"], 6)
    assert text == counting.critique([FALSE])[0].text
    assert tokens == 0
    assert copy.p_flawed([FALSE]) == pytest.approx(0.5, abs=0.2)  # it is not calibrated
    assert copy.write([FALSE], ["valid"], 6)[0][1] > 0


def test_what_is_not_flagged_the_critic_writes_itself(tiny):
    critic = Critic.load("tiny", base_folder=tiny.folder.parent)
    critic.calibrate(replace(COUNTED, threshold=0.999))
    (written,) = critic.critique([FALSE], max_new_tokens=6)
    assert (written.verdict.label, written.tokens > 0) == ("valid", True)


def test_a_critic_that_writes_freely_and_samples_of_it_are_its_own(counting):
    counting.grounded = False
    (written,) = counting.critique([FALSE], max_new_tokens=6)
    assert (written.verdict.label, written.tokens > 0) == ("flawed", True)
    counting.grounded = True
    drawn = sample_pass(counting, [FALSE], Manner(dtype="float32", copies=2, max_new_tokens=6))
    assert "makes 240, not 320" not in str(drawn)
