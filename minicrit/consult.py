"""`minicrit critique`: rationales from an argument, files or standard input, judged by a critic.

minicrit critique "RSI is oversold, so ..." --domain trading
minicrit critique --file notes/*.txt --json
git log -1 --format=%B | minicrit critique -
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from minicrit.flags import Flags, a_share, at_least_one
from minicrit.jsonl import BadLine, RefusedError, check_string, read_lines, shown
from minicrit.marks import check_marks
from minicrit.serving.answers import normalised
from minicrit.serving_config import RELEASED_CRITIC
from minicrit.settings import SettingsError
from minicrit.taxonomy import DOMAINS

if TYPE_CHECKING:
    from minicrit.critic import Critic, Written

STDIN = "-"
_BATCH = 8  # rationales written at once; answers appear after each batch
_LONGEST = 1 << 20  # characters of one rationale that are shown or read
_FIRST = 20  # of what is no use, as shown
_TABLES = (".csv", ".tsv", ".ndjson", ".json", ".csv.gz")  # each row a text, not the file one
_DECIMALS = 6  # of p and threshold, at most
_REASON = 300  # characters shown of why a critique is unparsed; it quotes the text
Item = tuple[str, str]  # (domain, rationale)


def consult(argv: Sequence[str]) -> None:
    """Judges what the arguments name and prints an answer each, in order.

    Raises:
        ValueError: if an input is no use, the critic does not load, or it is a quantized one that
            was not released, unless it was asked for as such; then nothing has been judged.
    """
    options = _options(argv)
    given = _items(options)
    from minicrit.critic import Critic  # slow: not before the arguments are known to be right

    critic = Critic.load(options.model, base_folder=options.base_folder)
    if not options.unreleased:
        critic.require_released("--unreleased")
    if options.threshold is not None:
        critic.threshold = options.threshold
    critic.require_room(options.max_new_tokens, "--max-new-tokens")
    _refuse_too_long(critic, given, options.max_new_tokens)
    items = [item for _, item in given]
    show = as_json if options.json else readable
    with tqdm(total=len(items), unit="rationale", desc="critique", disable=len(items) == 1) as bar:
        for at in range(0, len(items), _BATCH):
            batch = items[at : at + _BATCH]
            for written in critic.critique(batch, max_new_tokens=options.max_new_tokens):
                sys.stdout.write(show(written) + "\n")
            sys.stdout.flush()
            bar.update(len(batch))


def _refuse_too_long(critic: "Critic", given: Sequence[tuple[str, Item]], longest: int) -> None:
    """Names what the critic cannot read by where it stands, before anything is judged."""
    from minicrit.encoding import TooLongError  # slow, as above

    faults = []
    for where, item in given:
        try:
            critic.prompt(*item, longest)
        except TooLongError as error:
            faults.append(f"{where}: {str(error).partition(';')[0]}; shorten or split it")
    _refuse(faults)


def as_json(written: "Written") -> str:
    """The verdict as one line of ASCII JSON, so that no character of it steers a terminal."""
    return json.dumps(written.verdict.to_row(), allow_nan=False)


def readable(written: "Written") -> str:
    """The verdict in a few lines for people."""
    verdict = written.verdict
    known = " (calibrated)" if verdict.calibrated else ""
    p, threshold = _apart(verdict.p_flawed, verdict.threshold)
    lines = [f"{verdict.label.upper()}   p(flawed) {p}{known}, threshold {threshold}, "
             f"{verdict.latency_ms:.0f} ms"]  # fmt: skip
    if verdict.unsure:
        lines.append("  Unsure:    the calibration does not vouch for this verdict; look yourself")
    rows = {
        "Flaw": verdict.flaw_type and f"{verdict.flaw_type} ({verdict.severity})",
        "Evidence": verdict.evidence,
        "Strengths": written.parsed and written.parsed.strengths,
        "Critique": verdict.critique,
        "Fix": verdict.fix,
        "Unparsed": written.reason and shown(written.reason, _REASON),
    }
    lines += [f"  {name + ':':<11}{shown(text, _LONGEST)}" for name, text in rows.items() if text]
    return "\n".join(lines)


def _apart(p: float, threshold: float) -> tuple[str, str]:
    """Both with two decimals, or as many as it takes to see that they differ."""
    for digits in range(2, _DECIMALS):
        pair = f"{p:.{digits}f}", f"{threshold:.{digits}f}"
        if pair[0] != pair[1] or p == threshold:
            return pair
    return f"{p:.{_DECIMALS}f}", f"{threshold:.{_DECIMALS}f}"


def _options(argv: Sequence[str]) -> argparse.Namespace:
    about = "Say whether the reasoning of rationales is valid or flawed, and why."
    parser = Flags("critique", about)
    parser.add_argument("text", nargs="?", help="the rationale; - reads it from standard input")
    parser.add_argument("--file", nargs="+", default=[], metavar="FILE",
                        help="files of one rationale each, or *.jsonl[.gz] with a rationale a "
                        "line (fields rationale and, if it has one, domain)")  # fmt: skip
    parser.add_argument("--domain", choices=DOMAINS, default="general",
                        help="of what names no domain itself (default: general)")  # fmt: skip
    parser.add_argument("--model", default=RELEASED_CRITIC,
                        help="the folder of a critic, a router or an export of format hf, or a "
                        "base (default: %(default)s)")  # fmt: skip
    parser.add_argument("--unreleased", action="store_true",
                        help="ask a quantized critic although its comparison did not release "
                        "it")  # fmt: skip
    parser.add_argument("--base-folder", type=Path, default=Path("checkpoints/base"),
                        help="where bases are kept (default: checkpoints/base)")  # fmt: skip
    parser.add_argument("--threshold", type=a_share, metavar="P",
                        help="flag above this p(flawed), whatever is certified (default: the "
                        "certified one, else 0.5)")  # fmt: skip
    parser.add_argument("--max-new-tokens", type=at_least_one, default=160,
                        help="longest critique, in tokens (default: 160)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object a rationale")
    options = parser.read(argv, word="quote a rationale")
    if (options.text is None) == (not options.file):
        raise SettingsError('expected a rationale or --file FILE, got both or none; try minicrit '
                            'critique "..."')  # fmt: skip
    return options


def _items(options: argparse.Namespace) -> list[tuple[str, Item]]:
    """What is asked about, each with where it stands.

    Raises:
        ValueError: with all that is no use.
    """
    if options.text not in (None, STDIN):
        return [("argument", (options.domain, _checked("argument", options.text)))]
    names = options.file or [STDIN]
    found = [one for name in names for one in _of_file(name, options.domain)]
    _refuse([fault for fault in found if isinstance(fault, str)])
    return [one for one in found if not isinstance(one, str)]


def _refuse(faults: Sequence[str]) -> None:
    """All of them in one error, or none."""
    if faults:
        more = [f"and {len(faults) - _FIRST} more"] if len(faults) > _FIRST else []
        raise ValueError("\n".join([*faults[:_FIRST], *more]))


def _of_file(name: str, domain: str) -> Iterator[tuple[str, Item] | str]:
    """The rationales of a file; what is no use comes as what is wrong with it."""
    try:
        if name.lower().endswith((".jsonl", ".jsonl.gz")):
            lines = list(read_lines(name))
            if not lines:  # an exit status of 0 would be taken for nothing flawed
                yield f"{name}:1: expected at least one rationale, got none; check the file"
            for line in lines:
                yield _row(Path(name), line, domain)
        elif name.lower().endswith(_TABLES):
            yield (f"{name}: expected a text, or rows as .jsonl, got a table or other JSON; write "
                   'each row as {"rationale": "...", "domain": "..."}')  # fmt: skip
        else:
            yield name, (domain, _checked(name, _read(name)))
    except ValueError as error:
        yield str(error)


def _read(name: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
        # As everywhere else: a mark of the byte order and ends of lines are no part of a text.
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError) as error:
        got = "other bytes" if isinstance(error, UnicodeDecodeError) else "none"
        raise ValueError(f"{name}: expected a text file in UTF-8, got {got}; check it") from error


def _row(
    path: Path, line: tuple[int, dict[str, Any]] | BadLine, domain: str
) -> tuple[str, Item] | str:
    if isinstance(line, BadLine):
        return str(line)
    number, row = line
    if not {"rationale", "input"} & row.keys():
        keys = shown(", ".join(map(repr, row)) or "none")
        return f"{path}:{number}: expected the key 'rationale', got {keys}; rename the one it is in"
    where, found = f"{path}:{number}", row.get("domain", domain)
    if found not in DOMAINS:
        return (f"{where}: expected domain of {', '.join(DOMAINS)}, got {shown(repr(found))}; pick "
                "one or leave it out")  # fmt: skip
    try:
        return where, (found, _checked(where, row.get("rationale", row.get("input"))))
    except ValueError as error:
        return str(error)


def _checked(where: str, text: object) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where}: expected a rationale, got {shown(repr(text))}; fill it in")
    if len(text) > _LONGEST:
        raise ValueError(f"{where}: expected at most {_LONGEST} characters, got {len(text)}; "
                         "split it")  # fmt: skip
    try:
        check_string(text)
        check_marks(text)
    except RefusedError as error:
        raise ValueError(f"{where}: {error}") from error
    return normalised(text)  # as the service and MCP read it
