"""The composer: twins, corners, coverage, and that words alone cannot tell the labels."""

import random
import re
import time
from collections import Counter
from itertools import pairwise, product

import pytest

from data_gen.case import Draw
from data_gen.check import faults
from data_gen.compose import Composed, compose
from data_gen.mechanisms import MECHANISMS, mechanisms_for
from data_gen.scene import Scene, scenes
from data_gen.shortcuts import BAR
from minicrit.bagofwords import probe
from minicrit.measures import family_of
from minicrit.records import SPLITS, Example
from minicrit.taxonomy import DOMAINS, KINDS


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return [c.example for c in compose(2400, 0, "train")]


def difference(one: str, two: str) -> tuple[str, str]:
    """What is left of two texts without the start and the end that they share."""
    start = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), 0)
    one, two = one[start:], two[start:]
    ends = zip(reversed(one), reversed(two), strict=False)
    end = next((i for i, (a, b) in enumerate(ends) if a != b), min(len(one), len(two)))
    return one[: len(one) - end], two[: len(two) - end]


def test_there_are_enough_families_and_no_family_is_in_two_splits() -> None:
    families = [scene.family for scene in scenes()]
    assert len(families) == len(set(families)) >= 60
    assert {scene.split for scene in scenes()} == set(SPLITS)
    for split, domain in product(SPLITS, DOMAINS):
        assert any(s.split == split and s.domain == domain for s in scenes())


def test_same_seed_same_examples() -> None:
    first, second, other = (list(compose(60, seed, "test")) for seed in (3, 3, 4))
    assert first == second != other


def test_twins_share_a_group_and_differ_in_one_half(examples: list[Example]) -> None:
    twins = list(zip(examples[::2], examples[1::2], strict=True))
    for one, two in twins:
        assert one.group == two.group
        assert {one.label, two.label} == {"valid", "flawed"}
        left, right = difference(one.rationale, two.rationale)
        assert left != right
        # one contiguous stretch: at least the opening is shared, and never most of a long text
        assert len(left) + len(right) < len(one.rationale) + len(two.rationale)
    assert all(a.group != b.group for (_, a), (b, _) in pairwise(twins))


def test_all_kinds_domains_and_enough_flaws_appear(examples: list[Example]) -> None:
    assert {e.domain for e in examples} == set(DOMAINS)
    assert {e.kind for e in examples} == set(KINDS) - {"plain"}
    assert len({e.flaw_type for e in examples} - {None}) >= 16
    mechanisms = Counter(e.source.rpartition("/")[2] for e in examples)
    assert set(mechanisms) == set(MECHANISMS)
    assert max(mechanisms.values()) <= 2 * min(mechanisms.values())


def test_words_do_not_give_the_label_away(examples: list[Example]) -> None:
    result = probe(
        [e.rationale for e in examples],
        [e.label == "flawed" for e in examples],
        [e.group for e in examples],
        [family_of(e) for e in examples],
    )
    assert result.num_left_out == 0
    assert result.auc <= BAR
    assert result.within_twins_auc <= BAR


def test_squares_hold_every_half_once_sound_and_once_flawed() -> None:
    found = [c.example for c in compose(40, 1, "train", squares=True)]
    for square in (found[i : i + 4] for i in range(0, len(found), 4)):
        assert len({e.group for e in square}) == 1
        for place in (-2, -1):
            halves = Counter((e.id[place], e.label) for e in square)
            assert set(halves.values()) == {1}


@pytest.mark.parametrize("scene", scenes(), ids=lambda scene: scene.family)
def test_every_mechanism_builds_in_all_corners_without_faults(scene: Scene) -> None:
    assert len(mechanisms_for(scene)) >= len(MECHANISMS) - 2
    for name, seed in product(mechanisms_for(scene), range(3)):
        for composed in corners(scene, name, seed):
            assert faults(composed) == []


def test_the_reason_of_a_contradiction_serves_the_text_that_it_bears_out() -> None:
    """One that is said of the claim that does not fit would say the opposite of its verdict."""
    of_the_misfit = re.compile(r"\b(?:otherwise|not allow|the other (?:kind|one|order|side|way))\b")
    for scene in scenes():
        for entailment in scene.slots.get("entailments", ()):
            assert not of_the_misfit.search(entailment["why"]), (scene.family, entailment["why"])


@pytest.mark.parametrize("scene", scenes(), ids=lambda scene: scene.family)
def test_the_type_of_a_flaw_is_what_the_claim_does_with_the_figures(scene: Scene) -> None:
    draw = Draw(scene, random.Random(0))
    against_both, by_counts = MECHANISMS["denominators"].build(draw).flaws
    # the fewer events in the more exposure: no count has been compared there
    assert (against_both.type, by_counts.type) == ("calculation_error", "denominator_neglect")
    assert "neither the rates nor the bare counts" in against_both.critique


