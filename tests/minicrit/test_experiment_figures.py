"""Tables of the experiments from answers that are given, so that every number follows by hand."""

import math
from dataclasses import replace

import numpy as np

from minicrit import reading_figures, sampling_figures
from minicrit.arm_answers import Answers
from minicrit.arms import FORMATS, PLAIN, REFORMATTING, TEMPERATURE, THINKING, THOUGHT, Arm
from tests.minicrit.benchmark_case import FLAWED, VALID, small

EXAMPLES = small()  # four groups of a valid and a flawed twin, in this order
NO_ANSWER = {"unscored": "too long"}
MANY = {"seed": 0, "draws": 300}


def arm(name: str, experiment: str, *, own: bool = True) -> Arm:
    return Arm(name, experiment, f"about {name}", own, ask=lambda critic, examples: [])


def read(name: str, experiment: str, odds: list[float], *, own: bool = True, **more) -> Answers:
    rows = [
        NO_ANSWER if math.isnan(x) else
        {"log_odds": x, "p": 1 / (1 + math.exp(-x)), "read": 100 + n, "wrote": 0, **more}
        for n, x in enumerate(odds)
    ]  # fmt: skip
    return Answers(arm(name, experiment, own=own), EXAMPLES, rows, [0.1] * len(odds))


#: Right on 6 of 8: misses the third flawed item and flags the fourth valid one.
BASE = read(PLAIN, FORMATS, [-2, 2, -2, 2, -2, -1, 1, 2])
#: Right on 2 of 8, the second flawed and the third valid one; flags three valid ones.
WORSE = read("expert", FORMATS, [2, -2, 2, 2, -2, -1, 1, -2], own=False)
#: As BASE, but both items of the last group turned.
TURNED = read("bullets", REFORMATTING, [-2, 2, -2, 2, -2, -1, -1, -2])


def test_rows_by_hand():
    row = reading_figures.arm_row(BASE, 0.5, trained=True, **MANY)
    assert (row["trained"], row["threshold"], row["n"], row["unscored"]) == (True, 0.5, 8, 0)
    assert row["metrics"]["accuracy"]["value"] == 6 / 8
    assert row["metrics"]["fpr"]["value"] == 1 / 4
    assert row["metrics"]["recall"]["value"] == 3 / 4
    assert row["metrics"]["f1"]["value"] == 6 / 8  # 3 hits, 1 false alarm, 1 miss
    # pairs of flawed over valid: (2, 2, -1, 2) against (-2, -2, -2, 1): 4 + 4 + 3 + 4 of 16
    assert row["metrics"]["auroc"]["value"] == 15 / 16
    assert (row["tokens_read"], row["tokens_written"]) == (103.5, 0)


def test_no_style_but_the_trained_one_counts_as_trained_and_none_does_zero_shot():
    rows = [reading_figures.arm_row(f, 0.5, trained=True, **MANY) for f in (BASE, WORSE, TURNED)]
    assert [row["trained"] for row in rows] == [True, False, False]
    assert not reading_figures.arm_row(BASE, 0.5, trained=False, **MANY)["trained"]


def test_the_critics_own_threshold_is_for_the_trained_prompt_and_its_layouts():
    """At 0.8 log-odds of 1 (p = 0.731) no longer flag: the false alarm is gone."""
    rows = [reading_figures.arm_row(f, 0.8, trained=True, **MANY) for f in (BASE, WORSE, TURNED)]
    assert [row["threshold"] for row in rows] == [0.8, 0.5, 0.8]
    assert rows[0]["metrics"]["fpr"]["value"] == 0


def test_pairs_by_hand():
    """BASE alone is right on 1, 2, 3 and 8: p = 2 / 2^4. F1 of WORSE: 1 hit, 3 and 3 wrong."""
    rows = reading_figures.comparisons([BASE, WORSE, TURNED], 0.5, **MANY)
    found = {(row["a"], row["b"]): row for row in rows}
    first = found["expert", PLAIN]
    assert (first["only_a_right"], first["only_b_right"]) == (0, 4)
    assert first["mcnemar_p"] == 2 / 2**4
    assert first["differences"]["f1"]["value"] == 1 / 4 - 6 / 8
    assert first["differences"]["fpr"]["value"] == 3 / 4 - 1 / 4
    second = found["bullets", PLAIN]
    assert (second["only_a_right"], second["only_b_right"], second["mcnemar_p"]) == (1, 1, 1.0)
    assert set(found) == {("expert", PLAIN), ("bullets", PLAIN)}


