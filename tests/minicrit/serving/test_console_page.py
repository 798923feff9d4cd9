"""The console's page itself: no text does anything, all can be read, reached and named."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from minicrit.critic import Critic
from minicrit.serving import serve
from minicrit.serving.app import CONSOLE
from minicrit.serving.keys import make_key
from tests.minicrit.browser import Browser, found_browser
from tests.minicrit.serving.console_case import Console, put
from tests.minicrit.serving.running import items, running
from tests.minicrit.serving.test_panel import Other, experiment
from tests.minicrit.serving.tiny_bert import lay_out_bert
from tests.minicrit.test_report_browser import OVERFLOWING, UNREADABLE

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(found_browser() is None, reason="needs chromium or google-chrome on PATH"),
]
HOSTILE = (
    "<img src=x onerror='window.pwned=1'><script>window.pwned=1</script>\n"
    "</mark></div><style>*{display:none}</style><a href='javascript:window.pwned=1'>go</a>"
    " \u202eeht si siht\u202c {{7*7}} ${window.pwned=1} \u2066\u200f\ufeff" + "W" * 300
)
CERTIFIED = {"alpha": 0.08, "delta": 0.05, "n": 612, "k": 38, "each_domain": False,
             "abstain": {"low": 0.42, "high": 0.7}}  # fmt: skip
FLAWED = {
    "flaw_type": "small_sample", "severity": "medium", "unsure": True, "calibrated": True,
    "certificate": CERTIFIED, "critique": "Three is few.", "fix": "Wait for more.",
}  # fmt: skip
SOUND = "The rule won on 1,140 of 2,000 days that were not used to choose it, so it may win again."
TWIN = SOUND.replace("were not used", "were used")


@pytest.fixture
def furnished(critic: Critic, tmp_path: Path, browser: Browser) -> Iterator[Console]:
    """A console with precedents and a case that has everything."""
    lay_out_bert(tmp_path)
    with running(critic, tmp_path, precedents=tmp_path / "index") as service:
        decided = put(service, SOUND, p=0.1)
        service.service.store.add_decision(decided, "agree", "bob")
        service.service.precedents.add(decided, "general", SOUND, label="valid", p_flawed=0.1,
                                       decision="agree")  # fmt: skip
        assert service.service.precedents.flush(30)
        put(service, TWIN, p=0.65, evidence={"text": "were used", "start": None, "end": None},
            **FLAWED)  # fmt: skip
        yield Console(service, browser)


def test_hostile_text_is_shown_and_does_nothing(console):
    """In every place where text of others comes up."""
    said = {"critique": HOSTILE, "fix": HOSTILE, "model": HOSTILE, "severity": HOSTILE,
            "flaw_type": HOSTILE, "evidence": {"text": HOSTILE, "start": 0, "end": len(HOSTILE)},
            "arm": HOSTILE}  # fmt: skip
    put(console.service, HOSTILE, **said)
    console.open(draft={"rationale": HOSTILE, "domain": "general", "explain": True})
    console.press("c")
    console.press("Escape")
    console.press("a")
    console.until("document.querySelectorAll('#sending li').length === 0")
    console.open()
    put(console.service, HOSTILE, **said)
    console.reload()
    console.until("!document.querySelector('#shown').hidden")
    console.press("m", "End")
    made = "body img, body script, body style, main a, body [onerror]"
    assert console.ask(f"document.querySelectorAll('{made}').length") == 0
    assert console.ask("window.pwned") is None
    shown = console.text("#rationale")
    assert "<script>window.pwned=1</script>" in shown
    assert "U+202E" in shown
    assert "U+2066U+200FU+FEFF" in shown
    assert not set("\u202e\u202c\u2066\u200f\ufeff") & set(console.text("body"))
    assert console.ask("document.documentElement.scrollWidth <= innerWidth")
    assert console.wrongs() == []


def test_the_page_may_run_no_script_but_its_own(console):
    answer = console.service.http.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    pages = "".join(path.read_text() for path in CONSOLE.iterdir() if path.suffix != ".js")
    assert not any(word in pages for word in ("<script>", "style=", "onclick", "http:", "https:"))
    scripts = "".join(path.read_text() for path in CONSOLE.glob("*.js"))
    ways = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http")
    assert not any(word in scripts for word in ways)
    console.open()
    console.ask("""(() => { const one = document.createElement("script");
      one.textContent = "window.pwned = 1"; document.body.append(one); })()""")
    assert console.ask("window.pwned") is None
    assert console.browser.named("Log.entryAdded")  # the browser says that it refused


def test_precedents_show_twins_and_what_differs(furnished):
    furnished.open()
    furnished.until("document.querySelectorAll('#precedents li').length === 1")
    assert "operator: agree" in furnished.text("#precedents")
    assert "valid" in furnished.text("#precedents .top")
    assert float(furnished.text("#precedents strong")) > 0.7
    assert furnished.texts("#precedents .differs") == ["not"]
    assert "Near is not alike" in furnished.text("#alike")


def test_without_precedents_it_is_said_why(console):
    put(console.service, SOUND)
    console.open()
    note = "document.querySelector('#precedents-note').textContent"
    console.until(f"!['', 'looking'].includes({note})")
    assert "switched off (serve.precedents)" in console.text("#precedents-note")


def test_the_certificate_stands_there_in_words(furnished):
    furnished.open()
    words = furnished.text("#certificate")
    assert "at most 8 % are flagged over all domains, with confidence 95 %" in words
    assert "the 612 sound ones of the calibration, of which it flags 38." in words
    assert "Between 0.42 and 0.70 verdicts cannot be relied on." in words
    assert furnished.texts("#rationale mark.said") == ["were used"]
    assert "A firm conclusion from too few cases" in furnished.text("#reasons")
    left = furnished.ask("""(() => { const [dot, bar] = [".dot", ".bar"].map((name) =>
      document.querySelector(name).getBoundingClientRect());
      return (dot.left + dot.width / 2 - bar.left) / bar.width; })()""")
    assert left == pytest.approx(0.65, abs=0.01)


@pytest.mark.parametrize(("facts", "words"), [
    ({"delta": 0.0125}, "at most 8 % are flagged over all domains, with confidence 98.75 %, "),
    ({"domains": {"medical": {"n": 0}, "trading": {"n": 612}}},
     "are flagged in the domain trading, with confidence"),
    ({"alpha": 0.125, "delta": 0.005, "each_domain": True},
     "at most 12.5 % are flagged in each domain, with confidence 99.5 %, for texts like the 612 "
     "sound ones of the calibration. Between"),
    ({"abstain": {"low": 0.42, "high": 0.42}}, "of which it flags 38."),
])  # fmt: skip
def test_a_certificate_promises_no_more_than_it_says(console, facts, words):
    """Rounded it was 99 %, or 100 %; and k is not that of the threshold of each domain.

    A band of no width holds no verdict; it was `Between 0.42 and 0.42`.
    """
    put(console.service, TWIN, p=0.65, **{**FLAWED, "certificate": CERTIFIED | facts})
    console.open()
    assert words in console.text("#certificate")
    assert ("Between" in console.text("#certificate")) is ("abstain" not in facts)


def test_what_is_calibrated_without_a_certificate_is_not_called_uncalibrated(console):
    """Of a router's general adapter it said that p(flawed) is as the model says it."""
    put(console.service, TWIN, p=0.65, calibrated=True)
    console.open()
    words = "carries no certificate for texts like this one; p(flawed) is calibrated."
    assert words in console.text("#certificate")