def corners(scene: Scene, mechanism: str, seed: int) -> list[Composed]:
    """The four texts of one draw, without anything round the hinge."""
    hinge = MECHANISMS[mechanism].build(Draw(scene, random.Random(seed)))
    found = []
    for i, j in product(range(2), range(2)):
        text = f"{hinge.premises[i]} So {hinge.conclusions[j]}."
        sound, flaw = hinge.sound[i], hinge.flaws[i]
        shared = {
            "id": f"{i}{j}", "domain": scene.domain, "rationale": text, "group": "g",
            "source": f"composer/{scene.family}/{mechanism}", "split": scene.split,
        }  # fmt: skip
        if i == j:
            row = {"label": "valid", "critique": sound.critique, "strengths": sound.strengths}
        else:
            evidence = flaw.evidence
            row = {
                "label": "flawed", "flaw_type": flaw.type, "severity": "medium",
                "critique": flaw.critique, "fix": flaw.fix,
                "evidence": evidence if evidence in text else evidence[0].upper() + evidence[1:],
            }  # fmt: skip
        found.append(Composed(Example(**shared, **row), hinge.derived))  # type: ignore[arg-type]
    return found


def test_speed() -> None:
    start = time.process_time()  # others may be at work
    count = sum(not faults(composed) for composed in compose(1000, 5, "train"))
    seconds = time.process_time() - start
    print(f"{count} examples composed and checked in {seconds:.2f} s")  # noqa: T201 - a measurement
    assert count >= 1000
    assert seconds < 6


def test_composing_ends_where_there_are_no_more_texts(monkeypatch) -> None:
    monkeypatch.setattr("data_gen.compose.MISSES", 5)
    alone = {name: float(name == "appeal_to_authority") for name in MECHANISMS}
    with pytest.raises(ValueError, match=r"compose: expected 100000 texts, got \d{3,4}: the mech"):
        list(compose(100_000, 0, "validation", terse=1.0, shares=alone))


@pytest.mark.parametrize(
    ("mechanism", "least", "pattern"),
    [
        ("base_rate", 2, r"At one in [\d,]+,( only)? [\d.]+% of alarms are real\."),
        ("missing_alternative", 1, r"Drop .* as a rival, or show that there was such a change\."),
        ("selection_bias", 3, r".*\bwhat decided (which|whom?|when) .*"),
    ],
)
def test_what_stands_in_a_slot_for_a_reason_makes_whole_sentences(
    mechanism: str, least: int, pattern: str
) -> None:
    scene = next(scene for scene in scenes() if mechanism in mechanisms_for(scene))
    hinge = MECHANISMS[mechanism].build(Draw(scene, random.Random(0)))
    texts = [*hinge.conclusions, *(sound.critique for sound in hinge.sound)]
    texts += [text for flaw in hinge.flaws for text in (flaw.critique, flaw.fix)]
    assert sum(re.fullmatch(pattern, text) is not None for text in texts) >= least


@pytest.mark.parametrize("scene", scenes(), ids=lambda scene: scene.family)
def test_what_was_extreme_is_what_is_measured_and_who_was_got_the_measure(scene: Scene) -> None:
    for seed in range(4):
        draw = Draw(scene, random.Random(seed))
        premises = MECHANISMS["regression_to_mean"].build(draw).premises
        assert all(draw["extremes"]["measure"] in text for text in premises)
        assert all(draw.thing[1:] in text for text in premises)  # it may begin a sentence
    vague = {"the", "new", "and", "for", "with", "change", "switch", "move", "use", "two", "end"}
    names = re.findall(r"[a-z0-9]{3,}", " ".join(scene.slots["things"]).lower())
    stems = {word[: max(3, len(word) - 2)] for word in names if word not in vague}
    for item in scene.slots["extremes"]:
        for text in (item["worst"], item["drawn"]):
            words = re.findall(r"[a-z0-9]+", text.lower())
            assert any(word.startswith(tuple(stems)) for word in words), text


@pytest.mark.parametrize(
    ("mechanism", "pattern"),
    [
        ("small_sample", r"such a run comes up in (12\.5|6\.25|3\.12)% of cases\."),
        ("survivorship", r"so the \d\d% need not hold for "),  # nobody knows which way it errs
    ],
)
def test_a_critique_says_no_more_than_follows(mechanism: str, pattern: str) -> None:
    scene = next(scene for scene in scenes() if mechanism in mechanisms_for(scene))
    for seed in range(4):
        hinge = MECHANISMS[mechanism].build(Draw(scene, random.Random(seed)))
        assert re.search(pattern, hinge.flaws[1].critique)


def test_a_fix_does_not_speak_of_two_rules() -> None:
    for scene in scenes():
        for item in scene.slots.get("criteria", ()):
            assert "rule" not in f"{item['keep']} {item['drop']}", item


