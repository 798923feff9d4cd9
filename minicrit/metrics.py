"""Scores that accumulate over batches and processes; the arithmetic is in `scores`.

One instance per stage. Each metric keeps sums or whole columns, never means of batches, so the
result is the same for any batch size and any number of processes. A distributed sampler that
repeats items to fill the last batch makes those items count twice: use one that does not.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from minicrit import scores
from minicrit.taxonomy import FLAW_TYPES


def group_hash(group: str) -> int:
    """64-bit signed number for a group name, the same in every process (`hash` is salted)."""
    digest = hashlib.blake2b(group.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


class VerdictMetrics(Metric):
    """All scores of the verdict at one threshold; undefined ones are nan.

    compute() gives f1, precision, recall, fpr, auroc, ece, brier, accuracy and twin_consistency as
    float64 scalars, and raises ValueError if a p is nan or outside [0, 1].
    """

    full_state_update = False
    p: list[Tensor]
    flawed: list[Tensor]
    groups: list[Tensor]

    def __init__(self, threshold: float = 0.5) -> None:
        """An item is flagged where p > threshold."""
        super().__init__()
        self.threshold = threshold
        self.add_state("p", default=[], dist_reduce_fx="cat")
        self.add_state("flawed", default=[], dist_reduce_fx="cat")
        self.add_state("groups", default=[], dist_reduce_fx="cat")

    def update(self, p: Tensor, flawed: Tensor, groups: Sequence[str]) -> None:
        """Add a batch.

        Args:
            p: (n,) probability that the item is flawed, of any float type.
            flawed: (n,) bool, the truth.
            groups: n names; twins share one.
        """
        if p.ndim != 1 or p.shape != flawed.shape or len(groups) != len(p):
            raise ValueError(
                f"expected p, flawed and groups of one length, got {tuple(p.shape)}, "
                f"{tuple(flawed.shape)} and {len(groups)}; give each item one of each"
            )
        if flawed.dtype != torch.bool:
            raise ValueError(
                f"expected flawed as bools, got {flawed.dtype}; compare with the label"
            )
        hashes = [group_hash(group) for group in groups]
        # Where the metric is, as its state goes from process to process by that device's backend.
        self.p.append(p.detach().double().to(self.device))
        self.flawed.append(flawed.to(self.device))
        self.groups.append(torch.tensor(hashes, dtype=torch.int64, device=self.device))

    def compute(self) -> dict[str, Tensor]:
        """Scores by name."""
        p, flawed, groups = (_numpy(column) for column in (self.p, self.flawed, self.groups))
        threshold = self.threshold
        values = {
            "f1": scores.f1(p, flawed, threshold),
            "precision": scores.precision(p, flawed, threshold),
            "recall": scores.recall(p, flawed, threshold),
            "fpr": scores.false_positive_rate(p, flawed, threshold),
            "auroc": scores.auroc(p, flawed),
            "ece": scores.expected_calibration_error(p, flawed),
            "brier": scores.brier(p, flawed),
            "accuracy": scores.accuracy(p, flawed, threshold),
            "twin_consistency": scores.twin_consistency(p, flawed, groups, threshold),
        }
        return {name: _scalar(value, self.device) for name, value in values.items()}


class FlawTypeF1(Metric):
    """Mean F1 over the flaw types present in truth: `scores.macro_f1` in pieces.

    State: confusion (types, types + 1), row the true type, column the predicted one; the last
    column holds what names no type of ours (None, unparsed, invented).
    """

    full_state_update = False
    confusion: Tensor

    def __init__(self) -> None:
        """Nothing to set: the types are those of the taxonomy."""
        super().__init__()
        size = len(FLAW_TYPES)
        self._index = {name: number for number, name in enumerate(FLAW_TYPES)}
        zeros = torch.zeros(size, size + 1, dtype=torch.int64)
        self.add_state("confusion", default=zeros, dist_reduce_fx="sum")

    def update(self, predicted: Sequence[str | None], truth: Sequence[str]) -> None:
        """Add a batch of flawed items; valid items have no type and stay out."""
        if len(predicted) != len(truth) or not self._index.keys() >= set(truth):
            unknown = sorted(map(str, set(truth) - self._index.keys()))
            raise ValueError(
                f"expected one prediction for each true flaw type, got {len(predicted)} for "
                f"{len(truth)}, unknown {unknown}; pass flawed items only, map names with "
                "taxonomy.flaw_type_of"
            )
        size = len(self._index)
        rows = torch.tensor([self._index[name] for name in truth], dtype=torch.int64)
        columns = torch.tensor([self._index.get(name or "", size) for name in predicted])
        cells = torch.bincount(rows * (size + 1) + columns.long(), minlength=size * (size + 1))
        self.confusion = self.confusion + cells.view(size, size + 1).to(self.confusion.device)

    def compute(self) -> Tensor:
        """Float64 scalar; nan before the first item."""
        hits = self.confusion.diagonal()
        true = self.confusion.sum(dim=1)
        said = self.confusion.sum(dim=0)[:-1]
        present = true > 0
        return (2 * hits[present].double() / (said + true)[present]).mean()


class TokenPerplexity(Metric):
    """exp(summed nll / tokens); nan before the first token.

    Softmax-then-log metrics overflow at logit gaps near 104 nats, and means of batches weigh short
    batches too much: this takes sums and divides once.
    """

    full_state_update = False
    nll: Tensor
    num_tokens: Tensor

    def __init__(self) -> None:
        """Nothing to set."""
        super().__init__()
        self.add_state("nll", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, nll: Tensor, num_tokens: Tensor | int) -> None:
        """Add the sum, in nats, of the negative log-likelihood of so many target tokens."""
        if nll.ndim:
            raise ValueError(
                f"expected nll as a scalar sum, got shape {tuple(nll.shape)}; sum over the tokens"
            )
        # Not +=: a module cast to bf16 casts its states along, and in bf16 256 + 1 is 256.
        self.nll = self.nll + nll.detach().double()
        self.num_tokens = self.num_tokens + num_tokens

    def compute(self) -> Tensor:
        """Float64 scalar."""
        return torch.exp(self.nll / self.num_tokens)


class NamedSums(Metric):
    """Sums by name, over batches and processes."""

    full_state_update = False
    sums: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: of what is summed."""
        super().__init__()
        self.names = tuple(names)
        self.add_state(
            "sums", torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum"
        )

    def update(self, sums: Mapping[str, Tensor]) -> None:
        """Add scalars, one a name."""
        new = torch.stack([sums[name].detach().double() for name in self.names])
        self.sums = self.sums.double() + new.to(self.sums.device)

    def compute(self) -> dict[str, Tensor]:
        """Float64 scalars by name."""
        return dict(zip(self.names, self.sums.double(), strict=True))


def _numpy(column: list[Tensor]) -> np.ndarray:
    # After a sync between processes the state is one tensor, before it a list: this takes both.
    array: np.ndarray = dim_zero_cat(column).cpu().numpy()
    return array


def _scalar(value: float, device: torch.device) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, device=device)
