"""The command line: what it prints, where, and with which exit status."""

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minicrit import cli
from minicrit.cli import FAILED, MISUSED, OK, main
from minicrit.consult import as_json, readable
from minicrit.critic import Critic, Written
from minicrit.entry import INTERRUPTED
from minicrit.settings import shipped_recipes
from minicrit.stages import STAGES, Stage
from minicrit.stopping import Stopped
from minicrit.verdict import Verdict

ROOT = Path(__file__).parent.parent.parent
RATIONALE = "Three of three swans were white, so all swans are white."


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MINICRIT_DEBUG", raising=False)


def run(capsys, *argv: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(argv)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("argv", [(), ("--help",), ("-h",)])
def test_overview_lists_every_command(capsys, argv):
    status, out, _ = run(capsys, *argv)
    assert status == OK
    for name in (*STAGES, "critique", "recipes"):
        assert f"\n  {name} " in out


@pytest.mark.parametrize("name", list(STAGES))
def test_help_of_a_stage_shows_its_sections(capsys, name):
    status, out, _ = run(capsys, name, "--help")
    assert status == OK
    assert f"usage: minicrit {name} [--config RECIPE]" in out
    shown = {line.split()[0].split(".")[0].lstrip("-") for line in out.splitlines()
             if line.startswith("  --")}  # fmt: skip
    assert shown == {"seed", *STAGES[name].sections}


def test_help_mentions_units_and_the_values_of_the_recipe(capsys):
    _, out, _ = run(capsys, "sft", "--config", "tiny", "--help")
    text = " ".join(out.split())
    assert "optimizer steps between resumable checkpoints. (type: int, default: 2)" in text
    assert "keep it small on small machines. (type: int, default: 8)" in text
    assert "most tokens in one forward pass" in text


def test_recipes_are_listed_with_what_they_are(capsys):
    status, out, _ = run(capsys, "recipes")
    assert status == OK
    assert [line.split()[0] for line in out.splitlines()] == [n for n, _ in shipped_recipes()]
    assert "0.2 M parameters" in out


@pytest.mark.parametrize(("argv", "message"), [
    (["quantise"], "got 'quantise'; did you mean quantize?"),
    (["sft", "--sft.learnin_rate", "1"], "did you mean --sft.learning_rate?"),
    (["sft", "--config", "cpus"], "got cpus; did you mean cpu?"),
    (["sft", "--config"], "expected --config RECIPE, got none"),
    (["critique"], "expected a rationale or --file FILE, got both or none"),
    (["critique", "a", "--file", "b"], "expected a rationale or --file FILE, got both or none"),
    (["critique", "a", "--jsn"], "expected a known flag, got --jsn; did you mean --json?"),
    (["critique", "a", "b"], "expected no further word, got b; quote a rationale"),
    (["nosuch"], "got 'nosuch'; see minicrit --help"),
    (["sft", "--config", "x"], "got x; see minicrit recipes"),
    (["recipes", "--nosuch"], "expected a known flag, got --nosuch; see --help"),
    (["recipes", "extra"], "expected no further word, got extra; leave it out"),
    (["mcp", "--nosuch"], "expected a known flag, got --nosuch; see --help"),
    (["mcp", "--modle", "x"], "expected a known flag, got --modle; did you mean --model?"),
])  # fmt: skip
def test_misuse_is_named_in_one_line(capsys, argv, message):
    status, out, err = run(capsys, *argv)
    assert (status, out) == (MISUSED, "")
    assert err.startswith("minicrit: expected ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", list(STAGES))
def test_a_flag_that_is_like_none_is_not_said_to_be_one(capsys, name):
    status, out, err = run(capsys, name, "--nosuch")
    assert (status, out) == (MISUSED, "")
    assert err == "minicrit: expected a known flag, got --nosuch; see --help\n"


@pytest.mark.parametrize(("argv", "message"), [
    (["mcp", "--max-new-tokens", "0"], "--max-new-tokens: expected 1 or more, got 0"),
    (["critique", "a", "--max-new-tokens", "0"], "--max-new-tokens: expected 1 or more, got 0"),
    (["mcp", "--timeout-s", "soon"], "--timeout-s: expected 1 or more, got soon"),
    (["critique", "a", "--threshold", "2"], "--threshold: expected a share from 0 to 1, got 2"),
    (["critique", "a", "--threshold", "x"], "--threshold: expected a share from 0 to 1, got x"),
    (["critique", "a", "--model"], "--model: expected one argument, got none"),
    (["critique", "a", "--domain", "law"],
     "--domain: expected one of trading, defense, cybersecurity, medical, planning, "
     "general, got 'law'"),
])  # fmt: skip
def test_a_value_that_cannot_be_is_named_in_one_line(capsys, argv, message):
    status, out, err = run(capsys, *argv)
    assert (status, out) == (MISUSED, "")
    assert err.startswith(f"minicrit: {message}")
    assert err.endswith("; see --help\n")
    assert err.count("\n") == 1


def test_what_a_stage_refuses_is_one_line_and_status_1(capsys):
    status, out, err = run(capsys, "report", "--benchmark.out", "none/benchmark",
                           "--sft.out", "none/sft", "--data.folder", "none/data")  # fmt: skip
    assert (status, out) == (FAILED, "")
    assert err.startswith("minicrit: none/benchmark.json: expected results to report, got none")
    assert err.count("\n") == 1


def test_debug_shows_where(monkeypatch):
    monkeypatch.setenv("MINICRIT_DEBUG", "1")
    with pytest.raises(ValueError, match="did you mean quantize"):
        main(["quantise"])


@pytest.mark.parametrize(("error", "status", "message"), [
    (KeyboardInterrupt(), INTERRUPTED, "interrupted; the same command goes on from there"),
    (OSError(28, "No space left on device"), FAILED,
     "expected to write a file, got: No space left on device; free some space; the same command"),
    (OSError(27, "File too large"), FAILED,
     "expected to write a file, got: File too large; raise the limit of a file (ulimit -f)"),
    (OSError(27, "File too large", "x"), FAILED, "x: expected to use it, got: File too large; rai"),
    (OSError(13, "Permission denied"), FAILED, "[Errno 13] Permission denied"),  # of a socket
    (OSError(28, "No space left on device", "/data/x"), FAILED,
     "/data/x: expected to use it, got: No space left on device; free some space; the same"),
    (FileNotFoundError(2, "No such file or directory", "x.jsonl"), FAILED,
     "x.jsonl: expected to use it, got: No such file or directory; check the path"),
    (PermissionError(13, "Permission denied", "x"), FAILED, "change its permissions"),
    (ValueError("a.jsonl:3: expected x, got y; mend it"), FAILED, "a.jsonl:3: expected x"),
    (MemoryError(), FAILED, "expected enough memory, got too little; free some or lower"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\n"), FAILED,
     "expected enough memory, got too little; free some or lower"),
    (Stopped("stopped by SIGUSR1 after step 3 of 8"), 85,
     "stopped by SIGUSR1 after step 3 of 8; the same command goes on from there"),
])  # fmt: skip
def test_how_a_stage_ends(capsys, monkeypatch, error, status, message):
    def stage(_):
        raise error

    monkeypatch.setitem(STAGES, "base", Stage("", ("base",), stage))
    found, _, err = run(capsys, "base")
    assert found == status
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [ZeroDivisionError, RuntimeError])
def test_bugs_keep_their_traceback(monkeypatch, error):
    def stage(_):
        raise error

    monkeypatch.setitem(STAGES, "base", Stage("", ("base",), stage))
    with pytest.raises(error):
        main(["base"])


