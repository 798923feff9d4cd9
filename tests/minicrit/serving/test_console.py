"""The operator console: what an operator does with it, in a real browser over a real service."""

import pytest

from minicrit.feedback.entries import AUDIT_SHARE, chance_of
from tests.minicrit.browser import found_browser
from tests.minicrit.serving.console_case import cut_off, held_back, put

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(found_browser() is None, reason="needs chromium or google-chrome on PATH"),
]
TEXT = "Three of three trades won last week, so the rule always wins."
#: An emoji (two units of the browser's strings), a mark that turns the text around, one that hides.
SPREAD = "\U0001f4c8 Gains:\u202e three of three\u200b won, so all will win \U0001f600 too."


def test_a_pasted_rationale_gets_the_verdict_of_the_critic(console, critic):
    console.open(draft={"rationale": "", "domain": "trading", "explain": False})
    console.press("n")
    console.browser.write(TEXT)
    console.press("Enter", ctrl=True)
    console.until("!document.querySelector('#shown').hidden")
    (verdict,) = critic.verdict([("trading", TEXT)])
    assert console.text("#said strong").lower() == verdict.label
    assert f"p(flawed) {verdict.p_flawed:.3f}".rstrip("0") in console.text("#said")
    assert "threshold 0.50" in console.text("#said")
    assert "not calibrated" in console.text("#certificate")
    assert console.ask("document.querySelector('#said').getAttribute('aria-live')") == "polite"
    assert console.text("#rationale") == TEXT
    assert console.ask("document.querySelector('#text').value") == ""
    assert console.text("#facts").startswith("trading")
    urls = {e["request"]["url"] for e in console.browser.named("Network.requestWillBeSent")}
    own = (console.service.url, "data:,")
    assert [url for url in urls if not url.startswith(own)] == []
    assert console.wrongs() == []


def test_a_critique_is_written_if_asked_for(console):
    console.open()
    console.press("n")
    console.browser.write(TEXT)
    console.press("Enter", ctrl=True)
    console.until("!document.querySelector('#shown').hidden")
    assert console.ask("document.querySelector('#write').hidden")
    assert "As written" in console.texts("#reasons dt")  # of random weights nothing parses
    console.until("document.querySelectorAll('#queue li').length === 1")
    assert len(list(console.service.service.store.requests())) == 1


def test_agreeing_by_keyboard_is_on_disk_and_moves_on_at_once(console):
    audit = [name for n in range(99) if chance_of(name := f"{n:032x}") < AUDIT_SHARE]
    first = put(console.service, TEXT, p=0.55, request_id=audit[0])
    second = put(console.service, "Another text.", p=0.6, request_id=audit[1])
    console.open(hold=60)
    order = [row["request_id"] for row in console.service.service.store.queue(9)]
    assert {first, second} == set(order)
    before = console.text("#rationale")
    console.press("a")
    assert console.text("#rationale") != before
    assert console.text("#queue-count") == "(1)"
    assert "Agreed: flawed." in console.text("#sending")
    assert list(console.service.service.store.decisions()) == []
    console.ask("localStorage.setItem('minicrit.hold', '0')")
    console.press("d")
    console.until("document.querySelectorAll('#sending li').length === 1")
    (decision,) = console.service.service.store.decisions()
    assert (decision["request_id"], decision["decision"]) == (order[1], "disagree")
    assert (decision["operator"], decision["label"]) == ("ann", "valid")
    console.press("u")
    assert console.text("#rationale") == before
    console.press("a")
    agreed = console.decisions(2)[1]
    assert (agreed["request_id"], agreed["decision"], agreed["label"]) == (
        order[0], "agree", "flawed")  # fmt: skip
    console.until("!document.querySelector('#empty').hidden")
    console.until("document.querySelector('#state').textContent.includes('n = 2')")
    assert "50 % [" in console.text("#state")
    doubtful = put(console.service, "A third text.", request_id=f"{0:032x}")  # not of the audit
    console.service.service.store.add_decision(doubtful, "disagree", "bob")
    console.reload()
    console.until("document.querySelector('#state').textContent.includes('3 of 3')")
    assert "50 % [" in console.text("#state")
    assert console.wrongs() == []


def test_undo_takes_a_decision_back_with_all_that_was_typed(console):
    put(console.service, TEXT, flaw_type="small_sample", critique="Too few.")
    console.open(hold=60)
    console.press("r")
    console.browser.write("Three cases prove nothing. ")
    console.press("Enter", ctrl=True)
    assert console.text("#queue-count") == ""
    console.press("u")
    assert "prove nothing" in console.ask("document.querySelector('#critique-text').value")
    console.press("Escape", "Escape")
    assert console.ask("document.querySelector('#correction').hidden")
    assert console.decisions(0) == []


