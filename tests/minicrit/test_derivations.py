"""What critiques work out: Bayes, balances and rates by hand, and where nothing is asked."""

from dataclasses import replace

import pytest

from data_gen.compose import compose
from data_gen.oracle import VERDICT, prose_of, score, stray
from minicrit import derivations
from minicrit.derivations import Derivations, untrue, wrong_turn
from minicrit.prompts import critique_of, render_critique
from minicrit.records import Example

ALARMS = "One out of 500 cups is cracked. We get a ring for 98% of those and for 3% of the others."
JOBS = ("Yesterday 40 of us met. The old cluster had 18 failed jobs in 1,000 jobs, the new cluster "
        "36 in 14,000. Rest.")  # fmt: skip
COSTS = "So far 600k has gone into it. It needs 130k more and will then return 90k."
#: What comes of it is 100 * 98 / (98 + 3 * 499) = 6.144.
CASE = "With one true case in 500, 98% of them caught and 3% of the rest flagged too, "


@pytest.mark.parametrize(("rationale", "before", "called"), [
    (ALARMS, CASE, {6, 6.1, 6.14}),
    (ALARMS, CASE + "only ", {6, 6.1, 6.14}),
    (ALARMS, "At one in 500, only ", {6, 6.1, 6.14}),
    (ALARMS, "With one true case in ", {500}),
    (ALARMS, "At one in ", {500}),
    (ALARMS, "With one true case in 500, ", {98}),
    (ALARMS, "With one true case in 500, 98% of them caught and ", {3}),
    # from what the critique says itself, whatever the text has
    ("Nothing.", "With one true case in 3, 92% of them caught and 4% of the rest flagged too, ",
     {92}),
    ("One in 2 is ill, and 5% of the well ring the bell. The ill ring it in 95% of cases.",
     "At one in 2, ", {95}),
    (JOBS, "Per 1,000 jobs the old cluster had ", {18}),
    (JOBS, "Per 1,000 jobs the new cluster had ", {2.6, 2.57}),
    (JOBS, "Per 1,000 jobs the old cluster had 18 failed jobs and the new cluster ",
     {2.6, 2.57}),
    (JOBS, "Per 1,000 jobs the new cluster had 2.57 failed jobs and the other had ", {18}),
    (JOBS, "Per 1,000 it is ", {18, 2.6, 2.57}),
    (JOBS, "Per 1,000 it is 18 against ", {2.6, 2.57}),
    (JOBS, "Per 100 it is 0.26 against ", {1.8}),
    (JOBS, "Per 1,000 jobs the team had ", {18, 2.6, 2.57}),  # nobody knows which
    ("In 9,000 calls the east net had 18 lost; in 2,000 calls the west net had 2.",
     "Per 1,000 calls the west net had ", {1}),
    ("The hall saw 3 falls in 100 days. The yard saw 8 in 4,000.", "Per 1,000 it is 2 against ",
     {30}),
    (COSTS, "From here on 130k buys only 90k, a loss of ", {40}),
    (COSTS, "What is spent, ", {600, 130, 90}),
    ("1. It took 1.125k of 2.5k.", "What is spent, ", {1.1, 1.12, 1.125, 2.5}),
    ("It cost $5.", "From here on $1,500 buys $2,000, a gain of $", {500}),
    ("There were 9 falls among 150 in ward B, 12 among 400 in ward A.",
     "Per 100 patients ward B had ", {6}),
    ("One in 100,000 has it. It rings for 95% of those and 6% of the others.",
     "At one in 100,000, only ", {0.016}),
    ("It failed 3 times in 1,400,000 hours, the other 2 times in 900,000 hours.",
     "Per 1,000 hours it is ", {0.0021, 0.0022}),
    ("One in " + "9" * 400 + " is.", "At one in ", set()),  # more than there are numbers
])  # fmt: skip
def test_what_a_figure_has_to_be(rationale, before, called):
    assert Derivations(rationale).called_for(before) == called


@pytest.mark.parametrize(("rationale", "before"), [
    (ALARMS, "It is "),
    (ALARMS, "In 2024 at one in 500, only "),  # no beginning of a sentence as they are taught
    (ALARMS + " Of 40 saucers, one in 9 is chipped.", "At one in 500, only "),
    ("One in 500 cups is cracked. 98% ring, 3% do not, 40% are blue.", "At one in 500, only "),
    ("No rates at all.", "At one in "),
    ("No rates at all.", "Per 1,000 it is "),
    ("1 of 20 here, 3 of 40 there. And 5 of 60 up, 7 of 80 down.", "Per 1,000 it is "),
    ("9 lost in 2,000 here, and in 1,000 there 4.", "Per 1,000 it is "),  # which is of which?
    (COSTS, "From here on 130k buys only 90m, a loss of "),  # units differ
    ("One in 1,000 has it. It has 90% sensitivity and 95% specificity.", "At one in 1,000, "),
    ("It had 120 faults in 14 days, then 60 faults in 5 days.", "Per 10 days it is "),
    ("Two years are in it.", "What is spent, "),
])  # fmt: skip
def test_where_it_is_not_clear_nothing_is_asked(rationale, before):
    assert Derivations(rationale).called_for(before) is None


