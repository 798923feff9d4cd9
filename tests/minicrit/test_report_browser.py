"""The page in a real browser: no request, no overflow, every text can be read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minicrit.benchmark import benchmark
from minicrit.report import SECTIONS, write_report
from tests.minicrit.benchmark_case import StandIn, changed, recipe, small
from tests.minicrit.browser import Browser, found_browser
from tests.minicrit.test_side_views import JUDGED

PATH = found_browser()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(PATH is None, reason="needs chromium or google-chrome on PATH"),
]
PHONE, DESK = 390, 1280
LONG = "a_name_that_is_much_longer_than_a_phone_is_wide_" * 4
RATE = {"value": 0.1, "low": 0.05, "high": 0.2, "n": 9, "count": 1}

#: Elements that reach beyond the screen, but for what lies in a box that scrolls by itself.
OVERFLOWING = """[...document.body.querySelectorAll("*")]
  .filter(e => !e.closest(".scroll table") && e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.tagName + "." + e.getAttribute("class"))"""

#: Texts whose contrast with what lies behind them is below 4.5 (WCAG AA).
UNREADABLE = """(() => {
  const parts = c => { const n = c.match(/[\\d.]+/g).map(Number);
    const s = c.startsWith("color(") ? n.slice(0, 3) : n.slice(0, 3).map(x => x / 255);
    return [...s, n.length > 3 ? n[3] : 1]; };
  const light = c => { const [r, g, b] = c.map(x =>
    x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4); return .2126*r + .7152*g + .0722*b; };
  const behind = e => { for (; e; e = e.parentElement) {
    const c = parts(getComputedStyle(e).backgroundColor); if (c[3] > 0) return c; }
    return [1, 1, 1, 1]; };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || ["TITLE", "STYLE"].includes(e.tagName.toUpperCase()))
      continue;
    const style = getComputedStyle(e), svg = e.closest("svg");
    const [a, b] = [light(parts(svg ? style.fill : style.color)), light(behind(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) found.push([ratio.toFixed(2), walk.currentNode.data.trim().slice(0, 30)]);
  }
  return found; })()"""


def load(letter: str) -> StandIn:
    """Critic a is calibrated; b has a name that fits no phone."""
    critic = StandIn(letter, threshold=0.65)
    if letter == "a":
        domains = {
            "medical": {"n": 9, "needed": 36},
            "trading": {"n": 70, "k": 1, "threshold": 0.6},
        }
        critic.calibration = {
            "alpha": 0.08, "delta": 0.05, "n": 210, "k": 10, "each_domain": False,
            "abstain": {"low": 0.35, "high": 0.75}, "domains": domains,
        }  # fmt: skip
    else:
        critic.name = LONG
        critic.adapter = "f00"  # type: ignore[assignment]
    return critic


def everything(folder: Path) -> Path:
    """A page with every section there is."""
    new = recipe(folder, [*small(), changed(small()[0], LONG, 0.9, 0.1)])
    benchmark(new, load=load, draws=20)
    new.sft.out.mkdir()
    rows = [{"step": s, "val/f1": s / 100, "train/loss": 2 - s / 100} for s in (25, 50, 75)]
    (new.sft.out / "history.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    coverage = {"test": {"examples": 8, "groups": 4, "flawed": 4, "sources": {"composer": 8}}}
    (folder / "coverage.json").write_text(json.dumps(coverage))
    beside: dict[str, Any] = {
        "quantize-int8": {"bits": 8, "status": "not released", "flips": {**RATE}},
        "benchmark.judge": JUDGED,
        "errors": {"critic": {"name": LONG}, "n": 9, "split": "validation",
                   "counts": {"right": RATE, "false_positive": RATE},
                   "slices": {"worst": [{"slice": {"domain": LONG}, **RATE}]}},
        "explain": {"critic": {"name": LONG}, "n": 9, "split": "test",
                    "figures": {"parsed": {**RATE, "n": 9}, LONG: {**RATE, "n": 9}}},
        "adapters": {"matrix": {"fallback": {LONG: {"n": 9, "accuracy": RATE}}},
                     "sizes": {"base": 1, "adapters": {LONG: 2}, "routing": 3}},
        "experiments": {"model": {"name": LONG},
                        "arms": {"plain": {"n": 9, "metrics": {"f1": RATE}}, LONG: {"n": 9}}},
    }  # fmt: skip
    for name, report in beside.items():
        new.benchmark.out.with_name(f"{name}.json").write_text(json.dumps(report))
    return write_report(new)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return everything(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PATH is not None
    with Browser(PATH, tmp_path_factory.mktemp("profile")) as found:
        yield found


def test_nothing_is_asked_of_the_network_and_nothing_goes_wrong(
    browser: Browser, page: Path
) -> None:
    """One request, for the page itself; no error or warning in the console."""
    browser.open(page, PHONE)
    urls = [event["request"]["url"] for event in browser.named("Network.requestWillBeSent")]
    assert urls == [page.resolve().as_uri()]
    assert browser.named("Log.entryAdded") == []
    assert browser.named("Runtime.exceptionThrown") == []
    assert browser.named("Runtime.consoleAPICalled") == []


def test_the_checks_see_what_they_look_for(browser: Browser, tmp_path: Path) -> None:
    """A page that asks, fails, overflows and cannot be read is caught by each of them."""
    bad = tmp_path / "bad.html"
    bad.write_text('<body style="background:#fff"><p style="width:3000px;color:#bbb">pale</p>'
                   '<img src="http://127.0.0.1:9/x.png"><script>nothing()</script>')  # fmt: skip
    browser.open(bad, PHONE)
    assert len(browser.named("Network.requestWillBeSent")) == 2
    assert browser.named("Runtime.exceptionThrown")
    assert "P.null" in browser.ask(OVERFLOWING)
    assert [text for _, text in browser.ask(UNREADABLE)] == ["pale"]


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_overflows(browser: Browser, page: Path, width: int) -> None:
    """The page is as wide as the screen; wide tables scroll by themselves."""
    browser.open(page, width)
    assert browser.ask("innerWidth") == width
    shown = browser.ask("document.documentElement.clientWidth")  # less the bar that scrolls
    assert width - 20 <= shown <= width
    assert browser.ask("document.documentElement.scrollWidth") == shown
    assert browser.ask(OVERFLOWING) == []


def test_every_section_is_there_and_can_be_reached(browser: Browser, page: Path) -> None:
    """In order, each with something under its heading, each by a link at the top."""
    browser.open(page, DESK)
    names = [anchor for anchor, _, _ in SECTIONS]
    assert browser.ask('[...document.querySelectorAll("main h2[id]")].map(e => e.id)') == names
    links = browser.ask('[...document.querySelectorAll("nav a")].map(e => e.getAttribute("href"))')
    assert links == [f"#{name}" for name in names]
    empty = """[...document.querySelectorAll("main h2[id]")].filter(e => {
      const next = e.nextElementSibling; return !next || next.tagName === "H2"; }).map(e => e.id)"""
    assert browser.ask(empty) == []
    assert browser.ask('document.querySelectorAll(".card").length') == 6
    assert browser.ask('document.querySelectorAll("mark").length') > 1


def test_plots_are_drawn_and_named(browser: Browser, page: Path) -> None:
    """Each has a size, a title for who cannot see it, and lines or dots with a colour."""
    browser.open(page, PHONE)
    plots = browser.ask("""[...document.querySelectorAll("svg")].map(s => [
      s.getBoundingClientRect().width > 250, s.getAttribute("aria-label").length > 3,
      s.querySelector("title").textContent.length > 3,
      [...s.querySelectorAll(".line, .bar")].every(e => getComputedStyle(e).stroke !== "none")])""")
    assert len(plots) >= 6
    assert all(all(one) for one in plots)
    assert browser.ask('document.querySelectorAll("line.limit").length') == 1
    assert browser.ask("""[...document.querySelectorAll(".scroll")]
      .every(e => e.tabIndex === 0 && e.getAttribute("aria-label"))""")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(browser: Browser, page: Path, scheme: str) -> None:
    """WCAG AA for every text, in plots and on shades too, in light and dark."""
    browser.open(page, DESK, scheme)
    dark = browser.ask('matchMedia("(prefers-color-scheme: dark)").matches')
    assert dark == (scheme == "dark")
    assert browser.ask('document.querySelectorAll("td.h5, td.h4, td.h3").length') > 0
    assert browser.ask(UNREADABLE) == []