def test_a_correction_with_a_span_marked_by_keys(console):
    """Places are characters: emoji before the span, marks that turn the text around in it."""
    said = "so all will win"
    start = SPREAD.index(said)
    put(console.service, SPREAD, flaw_type="overconfidence", critique="It is too sure.",
        evidence={"text": said, "start": start, "end": start + len(said)})  # fmt: skip
    console.open()
    assert console.texts("#rationale mark.said") == ["so all will win"]
    console.press("m")
    console.press("Home")
    console.press("ArrowRight", "ArrowRight")
    console.press("ArrowRight", "ArrowRight", shift=True)
    assert "".join(console.texts("#rationale .marking")) == "three of threeU+200B"
    assert console.text("#voice") == "three of three[U+200B]"
    console.press("Enter")
    console.press("t")
    console.ask("document.querySelector('#type').value = 'small_sample'")
    console.ask("document.querySelector('#type').dispatchEvent(new Event('change'))")
    assert "too few cases" in console.text("#type-about")
    console.press("Escape", "r")
    console.browser.write("Three is too few. ")
    console.press("Enter", ctrl=True)
    (decision,) = console.decisions(1)
    assert (decision["decision"], decision["label"]) == ("correct", "flawed")
    assert decision["flaw_type"] == "small_sample"
    assert "Three is too few." in decision["critique"]
    span = decision["evidence"]
    assert SPREAD[span["start"] : span["end"]] == "three of three\u200b"
    assert console.wrongs() == []


def test_a_span_selected_with_the_mouse(console):
    put(console.service, SPREAD)
    console.open()
    console.press("c")
    box = console.ask("""(() => { const found = document.createRange();
      const last = document.querySelector("#rationale").lastElementChild.firstChild;
      const at = last.data.indexOf("all will");
      found.setStart(last, at); found.setEnd(last, at + 8);
      const box = found.getBoundingClientRect(); return [box.left, box.right, box.top + 9]; })()""")
    console.browser.drag((box[0] + 1, box[2]), (box[1], box[2]))
    console.until("document.querySelector('#span').textContent === 'all will'")
    console.press("Enter", ctrl=True)
    span = console.decisions(1)[0]["evidence"]
    assert SPREAD[span["start"] : span["end"]] == "all will"


def test_a_correction_that_corrects_nothing_is_not_sent(console):
    put(console.service, TEXT, flaw_type="small_sample", critique="Too few.")
    console.open()
    console.press("c")
    console.press("Enter", ctrl=True)
    assert "Nothing is corrected yet" in console.text("#correction-error")
    console.press("a", "d", "j")  # a correction that is open is not lost to a slip
    assert not console.ask("document.querySelector('#correction').hidden")
    console.ask("document.querySelector('input[value=valid]').click()")
    assert console.ask("document.querySelector('#flaw-fields').hidden")
    console.press("Enter", ctrl=True)
    (decision,) = console.decisions(1)
    assert (decision["label"], decision["flaw_type"], decision["critique"]) == ("valid", None, None)


def test_a_type_or_place_that_is_only_cleared_is_asked_for(console):
    """Not to send it would tell the service that the critic was right about it."""
    evidence = {"text": "Three", "start": 0, "end": 5}
    put(console.service, TEXT, flaw_type="small_sample", critique="Few.", evidence=evidence)
    console.open()
    console.press("t")
    choose = ("(() => { const found = document.querySelector('#type'); found.value = '%s';"
              "found.dispatchEvent(new Event('change')); })()")  # fmt: skip
    console.ask(choose % "")
    console.press("Enter", ctrl=True)
    assert console.text("#correction-error").startswith("Choose the right type")
    console.ask(choose % "overconfidence")
    console.ask("document.querySelector('#unmark').click()")
    console.press("Enter", ctrl=True)
    assert console.text("#correction-error").startswith("Mark the right place")
    assert console.decisions(0) == []
    console.ask("document.querySelector('input[value=valid]').click()")  # then there is none
    console.press("Enter", ctrl=True)
    assert console.decisions(1)[0]["label"] == "valid"


def test_the_queue_is_in_the_order_of_the_service_and_skipping_goes_to_its_end(console):
    for number, p in enumerate((0.95, 0.55, 0.05, 0.7)):
        put(console.service, f"text {number}", p=p)
    console.open()
    order = [row["rationale"] for row in console.service.service.store.queue(9)]
    assert console.texts("#queue .start") == order
    assert console.text("#rationale") == order[0]
    console.press("s")
    assert console.texts("#queue .start") == [*order[1:], order[0]]
    console.press("j", "j", "k")
    assert console.text("#rationale") == order[2]
    assert console.ask("document.querySelector('[aria-current] .start').textContent") == order[2]


def test_a_critique_written_later_takes_the_place_of_the_verdict(console):
    """One rationale, one decision: the verdict that was asked for first is settled with it."""
    (first,) = console.service.judge(("general", TEXT))
    console.open()
    console.press("w")
    console.until("document.querySelector('#write').hidden")
    console.press("a")
    (decision,) = console.decisions(1)
    assert decision["request_id"] != first["request_id"]
    assert len(list(console.service.service.store.requests())) == 2
    assert console.service.service.store.queue(9) == []


