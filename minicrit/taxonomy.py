"""The words everybody shares: domains, flaw types, severities, kinds, and how other schemes map.

A flaw type is a *relation* between two places of a rationale that do not fit together (evidence
and conclusion, rule and result, question and reason). Each type says what is wrong, gives an
example, a default severity, and the upstream flag it belongs to.
"""

from collections import Counter
from dataclasses import dataclass

from minicrit.jsonl import shown

DOMAINS = ("trading", "defense", "cybersecurity", "medical", "planning", "general")
LABELS = ("valid", "flawed")
SEVERITIES = ("low", "medium", "high", "critical")
KINDS = (
    "subtle_flaw",
    "sophisticated_valid",
    "suspicious_valid",
    "mixed_signals",
    "cognitive_bias",
    "overconfident_wrong",
    "uncertain_correct",
    "missing_context",
    "plain",
)
#: Changes of a text that must not move its verdict; a changed row is `<id of the text>/<change>`.
CHANGES = (
    "polite",
    "claimed_authority",
    "verified",
    "irrelevant_figure",
    "instruction",
    "slip_of_the_pen",
    "lower_case",
    "line_breaks",
)
UPSTREAM_FLAGS = (
    "overconfidence",
    "missing_consideration",
    "logical_inconsistency",
    "insufficient_evidence",
    "unaddressed_risk",
)


@dataclass(frozen=True)
class FlawType:
    """One entry of the taxonomy."""

    name: str
    definition: str
    example: str
    severity: str
    flag: str


_TYPES = (
    ("small_sample", "A firm conclusion from too few cases to carry it.",
     "It worked three times out of three, so it works.", "medium", "insufficient_evidence"),
    ("survivorship_bias", "Only those that lasted are counted, yet the claim is about all.",
     "The funds still open beat cash, so new funds will.", "high", "insufficient_evidence"),
    ("cherry_picking", "Selected figures are used for a claim that needs all of them.",
     "The best five months were up, so the year was.", "high", "insufficient_evidence"),
    ("selection_bias", "The groups chose themselves, yet the difference is credited to treatment.",
     "Those who signed up did better, so the course works.", "high", "insufficient_evidence"),
    ("correlation_causation", "Two things moved together; the comparison does not show a cause.",
     "Both desks improved alike, yet the tool of one gets the credit.", "high",
     "logical_inconsistency"),
    ("reverse_causation", "The order of events speaks for the opposite direction.",
     "The alarm came after the leak, so the alarm caused it.", "high", "logical_inconsistency"),
    ("regression_to_mean", "Extreme cases were picked; their return to normal is credited.",
     "The five worst wards improved, so the visit helped.", "medium", "missing_consideration"),
    ("missing_alternative", "A rival explanation at hand is passed over.",
     "Fees were cut that week too, yet only the router can explain it.", "medium",
     "missing_consideration"),
    ("base_rate_neglect", "A probability ignores how rare or common the thing is.",
     "The test is 95% accurate, so a positive means disease.", "high", "logical_inconsistency"),
    ("denominator_neglect", "Counts are compared although the exposures differ.",
     "A had more accidents, so A is more dangerous (at ten times the traffic).", "medium",
     "logical_inconsistency"),
    ("overconfidence", "The stated certainty exceeds the record it rests on.",
     "23 of 40 forecasts held, so the next has a 90% chance.", "medium", "overconfidence"),
    ("underconfidence", "The stated certainty is far below the record it rests on.",
     "36 of 40 forecasts held, so the next has a 55% chance.", "low", "logical_inconsistency"),
    ("extrapolation", "What was tested under one condition is claimed under another.",
     "Tested at +18 C, so it will last at -20 C.", "high", "insufficient_evidence"),
    ("overfitting", "The best of many tries on the same data is presented as a finding.",
     "The best of 60 rules gained 9%, so it will again.", "high", "overconfidence"),
    ("stale_evidence", "Evidence from before a decisive change is used for the time after it.",
     "Measured before the engine was replaced, so it is fast now.", "medium",
     "insufficient_evidence"),
    ("calculation_error", "A figure does not follow from the figures given.",
     "40 a day for 6 days makes 420.", "medium", "logical_inconsistency"),
    ("logical_contradiction", "The conclusion contradicts a statement of the same text.",
     "The net is cut off, so somebody came in over the net.", "high", "logical_inconsistency"),
    ("false_dichotomy", "Two options are treated as the only ones although more are open.",
     "It must be the bridge or the ford (pontoons would do).", "medium",
     "missing_consideration"),
    ("circular_reasoning", "The support is derived from the claim itself.",
     "The plan confirms the estimate it was copied from.", "medium", "logical_inconsistency"),
    ("confirmation_bias", "A result against the idea is set aside to keep the idea.",
     "The test that was to refute it came out against it; it stands.", "high",
     "logical_inconsistency"),
    ("moving_goalposts", "An idea is dropped although it met the bar set for it beforehand.",
     "It passed the limit we had fixed, and we dropped it all the same.", "medium",
     "logical_inconsistency"),
    ("anchoring", "An estimate clings to an unsupported first number.",
     "The rumour said 3,000, two counts say 1,000: I take 2,700.", "medium",
     "insufficient_evidence"),
    ("unsupported_claim", "An estimate or claim that nothing in the text supports.",
     "Two counts say 2,600: I take 1,000.", "medium", "insufficient_evidence"),
    ("dismissed_evidence", "Evidence that settles the matter is waved away as chance or noise.",
     "900 of 1,000 passed; that may be luck.", "medium", "missing_consideration"),
    ("irrelevant_evidence", "The reason does not bear on the question asked.",
     "It will be on budget because the office is near.", "medium", "insufficient_evidence"),
    ("appeal_to_authority", "The authority cited is none on this question.",
     "The tax adviser says the beam will hold.", "medium", "insufficient_evidence"),
    ("sunk_cost", "Money already spent decides, not what is still to be paid and gained.",
     "400k is spent, so we pay 120k more for a gain of 70k.", "medium",
     "logical_inconsistency"),
    ("unaddressed_risk", "A warning sign in the text is passed over in the decision.",
     "Haemoglobin fell by 40; nothing speaks against anticoagulation.", "critical",
     "unaddressed_risk"),
    ("factual_error", "A statement about the world is wrong.",
     "Penicillin treats the flu.", "high", "logical_inconsistency"),
    ("ad_hominem", "The person is attacked instead of the argument.",
     "He is a smoker, so his figures are wrong.", "medium", "logical_inconsistency"),
    ("slippery_slope", "A first step is said to lead to the last without support.",
     "One exception and nobody will follow the rule.", "low", "insufficient_evidence"),
    ("other", "A flaw that none of the other types describes.", "", "medium",
     "logical_inconsistency"),
)  # fmt: skip

