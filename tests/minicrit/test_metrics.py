"""Accumulated metrics: any split of the data gives the result of one pass, and sklearn's."""

# mypy: disable-error-code="import-untyped"
import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor
from torch.nn.functional import cross_entropy

from minicrit import scores
from minicrit.metrics import FlawTypeF1, TokenPerplexity, VerdictMetrics, group_hash
from minicrit.taxonomy import FLAW_TYPES

Batch = tuple[Tensor, Tensor, list[str]]
THRESHOLD = 0.5
PINNED = -1003127723697402140  # blake2b of "twin-1", 8 bytes, little-endian
CUTS = ((0, 300), (0, 7, 8, 120, 300), (0, 150, 300))


def items(n: int = 300) -> Batch:
    """Probabilities, labels, and the names of twin groups."""
    rng = np.random.default_rng(0)
    flawed = np.arange(n) % 2 == 0
    p = np.clip(0.4 * flawed + 0.6 * rng.random(n), 0, 1)
    return torch.tensor(p), torch.tensor(flawed), [f"twin-{i // 2}" for i in range(n)]


def fed(cuts: tuple[int, ...], batch: Batch) -> VerdictMetrics:
    """A metric that has seen the items in pieces."""
    metric = VerdictMetrics(THRESHOLD)
    p, flawed, groups = batch
    for start, end in pairwise(cuts):
        metric.update(p[start:end], flawed[start:end], groups[start:end])
    return metric


@pytest.mark.parametrize("cuts", CUTS)
def test_verdict_metrics_equal_sklearn_for_any_batches(cuts: tuple[int, ...]) -> None:
    """Unequal batch lengths, down to one item."""
    p, flawed, groups = items()
    found = {name: float(x) for name, x in fed(cuts, (p, flawed, groups)).compute().items()}
    flagged = p > THRESHOLD
    assert found == pytest.approx(
        {
            "f1": sk.f1_score(flawed, flagged),
            "precision": sk.precision_score(flawed, flagged),
            "recall": sk.recall_score(flawed, flagged),
            "fpr": float((flagged & ~flawed).sum() / (~flawed).sum()),
            "auroc": sk.roc_auc_score(flawed, p),
            "ece": scores.expected_calibration_error(p.numpy(), flawed.numpy()),
            "brier": sk.brier_score_loss(flawed, p),
            "accuracy": sk.accuracy_score(flawed, flagged),
            "twin_consistency": float((flagged == flawed).view(-1, 2).all(dim=1).double().mean()),
        }
    )


def test_verdict_metrics_merge_and_pickle() -> None:
    """Two processes' halves, merged after a round trip through pickle, are one pass."""
    first = fed((0, 101), items())  # 101 splits a pair of twins between the halves
    second = pickle.loads(pickle.dumps(fed((101, 300), items())))
    first.merge_state(second)
    merged, whole = first.compute(), fed((0, 300), items()).compute()
    for name, expected in whole.items():
        assert float(merged[name]) == pytest.approx(float(expected)), name


def test_verdict_metrics_of_gathered_states() -> None:
    """A gather between processes leaves one tensor a state instead of a list."""
    metric = fed((0, 20, 300), items())
    for name in ("p", "flawed", "groups"):
        setattr(metric, name, torch.cat(getattr(metric, name)))
    assert metric.compute() == fed((0, 300), items()).compute()


def test_the_state_of_verdict_metrics_lies_where_the_metric_does() -> None:
    """Between GPUs only what lies on one is gathered; batches are read on the CPU."""
    metric = VerdictMetrics().to("meta")
    metric.update(torch.tensor([0.1, 0.7]), torch.tensor([False, True]), ["a", "b"])
    states = [*metric.p, *metric.flawed, *metric.groups]
    assert {state.device.type for state in states} == {"meta"}


def test_verdict_metrics_reset_and_undefined() -> None:
    """After a reset nothing is left; valid items alone leave recall and AUROC undefined."""
    metric = fed((0, 300), items())
    metric.reset()
    metric.update(torch.tensor([0.1, 0.7]), torch.tensor([False, False]), ["a", "b"])
    found = metric.compute()
    assert float(found["fpr"]) == pytest.approx(1 / 2)
    assert all(math.isnan(found[name]) for name in ("recall", "auroc", "twin_consistency"))


def test_verdict_metrics_keep_precision_of_bf16_and_float32() -> None:
    """Any float type comes in; what is stored is float64."""
    metric = VerdictMetrics()
    for dtype in (torch.bfloat16, torch.float32):
        metric.update(torch.tensor([0.75], dtype=dtype), torch.tensor([True]), ["a"])
    assert float(metric.compute()["brier"]) == pytest.approx(1 / 16)


