"""A headless Chromium, driven over a pipe by its DevTools protocol: no driver to install.

`--remote-debugging-pipe` makes the browser read commands from file descriptor 3 and write answers
and events to 4, each a JSON object that ends with a zero byte.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Windows' numbers of keys that are no letter.
KEYS = {"Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38,
        "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}  # fmt: skip
PATIENCE = 90.0  # seconds; a machine may be busy


def found_browser() -> str | None:
    """The path of a Chromium or Chrome, None if there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in a browser with a profile of its own.

    Attributes:
        events: all that the page reported, in order: requests, log entries, exceptions.
    """

    def __init__(self, path: str, profile: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._number = 0
        self._session: str | None = None
        self._buffer = b""
        theirs, self._out = os.pipe()
        self._in, their_out = os.pipe()
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
                 "--no-first-run", "--disable-dev-shm-usage", "--disable-background-networking",
                 f"--user-data-dir={profile}", "about:blank")  # fmt: skip
        # A shell puts the pipe where the browser looks for it.
        line = f'exec "$0" "$@" 3<&{theirs} 4>&{their_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", line, path, *flags], pass_fds=(theirs, their_out),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs)
        os.close(their_out)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._process.terminate()
        self._process.wait(timeout=PATIENCE)
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a command; events that come before it are kept."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])
            self.events.append(answer)

    def open(self, page: Path | str, width: int, scheme: str = "light") -> None:
        """Load a file or an address as a screen of this width sees it; returns when it is there."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        scheme_of = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=scheme_of)
        self._go_to("about:blank")  # what the page before still asked for is not this one's
        self._go_to(page if isinstance(page, str) else page.resolve().as_uri())

    def _go_to(self, url: str) -> None:
        self.events.clear()
        self.call("Page.navigate", url=url)
        while not any(e.get("method") == "Page.loadEventFired" for e in self.events):
            self.events.append(self._message())

    def ask(self, script: str) -> Any:
        """The value of an expression in the page, by its developer's console."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str, patience: float = 30.0) -> Any:
        """The value of an expression once it is true."""
        deadline = time.monotonic() + patience
        while not (value := self.ask(script)):
            assert time.monotonic() < deadline, f"never came true: {script}"
            time.sleep(0.02)
        return value

    def press(self, key: str, *, ctrl: bool = False, shift: bool = False) -> None:
        """A key of the keyboard, as KeyboardEvent.key names it, on whatever has the focus."""
        number = KEYS.get(key, ord(key[0].upper()))
        held = {"key": key, "windowsVirtualKeyCode": number, "modifiers": 2 * ctrl + 8 * shift}
        plain = not ctrl and (len(key) == 1 or key == "Enter")
        text = {"text": "\r" if key == "Enter" else key} if plain else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **held, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **held)

    def write(self, text: str) -> None:
        """Text into whatever has the focus, all at once, as if pasted."""
        self.call("Input.insertText", text=text)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """The mouse from one point of the screen to another, its left button held down."""
        kinds = (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end))
        for kind, (x, y) in kinds:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1,
                      clickCount=1)  # fmt: skip

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """A PNG of the screen, or of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def named(self, method: str) -> list[Mapping[str, Any]]:
        """Parameters of all events of this name since the page was opened."""
        return [e["params"] for e in self.events if e.get("method") == method]

    def _message(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser said nothing for a long time"
            part = os.read(self._in, 1 << 16)
            assert part, "the browser ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))