@pytest.mark.parametrize(("p", "threshold", "words"), [
    (0.5312, 0.5308, "p(flawed) 0.5312, above the threshold 0.5308"),
    (0.5312, 0.5, "p(flawed) 0.531, above the threshold 0.50"),
    (0.5, 0.5, "p(flawed) 0.50, not above the threshold 0.50"),
])  # fmt: skip
def test_what_is_above_the_threshold_is_seen_to_be(console, p, threshold, words):
    """With three decimals 0.531 was above 0.531."""
    put(console.service, TWIN, p=p, threshold=threshold)
    console.open()
    assert words in console.text("#said")
    p_told, threshold_told = words.split()[1].rstrip(","), words.split()[-1]
    assert console.text("#scale .over") == p_told
    assert console.text("#scale .cut-name") == f"threshold {threshold_told}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(furnished, scheme):
    """WCAG AA, with the correction and a decision on its way, and with the help open."""
    furnished.open(scheme=scheme)
    furnished.until("document.querySelectorAll('#precedents li').length === 1")
    furnished.press("m", "ArrowRight")
    assert furnished.ask("document.querySelectorAll('mark').length") > 2
    assert furnished.ask(UNREADABLE) == []
    furnished.ask("document.querySelector('#help').showModal()")
    assert furnished.ask(UNREADABLE) == []


