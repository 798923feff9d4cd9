"""Several processes of one run: what only one may do, the others wait for."""

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

#: Sampling and reference likelihoods may take long; a process that died is noticed at once.
_PATIENCE = timedelta(days=3)
T = TypeVar("T")


def first_alone(work: Callable[[], T]) -> T:
    """Process zero does the work; then the others, who should find it done.

    Outside of a group of processes this is a plain call. Processes that were started from outside
    (torchrun) find each other here, if they have not yet.
    """
    if not distributed.is_initialized() and "TORCHELASTIC_RUN_ID" in os.environ:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        )
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return work()
    group = distributed.new_group(timeout=_PATIENCE, backend="gloo")
    first = distributed.get_rank() == 0
    found = work() if first else None
    distributed.barrier(group)
    if not first:
        found = work()
    distributed.destroy_process_group(group)
    return found  # type: ignore[return-value]