def test_a_correction_typed_while_a_critique_is_written_goes_along_to_it(console):
    console.service.judge(("general", TEXT))
    console.open()
    with held_back(console.browser, "/v1/critique"):
        console.press("w", "r")
        console.browser.write("Three is too few.")
    console.until("document.querySelector('#write').hidden")
    assert console.ask("document.querySelector('#critique-text').value") == "Three is too few."
    assert console.ask("document.activeElement.id") == "critique-text"
    console.press("Enter", ctrl=True)
    (decision,) = console.decisions(1)
    assert decision["critique"] == "Three is too few."
    assert decision["request_id"] == list(console.service.service.store.requests())[1]["request_id"]


def test_a_text_begun_while_another_is_judged_stays(console):
    console.open(draft={"rationale": "", "domain": "general", "explain": False})
    console.press("n")
    console.browser.write(TEXT)
    with held_back(console.browser, "/v1/verdict"):
        console.press("Enter", ctrl=True)
        console.browser.write(" And another.")
    console.until("!document.querySelector('#shown').hidden")
    console.press("a")  # a letter of it, no decision
    assert console.ask("document.querySelector('#text').value") == f"{TEXT} And another.a"
    assert console.text("#rationale") == TEXT
    console.reload()
    console.until("document.querySelector('#text').value.endsWith('And another.a')")


def test_a_broken_connection_loses_nothing(console):
    put(console.service, TEXT)
    console.open()
    with cut_off(console.browser):
        console.press("a")
        console.until("document.querySelector('#sending li.waiting') !== null")
        assert "cannot be reached" in console.text("#sending")
        console.until("document.querySelector('#line').textContent.includes('no connection')")
        console.press("n")
        console.browser.write("typed without a connection")
        console.press("Enter", ctrl=True)
        console.until("!document.querySelector('#compose-error').hidden")
        assert "stays here" in console.text("#compose-error")
    (decision,) = console.decisions(1)
    assert decision["decision"] == "agree"
    console.reload()
    console.until("document.querySelector('#text').value === 'typed without a connection'")


def test_an_acknowledgement_that_was_lost_does_not_double_a_decision(console):
    """The service has written it, the answer does not arrive, the page sends it again."""
    put(console.service, TEXT)
    console.open()
    pattern = {"urlPattern": "*/v1/feedback", "requestStage": "Response"}
    console.browser.call("Fetch.enable", patterns=[pattern])
    console.press("a")
    while not (paused := console.browser.named("Fetch.requestPaused")):
        console.ask("1")
    assert len(list(console.service.service.store.decisions())) == 1
    console.browser.call("Fetch.failRequest", requestId=paused[0]["requestId"],
                         errorReason="ConnectionReset")  # fmt: skip
    console.browser.call("Fetch.disable")
    console.until("document.querySelector('#sending li.waiting') !== null")
    assert len(console.decisions(1)) == 1


def test_what_was_typed_and_decided_outlives_the_page(console):
    put(console.service, TEXT, flaw_type="small_sample")
    put(console.service, "A second text.", p=0.3)
    console.open(hold=60)
    held = console.text("#rationale")
    console.press("a", "r")
    console.browser.write("half a sentence")
    console.reload()
    console.until("!document.querySelector('#correction').hidden")
    assert console.ask("document.querySelector('#critique-text').value") == "half a sentence"
    assert "can be undone" in console.text("#sending")
    assert held not in console.texts("#queue .start")
    console.press("Escape", "Escape", "u")
    assert console.text("#rationale") == held
    assert console.decisions(0) == []


def test_what_the_service_refuses_is_shown_and_opened_again(console):
    put(console.service, TEXT)
    stray = console.service.service.store.queue(1)[0]["result"] | {"request_id": "0" * 32}
    console.open(case={"id": "0" * 32, "rationale": "Unknown.", "domain": "general",
                       "result": stray})  # fmt: skip
    assert console.text("#rationale") == "Unknown."
    console.press("a")
    console.until("document.querySelector('#sending li.refused') !== null")
    assert "expected one that was answered here" in console.text("#sending")
    console.ask("document.querySelector('#sending button').click()")
    assert console.text("#rationale") == "Unknown."
    assert console.texts("#sending li") == []


def test_nobody_decides_without_a_name(console):
    put(console.service, TEXT)
    console.open(operator="")
    console.press("a")
    assert console.ask("document.activeElement.id") == "operator"
    console.browser.write("not a name!")
    console.press("Enter", "a")
    assert console.ask("document.querySelector('#operator').getAttribute('aria-invalid')") == "true"
    console.ask("document.querySelector('#operator').select()")
    console.browser.write("bob")
    console.press("Enter", "a")
    assert console.decisions(1)[0]["operator"] == "bob"