@pytest.mark.parametrize("width", [390, 800, 1280, 1600])
def test_nothing_overflows(furnished, width):
    furnished.open(width)
    furnished.until("document.querySelectorAll('#precedents li').length === 1")
    for step in ("c", "Escape", "?"):
        furnished.press(step)
        assert furnished.ask(OVERFLOWING) == []
        assert furnished.ask("document.documentElement.scrollWidth <= innerWidth")


def test_everything_has_a_name_and_a_place(furnished):
    """As a screen reader hears it: landmarks, and no control without a name."""
    furnished.open()
    furnished.press("c")
    tree = furnished.browser.call("Accessibility.getFullAXTree")["nodes"]
    nodes = [(node["role"]["value"], node.get("name", {}).get("value", ""))
             for node in tree if not node["ignored"]]  # fmt: skip
    spoken = {"button", "textbox", "combobox", "checkbox", "radio", "link", "navigation", "region",
              "form", "dialog", "option"}  # fmt: skip
    assert [role for role, name in nodes if role in spoken and not name.strip()] == []
    roles = {role for role, _ in nodes}
    assert {"banner", "main", "navigation", "region", "heading", "status"} <= roles
    assert ("textbox", "New rationale") in nodes
    assert any(role == "button" and name.startswith("Judge") for role, name in nodes)


def test_the_page_can_be_worked_with_tab_alone(furnished):
    """Tab comes to every control that can be seen, in the order of the page."""
    furnished.open()
    furnished.ask("document.activeElement.blur()")
    wanted = furnished.ask("""[...document.querySelectorAll("a, button, input, select, textarea")]
      .filter((e) => e.checkVisibility()).map((e) => e.id || e.className)""")
    met = []
    for _ in range(len(wanted) + 3):
        furnished.press("Tab")
        name = "document.activeElement.id || document.activeElement.className"
        met.append(furnished.ask(name))
    assert [name for name in met if name in wanted][: len(wanted)] == wanted
    assert furnished.ask("document.querySelector('.skip').getAttribute('href')") == "#case"


def test_nothing_moves_for_who_wants_no_motion(furnished):
    still = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    furnished.open()
    style = "getComputedStyle(document.querySelector('.dot')).transitionDuration"
    assert furnished.ask(style) != "0s"
    furnished.browser.call("Emulation.setEmulatedMedia", features=still)
    assert furnished.ask(style) == "0s"


def test_an_experiment_shows_its_gain_and_that_it_runs(critic, tmp_path, browser, monkeypatch):
    """Treatment says the opposite of the random control; operators agree with whoever answered."""
    monkeypatch.setattr(serve.Critic, "load", lambda *_, **__: Other(critic))
    experiment(tmp_path)
    with running(critic, tmp_path, experiment=tmp_path / "e.yaml") as service:
        console = Console(service, browser)
        console.open()
        assert "no decisions yet \u00b7 running" in console.text("#state")
        for row in service.judge(*items(60)):  # a fifth of them is drawn for the audit
            body = {"request_id": row["request_id"], "decision": "agree", "operator": "ann"}
            assert service.ask("/v1/feedback", body).status_code == 201
        (found,) = service.http.get("/v1/state").json()["trial"]
        console.reload()
        console.until("document.querySelector('#state').textContent.includes('A/B e1')")
        shown = console.text("#state")
    assert "A/B e1, agreement" in shown
    assert f"n = {found['metrics']['agreement']['n']} \u00b7 running" in shown
    assert console.wrongs() == []


