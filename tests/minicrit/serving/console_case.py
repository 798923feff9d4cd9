"""The console in a real browser, over a real service; what tests of it do again and again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from minicrit.files import to_json
from minicrit.serving.results import new_id
from tests.minicrit.browser import Browser
from tests.minicrit.serving.running import Running

DESK = 1280
#: What went wrong in the page: exceptions, refused requests and scripts, words to the console.
WRONGS = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")


class Console:
    """A page of a service.

    Attributes:
        service: that it is of.
        browser: that it is in.
    """

    def __init__(self, service: Running, browser: Browser) -> None:
        self.service, self.browser = service, browser

    def open(self, width: int = DESK, scheme: str = "light", **kept: Any) -> None:
        """Open the page and wait until it has spoken with the service.

        Args:
            width: of the screen.
            scheme: light or dark.
            kept: what an earlier page left in localStorage, by name.
        """
        lines = [f"localStorage.setItem('minicrit.{name}', {to_json(to_json(value))})"
                 for name, value in ({"operator": "ann", "hold": 0} | kept).items()]  # fmt: skip
        before = self.browser.call("Page.addScriptToEvaluateOnNewDocument", source=";".join(lines))
        self.browser.open(f"{self.service.url}/", width, scheme)
        self.browser.call("Page.removeScriptToEvaluateOnNewDocument", **before)
        self.browser.until("document.querySelector('#state dd') !== null")

    def reload(self) -> None:
        """The same page anew, with what it kept."""
        self.browser.open(f"{self.service.url}/", DESK)

    def ask(self, script: str) -> Any:
        return self.browser.ask(script)

    def until(self, script: str) -> Any:
        return self.browser.until(script)

    def press(self, *keys: str, shift: bool = False, ctrl: bool = False) -> None:
        for key in keys:
            self.browser.press(key, shift=shift, ctrl=ctrl)

    def text(self, selector: str) -> str:
        return str(self.ask(f"document.querySelector({to_json(selector)}).textContent"))

    def texts(self, selector: str) -> list[str]:
        found = f"[...document.querySelectorAll({to_json(selector)})].map(e => e.textContent)"
        return list(self.ask(found))

    def wrongs(self) -> list[Mapping[str, Any]]:
        return [event for name in WRONGS for event in self.browser.named(name)]

    def decisions(self, count: int) -> list[dict[str, Any]]:
        """The decisions in the database, once all of them have left the page."""
        self.until("document.querySelectorAll('#sending li').length === 0")
        found = list(self.service.service.store.decisions())
        assert len(found) == count, found
        return found


def put(service: Running, rationale: str, *, p: float = 0.9, **said: Any) -> str:
    """A request in the database, with an answer that a test wants of the critic; its id."""
    request_id = str(said.get("request_id", new_id()))
    label = "flawed" if p > 0.5 else "valid"
    result = {
        "request_id": request_id, "valid": p <= 0.5, "label": label, "p_flawed": p,
        "confidence": max(p, 1 - p), "threshold": 0.5, "calibrated": False, "unsure": False,
        "certificate": None, "flaw_type": None, "flags": [], "severity": None, "evidence": None,
        "critique": None, "fix": None, "text": None, "usage": None, "domain": "general",
        "model": "tiny", "adapter": None, "prompt_version": "plain-1", "latency_ms": 1.0,
        "cached": False, "experiment": None, "arm": None, **said,
    }  # fmt: skip
    service.service.store.add_request(request_id, result["domain"], rationale, result,
                                      critic=service.service.panel.critic_of())  # fmt: skip
    return request_id


@contextmanager
def cut_off(browser: Browser) -> Iterator[None]:
    """Nothing reaches the service meanwhile."""
    ways = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.call("Network.emulateNetworkConditions", offline=True, **ways)
    try:
        yield
    finally:
        browser.call("Network.emulateNetworkConditions", offline=False, **ways)


@contextmanager
def held_back(browser: Browser, path: str) -> Iterator[None]:
    """What the page asks of a path leaves it only afterwards."""
    browser.ask(f"""window.held = []; window.sends = window.fetch;
      window.fetch = async (...asked) => {{
        if (String(asked[0]).endsWith({to_json(path)})) await new Promise((go) => held.push(go));
        return sends(...asked); }}; 0""")
    yield
    browser.until("held.length > 0")
    browser.ask("window.fetch = sends; held.forEach((go) => go()); 0")
