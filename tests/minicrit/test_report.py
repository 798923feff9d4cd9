"""The page: what is there is shown, what is not is left out, and no text gets out of its place."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from minicrit.benchmark import benchmark
from minicrit.config import Recipe
from minicrit.critic import Written
from minicrit.report import write_report
from minicrit.tables import certificate
from tests.minicrit.benchmark_case import StandIn, changed, many, recipe, small, twins

HOSTILE = '</div><script>alert("x")</script><img/src=x/onerror=alert(1)>{{7*7}}'


def made(folder: Path) -> Recipe:
    """A benchmark of the eight items, with history, coverage and a quantization beside it."""
    new = recipe(folder)
    benchmark(new, load=StandIn, draws=20)
    new.sft.out.mkdir()
    rows = [{"step": s, "val/f1": s / 100, "val/fpr": 0.5, "train/loss": 2 - s / 100}
            for s in (50, 25, 75)]  # fmt: skip
    (new.sft.out / "history.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    test = {"examples": 8, "groups": 4, "flawed": 4, "sources": {"composer": 8}, "words_mean": 9.5}
    (folder / "coverage.json").write_text(json.dumps({"test": test}))
    report = {"bits": 8, "status": "not released",
              "flips": {"value": 0.0125, "low": 0, "high": 0.1, "upper": 0.0592, "needed": 947},
              "measured": {"verdict": {"8": {"speedup": 2.345}}},
              "metrics": {"f1": {"float": {"value": None}}},
              "size": {"float_critic": 513_200_000, "quantized": 137_800_000}}  # fmt: skip
    (new.benchmark.out.parent / "quantize-int8.json").write_text(json.dumps(report))
    return new


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(made(tmp_path_factory.mktemp("page"))).read_text()


def test_shows_every_part(page: str) -> None:
    """Headline, judges, plots, learning, slices, quantization, data, samples, how to."""
    for text in ("25.0 %", "0.750", "critic a against critic b", "How well scores separate",
                 "Learning", "Domain: accuracy", "Flaw type: recall", "not released",
                 "0.0125 [0.000, 0.100]", ">513<", ">138<", "float for int8", "9.5",
                 "0.0592", ">947<", "2.35 x", "How to make this again", "bag of words",
                 "always flawed", "must not move", "the widest of Wilson's, by group", "flips too "
                 "many verdicts, or is not shown", "once it is proven, one-sided",
                 "macro F1 over sound items and flaws of known type"):  # fmt: skip
        # one flaw type is no comparison, and no item is a change of another
        assert (text in page) == (text not in ("Flaw type: recall", "must not move")), text
    # ROC, reliability, risk and coverage; two learning plots; domain; two of the ladder
    assert page.count("<svg") == 3 + 2 + 1 + 2
    assert "threshold certified" not in page
    assert "No critic here is calibrated" in page
    assert '<td class="h4 own">3</td>' in page  # the confusion: 3 of 4 flawed are found and named
    assert page.count('class="card"') == 5


def test_a_certificate_is_shown(tmp_path: Path) -> None:
    """In words, on the card, on the ROC curve and in Markdown; the judge's own threshold too."""
    promise = {"alpha": 0.08, "delta": 0.05, "n": 210, "k": 10, "each_domain": False,
               "abstain": {"low": 0.35, "high": 0.75},
               "domains": {"medical": {"n": 9, "needed": 36},
                           "trading": {"n": 70, "k": 1, "threshold": 0.6}}}  # fmt: skip

    def load(letter: str) -> StandIn:
        critic = StandIn(letter, threshold=0.65)
        if letter == "a":
            critic.calibration = promise
        return critic

    new = recipe(tmp_path)
    report = benchmark(new, load=load, draws=5)
    text = write_report(new).read_text()
    sentence = ("critic a: threshold certified on 210 other valid items (k = 10): false positives "
                "&lt;= 8 % over all domains with confidence 95 %")  # fmt: skip
    assert sentence in text
    markdown = new.benchmark.out.with_name("benchmark.md").read_text()
    assert sentence.replace("&lt;", "<") in markdown
    assert "critic a, dot: certified threshold" in text
    assert "certified: at most 8 %" in text  # the line across the ROC curve
    # of .1 .9 .6 .8 .2 .4 .3 .7 five lie outside of ]0.35, 0.75[, all of them right
    band = "where p lies between 0.350 and 0.750, somebody should look. Outside of that, on these"
    assert band in text
    assert "62 % of the verdicts, 0.000 [0.000, 0.434] of them wrong" in text
    assert "needs 36 items" in text
    assert report["judges"]["model_1"]["abstaining"]["coverage"] == 5 / 8
    assert report["judges"]["model_2"]["abstaining"] is None
    assert "critic b, dot: its threshold" in text
    assert "false-positive rate at threshold 0.5" in text
    assert "certified for &lt;= 8 %" in text
    assert report["judges"]["model_1"]["calibration"] == promise