def test_a_stage_gets_the_recipe(monkeypatch):
    seen = []
    monkeypatch.setitem(STAGES, "base", Stage("", ("base",), seen.append))
    assert main(["base", "--seed", "3", "--config", "tiny", "--base.revision", "abc"]) == OK
    assert (seen[0].seed, seen[0].base.model, seen[0].base.revision) == (3, "tiny", "abc")


def test_base_prints_folder_and_identity(capsys, tiny, tiny_folder):
    status, out, _ = run(capsys, "base", "--config", "tiny", "--base.folder", str(tiny_folder))
    assert status == OK
    assert out == f"{tiny_folder}/tiny {tiny.identity}\n"


@pytest.fixture
def ask(capsys, tiny, tiny_folder):
    """Runs `critique` on the tiny base."""
    options = ["--model", "tiny", "--base-folder", str(tiny_folder), "--max-new-tokens", "6"]
    return lambda *argv: run(capsys, "critique", *argv, *options)


def test_critique_for_people(ask):
    status, out, _ = ask(RATIONALE, "--domain", "general")
    assert status == OK
    label, p = out.split()[0], float(out.split("p(flawed) ")[1][:4])
    assert label == ("FLAWED" if p > 0.5 else "VALID")
    assert "threshold 0.50" in out


def test_critique_as_json_lines_in_order(ask):
    Path("a.txt").write_text(RATIONALE + "\n")
    Path("b.jsonl").write_text(json.dumps({"rationale": "Buy.", "domain": "trading"}) + "\n"
                               + json.dumps({"input": "Wait.", "label": None}) + "\n")  # fmt: skip
    status, out, _ = ask("--file", "a.txt", "b.jsonl", "--json", "--domain", "medical")
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == OK
    assert [row["domain"] for row in rows] == ["medical", "trading", "medical"]
    assert len({row["request_id"] for row in rows}) == 3
    assert all(0 <= row["p_flawed"] <= 1 and row["prompt_version"] == "plain-1" for row in rows)
    assert ask(RATIONALE, "--json", "--domain", "medical")[1].count("\n") == 1