def test_a_rate_near_all_or_none_has_tenths(console):
    """Agreement of 996 of 1,000 was 100 %, and 976 of them met a target of 98."""
    console.open()
    console.ask("void import('/console/view.js').then((it) => { window.view = it; })")
    console.until("window.view !== undefined")
    values = (0.0004, 0.0126, 0.5, 0.896, 0.976, 0.996, 1)
    shown = [console.ask(f"view.percent({value})") for value in values]
    assert shown == ["0 %", "1.3 %", "50 %", "90 %", "97.6 %", "99.6 %", "100 %"]


def test_a_gain_in_outcomes_is_in_their_own_units(critic, tmp_path, browser, monkeypatch):
    """Treatment ends 30 better; in percent it would be 3,000 and more."""
    monkeypatch.setattr(serve.Critic, "load", lambda *_, **__: Other(critic))
    experiment(tmp_path, metrics=("outcome",), primary="outcome", outcome_low=-40.0,
               outcome_high=40.0)  # fmt: skip
    with running(critic, tmp_path, experiment=tmp_path / "e.yaml") as service:
        console = Console(service, browser)
        console.open()
        assert "no outcomes yet \u00b7 running" in console.text("#state")
        for row in service.judge(*items(12)):
            body = {"request_id": row["request_id"], "value": 30.0 * (row["arm"] == "treatment")}
            assert service.ask("/v1/outcome", body).status_code == 201
        (found,) = service.http.get("/v1/state").json()["trial"]
        console.reload()
        console.until("document.querySelector('#state').textContent.includes('n = 12')")
        shown = console.text("#state")
    gain, low, high = (found["metrics"]["outcome"][key] for key in ("gain", "low", "high"))
    assert 10 < gain < 80
    assert f"outcome{gain:+.4g} [{low:+.4g}, {high:+.4g}], n = 12 \u00b7 running" in shown
    assert console.wrongs() == []


def test_single_keys_can_be_switched_off(console):
    put(console.service, SOUND)
    console.open(keys=False)
    console.press("a", "d", "c", "?")
    assert console.ask("document.querySelector('#correction').hidden")
    assert not console.ask("document.querySelector('#help').open")
    console.ask("document.querySelector('#agree').click()")
    assert len(console.decisions(1)) == 1


def test_a_service_with_keys_asks_for_one(critic, tmp_path, browser):
    path = tmp_path / "keys.json"
    secret = make_key(path, "desk")
    with running(critic, tmp_path, key_file=path) as service:
        console = Console(service, browser)
        put(service, SOUND)
        console.browser.open(f"{service.url}/", 1280)
        console.until("!document.querySelector('#login').hidden")
        console.ask("document.querySelector('#key').focus()")
        console.browser.write(secret)
        console.press("Enter")
        console.until("document.querySelector('#rationale').textContent !== ''")
        assert console.ask("document.querySelector('#login').hidden")
        assert secret not in str(console.ask("JSON.stringify(localStorage)"))


def test_the_focus_stays_where_it_is_when_the_queue_is_read_again(console):
    """Also when the case that has it is decided by somebody else: then it goes to the next."""
    for number in range(4):
        put(console.service, f"text {number}", p=0.6)
    console.open()
    order = [row["request_id"] for row in console.service.service.store.queue(9)]
    focused = "document.activeElement.dataset.of"
    console.ask("document.querySelectorAll('#queue button')[2].focus()")
    put(console.service, "one more", p=0.55)
    console.ask("void document.querySelector('#reload').click()")
    console.until("document.querySelectorAll('#queue button').length === 5")
    assert console.ask(focused) == order[2]
    console.service.service.store.add_decision(order[2], "agree", "bob")
    console.ask("void document.querySelector('#reload').click()")
    console.until("document.querySelectorAll('#queue button').length === 4")
    assert console.ask("document.activeElement.className") == "case"


def test_what_stays_as_it_is_is_not_spoken_again(console):
    console.open()
    console.until("document.querySelector('#line').textContent === 'connected'")
    console.ask("""void (window.told = 0, new MutationObserver(() => { window.told += 1; })
      .observe(document.querySelector("#line"), { childList: true, characterData: true }))""")
    put(console.service, "text", p=0.6)
    console.ask("void document.querySelector('#reload').click()")
    console.until("document.querySelectorAll('#queue button').length === 1")
    assert console.ask("window.told") == 0
