"""Arguments of the commands that take no recipe, refused in the words of all others."""

import argparse
import re
from collections.abc import Sequence
from typing import NoReturn

from minicrit.jsonl import shown
from minicrit.settings import SettingsError, meant

_CHOICE = re.compile(r"invalid choice: (.*) \(choose from (.*)\)", re.DOTALL)


class Flags(argparse.ArgumentParser):
    """The arguments of `minicrit COMMAND`."""

    def __init__(self, command: str, about: str) -> None:
        super().__init__(prog=f"minicrit {command}", description=about, allow_abbrev=False)

    def read(self, argv: Sequence[str], *, word: str = "leave it out") -> argparse.Namespace:
        """What the arguments say.

        Args:
            argv: those behind the command.
            word: what to do about a word that no flag takes.

        Raises:
            SettingsError: for a flag or word that is not known, or a value that cannot be.
        """
        options, unknown = self.parse_known_args(argv)
        if not unknown:
            return options
        if not unknown[0].startswith("-"):
            raise SettingsError(f"expected no further word, got {shown(unknown[0])}; {word}")
        flags = [flag for action in self._actions for flag in action.option_strings]
        raise SettingsError(f"expected a known flag, got {shown(unknown[0])}; "
                            f"{meant(unknown[0].partition('=')[0], flags)}")  # fmt: skip

    def error(self, message: str) -> NoReturn:
        """What argparse has to say of a value; it would write the usage and end the process."""
        flag, _, said = message.removeprefix("argument ").partition(": ")
        if wrong := _CHOICE.fullmatch(said):
            said = f"expected one of {wrong[2].replace(chr(39), '')}, got {wrong[1]}"
        elif said.startswith("expected ") and ", got " not in said:
            said += ", got none"
        raise SettingsError(f"{shown(flag)}: {shown(said, 300)}; see --help")


def a_share(text: str) -> float:
    """An argument from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, got {text}")
    return value


def at_least_one(text: str) -> int:
    """An argument that counts something."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return value