def test_a_text_from_another_system_is_the_same_text(ask):
    Path("a.txt").write_bytes(b"One.\nTwo, so buy.\n")
    Path("b.txt").write_bytes(b"\xef\xbb\xbfOne.\r\nTwo, so buy.\r\n")
    rows = [json.loads(ask("--file", name, "--json")[1]) for name in ("a.txt", "b.txt")]
    assert rows[0]["request_id"] == rows[1]["request_id"]
    assert rows[0]["p_flawed"] == rows[1]["p_flawed"]


def test_a_text_is_read_as_the_service_reads_it(ask):
    """Letters in one piece, blanks at the beginning as they are, none at the end."""
    said = [
        json.loads(ask(text, "--json")[1])["request_id"]
        for text in (
            "  Cafe\u0301s won, so buy.",
            "  Caf\u00e9s won, so buy. \n",
            "Caf\u00e9s won, so buy.",
        )
    ]
    assert said[0] == said[1] != said[2]


def test_critique_of_standard_input(ask, monkeypatch):
    texts = []
    for argv in (["-"], ["--file", "-"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(RATIONALE.encode())))
        texts.append(json.loads(ask(*argv, "--json")[1])["request_id"])
    assert texts == [json.loads(ask(RATIONALE, "--json")[1])["request_id"]] * 2


@pytest.mark.parametrize(("name", "content", "message"), [
    ("none.txt", None, "none.txt: expected a text file in UTF-8, got none"),
    ("x.txt", b"\xff\xfe", "x.txt: expected a text file in UTF-8, got other bytes"),
    ("x.txt", b" \n", "x.txt: expected a rationale, got ' \\n'; fill it in"),
    ("x.txt", b"Buy\x1b[2J.", "x.txt: expected text with no control characters but newline"),
    ("x.txt", b"Buy" + b"\xcc\x95" * 31, "x.txt: expected at most 30 combining marks in a row"),
    ("x.jsonl", b'{"rationale": 3}\n', "x.jsonl:1: expected a rationale, got 3"),
    ("x.jsonl", b'{"id": 1, "text": "Buy."}\n', "x.jsonl:1: expected the key 'rationale', got "
     "'id', 'text'; rename the one it is in"),
    ("x.jsonl", b'\n{"rationale": "a", "domain": "law"}\n', "x.jsonl:2: expected domain of tr"),
    ("x.jsonl", b'{"rationale": NaN}\n', "x.jsonl:1: expected a finite number, got NaN"),
    ("x.jsonl", b"", "x.jsonl:1: expected at least one rationale, got none; check the file"),
    ("x.jsonl", b"\n\n", "x.jsonl:1: expected at least one rationale, got none"),
    ("x.csv", b"rationale\na\nb\n", "x.csv: expected a text, or rows as .jsonl, got a table"),
    ("x.TSV", b"rationale\na\n", "x.TSV: expected a text, or rows as .jsonl, got a table"),
    ("x.json", b'[{"rationale": "a"}, {"rationale": "b"}]', "x.json: expected a text, or rows as "
     ".jsonl, got a table or other JSON; write each row as"),
    ("x.JSONL", b'{"rationale": "Buy."}\n{"rationale": 3}\n', "x.JSONL:2: expected a rationale"),
])  # fmt: skip
def test_what_cannot_be_judged_is_named(capsys, name, content, message):
    if content is not None:
        Path(name).write_bytes(content)
    status, out, err = run(capsys, "critique", "--file", name)
    assert (status, out) == (FAILED, "")
    assert err.startswith(f"minicrit: {message}")


def test_all_that_cannot_be_judged_is_named_at_once(capsys):
    """One a run before; and the 22nd is counted, not shown."""
    rows = ['{"rationale": "Buy."}', '{"rationale": 3}', "{", *['{"domain": "law"}'] * 19]
    Path("x.jsonl").write_text("\n".join(rows))
    status, _, err = run(capsys, "critique", "--file", "none.txt", "x.jsonl", "gone.jsonl")
    said = err.splitlines()
    assert status == FAILED
    assert [line.partition(": expected")[0] for line in said[:4]] == [
        "minicrit: none.txt", "x.jsonl:2", "x.jsonl:3", "x.jsonl:4"]  # fmt: skip
    assert said[20:] == ["and 3 more"]


