"""Where a command runs, and what must not be so before it does anything."""

import os
import re
import socket

_LOGIN = re.compile(r"login\d*\.vista\b")
#: With it, torch runs code that is in a checkpoint, whatever a caller says.
_UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def is_login_node(host: str | None = None) -> bool:
    """Whether a host (default: this one) is a login node of Vista, where no AI work may run."""
    return bool(_LOGIN.match(socket.gethostname() if host is None else host))


def unsafe_loading() -> str | None:
    """The name of a variable that lets checkpoints run code, if it is set."""
    return _UNSAFE if os.environ.get(_UNSAFE) else None


def refuse_unsafe_loading() -> None:
    """A ValueError if checkpoints could run code."""
    if name := unsafe_loading():
        raise ValueError(f"{name}: expected it unset, as with it checkpoints can run code, got "
                         f"a value; unset {name}")  # fmt: skip


def refuse_login_node(command: str) -> None:
    """A ValueError on a login node."""
    if is_login_node():
        raise ValueError(f"{command}: expected a compute node, got {socket.gethostname()}, where "
                         "no AI work may run; sbatch the files in slurm/")  # fmt: skip