def test_items_that_a_judge_could_not_read_are_said(tmp_path: Path) -> None:
    """On the page, in the summary and in Markdown; it was `101 items` for figures of 100."""
    new = recipe(tmp_path, [*many(), *twins(60, ("nan", 0.9), (0.2, 0.8))[:1]])
    benchmark(new, load=StandIn, draws=5)
    sentence = ("Items that a judge's figures are of: critic a: 100 of 101, without 1 more that "
                "could not be read (1 undefined p).")  # fmt: skip
    assert sentence.replace("'", "&#39;") in write_report(new).read_text()
    for name in ("summary.md", "benchmark.md"):
        assert sentence in new.benchmark.out.with_name(name).read_text()


def test_a_quantized_critic_of_other_weights_is_not_taken_for_the_benchmarks(
    tmp_path: Path,
) -> None:
    """Trained anew, the benchmark stood above the figures of what was quantized before."""
    new = recipe(tmp_path)
    quantized = new.benchmark.out.with_name("quantize-int8.json")
    quantized.parent.mkdir()
    quantized.write_text(json.dumps({"bits": 8, "adapter": "old"}))
    assert "of another critic" not in write_report(new).read_text()  # there is no benchmark yet

    def load(letter: str) -> StandIn:
        critic = StandIn(letter)
        critic.adapter = adapter
        return critic

    for adapter in ("new", "old"):
        benchmark(new, load=load, draws=5)
        head = '<th scope="col">int8, of another critic than the benchmark&#39;s</th>'
        assert (head in write_report(new).read_text()) is (adapter == "new")


def test_a_certificate_in_each_domain_has_no_k_of_its_own() -> None:
    """The threshold is the highest of the domains', and fewer than the pooled k lie above it."""
    facts = {"alpha": 0.08, "delta": 0.05, "n": 210, "k": 10, "each_domain": True}
    said = certificate({"name": "c", "calibration": facts})
    assert said.startswith("c: threshold certified on 210 other valid items: false positives <= 8 "
                           "% in each domain with confidence 95 %, for items of")  # fmt: skip


def test_a_certificate_of_one_domain_says_nothing_of_others() -> None:
    """Such as that of a specialist, or of data of one's own: flawed items alone certify nothing."""
    domains = {"trading": {"n": 210, "delta": 0.0125, "k": 9, "threshold": 0.6}}
    facts = {"alpha": 0.08, "delta": 0.0125, "n": 210, "k": 9, "each_domain": False,
             "domains": domains}  # fmt: skip
    said = certificate({"name": "c", "calibration": facts})
    assert "false positives <= 8 % in the domain trading with confidence 98.75 %, for" in said
    domains["medical"] = {"n": 0, "delta": 0.00625, "needed": 61}
    assert certificate({"name": "c", "calibration": facts}) == said
    domains["medical"]["n"] = 9
    assert "<= 8 % over all domains with" in certificate({"name": "c", "calibration": facts})


def test_is_one_file_without_network_or_script(page: str) -> None:
    """No request is made, and the browser is told to refuse any."""
    assert "default-src 'none'" in page
    assert not re.findall(r"<(script|link|img|iframe)|https?://|url\(|@import", page)


def test_a_benchmark_of_an_older_form_is_refused(tmp_path: Path) -> None:
    new = recipe(tmp_path)
    new.benchmark.out.parent.mkdir()
    new.benchmark.out.with_name("benchmark.json").write_text('{"form": 1}')
    with pytest.raises(ValueError, match="expected a benchmark of form 2, got 1; run the"):
        write_report(new)


