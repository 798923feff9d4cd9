"""Settings of the training stages, see `config`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass
class LoraConfig:
    """The adapter.

    Attributes:
        rank: rank of each update; 0 for no adapter: sft then trains all weights, in memory 16 bytes
            each (docs/scaling.md), and its result is a whole model.
        alpha: the update is scaled by alpha / rank.
        dropout: share of adapter inputs dropped in training.
        targets: `all-linear`, or names of layers below the output layer, separated by commas.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: str = "all-linear"


@dataclass
class TrainingConfig:
    """What every training stage is told.

    Attributes:
        epochs: passes over the training data.
        pack_tokens: most tokens in one forward pass; a step is split into as many as it takes.
        warmup: share of the steps in which the learning rate rises linearly.
        final_rate: share of the peak that is left at the last step (cosine in between).
        weight_decay: of AdamW.
        clip: largest gradient norm.
        precision: of the forward pass; see Lightning's `precision`. `auto`: bf16-mixed where this
            machine multiplies bfloat16, else 32-true. There is no bf16-true: what is trained stays
            in float32, as small steps are lost in weights of 8 bits.
        validate_every: optimizer steps between validations, rounded so that they are evenly spaced
            and the last falls at the end; 0 for only at the end.
        best: score of the validations by which the adapter is kept that was best, e.g. `val/f1`
            (names: minicrit/goal.py); null for the last one.
        patience: validations in a row without a better one after which training stops; 0 for never.
        save_every: optimizer steps between resumable checkpoints.
        samples: validation items whose critique is written out to TensorBoard.
        loss_chunk: scored tokens whose logits exist at once; 0 for 256, or for all where the head
            is trained.
        gradient_checkpointing: recompute activations to save memory.
        devices: how many a node; `auto` for all GPUs or one CPU process.
        nodes: machines; inside of a Slurm step, those that it has.
        strategy: Lightning's `auto` or `ddp`, or `fsdp`, by which all processes share out all
            weights with gradients and moments (FSDP2; with lora.rank 0).
        log_folder: TensorBoard logs.
    """

    epochs: int = 1
    pack_tokens: int = 4096
    warmup: float = 0.05
    final_rate: float = 0.2
    weight_decay: float = 0.0
    clip: float = 1.0
    precision: Literal["auto", "32-true", "bf16-mixed", "64-true"] = "auto"
    validate_every: int = 200
    best: str | None = None
    patience: int = 0
    save_every: int = 50
    samples: int = 4
    loss_chunk: int = 0
    gradient_checkpointing: bool = False
    devices: int | str = "auto"
    nodes: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    log_folder: Path = Path("runs")


@dataclass
class SFTConfig(TrainingConfig):
    """Supervised fine-tuning.

    Attributes:
        out: folder of the finished adapter, or whole critic.
        start: folder of an adapter of the same base and shape to go on from; null for a fresh one.
        batch_examples: examples an optimizer step, over all devices. Before the verdict moves,
            training takes a number of steps (docs/results.md), so keep it small on small machines.
        learning_rate: peak learning rate of AdamW.
        verdict_weight: weight of the verdict word in the loss; every other token has 1.
        explained: share of the twins whose whole critique is trained; of the others the loss sees
            the verdict and the flaw type alone. Saves time where the verdict is what is hard.
        coherence: weight of the loss by which sound texts become likelier than their twins; squares
            only, as the next two (docs/architecture.md, "What twins teach").
        running: weight of the verdict after every token from where a text departs from its twin.
        deep: weight of the same verdict, read from middle layers.
        steady: weight of half the squared difference between the verdicts (log-odds) on a text and
            on the same text after a harmless change; takes data with `data.changed`.
        share_prefix: compute what two twins have in common once; the last four need it.
    """

    out: Path = Path("checkpoints/cpu/sft")
    start: Path | None = None
    batch_examples: int = 8
    learning_rate: float = 1e-3
    verdict_weight: float = 10.0
    explained: float = 0.08
    coherence: float = 2.0
    running: float = 2.0
    deep: float = 2.0
    steady: float = 0.0
    share_prefix: bool = True