@pytest.mark.parametrize(("argv", "where"), [
    (("--file", "a.txt", "b.jsonl", "long.txt"), "b.jsonl:2"),
    (("--file", "a.txt", "long.txt"), "long.txt"), (("so " * 5000,), "argument"),
])  # fmt: skip
def test_what_is_too_long_is_named_before_anything_is_judged(ask, monkeypatch, argv, where):
    monkeypatch.setattr(Critic, "critique", lambda *_, **__: pytest.fail("it was judged"))
    Path("a.txt").write_text(RATIONALE)
    Path("long.txt").write_text("so " * 5000)
    rows = [{"rationale": RATIONALE}, {"rationale": "so " * 5000}]
    Path("b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, err = ask(*argv)
    assert (status, out) == (FAILED, "")
    said = rf"{where}: expected at most \d{{4}} prompt tokens, got \d+; shorten or split it"
    assert re.search(f"^minicrit: {said}$", err, re.MULTILINE)


def test_an_argument_of_other_bytes_is_named(capsys):
    status, _, err = run(capsys, "critique", "bad \udcff bytes")
    assert status == FAILED
    assert err.startswith("minicrit: argument: expected whole characters, got lone surrogate")


def test_answers_never_steer_the_terminal():
    evil = "\x1b[2J\u202eeurt\nFix: nothing"
    verdict = Verdict(
        label="flawed", p_flawed=0.75, threshold=0.5, domain="general", model="m", adapter=None,
        prompt_version="plain-1", latency_ms=12.4, request_id="r", flaw_type="small_sample",
        severity="medium", evidence=evil, critique="Three cases.",
    )  # fmt: skip
    written = Written(verdict, text=evil, parsed=None, reason="line 2: \x9b", tokens=3)
    assert readable(written) == (
        "FLAWED   p(flawed) 0.75, threshold 0.50, 12 ms\n"
        "  Flaw:      small_sample (medium)\n"
        "  Evidence:  \\x1b[2J\\u202eeurt\\nFix: nothing\n"
        "  Critique:  Three cases.\n"
        "  Unparsed:  line 2: \\x9b"
    )
    close = replace(written, verdict=replace(verdict, p_flawed=0.5312, threshold=0.5308))
    assert readable(close).startswith("FLAWED   p(flawed) 0.5312, threshold 0.5308, 12 ms\n")
    line = as_json(written)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["evidence"] == evil


def subprocess_of(*argv: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, check=False, env=env
    )


def test_as_a_process():
    done = subprocess_of("-m", "minicrit.cli", "sft", "--config", "cpu", "--sft.epoch", "1")
    assert done.returncode == MISUSED
    assert done.stderr == (
        "minicrit: expected a known flag, got --sft.epoch; did you mean --sft.epochs?\n"
    )


def test_help_does_not_wait_for_slow_imports():
    code = f"import sys, {cli.__name__} as c; c.main(['sft', '--help']); print(set(sys.modules) & "
    done = subprocess_of("-c", code + "{'torch', 'transformers', 'lightning', 'sklearn'})")
    assert done.stdout.endswith("\nset()\n")


def test_ctrl_c_while_the_command_is_imported_is_one_line():
    """Python's own packages alone may be loaded before; the script of the command is this call."""
    interrupting = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run behind nohup

class Early:
    def find_spec(self, name, *rest):
        if name == "minicrit.settings":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Early())
from minicrit.entry import main
assert not sys.modules.keys() & {"minicrit.cli", "argparse", "logging"}
sys.exit(main())
"""
    done = subprocess_of("-c", interrupting)
    assert done.returncode == INTERRUPTED
    assert done.stderr == "minicrit: interrupted; the same command goes on from there\n"


@pytest.mark.parametrize(("argv", "status"), [(["recipes"], OK), (["quantise"], MISUSED)])
def test_ctrl_c_after_the_command_leaves_its_status(argv, status):
    """Libraries clean up then, and a traceback of theirs would look as if the result were lost."""
    interrupting = f"""
import atexit, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(signal.raise_signal, signal.SIGINT)
sys.argv[1:] = {argv}
from minicrit.entry import main
sys.exit(main())
"""
    done = subprocess_of("-c", interrupting)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert "KeyboardInterrupt" not in done.stderr
