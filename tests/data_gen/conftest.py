"""What several tests of making data share."""

import pytest

from data_gen.asker import Asker, Patience
from data_gen.journal import Journal
from data_gen.opening import open_backend
from data_gen.prices import FREE
from tests.data_gen.scripted_server import ScriptedServer


@pytest.fixture
def keyed(monkeypatch):
    """One key, of Anthropic's, whatever the machine has; and no proxy before a server of ours."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret-for-tests")
    monkeypatch.setenv("NO_PROXY", "*")
    for name in ("OPENAI_API_KEY", "OLLAMA_HOST", "OLLAMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Asks a model behind a scripted server."""
    monkeypatch.setenv("NO_PROXY", "*")
    with ScriptedServer() as server:
        backend = open_backend("openai", "m", url=server.url)
        with Journal(tmp_path / "journal.jsonl") as journal:
            yield Asker(backend, journal, price=FREE, patience=Patience(2, 0.01, 1.0)).ask