def test_evidence_is_marked_where_it_stands(page: str) -> None:
    """What critic and reference both quote carries both marks."""
    assert "<mark><u>all dips recover</u></mark>" in page


def test_hostile_texts_do_not_survive(tmp_path: Path) -> None:
    """In rationale, model name, data path and change alike: shown as text, never as markup."""
    pairs = [*small()[2:], *twins(0, (f"0.1 {HOSTILE}", f"0.9 {HOSTILE}"), (0.2, 0.8))]
    pairs.append(changed(pairs[0], "<script>odd", 0.1, 0.3))
    new = recipe(tmp_path, pairs)

    def load(letter: str) -> StandIn:
        critic = StandIn(letter)
        critic.name = HOSTILE
        return critic

    benchmark(new, load=load, draws=5)
    text = write_report(new).read_text()
    assert not re.findall(r"<script|<img", text)
    assert text.count("&lt;script&gt;alert(") > 4
    assert "{{7*7}}" in text
    markdown = new.benchmark.out.with_name("benchmark.md").read_text()
    summary = new.benchmark.out.with_name("summary.md").read_text()
    assert "<script" not in markdown + summary
    # of critic a (.6, changed .1) it moves the verdict, of b (.3, changed .3) it does not
    section = text[text.index('<h2 id="metamorphic">') : text.index('<h2 id="comparisons">')]
    assert '<th scope="row">&lt;script&gt;odd</th><td>1.000 [0.207, 1.000] n=1</td><td>0.000 [' in (
        section
    )
    assert "| Verdicts moved by harmless changes | 100.0 % |" in summary


def test_characters_that_cannot_be_seen_stand_as_their_numbers(tmp_path: Path) -> None:
    """In the rationale, and in what critic and reference say of it."""
    pair = [replace(e, rationale=f"Is\u202e{e.rationale}", critique="It\u2066 follows.")
            for e in twins(0, (0.1, 0.9), (0.2, 0.8))]  # fmt: skip
    new = recipe(tmp_path, pair)

    class Hiding(StandIn):
        def _written(self, domain: str, rationale: str) -> Written:
            found = super()._written(domain, rationale)
            return replace(found, text=f"{found.text}\u200b")

    benchmark(new, load=Hiding, draws=5)
    text = write_report(new).read_text()
    assert not re.findall("[\u200b\u202e\u2066]", text)
    for number in ("U+200B", "U+202E", "U+2066"):
        assert f'<span class="code">{number}</span>' in text
    assert ".code {" in text


def test_summary_is_the_headline_table(tmp_path: Path) -> None:
    """Value, interval, target and status of each; then all judges."""
    new = made(tmp_path)
    write_report(new)
    text = new.benchmark.out.with_name("summary.md").read_text()
    assert "| False-positive rate | 25.0 % |" in text
    assert "| both twins right | 0.500 [" in text


def test_the_page_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """No time of day in it."""
    new = made(tmp_path)
    first = write_report(new).read_bytes()
    assert write_report(new).read_bytes() == first


def test_history_alone_makes_a_page(tmp_path: Path) -> None:
    """Before any benchmark; steps come in order, one of each."""
    new = recipe(tmp_path)
    new.sft.out.mkdir()
    row = '{{"step": {}, "val/f1": {}, "train/loss": null}}\n'
    history = row.format(20, 0.8) + row.format(10, 0.4) + row.format(20, 0.9)
    (new.sft.out / "history.jsonl").write_text(history)
    text = write_report(new).read_text()
    assert "No benchmark yet" in text
    assert text.count("<svg") == 1
    assert "| val/f1 | 0.900 |" in new.benchmark.out.with_name("summary.md").read_text()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("sft/history.jsonl", "[]\n", r"history.jsonl:1: expected an object with step"),
        ("sft/history.jsonl", '{"loss": 1}\n', r"history.jsonl:1: expected an object with step"),
        ("coverage.json", "{", r"coverage.json: .*make it again"),
        ("none", "", r"expected results to report, got none; run the benchmark"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    """Broken files are named."""
    new = recipe(tmp_path)
    (tmp_path / "sft").mkdir()
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        write_report(new)
