"""API keys: made once, kept as hashes, asked for everywhere but where only this machine listens."""

import errno
import json
import socket
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from minicrit.cli import main
from minicrit.files import write_json
from minicrit.serving.keys import Keys, make_key
from minicrit.serving.serve import begin_to_listen, bound, keys_of
from tests.minicrit.serving.running import config_of, raw, running


def test_a_key_is_shown_once_and_never_kept(tmp_path):
    path = tmp_path / "keys.json"
    first, second = make_key(path, "ann"), make_key(path, "bob")
    assert first != second
    assert len(first) > 40
    text = path.read_text()
    assert first not in text
    assert second not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    keys = Keys(path)
    assert (keys.owner(first), keys.owner(second)) == ("ann", "bob")
    assert keys.owner(first[:-1]) is keys.owner("") is keys.owner("\ud800") is None


def test_of_keys_made_at_once_none_is_lost(tmp_path):
    """Each was printed for its owner, who would find it refused."""
    path, names = tmp_path / "feedback" / "keys.json", [f"k{n}" for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda name: make_key(path, name), names))
    keys = Keys(path)
    assert [keys.owner(key) for key in made] == names


@pytest.mark.parametrize(("name", "said"), [("ann", "a new name"), ("../x", "plain|letters"),
                                            ("", "letters"), ("a\nb", "letters")])  # fmt: skip
def test_names_that_are_refused(tmp_path, name, said):
    make_key(tmp_path / "keys.json", "ann")
    with pytest.raises(ValueError, match=said):
        make_key(tmp_path / "keys.json", name)


@pytest.mark.parametrize("text", ["{}", "[]", '{"keys": {"a": {"sha256": "x"}}}', '{"keys": 3}'])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(ValueError, match=r"keys.json: expected a file of keys"):
        Keys(tmp_path / "keys.json")


def test_others_can_reach_it_only_with_keys(tmp_path):
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        with pytest.raises(ValueError, match=r"serve.key_file: expected keys for"):
            keys_of(config_of(tmp_path, host=host))
    assert not keys_of(config_of(tmp_path, host="127.0.0.1"))
    with pytest.raises(ValueError, match=r"serve.key_file: expected keys in .*, got no file"):
        keys_of(config_of(tmp_path, host="0.0.0.0", key_file=tmp_path / "none.json"))
    (tmp_path / "empty.json").write_text('{"keys": {}}')
    with pytest.raises(ValueError, match=r"empty.json: expected at least one key"):
        keys_of(config_of(tmp_path, host="0.0.0.0", key_file=tmp_path / "empty.json"))


def test_a_taken_address_is_named(tmp_path):
    with bound(config_of(tmp_path)) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ValueError, match=r"serve.port: expected a free address"),
            bound(config_of(tmp_path, port=port)),
        ):
            pass


def test_an_address_is_taken_while_its_critic_still_loads_and_free_once_it_ended(tmp_path):
    """Also where a connection of the one before is not quite forgotten, as after a restart."""
    port = 0
    for _ in range(3):
        config = config_of(tmp_path, port=port)
        with bound(config) as taken:
            port = taken.getsockname()[1]
            with (
                pytest.raises(ValueError, match=rf"serve.port: .*; choose .*:{port}, or stop"),
                bound(config_of(tmp_path, port=port)),
            ):
                pass
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
            begin_to_listen(taken, config)
            with socket.create_connection(("127.0.0.1", port)) as caller:
                taken.accept()[0].close()  # who closes first keeps the port for a while
                assert caller.recv(1) == b""


def test_a_second_listener_of_one_address_is_told_whose_it_is(tmp_path):
    """Both have it, as they may where systems do not keep them apart."""
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", first.getsockname()[1] if one is second else 0))
        config = config_of(tmp_path, port=first.getsockname()[1])
        begin_to_listen(first, config)
        with pytest.raises(ValueError, match=r"serve.port: expected a free address, got .*; choo"):
            begin_to_listen(second, config)


