"""All weights shared out over processes (FSDP2, `torch.distributed.fsdp.fully_shard`).

Each process holds a slice of every weight, its gradient and its moments. A layer's weights are
gathered before its forward and its backward and freed after; gradients are averaged and dealt out
again. What hangs on a forward hook is not run by code that calls a model's parts one by one, as the
losses here do, so `Root` is what is called, and the parts inside of it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

T = TypeVar("T")


class Root(nn.Module):
    """A model and what is trained beside it, behind one forward.

    Args:
        model: a causal LM with `model.layers`.
        beside: modules that are thrown away after training.
    """

    def __init__(self, model: PreTrainedModel, beside: nn.Module) -> None:
        super().__init__()
        self.model, self.beside = model, beside

    def forward(self, work: Callable[[], T]) -> T:
        """What `work` returns; while it runs, embedding, last norm and head are gathered."""
        return work()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All weights in every process, to read with: then a forward needs no other process.

        All processes enter and leave it together; what they do in between is up to each.
        """
        parts = [module for module in self.modules() if isinstance(module, FSDPModule)]
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        try:
            yield
        finally:
            for part in parts:
                part.reshard()
                part.set_reshard_after_forward(not isinstance(part, Root), recurse=False)


def share_out(
    model: PreTrainedModel, beside: nn.Module, mesh: DeviceMesh, compute: torch.dtype | None
) -> Root:
    """Shares a model out over the processes of a mesh, layer by layer.

    Args:
        model: the same in every process; afterwards each holds its slices alone.
        beside: small modules that are trained with it, in their own precision.
        mesh: one-dimensional.
        compute: type in which weights are gathered and multiplied, gradients summed in float32;
            None for that of the weights.
    """
    policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=compute and torch.float32)
    root = Root(model, beside)
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(beside, mesh=mesh)
    fully_shard(root, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    return root


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of all processes as a whole in each; they call it together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
