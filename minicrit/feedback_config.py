"""Settings of the stages that learn from use, see `config`."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class FeedbackConfig:
    """What operators decided, as training data.

    Attributes:
        store: the feedback database.
        out: folder of the examples and the preference pairs.
        validation: share of the rationales that is kept for validation, drawn by hash.
        least_operators: fewest operators who must have decided on a rationale.
        least_agreement: share of them that must say the same, where labels are not weighed; a tie
            is then left out, whatever this says.
        weigh: let a model of the operators' error rates (Dawid and Skene) decide in place of the
            majority, where at least ten rationales have three operators or more.
        certain: probability of the label that it must then have.
        least_right: how often an operator must say what most of the others do, on at least ten
            rationales, for the critiques that they rewrote to be taken. Of two who contradict each
            other it is not known who is right, so neither is taken.
    """

    store: Path = Path("feedback/store.db")
    out: Path = Path("data/operators")
    validation: float = 0.1
    least_operators: int = 1
    least_agreement: float = 0.6
    weigh: bool = True
    certain: float = 0.9
    least_right: float = 0.6


@dataclass
class ABConfig:
    """Two critics against each other on what is really asked.

    Attributes:
        store: the feedback database.
        experiment: YAML file of the experiment; beside it lies its log. If it is not there and
            `name` and `treatment` are given, it is made of the settings below.
        name: of the experiment.
        control: the critic that answers without it.
        treatment: the critic that may take its place.
        salt: draws the arms; null for a new random one.
        share: of the rationales that go to the treatment.
        shadow: the treatment is asked about everything and its answer is never given.
        metrics: what is compared, of agreement, false_positives, outcome; the error is shared
            equally among them.
        primary: the metric that must get better.
        alpha: chance that any bound of any metric is ever wrong.
        least: gain in the primary metric that would be worth it, of outcomes in their own units;
            futile once it is ruled out.
        margin: by how much another metric may be worse, as a share of its width: 0.05 of outcomes
            from -100 to 100 is 10.
        most: numbers of the primary metric after which the experiment ends without a result:
            rationales decided on, valid ones alone for false_positives, or outcomes.
        outcome_low: least outcome that can be reported.
        outcome_high: greatest outcome.
        rate: value of every metric under control that a plan assumes; of outcomes how far they lie
            from `outcome_low` to `outcome_high`, from 0 to 1.
        discordance: share of the rationales on which the two critics are not equally right, that a
            plan of a shadow experiment assumes.
        valid_share: share of the rationales decided on that are valid, which a plan assumes: only
            they count for false_positives.
        plan: say how experiments with some true gains end, and after how many decisions.
        simulate: A/A experiments that are simulated under continuous peeking; 0 for none.
        out: report without ending; .json, .md and .html are written, of a plan or a simulation
            -plan.json alone.
    """

    store: Path = Path("feedback/store.db")
    experiment: Path = Path("feedback/experiment.yaml")
    name: str | None = None
    control: str = "checkpoints/cpu/sft"
    treatment: str | None = None
    salt: str | None = None
    share: float = 0.5
    shadow: bool = False
    metrics: list[str] = field(default_factory=lambda: ["agreement", "false_positives"])
    primary: str = "agreement"
    alpha: float = 0.05
    least: float = 0.03
    margin: float = 0.05
    most: int = 4000
    outcome_low: float = 0.0
    outcome_high: float = 1.0
    rate: float = 0.85
    discordance: float = 0.15
    valid_share: float = 0.5
    plan: bool = False
    simulate: int = 0
    out: Path = Path("reports/ab")