@pytest.mark.parametrize(("rationale", "critique"), [
    ("One in 1,000 has it. The test has 90% sensitivity and 95% specificity.",
     "At one in 1,000, only 1.8% of positives are real."),
    ("One in 1,000 has it. The test catches 97% and clears 95% of the others.",
     "At one in 1,000, only 1.9% of positives are real."),
    ("One in 50 payments (2%) is a fraud. It catches 90% of those. It flags 5% of the others.",
     "At one in 50, only 26.9% of flags are real."),
    ("In 2023 we had 40 incidents, in 2024 we had 18. We had 1,000 servers, then 300.",
     "Per 100 servers it is 4 against 6."),
    ("Ward A had 12 falls among 400 patients. Ward B had 9 falls among 150 patients.",
     "Per 100 patients the second ward had 6 falls and the first 3."),
    ("There were 9 falls among 150 patients in ward B and 12 among 400 in ward A.",
     "Per 100 patients ward B had 6 falls and ward A 3."),
    ("The east phone net lost 18 calls of 9,000, the west net 2 of 2,000.",
     "Per 1,000 calls the second one had 1."),
    ("The old line had 120 faults in 14 days, the new line 60 faults in 5 days.",
     "Per 10 days it is 86 against 120. Per 10 days the old line had 85.7 faults."),
    ("We spent $300k on licences and $100k on training.", "What is spent, $400k, is gone."),
    ("So far $600,000. Another $130,000 brings $90,000.",
     "What is spent, $600k, is gone. From here on $130k buys only $90k, a loss of $40k."),
    ("Two million dollars are in it.", "What is spent, $2 million, is gone either way."),
    (ALARMS, "At one in 500, only 6 of 100 alarms are real."),
    (ALARMS, "At one in 500, 1,000 cups hold two cracked ones."),
    (COSTS, "From here on 130k buys only 90k, a loss of 31%."),
    (JOBS, "Per 1,000 jobs the old cluster had 18 and the new one, with 14,000 jobs, 2.57."),
    (JOBS, "Per 1,000 jobs the old cluster had 18 failed and the new cluster in 14,000 jobs 2.57."),
])  # fmt: skip
def test_right_critiques_of_texts_as_people_write_them_are_not_untrue(rationale, critique):
    assert untrue(rationale, critique) == []


def test_what_is_not_worked_out_rightly_is_found_with_its_sentence():
    right = f"It rings. {CASE}6% of the alarms are real. At one in 500, only 6.1% of alarms are."
    assert untrue(ALARMS, right) == []
    wrong = right.replace(" 6% ", " 99% ").replace("6.1%", "98%")
    assert untrue(ALARMS, wrong) == [f"{CASE}99%", "At one in 500, only 98%"]
    assert untrue(ALARMS, right.replace("6%", "6")) == [f"{CASE}6"]  # a share is in percent
    other = f"{CASE.replace('500', '3')}94% of the alarms are real."  # right, of other cases
    assert untrue(ALARMS, other) == ["With one true case in 3"]
    assert untrue("", "In all 2 times 4 is 9.") == ["2 times 4 is 9"]


def test_a_gain_that_is_a_loss_is_untrue_and_not_written():
    said = "From here on 130k buys only 90k, a {} of 40k."
    assert untrue(COSTS, said.format("loss")) == []
    assert untrue(COSTS, said.format("gain")) == ["From here on 130k buys only 90k, a gain"]
    assert wrong_turn(said.partition("{")[0] + "gain")
    assert not wrong_turn(said.partition("{")[0] + "loss")
    assert not wrong_turn("a gain")


def test_what_is_worked_out_rightly_has_a_source_and_what_is_not_costs_all_but_the_verdict():
    item = Example(
        id="a", domain="general", group="g", source="s", split="train", label="flawed",
        rationale=ALARMS, flaw_type="base_rate_neglect", severity="high", evidence="One out of 500",
        critique="It is rare.", fix="Count the cups.",
    )  # fmt: skip
    assert stray(item, f"{CASE}6.14% of the alarms are real.") == set()
    assert stray(item, "In all 6.14% of the alarms are real.") == {6.14}
    said = critique_of(item)
    texts = [render_critique(replace(said, critique=f"{CASE}{n}% are real.")) for n in (6, 98)]
    right, wrong = (score(item, text).total for text in texts)
    assert right is not None
    assert wrong == VERDICT < right


def test_what_is_taught_is_worked_out_rightly_and_all_of_it_is_known():
    """Of every reference: no figure is untrue, and what is not stated is a sum or a derivation."""
    known = 0
    for one in (c.example for c in compose(1200, 7, "train")):
        about, prose = Derivations(one.rationale), prose_of(one)
        assert untrue(one.rationale, prose) == [], one.id
        known += len(about.right(prose))
    assert known > 200


def test_figures_in_plenty_are_read_fast_where_nothing_leads_up_to_one(monkeypatch):
    """Each pattern takes milliseconds a figure; a body may hold hundreds of figures."""
    leads = [(Unsearched(), percent, values) for _, percent, values in derivations._LEADS]
    monkeypatch.setattr(derivations, "_LEADS", leads)
    assert untrue("Nothing.", "Of 40 jobs 3 failed. " * 100) == []


class Unsearched:
    """A pattern that nothing may be searched with."""

    def search(self, text):
        raise AssertionError(text)