#: A question and a reason that would be called beside the point, though an expert would hear it:
#: care that helps, costs that are low, a film that is good.
HEARD = [
    ("trading/order_router", "London should get it", "licence costs half"),
    ("cybersecurity/endpoint_agent", "servers should get it", "first hundred tickets"),
    ("cybersecurity/bug_bounty", "worth its fee", "reports are encrypted"),
    ("cybersecurity/phishing_training", "worth its price", "as many false mails"),
    ("cybersecurity/vendor_risk", "form is understood", "confirmed what they had written"),
    ("defense/image_reading", "bridge is in use", "posts with sandbags"),
    ("medical/knee_prehab", "he can go home", "in line in both planes"),
    ("medical/sepsis_screen", "infection is getting better", "cleared a wide ring"),
    ("medical/sepsis_screen", "sensitive to the drug", "have come down for two days"),
    ("medical/triage_doctor", "he can be sent home", "his sister is outside"),
    ("trading/ipo_book", "price is fair", "funds that held each past issue"),
]


@pytest.mark.parametrize(("family", "question", "reason"), HEARD)
def test_no_reason_is_called_beside_the_point_that_an_expert_would_hear(
    family: str, question: str, reason: str
) -> None:
    scene = next(scene for scene in scenes() if scene.family == family)
    for item in scene.slots["relevance"]:
        crossed = ((item["q1"], item["r2"]), (item["q2"], item["r1"]))
        assert not any(question in q and reason in r for q, r in crossed), item


#: What would leave a third way open but strikes another of the three, or closes it but strikes
#: another as well: who logs in needs a log-in, who drives the minibus a licence.
STRUCK = [
    ("cybersecurity/phishing_training", "a stolen session", "open", "no log-in of any kind"),
    ("general/bicycle_workshop", "a bad rim strip", "open", "on the inner side"),  # no thorn there
    ("general/bee_hives", "a marten", "open", "as wide as a hand"),  # no mouse's
    ("general/running_club", "car sharing", "closed", "a licence"),
]


@pytest.mark.parametrize(("family", "third", "side", "fact"), STRUCK)
def test_what_is_said_of_the_third_way_leaves_the_other_two_as_they_are(
    family: str, third: str, side: str, fact: str
) -> None:
    scene = next(scene for scene in scenes() if scene.family == family)
    found = next(item for item in scene.slots["options"] if item["third"] == third)
    assert fact not in found[side]


def test_the_verb_of_a_list_goes_with_everybody_and_with_all() -> None:
    """Some lists are of `every patient ...` or `everyone ...`, others of `the venues ...`."""
    shares = {name: float(name == "survivorship") for name in MECHANISMS}
    texts = [c.example.rationale for c in compose(2000, 0, "test", shares=shares)]
    of_one = re.compile(r"\b(?:are|were) (?:each|every|everybody|everyone)\b")
    assert sum("My list takes in e" in text for text in texts) > 20
    assert [text for text in texts if of_one.search(text)] == []


@pytest.mark.parametrize("scene", scenes(), ids=lambda scene: scene.family)
def test_cause_and_effect_of_a_moment_lie_no_days_apart(scene: Scene) -> None:
    for seed in range(6):
        hinge = MECHANISMS["reverse_causation"].build(Draw(scene, random.Random(seed)))
        for text in (*hinge.premises, hinge.flaws[0].critique):
            assert re.search(r"\b(?:[3-9]|1\d) (?:full |good )?minutes\b", text), text


def test_no_background_tells_of_a_change_where_nothing_else_that_could_matter_changed() -> None:
    """Another form counts other falls; a wider alphabet, a new head of the team may do the rest."""
    told = re.compile(r"\b(?:are allowed since|last revised|took over the|printed larger)\b")
    for scene in scenes():
        assert [text for text in scene.slots["fillers"] if told.search(text)] == [], scene.family


def test_a_critique_gives_a_figure_with_the_unit_that_it_has_in_the_text() -> None:
    """Without it 48 billion would be called 48."""
    figure = re.compile(r"\d[\d,.]*(?<![,.])")
    scene = next(scene for scene in scenes() if scene.family == "trading/index_rebalance")
    for seed in range(4):
        draw = Draw(scene, random.Random(seed))
        hinge = MECHANISMS["anchoring"].build(draw)
        unit = draw["estimates"]["unit"]
        assert unit in (" billion", " million")
        for flaw in hinge.flaws:
            said = f"{flaw.critique} {flaw.fix}"
            assert said.count(unit) == len(figure.findall(said)) >= 4


def test_so_many_an_hour_and_so_many_a_day() -> None:
    periods = set()
    for scene, seed in product(scenes(), range(4)):
        draw = Draw(scene, random.Random(seed))
        hinge = MECHANISMS["product"].build(draw)
        period = draw["batches"]["period"]
        periods.add(period)
        each = " an hour" if period == "hour" else f" a {period}"
        for text in (*hinge.premises, *(flaw.critique for flaw in hinge.flaws)):
            assert text.count(each) == 1
    assert {"hour", "day"} <= periods


def test_the_first_source_of_an_estimate_is_one_that_gives() -> None:
    """`{first} gives`, `{first} has`: accounts, stubs and bins would give and have."""
    many = re.compile(r"\b(?:accounts|stubs|books|logs|lists|records|bills|papers|figures)$")
    for scene in scenes():
        for item in scene.slots.get("estimates", ()):
            head = item["first"].partition(" of ")[0]
            assert not many.search(head), (scene.family, head)