@dataclass
class DPOConfig(TrainingConfig):
    """Preference learning (DPO and its kin).

    Attributes:
        start: the adapter that is trained on; as it is now, it is also the reference.
        pairs: file of preference pairs, of the first round.
        out: folder of the last round's adapter; the rounds before it lie beside it.
        rounds: after the first, each takes pairs of its own (section `pairs`), written by the
            adapter of the one before, which is then the reference.
        reference: `precomputed` once before the first step, or `live`, as a second adapter on the
            same base: nothing to wait for, but up to half as much time again a step.
        batch_pairs: pairs an optimizer step, over all devices; whole groups.
        learning_rate: peak learning rate of AdamW.
        losses: names of losses: dpo, cdpo, robust, ipo, hinge, nll, dpop, normalised, simpo
            (equations: minicrit/losses.py). The default is RPO.
        loss_weights: one weight each.
        beta: strength of the pull towards the reference.
        flips: share of wrongly labelled pairs that cdpo and robust assume, under 0.5.
        penalty: of dpop, on a chosen critique that becomes unlikelier.
        gamma: margin of simpo, as a share of beta.
        least_margin: pairs whose scores differ by less are left out.
        explained: share of the pairs of different verdicts that are compared to the end; of the
            others the loss sees the verdict alone.
        hardest: share of the pairs that is left out, those whose chosen critique is the least
            likely for the reference; 0 for none.
        held_out_pairs: share of the groups that is validated on instead of learnt from, at most 64.
        alarm_chosen: nats a token that chosen critiques may become unlikelier than at the start
            before a warning; 0 for no warning, as in the next three.
        alarm_kl: nats a token that policy and reference may be apart.
        alarm_margin: mean reward margin (beta times nats) beyond which the losses are flat.
        alarm_length: factor by which the sample critiques may become longer or shorter.
    """

    start: Path = Path("checkpoints/cpu/sft")
    pairs: Path = Path("data/cpu-pairs/pairs.jsonl")
    out: Path = Path("checkpoints/cpu/dpo")
    rounds: int = 1
    reference: Literal["precomputed", "live"] = "precomputed"
    batch_pairs: int = 8
    learning_rate: float = 2e-5
    losses: list[str] = field(default_factory=lambda: ["dpo", "nll"])
    loss_weights: list[float] = field(default_factory=lambda: [1.0, 1.0])
    beta: float = 0.1
    flips: float = 0.1
    penalty: float = 5.0
    gamma: float = 0.5
    least_margin: float = 0.0
    explained: float = 0.1
    hardest: float = 0.0
    held_out_pairs: float = 0.05
    alarm_chosen: float = 0.5
    alarm_kl: float = 0.5
    alarm_margin: float = 15.0
    alarm_length: float = 1.5
    validate_every: int = 100


@dataclass
class RSFConfig(TrainingConfig):
    """Rejection-sampling fine-tuning.

    Attributes:
        start: the adapter that writes in the first round and is trained on.
        data: labelled training examples; rows of other splits are refused.
        out: folder of the last round's adapter; the rounds before it lie beside it.
        rounds: each samples from the adapter of the one before.
        rationales: rationales a round, drawn by seed and round; 0 for all.
        scouted: so many are looked at first, by one forward each, and critiques written of those
            alone that will probably be judged both ways, as the others yield none; 0 for none.
        drawn: critiques of each; 2 that can differ at the least, unless `labels` are learnt.
        temperatures: they are drawn at, in turn; 0 is greedy.
        max_new_tokens: longest critique, in tokens.
        rows: critiques that are written at the same time.
        dtype: of the weights while they are written; `auto`: bfloat16 where this machine
            multiplies it, else float32. Other types, other texts.
        keep: share of the critiques that is learnt from.
        keep_scope: `rationale`: the best of each rationale; `global`: the best of all.
        least_score: score from which a critique counts as right, by the oracle: 0.5 if its verdict
            is right; more, if it is argued well too, for a critic whose verdicts mostly are.
        labels: of the rationales looked at of which no critique is kept, learn the labels: verdict,
            flaw type, severity and evidence.
        weighted: weigh each by its score instead of alike.
        control: train instead, for the compute that the rounds have taken, on reference critiques
            drawn at random, or on labels where there are none; the adapter goes beside `out`, with
            `-control` in its name.
        verdict_weight: weight of the verdict word in the loss; every other token has 1.
        batch_examples: critiques an optimizer step, over all devices; whole groups.
        learning_rate: peak learning rate of AdamW.
    """

    start: Path = Path("checkpoints/cpu/sft")
    data: Path = Path("data/cpu/train-fresh.jsonl")
    out: Path = Path("checkpoints/cpu/rsf")
    rounds: int = 1
    rationales: int = 64
    scouted: int = 300
    drawn: int = 8
    temperatures: list[float] = field(default_factory=lambda: [1.0])
    max_new_tokens: int = 160
    rows: int = 64
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    keep: float = 0.25
    keep_scope: Literal["rationale", "global"] = "rationale"
    least_score: float = 0.5
    labels: bool = False
    weighted: bool = False
    control: bool = False
    verdict_weight: float = 10.0
    batch_examples: int = 8
    epochs: int = 2
    learning_rate: float = 2e-4
    validate_every: int = 100