def test_holm_takes_all_tests_of_an_experiment_together():
    """Smallest of 5 times 5, the next times 4, never less than the one before."""
    row = {"mcnemar_p": 0.02, "differences": {k: {"p": p} for k, p in
           (("f1", 0.01), ("fpr", 0.02), ("auroc", None), ("brier", 0.5))}}  # fmt: skip
    reading_figures.adjust([row])
    assert row["differences"]["f1"]["holm_p"] == 0.04
    assert row["mcnemar_holm_p"] == row["differences"]["fpr"]["holm_p"] == 0.06
    assert row["differences"]["auroc"]["holm_p"] is None
    assert row["differences"]["brier"]["holm_p"] == 0.5


def test_reasoning_is_held_against_the_same_prompt_too():
    thought = read(THINKING, THOUGHT, [-2, 2] * 4, own=False, text=" ", ended="end")
    cot = read("cot", FORMATS, [-1, 1] * 4, own=False)
    rows = reading_figures.comparisons([BASE, cot, thought], 0.5, **MANY)
    assert [(row["a"], row["b"]) for row in rows] == [("cot", PLAIN), (THINKING, PLAIN),
                                                      (THINKING, "cot")]  # fmt: skip
    assert (rows[1]["only_a_right"], rows[1]["only_b_right"]) == (2, 0)
    row = reading_figures.arm_row(thought, 0.5, trained=True, **MANY)
    assert (row["ended"], row["empty"]) == ({"end": 8}, 8)


def test_an_item_that_one_did_not_read_is_left_out_of_the_pair():
    holes = read("expert", FORMATS, [math.nan, -2, 2, 2, -2, -1, 1, -2], own=False)
    row = reading_figures.comparisons([BASE, holes], 0.5, **MANY)[0]
    assert (row["n"], row["only_b_right"]) == (7, 3)
    assert reading_figures.arm_row(holes, 0.5, trained=True, **MANY)["unscored"] == 1


def test_spread_by_hand():
    """6 and 6 of 8 right; in the last group both verdicts flip; log-odds 1, -1 and 2, -2 there."""
    found = reading_figures.spread([BASE, WORSE, TURNED], 0.5, **MANY)
    assert (found["formats"], found["n"]) == (2, 8)
    assert found["accuracy"]["value"] == 0
    assert (found["lowest"], found["highest"]) == (0.75, 0.75)
    assert found["flips"] == {"bullets": 2 / 8}
    assert found["any_flip"]["value"] == 2 / 8
    assert found["log_odds_sd"]["value"] == (1 + 2) / 8
    third = read("numbered", REFORMATTING, [-2, 2, -2, 2, 2, -1, 1, 2])  # 5 of 8
    found = reading_figures.spread([BASE, TURNED, third], 0.5, **MANY)
    assert found["accuracy"]["value"] == 1 / 8
    assert found["any_flip"]["value"] == 3 / 8
    assert reading_figures.spread([BASE, WORSE], 0.5, **MANY) is None


def wrote(name: str, texts: list[list[str]]) -> sampling_figures.Written:
    rows = [{"read": 100, "texts": some, "wrote": [10] * len(some), "finished": [True] * len(some)}
            for some in texts]  # fmt: skip
    found = Answers(arm(name, TEMPERATURE), EXAMPLES[: len(rows)], rows, [0.1] * len(rows))
    return sampling_figures.written_of(found)


NONSENSE = "Verdict: flawed, I think"
#: Of two groups: right, right, wrong, unparsed.
GREEDY = wrote("greedy", [[VALID], [FLAWED], [FLAWED], [NONSENSE]])
#: Two samples each: right twice, once, once, never.
WARM = wrote("warm", [[VALID] * 2, [FLAWED, VALID], [NONSENSE, VALID], [VALID, NONSENSE]])


def test_sampled_critiques_by_hand():
    row = sampling_figures.arm_row(WARM, trained=True, **MANY)
    assert row["verdict_right"]["value"] == (2 + 1 + 1 + 0) / 8
    assert row["parsed"]["value"] == 6 / 8
    assert (row["flaw_type_right"]["value"], row["flaw_type_right"]["n"]) == (1 / 4, 2)
    assert row["verdicts_differ"]["value"] == 3 / 4
    overlap = sampling_figures.arm_row(GREEDY, trained=True, **MANY)["evidence_overlap"]
    assert (overlap["value"], overlap["n"]) == (0.5, 2)  # quoted right once, not at all once
    assert row["finished"] == 1
    assert row["texts_apart"]["value"] > 0