def test_the_command_prints_the_key_and_serves_nothing(tmp_path, capsys, monkeypatch):
    path = tmp_path / "keys.json"
    assert main(["serve", "--serve.key_file", str(path), "--serve.new_key", "ann"]) == 0
    key = capsys.readouterr().out.strip()
    assert Keys(path).owner(key) == "ann"
    assert main(["serve", "--serve.key_file", str(path), "--serve.new_key", "ann"]) == 1
    assert "expected a new name" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)  # where nobody says where: not below data/, which distclean removes
    assert main(["serve", "--serve.new_key", "bob"]) == 0
    assert Keys(tmp_path / "feedback/keys.json").owner(capsys.readouterr().out.strip()) == "bob"


def test_a_service_with_keys_asks_for_them(critic, tmp_path):
    path = tmp_path / "keys.json"
    key = make_key(path, "ann")
    with running(critic, tmp_path, key_file=path) as live:
        for headers in ({}, {"Authorization": "Bearer mc_x"}, {"Authorization": f"Basic {key}"}):
            for method, where in (("POST", "/v1/verdict"), ("GET", "/v1/state"),
                                  ("GET", "/metrics"), ("GET", "/v1/nothing"),
                                  ("GET", "/openapi.json"), ("GET", "/nothing"), ("POST", "/"),
                                  ("POST", "/healthz"), ("PUT", "/console/text.js")):  # fmt: skip
                answer = live.http.request(method, where, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.json()["error"]["code"] == "unauthorized"
        for where in ("/", "/console/console.js", "/healthz", "/readyz"):
            assert live.http.get(where).status_code == 200
        good = {"Authorization": f"Bearer {key}", "Host": "critic.example"}
        assert live.http.get("/v1/state", headers=good).status_code == 200
        assert live.ask("/v1/verdict", {"rationale": "It held."}, **good).status_code == 200
    assert key not in json.dumps([p.read_text(errors="replace") for p in tmp_path.iterdir()])


def test_whoever_has_no_key_is_told_so_before_the_body_is_there(critic, tmp_path):
    """Else anybody could fill the memory with bodies and have them parsed."""
    path = tmp_path / "keys.json"
    make_key(path, "ann")
    rest = b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    with running(critic, tmp_path, key_file=path, body_s=0.2) as live:
        for ask in (b"POST /", b"POST /healthz", b"PUT /nothing", b"POST /v1/verdict"):
            assert raw(live.url, ask + rest).startswith(b"HTTP/1.1 401 ")


def test_a_key_that_is_taken_out_of_the_file_opens_nothing_any_more(critic, tmp_path, caplog):
    """It did until the service was started again, whoever had got hold of it."""
    path = tmp_path / "keys.json"
    lost, kept = make_key(path, "lost"), make_key(path, "kept")
    with running(critic, tmp_path, key_file=path) as live:

        def status(key):
            bearer = {"Authorization": f"Bearer {key}"}
            return live.http.get("/v1/state", headers=bearer).status_code

        assert (status(lost), status(kept)) == (200, 200)
        rows = json.loads(path.read_text())["keys"]
        del rows["lost"]
        write_json(path, {"keys": rows})
        assert (status(lost), status(kept)) == (401, 200)
        assert status(make_key(path, "new")) == 200
        path.write_text("{")
        assert (status(lost), status(kept), status(kept)) == (401, 200, 200)
        assert caplog.text.count("the keys that were read last go on to count") == 1
        write_json(path, {"keys": {}})
        assert (status(kept), live.http.get("/v1/state").status_code) == (401, 401)


def test_a_key_that_is_taken_out_is_forgotten_once_the_file_can_be_read(
    tmp_path, monkeypatch, caplog
):
    """Where that failed once, it opened everything for good: the file had not changed since."""
    path = tmp_path / "keys.json"
    lost = make_key(path, "lost")
    make_key(path, "kept")
    known = Keys(path)
    rows = json.loads(path.read_text())["keys"]
    del rows["lost"]
    write_json(path, {"keys": rows})
    with monkeypatch.context() as patched:
        patched.setattr("minicrit.serving.keys._read", refuse)
        assert [known.owner(lost), known.owner(lost)] == ["lost", "lost"]
    assert known.owner(lost) is None
    assert caplog.text.count("the keys that were read last go on to count") == 1


def refuse(path):
    raise OSError(errno.EMFILE, "Too many open files", str(path))