@dataclass
class BenchTrainConfig:
    """The benchmark of training steps against TRL.

    The first of each list is the centre; the others take its place, one at a time.

    Attributes:
        models: shapes with random weights (tiny, 30m, 135m, 1.5b, 7b), or `base` for base.model.
        tasks: dpo, sft.
        ratios: mean prompt tokens for each completion token.
        batches: pairs or examples an optimizer step.
        adapters: lora, full.
        sides: what is run, by the names in the report, such as `[ours live, trl live]`; none for
            all, each with a model of its own in memory at the same time.
        completion: mean tokens of a completion.
        rounds: steps of each side that count, in turns, after one that does not.
        pack_tokens: most tokens of a forward pass of ours.
        precision: of both sides; bfloat16 is weights and autocast, adapters stay float32.
        gradient_checkpointing: recompute activations, on both sides.
        threads: of each side; with 1, seconds of a processor compare on a busy machine too.
        out: report without ending; .json and .md are written.
    """

    models: list[str] = field(default_factory=lambda: ["30m", "base"])
    tasks: list[str] = field(default_factory=lambda: ["dpo", "sft"])
    ratios: list[float] = field(default_factory=lambda: [3.0, 1.0, 6.0])
    batches: list[int] = field(default_factory=lambda: [4, 8])
    adapters: list[str] = field(default_factory=lambda: ["lora", "full"])
    sides: list[str] = field(default_factory=list)
    completion: int = 80
    rounds: int = 5
    pack_tokens: int = 4096
    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    threads: int = 1
    out: Path = Path("reports/bench-train")


@dataclass
class KTOConfig(TrainingConfig):
    """Learning from thumbs up and down (KTO).

    Attributes:
        start: the adapter that is trained on; as it is now, it is also the reference.
        thumbs: file of rows `domain, rationale, text, good, group`, or of preference pairs, whose
            chosen critiques then count as good and whose rejected ones as bad.
        out: folder of the finished adapter.
        batch_examples: critiques an optimizer step, over all devices; whole groups. The distance
            from the reference is estimated on as many, so not too few.
        learning_rate: peak learning rate of AdamW.
        beta: strength of the pull towards the reference.
        good_weight: of good critiques in the loss.
        bad_weight: of bad ones. Paper and TRL: that of good ones times their number shall be 1 to
            4/3 times that of bad ones times theirs.
    """

    start: Path = Path("checkpoints/cpu/sft")
    thumbs: Path = Path("data/cpu-pairs/pairs.jsonl")
    out: Path = Path("checkpoints/cpu/kto")
    batch_examples: int = 16
    learning_rate: float = 1e-4
    beta: float = 0.1
    good_weight: float = 1.0
    bad_weight: float = 1.0
    validate_every: int = 100


@dataclass
class ConstitutionConfig:
    """Learning from one's own revisions under the rules (data_gen/constitution-1.yaml).

    Attributes:
        start: the adapter that writes in the first round and is trained on.
        data: labelled training examples; rows of other splits are refused.
        out: folder of the result, the adapter of the last good round; the rounds lie beside it.
        rounds: each goes on from the critic of the one before.
        rationales: rationales a round, whole groups, drawn by seed, other ones each round while
            there are any; 0 for all.
        draft_temperature: of the draft, one a rationale; 0 is greedy.
        reviser: `self` (the critic writes on from what obeys the rules), or a back end whose model
            revises: `anthropic`, `ollama`, `openai`, `local`.
        revisions: of each draft by the critic itself.
        temperatures: they are drawn at, in turn.
        hint: the critic is given the right verdict where its own is wrong; else it draws anew.
        max_new_tokens: longest critique, in tokens.
        rows: critiques that are written at the same time.
        dtype: of the weights while they are written; `auto`: bfloat16 where this machine
            multiplies it, else float32. Other types, other texts.
        model: name of the model that revises.
        url: address of its server; null for that of its own package; `openai` needs one.
        scorer: who must prefer the revision: `oracle` (labels are known), `judge` or `both`.
        margin: least difference of the oracle's scores.
        judge: back end of the model that judges.
        judge_model: name of that model.
        judge_url: address of its server.
        threads: requests at the same time.
        budget_usd: USD that revising and judging may cost at most, all rounds and restarts
            included; null for no limit.
        learn: `dpo`: from pairs of revision and draft, with the settings `dpo`; `targets`: from
            what came out good, revised or at once, with the settings `rsf`.
        labels: with `learn: targets`: of the others learn the labels, as `rsf.labels`.
        probed: rationales about which the critic writes before and after each round, to see whether
            it collapses.
        floor: share of what acceptance, distinct n-grams, length and entropy were at first, under
            which they stop the loop; 0 for no guard.
    """

    start: Path = Path("checkpoints/cpu/sft")
    data: Path = Path("data/cpu/train-fresh.jsonl")
    out: Path = Path("checkpoints/cpu/constitution")
    rounds: int = 2
    rationales: int = 80
    draft_temperature: float = 0.7
    reviser: Literal["self", "anthropic", "ollama", "openai", "local"] = "self"
    revisions: int = 2
    temperatures: list[float] = field(default_factory=lambda: [0.3, 0.7])
    hint: bool = True
    max_new_tokens: int = 160
    rows: int = 64
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    model: str | None = None
    url: str | None = None
    scorer: Literal["oracle", "judge", "both"] = "oracle"
    margin: float = 0.02
    judge: Literal["anthropic", "ollama", "openai", "local"] = "anthropic"
    judge_model: str | None = None
    judge_url: str | None = None
    threads: int = 4
    budget_usd: float | None = None
    learn: Literal["dpo", "targets"] = "dpo"
    labels: bool = False
    probed: int = 24
    floor: float = 0.95
