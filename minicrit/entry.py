"""The command `minicrit`: what comes before its imports, which take a second or more.

Only what Python has loaded already is imported at the top, so that Ctrl-C has no gap.
"""

import sys

INTERRUPTED = 130
#: What a command does when it is given again that keeps nothing.
ANEW = "it keeps nothing, so the same command begins anew"


def main() -> int:
    """Runs one command, see `minicrit.cli`; the exit status."""
    try:
        try:
            from minicrit.cli import main as run

            return run()
        finally:
            _deaf()
    except KeyboardInterrupt:
        _deaf()
        return interrupted()


def interrupted(then: str = "the same command goes on from there") -> int:
    """Says that Ctrl-C has stopped the command, and what it does `then`; the exit status."""
    sys.stderr.write(f"minicrit: interrupted; {then}\n")
    return INTERRUPTED


def _deaf() -> None:
    """Ctrl-C does nothing from here on: the command is over, and libraries are cleaning up."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
