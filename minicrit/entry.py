"""The command `minicrit`: what comes before its imports, which take a second or more.

Only what Python has loaded already is imported at the top, so that Ctrl-C has no gap.
"""

import sys

INTERRUPTED = 130


def main() -> int:
    """Runs one command, see `minicrit.cli`; the exit status."""
    try:
        from minicrit.cli import main as run

        return run()
    except KeyboardInterrupt:
        return interrupted()


def interrupted() -> int:
    """Says that Ctrl-C has stopped the command; the exit status for that."""
    sys.stderr.write("minicrit: interrupted; the same command continues where it stopped\n")
    return INTERRUPTED