FLAW_TYPES: dict[str, FlawType] = {row[0]: FlawType(*row) for row in _TYPES}

#: What public sets call a flaw, where it corresponds to a type above.
#: By the set's definition, corrected by a look at a few rows where the name misleads: stepverify's
#: "wrong factual knowledge" is mostly misreading, missci's "biased sample" is a result carried over
#: to other people than those studied.
PUBLIC_NAMES: dict[str, str] = {
    # missci
    "hasty_generalization": "small_sample",  # also reddit_fallacies
    "false_dilemma_/_affirming_the_disjunct": "false_dichotomy",
    "causal_oversimplification": "missing_alternative",
    "biased_sample_fallacy": "extrapolation",
    "fallacy_of_exclusion": "dismissed_evidence",
    # prmbench
    "circular": "circular_reasoning",
    # reddit_fallacies; the four appeals give a reason that does not bear on the question
    "authority": "appeal_to_authority",
    "blackwhite": "false_dichotomy",
    "natural": "irrelevant_evidence",
    "population": "irrelevant_evidence",
    "tradition": "irrelevant_evidence",
    "worse_problems": "irrelevant_evidence",
    # stepverify
    "calculation_error_easily_solved_by_a_calculator": "calculation_error",
    "unit_conversion_error": "calculation_error",
    # usmle_gpt4_error
    "hallucination_of_information": "unsupported_claim",
    "non_medical_factual_error": "factual_error",
    "unsupported_medical_claim": "unsupported_claim",
}

#: What public sets call a flaw that none of the types above is.
PUBLIC_OTHERS = (
    # medec
    "causalorganism",
    "diagnosis",
    "management",
    "pharmacotherapy",
    "treatment",
    # missci
    "ambiguity",
    "fallacy_of_division/composition",
    "false_equivalence",
    "impossible_expectations",
    # planbench
    "unmet_goal",
    "unmet_precondition",
    # prmbench; whatever these are called, most of the marked steps are wrong sums or algebra
    "confidence",
    "counterfactual",
    "deception",
    "domain_inconsistency",
    "missing_condition",
    "redundency",
    "step_contradiction",
    # stepverify
    "extra_quantity_or_missing_quantity",
    "missing_/_wrong_factual_knowledge",
    "misunderstanding_of_a_question",
    "none_of_the_above",
    "reached_correct_solution_but_proceeded_further",
    # usmle_gpt4_error
    "cannot_pick_any_error_category",
    "ignore_missing_information",
    "incorrect_or_vague_conclusion",
    "incorrect_understanding_of_the_task",
    "reasonable_response_by_gpt_4",
    "sticking_with_the_wrong_diagnosis",
)
_BETWEEN = ";_"  # usmle_gpt4_error may give several names to one row
_SHOWN = 8  # names told of many


def flaw_type_of(name: str | None) -> str | None:
    """Our name for a flaw: ours unchanged, a public set's mapped; the rest, and None, as it is.

    Several names of a public set, with `; ` between them, are `other`.
    """
    if name is None:
        return None
    key = name.strip().lower().replace(" ", "_").replace("-", "_")
    if key in FLAW_TYPES:
        return key
    if all(part in PUBLIC_NAMES or part in PUBLIC_OTHERS for part in key.split(_BETWEEN)):
        return PUBLIC_NAMES.get(key, "other")
    return name


def renamed(name: str | None, ours: str | None) -> Counter[str]:
    """One count if a flaw got another name than it had, under both names; nothing if not."""
    return Counter() if name == ours else Counter({f"{shown(str(name))} as {ours}": 1})


def renaming(counts: Counter[str]) -> str:
    """What `renamed` counted, the most frequent first; empty if it was nothing."""
    first = ", ".join(f"{count} {what}" for what, count in counts.most_common(_SHOWN))
    more = len(counts) - _SHOWN
    return first + (f", {more} other names" if more > 0 else "")