def test_verdict_metrics_refuse() -> None:
    """Lengths out of step and labels that are no bools at update, nan at compute."""
    metric, yes = VerdictMetrics(), torch.tensor([True])
    with pytest.raises(ValueError, match="of one length"):
        metric.update(torch.tensor([0.5]), yes, ["a", "b"])
    with pytest.raises(ValueError, match="expected flawed as bools"):
        metric.update(torch.tensor([0.5]), torch.tensor([-100]), ["a"])
    metric.update(torch.tensor([math.nan]), yes, ["a"])
    with pytest.raises(ValueError, match="expected every p in"):
        metric.compute()


def test_group_hash_is_fixed_and_fits_int64() -> None:
    """Pinned, because processes must agree; 10,000 names stay apart."""
    assert group_hash("twin-1") == group_hash("twin-1") == PINNED
    hashes = [group_hash(f"g{i}") for i in range(10_000)]
    assert len(set(torch.tensor(hashes, dtype=torch.int64).tolist())) == len(hashes)


def types(n: int = 200) -> tuple[list[str | None], list[str]]:
    """Predictions half right, with None and an invented type among them."""
    rng = np.random.default_rng(1)
    known = list(FLAW_TYPES)[:6]
    truth = [str(name) for name in rng.choice(known[:4], n)]
    said = [str(name) for name in rng.choice([*known, "nonsense"], n)]
    predicted = [t if rng.random() < 1 / 2 else s for s, t in zip(said, truth, strict=True)]
    return [None if i % 9 == 0 else name for i, name in enumerate(predicted)], truth


def test_flaw_type_f1_equals_the_plain_score_and_sklearn() -> None:
    """One pass, two halves merged after pickling, scores.macro_f1 and sklearn agree."""
    predicted, truth = types()
    halves = [FlawTypeF1(), FlawTypeF1()]
    halves[0].update(predicted[:33], truth[:33])
    halves[1].update(predicted[33:], truth[33:])
    halves[0].merge_state(pickle.loads(pickle.dumps(halves[1])))
    whole = FlawTypeF1()
    whole.update(predicted, truth)
    said, labels = [name or "none" for name in predicted], sorted(set(truth))
    expected = sk.f1_score(truth, said, labels=labels, average="macro")
    assert float(whole.compute()) == pytest.approx(expected)
    assert float(halves[0].compute()) == pytest.approx(expected)
    assert scores.macro_f1(predicted, truth) == pytest.approx(expected)
    assert int(whole.confusion.sum()) == len(truth)
    missed = sum(name is None or name not in FLAW_TYPES for name in predicted)
    assert int(whole.confusion[:, -1].sum()) == missed


def test_flaw_type_f1_takes_every_type_at_once_and_one_that_comes_once() -> None:
    """All right, then one of the second called the first: 2 / 3 for both, 1 for the others."""
    metric, names = FlawTypeF1(), list(FLAW_TYPES)
    metric.update(names, names)
    assert float(metric.compute()) == 1
    metric.update([names[0]], [names[1]])
    assert float(metric.compute()) == pytest.approx(1 - 2 / 3 / len(names))


def test_flaw_type_f1_refuses_and_takes_empty_batches() -> None:
    """A batch without flawed items adds nothing; unknown truth is an error, not a guess."""
    metric = FlawTypeF1()
    metric.update([], [])
    assert math.isnan(metric.compute())
    with pytest.raises(ValueError, match=r"unknown \['hubris'\]"):
        metric.update(["other"], ["hubris"])
    with pytest.raises(ValueError, match="got 0 for 1"):
        metric.update([], ["other"])


def test_perplexity_equals_exp_of_mean_cross_entropy() -> None:
    """Batches of 3, 50 and 1 tokens, merged: not the mean of batch means."""
    torch.manual_seed(0)
    logits, targets = torch.randn(54, 11), torch.randint(11, (54,))
    metric, other = TokenPerplexity(), TokenPerplexity()
    for part, (start, end) in ((metric, (0, 3)), (other, (3, 53)), (other, (53, 54))):
        nll = cross_entropy(logits[start:end], targets[start:end], reduction="sum")
        part.update(nll, torch.tensor(end - start))
    metric.merge_state(pickle.loads(pickle.dumps(other)))
    expected = math.exp(float(cross_entropy(logits.double(), targets)))
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-6)


def test_perplexity_survives_a_bf16_module_and_long_sums() -> None:
    """The module is cast to bf16 (as "bf16-true" does): 3,000 tokens of ln 2 are still 2."""
    metric = TokenPerplexity()
    torch.nn.ModuleList([metric]).to(torch.bfloat16)
    for _ in range(3000):
        metric.update(torch.tensor(math.log(2), dtype=torch.float64), 1)
    assert metric.nll.dtype == torch.float64
    assert float(metric.compute()) == pytest.approx(2)


def test_perplexity_undefined_and_refused() -> None:
    """No tokens is nan; unsummed losses are an error."""
    metric = TokenPerplexity()
    metric.update(torch.tensor(0.0), 0)
    assert math.isnan(metric.compute())
    with pytest.raises(ValueError, match="expected nll as a scalar sum"):
        metric.update(torch.zeros(4), 4)