def test_greedy_has_no_spread_and_its_own_intervals():
    row = sampling_figures.arm_row(GREEDY, trained=True, **MANY)
    assert "verdicts_differ" not in row
    assert row["verdict_right"]["value"] == 0.5
    assert row["verdict_right"]["low"] <= 0.150036  # Wilson's for 2 of 4, at least as wide
    assert row["parsed"]["value"] == 3 / 4


def test_sampled_pairs_by_hand():
    """First samples: right, right, no, no, as greedy: nothing discordant; means 4/8 against 2/4."""
    row = sampling_figures.comparisons([GREEDY, WARM], **MANY)[0]
    assert (row["a"], row["b"], row["n"]) == ("warm", "greedy", 4)
    assert (row["only_a_right"], row["only_b_right"], row["mcnemar_p"]) == (0, 0, 1.0)
    assert row["differences"]["verdict_right"]["value"] == 0
    assert row["differences"]["parsed"]["value"] == 0
    assert row["differences"]["flaw_type_right"]["value"] == 1 / 4 - 1 / 2
    assert all(gap["holm_p"] >= gap["p"] for gap in row["differences"].values())


def test_sampled_critiques_and_layouts_are_resampled_by_family_too():
    """Four groups of two families, a right and a wrong one: by family nothing is known."""
    known = [replace(e, source=f"composer/{e.domain}/f{n // 4}/m") for n, e in enumerate(EXAMPLES)]
    said = [[VALID], [FLAWED], [VALID], [FLAWED], [FLAWED], [VALID], [FLAWED], [VALID]]
    right, wrong = (replace(wrote(name, texts), examples=known) for name, texts in
                    (("greedy", said), ("warm", said[2:] + said[:2])))  # fmt: skip
    row = sampling_figures.arm_row(right, trained=True, **MANY)["verdict_right"]
    assert set(row["intervals"]) == {"wilson", "by group", "by family"}
    assert (row["value"], row["low"], row["high"]) == (0.5, 0.0, 1.0)
    gap = sampling_figures.comparisons([wrong, right], **MANY)[0]["differences"]["verdict_right"]
    assert gap["p"] >= 0.5  # two families agree by chance
    answers = (read(PLAIN, FORMATS, [-2, 2, -2, 2, -2, 2, -2, 2]),
               read("bullets", REFORMATTING, [-2, 2, -2, 2, 2, -2, 2, -2]))  # fmt: skip
    two = [replace(one, examples=known) for one in answers]
    flips = reading_figures.spread(two, 0.5, **MANY)["any_flip"]
    assert (flips["value"], flips["intervals"]["by family"]) == (0.5, [0.0, 1.0])


def test_what_few_flawed_groups_say_is_not_surer_for_the_valid_ones_beside_them():
    """Types of four flawed groups, among thirty valid ones: all right against all wrong.

    Four coins agree with chance 1/8, so the bounds of the difference, 1, reach down to 0.
    """
    known = [replace(EXAMPLES[n < 4], id=f"i{n}", group=f"g{n}", source="own") for n in range(34)]
    assert [e.label for e in known].count("flawed") == 4
    said = {name: [[text]] * 4 + [[VALID]] * 30 for name, text in
            (("greedy", FLAWED), ("warm", VALID))}  # fmt: skip
    arms = [Answers(arm(name, TEMPERATURE), known, [
        {"read": 1, "texts": some, "wrote": [1], "finished": [True]} for some in texts
    ], [0.1] * 34) for name, texts in said.items()]  # fmt: skip
    both = [sampling_figures.written_of(one) for one in arms]
    gap = sampling_figures.comparisons(both, **MANY)[0]["differences"]["flaw_type_right"]
    assert (gap["value"], gap["low"], gap["high"], gap["p"]) == (-1, -1, 0, 1 / 8)


def test_distinct_words_are_counted_in_equal_amounts_of_text():
    row = sampling_figures.arm_row(wrote("same", [["a b", "a b"], ["a b", "c d"]]), trained=False,
                                   **MANY)  # fmt: skip
    assert row["distinct_1"] == {"value": np.mean([2 / 4, 4 / 4]), "n": 2}
