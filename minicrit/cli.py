"""The command line: `minicrit <stage> --config recipe --section.field value`.

Every stage takes all settings of a recipe (see `minicrit/config.py`); what runs it is in
`minicrit/stages.py`.
"""

import argparse
import errno
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import IO, cast

from minicrit.destinations import check_destinations
from minicrit.discreet import DiscreetFormatter, DiscreetStream, discreet
from minicrit.entry import ANEW, interrupted
from minicrit.files import FULL
from minicrit.flags import Flags
from minicrit.settings import SettingsError, explain, load_recipe, meant, shipped_recipes
from minicrit.stages import STAGES
from minicrit.stopping import CONTINUE, Stopped, stoppable
from minicrit.whereabouts import refuse_login_node, refuse_unsafe_loading

OK, FAILED, MISUSED = 0, 1, 2  # and CONTINUE, and INTERRUPTED of `entry`
_TALKATIVE = (
    "bitsandbytes",
    "filelock",
    "fsspec",
    "anthropic",
    "httpcore",
    "httpx",
    "httpx2",
    "mcp",
    "huggingface_hub",
    "lightning.pytorch.trainer.connectors.checkpoint_connector",
    "lightning.pytorch.utilities.rank_zero",
    "urllib3",
)
#: Warnings of libraries about each other, or about what is meant to be so.
_SETTLED = (
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*is_gradient_checkpointing.*",
    r".*does not have many workers.*",
    r".*is not currently a supported.*",
    r".*resuming from a checkpoint that ended before the epoch.*",  # `models/data.py` goes on there
)

_NO_MEMORY = (
    "expected enough memory, got too little; free some or lower the sizes of the recipe "
    "(pack_tokens, batch_tokens, rows); the same command goes on from where it stopped"
)
#: What may run on a login node: it looks, or fetches a base.
_LIGHT = ("base", "runs", "doctor", "verify")
OTHERS = {
    "critique": "Judge rationales: a text, files or standard input.",
    "mcp": "Serve the critic to agents (Model Context Protocol, standard input and output).",
    "recipes": "List the recipes.",
}
#: These only look and print: there is nothing to go on from.
_FORGETFUL = (*OTHERS, "verify", "runs", "doctor", "preflight", "probe")


#: What mends what the system refuses, by errno; "check the path" for others.
_REMEDIES = {
    errno.EACCES: "change its permissions, or name another path",
    errno.EROFS: "name a path that can be written to",
    errno.ENOSPC: "free some space; the same command goes on where it stopped",
    errno.EDQUOT: "free some of the quota; the same command goes on where it stopped",
    errno.EFBIG: "raise the limit of a file (ulimit -f) or name a path on another disk; the same "
    "command goes on where it stopped",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status.

    0 done, 1 failed, 2 misused, 85 stopped by SIGUSR1 or SIGTERM, 130 interrupted by Ctrl-C.
    """
    _set_up_logging()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with stoppable(), redirect_stdout(cast("IO[str]", DiscreetStream(sys.stdout))):
            return _dispatch(words)
    except Stopped as stop:
        return _stopped(f"{stop}; {_then(words)}", CONTINUE)
    except KeyboardInterrupt:
        return interrupted(_then(words))
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        known = not isinstance(error, RuntimeError) or _of_a_gpu(error)
        if not known or os.environ.get("MINICRIT_DEBUG") == "1":
            raise
        return _stopped(_said(error), MISUSED if isinstance(error, SettingsError) else FAILED)


def _then(words: Sequence[str]) -> str:
    """What the same command does when it is given again after it was stopped."""
    if words and words[0] in _FORGETFUL:
        return ANEW
    return "the same command goes on from there"


def _said(error: Exception) -> str:
    """What is wrong and what mends it; of the system's own errors their file first."""
    if isinstance(error, MemoryError) or _of_a_gpu(error):
        return _NO_MEMORY
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    remedy = _REMEDIES.get(error.errno or 0, "check the path")
    if error.filename is not None:
        return f"{error.filename}: expected to use it, got: {error.strerror}; {remedy}"
    if error.errno in FULL:
        return f"expected to write a file, got: {error.strerror}; {remedy}"
    return str(error)


def _of_a_gpu(error: Exception) -> bool:
    """Whether its memory ran out; asked by name, as importing torch takes seconds."""
    return type(error).__name__ == "OutOfMemoryError"


def _dispatch(argv: list[str]) -> int:
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help"):
        sys.stdout.write(_overview())
        return OK
    if name == "critique":
        from minicrit.consult import consult

        refuse_login_node(name)
        refuse_unsafe_loading()
        consult(rest)
    elif name == "mcp":
        from minicrit.serving.mcp_server import run

        refuse_login_node(name)
        refuse_unsafe_loading()
        run(rest)
    elif name == "recipes":
        Flags(name, OTHERS[name]).read(rest)
        for recipe, about in shipped_recipes():
            sys.stdout.write(f"{recipe:<14}{about}\n")
    elif name in STAGES:
        _run(name, rest)
    else:
        known = [*STAGES, *OTHERS]
        raise SettingsError(
            f"expected a command ({', '.join(known)}), got {name!r}; "
            f"{meant(name, known, otherwise='see minicrit --help')}"
        )
    return OK


def _run(name: str, argv: Sequence[str]) -> None:
    stage = STAGES[name]
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("-h", "--help", action="store_true")
    try:
        options, flags = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise SettingsError("expected --config RECIPE, got none; see minicrit recipes") from error
    if options.help:
        usage = f"minicrit {name} [--config RECIPE] [--section.field VALUE ...]"
        about = f"{stage.about} RECIPE is a name (see minicrit recipes) or a YAML file; flags win."
        sys.stdout.write(explain(stage.sections, options.config, usage, about))
        return
    if name not in _LIGHT:
        refuse_login_node(name)
    if name != "doctor":  # which says so among the rest
        refuse_unsafe_loading()
    recipe = load_recipe(options.config, flags)
    check_destinations(name, recipe)
    stage.run(recipe)


def _overview() -> str:
    rows = [(name, stage.about) for name, stage in STAGES.items()] + list(OTHERS.items())
    lines = [f"  {name:<18}{about}" for name, about in rows]
    return "\n".join(["usage: minicrit COMMAND ...", "", *lines, "",
                      "minicrit COMMAND --help explains its settings.", ""])  # fmt: skip


def _set_up_logging() -> None:
    # Read once when transformers is imported; it would warn about what nobody here uses.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(level=logging.INFO)
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(DiscreetFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in _SETTLED:
        warnings.filterwarnings("ignore", message=message)


def _stopped(message: str, status: int) -> int:
    sys.stderr.write(f"minicrit: {discreet(message)}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
