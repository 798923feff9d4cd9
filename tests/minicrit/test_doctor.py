"""The doctor: every check can be fine and can complain, keys are never shown."""

import json
import os
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from data_gen.backends import reachable
from minicrit import cli
from minicrit.config import BaseConfig, Recipe
from minicrit.doctor import (
    KEYS,
    available_memory,
    check_base,
    check_disks,
    check_hub,
    check_keys,
    check_memory,
    check_python,
    check_server,
    doctor,
    examine,
)
from minicrit.findings import Finding, fail, lines, ok, refuse_failures, warn
from minicrit.graphics import check_bitsandbytes, check_precision, gpus, judge_cuda
from minicrit.settings import load_recipe
from minicrit.wheels import MALWARE, check_wheels, installed

SERVERS = {"Ollama": lambda _: "ConnectError", "hub": lambda _: None}


@pytest.fixture(autouse=True)
def _plain(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (*KEYS, "MINICRIT_KEYS", "HF_HUB_OFFLINE", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        monkeypatch.delenv(name, raising=False)


def levels(findings) -> list[str]:
    return [finding.level for finding in findings]


def test_this_machine_is_examined_and_every_key_stays_hidden(capsys, monkeypatch, tiny):
    for name in KEYS:
        monkeypatch.setenv(name, f"canary-{name}")
    recipe = Recipe(base=BaseConfig(model="tiny", folder=tiny.folder.parent))
    doctor(recipe, SERVERS)
    out = capsys.readouterr().out
    assert {line.split()[1] for line in out.splitlines()} == {
        "python", "wheels", "cuda", "precision", "bitsandbytes", "disk", "temporary", "memory",
        "key", "base", "Ollama", "hub",
    }  # fmt: skip
    assert out.count(" is set\n") == len(KEYS)
    assert "canary" not in out
    assert f"base         tiny, {tiny.identity[:12]}" in out
    recipe.doctor.json = True
    doctor(recipe, SERVERS)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == [line.split()[1] for line in out.splitlines()]
    assert all(row["level"] in ("ok", "warn", "fail") for row in rows)


def test_a_failure_is_status_1_and_a_warning_is_not(capsys, monkeypatch):
    command = ["doctor", "--config", "tiny", "--doctor.timeout", "0.1"]
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert cli.main(command) == cli.OK
    out, _ = capsys.readouterr()
    assert "warn  Ollama       not reached (ConnectError); start it with `ollama serve`" in out
    assert cli.main([*command, "--doctor.least_disk", "1e9"]) == cli.FAILED
    out, err = capsys.readouterr()
    assert "fail  disk" in out
    assert err == ("minicrit: expected a machine that is ready, got trouble with disk, temporary; "
                   "mend each as its line says\n")  # fmt: skip


def test_loading_that_runs_code_is_found(monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    found = [f for f in examine(Recipe(), SERVERS) if f.name == "host"]
    assert levels(found) == ["fail"]
    assert "unset TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" in lines(found)


def test_lines_for_people_cannot_steer_a_terminal():
    text = lines([ok("a", "x\x1b[2J"), warn("b", "y", "do z"), fail("c", "\u202e", "w")])
    assert text == ("ok    a            x\\x1b[2J\nwarn  b            y; do z\n"
                    "fail  c            \\u202e; w\n")  # fmt: skip
    with pytest.raises(ValueError, match="got trouble with c;"):
        refuse_failures([warn("b", "y", "z"), fail("c", "x", "w")])


@pytest.mark.parametrize(("name", "version"), [(n, v) for n, vs in MALWARE.items() for v in vs])
def test_malware_is_refused_by_its_version(name, version):
    found = list(check_wheels({name: version}))
    assert found[0] == Finding(
        "wheels", "fail", f"{name} {version} is malware that steals credentials",
        "remove .venv, change all keys that it could read, make setup",
    )  # fmt: skip


def test_versions_are_compared_with_the_tested_ones(tmp_path):
    pins = tmp_path / "constraints.txt"
    pins.write_text("# made with\ntorch==2.13.0\nPy_YAML==6.0.3\nabsent==1\n")
    assert levels(check_wheels({"torch": "2.13.0+cpu", "py-yaml": "6.0.3"}, pins)) == ["ok"]
    (one,) = check_wheels({"torch": "2.12.1", "py-yaml": "6.0.3"}, pins)
    assert (one.level, one.said) == (
        "warn",
        "other versions than were tested: torch 2.12.1 for 2.13.0",
    )
    assert levels(check_wheels({"lightning": "2.6.5"}, pins)) == ["fail", "ok"]
    assert levels(check_wheels({"torch": "2.5.1"}, pins)) == ["fail", "warn"]
    assert levels(check_wheels({}, tmp_path / "none")) == ["warn"]
    assert installed()["torch"]


@pytest.mark.parametrize(("recipe", "level"), [
    ("cpu", "ok"), ("workstation", "fail"), ("vista", "warn"),
])  # fmt: skip
def test_a_recipe_for_a_gpu_needs_one(recipe, level):
    dtype = load_recipe([recipe], []).base.dtype
    for found in ([], None):
        finding = judge_cuda(found, "13.0", available=False, dtype=dtype)
        assert finding.level == ("warn" if found is None and recipe == "cpu" else level)
    assert judge_cuda(["GH200"], "13.0", available=True, dtype=dtype).level == "ok"


@pytest.mark.parametrize(("found", "cuda", "available", "level", "said"), [
    ([], None, False, "ok", "no GPU"), ([], "13.0", True, "ok", "CUDA 13.0"),
    (None, "13.0", False, "warn", "nvidia-smi fails"), (None, "13.0", True, "ok", "CUDA 13.0"),
    (["GH200, 580.1, 96 GB"], "13.0", True, "ok", "1 x GH200"),
    (["GH200, 580.1, 96 GB"], None, False, "fail", "torch is a CPU build"),
    (["GH200, 550.1, 96 GB"], "13.0", False, "fail", "cannot use it"),
])  # fmt: skip
def test_torch_and_the_driver_must_see_the_same(found, cuda, available, level, said):
    finding = judge_cuda(found, cuda, available=available)
    assert finding.level == level
    assert said in finding.said
    assert ("driver 580" in finding.remedy) == (said == "cannot use it")
    assert (
        " PIP_INDEX_URL" not in finding.remedy
    )  # it would take the place of the index of all else
    assert ("remove .venv" in finding.remedy) == (level == "fail")


@pytest.mark.parametrize(("multiplied", "words"), [
    (True, "auto is bf16-mixed and bfloat16"), (False, "auto is 32-true and float32"),
])  # fmt: skip
def test_it_says_what_auto_means_here(monkeypatch, multiplied, words):
    monkeypatch.setattr("minicrit.graphics.multiplies_bfloat16", lambda: multiplied)
    finding = check_precision()
    assert (finding.name, words in finding.said) == ("precision", True)


def test_what_nvidia_smi_says_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'H100, 580.95, 81559 MiB'\n")
    tool.chmod(0o755)
    assert gpus() == ["H100, 580.95, 81559 MiB"]
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpus() is None


def test_four_bit_products_are_tried():
    finding = check_bitsandbytes()
    assert finding.level == "ok"
    assert "4-bit on cpu, error " in finding.said


def test_disk_memory_and_python(tmp_path):
    assert levels(check_disks(tmp_path / "not" / "there", 0)) == ["ok", "ok"]
    assert levels(check_disks(tmp_path, 1e9)) == ["fail", "fail"]
    assert check_memory(3_000_000_000, 2.0).level == "ok"
    assert check_memory(1_000_000_000, 2.0).level == "warn"
    assert 0 < available_memory() < 1 << 50
    assert check_python().level in ("ok", "warn")


def test_a_file_of_keys_is_for_its_owner_alone(tmp_path, monkeypatch):
    keys = tmp_path / "keys"
    keys.write_text("ANTHROPIC_API_KEY=secret\n")
    monkeypatch.setenv("MINICRIT_KEYS", str(keys))
    keys.chmod(0o640)
    assert [f.remedy for f in check_keys()][-1] == f"chmod 600 {keys}"
    for mode in (0o600, 0o400):
        keys.chmod(mode)
        assert levels(check_keys()) == ["ok"] * len(KEYS)


def test_bases(tmp_path, tiny, monkeypatch):
    def level(model, revision=None):
        told = BaseConfig(model=model, folder=tmp_path / "bases", revision=revision)
        return check_base(Recipe(base=told)).level

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    assert level("tiny") == level("Nobody/nothing-of-that-name") == "warn"
    assert level(str(tiny.folder)) == "ok"
    assert level("no id of the hub/at/all") == "fail"
    (tmp_path / "bases" / "tiny").mkdir(parents=True)
    for text in ("{torn", "[]", "{}"):  # said in its line; the checks after it go on
        (tmp_path / "bases" / "tiny" / "manifest.json").write_text(text)
        assert level("tiny") == "fail"


def test_servers_answer_or_not():
    class Server(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(500 if self.path == "/broken" else 404)
            self.end_headers()

        def log_message(self, *_):
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Server)
    Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    try:
        os.environ["OLLAMA_HOST"], os.environ["HF_ENDPOINT"] = host, f"http://{host}/broken"
        assert reachable.ollama(5) is None
        assert reachable.hub(5) == "status 500"
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            os.environ["OLLAMA_HOST"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
            assert reachable.ollama(0.2) == "ReadTimeout"
    finally:
        server.shutdown()
        del os.environ["OLLAMA_HOST"], os.environ["HF_ENDPOINT"]


@pytest.mark.parametrize(("host", "asked"), [
    ("0.0.0.0", "http://0.0.0.0:11434"), ("myhost", "http://myhost:11434"),
    ("myhost:80", "http://myhost:80"), ("https://far.example", "https://far.example"),
])  # fmt: skip
def test_ollama_is_looked_for_where_its_client_would(monkeypatch, host, asked):
    monkeypatch.setenv("OLLAMA_HOST", host)
    monkeypatch.setattr(reachable, "_trouble", lambda url, timeout: url)
    assert reachable.ollama(1) == asked


def test_the_hub_may_be_left_alone_on_purpose(monkeypatch):
    assert check_hub(lambda _: "ConnectError", 1).level == "warn"
    assert check_server("x", lambda _: None, 1, "").level == "ok"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert check_hub(lambda _: "ConnectError", 1).said == "offline, as HF_HUB_OFFLINE says"


def test_login_nodes_of_vista_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(socket, "gethostname", lambda: "login1.vista.tacc.utexas.edu")
    for command in (["sft", "--config", "tiny"], ["critique", "a text"], ["data"]):
        assert cli.main(command) == cli.FAILED
        assert "expected a compute node, got login1.vista" in capsys.readouterr().err
    assert cli.main(["runs"]) == cli.OK
    assert not list(Path().iterdir())
