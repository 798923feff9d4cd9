"""The judge of the benchmark, from both critics' texts to the report, over a real HTTP server."""

import json
from dataclasses import replace

import pytest

from data_gen.court.comparison import POINTS
from data_gen.court.hearing import judge
from data_gen.court.verdicts import OUTCOMES
from data_gen.court.writings import docket
from minicrit.cli import FAILED, OK, main
from minicrit.jsonl import read_lines
from minicrit.prompts import parse_critique
from minicrit.records import write_examples
from tests.data_gen.judging_server import JudgingServer, Shown, case_of, honest, longer
from tests.minicrit.benchmark_case import StandIn, recipe, twins

#: What the critics say of 15 twin groups: p of the valid and of the flawed twin, by turns.
SAID_1 = ((0.1, 0.9), (0.7, 0.9), (0.2, 0.3), (0.6, 0.2))
SAID_2 = ((0.9, 0.2), (0.3, 0.6), (0.2, 0.8), (0.1, 0.4), (0.7, 0.8))
GROUPS = 15


def examples():
    return [e for n in range(GROUPS)
            for e in twins(n, SAID_1[n % len(SAID_1)], SAID_2[n % len(SAID_2)])]  # fmt: skip


class Diligent(StandIn):
    """Writes a text of its own about each rationale."""

    dies_at: int | None = None

    def critique(self, items, *, max_new_tokens=160, batch=8):
        if self.dies_at is not None and self.asked >= self.dies_at:
            raise KeyboardInterrupt
        found = super().critique(items)
        self.asked += len(items)
        texts = [w.text.replace("Three", "Too few, only three") if self.letter == "b" else w.text
                 for w in found]  # fmt: skip
        return [replace(w, text=text, parsed=parse_critique(text))
                for w, text in zip(found, texts, strict=True)]  # fmt: skip


def moody(shown: Shown) -> str:
    """Changes with texts and order, so that every outcome occurs."""
    return ("first", "second", "equal")[int(shown.share * 3)]


def by_text(shown: Shown) -> str:
    """Sees which texts there are and not where they stand."""
    verdicts = [text.split("\n")[0] for text in (shown.first, shown.second)]
    if verdicts[0] == verdicts[1]:
        return longer(shown)
    sound = "Most dips" in shown.rationale
    return "first" if (verdicts[0] == "Verdict: valid") == sound else "second"


@pytest.fixture
def told(tmp_path, monkeypatch):
    """A recipe with two qualifying pairs, which cannot suffice, so the judge is forced."""
    monkeypatch.setenv("NO_PROXY", "*")
    made = recipe(tmp_path, examples())
    made.judge = replace(made.judge, backend="openai", model="m", cases=2, force=True, sample=0,
                         draws=300, batch=5)  # fmt: skip
    return made


def run(made, server, critics=None, **settings):
    made = replace(made, judge=replace(made.judge, url=server.url, **settings))
    critics = critics or {letter: Diligent(letter) for letter in "ab"}
    return judge(made, load=critics.__getitem__)


def items_of(made):
    path = made.benchmark.out.with_name("benchmark.judge.items.jsonl")
    return [row for _, row in read_lines(path)]


def files_of(made):
    folder = made.benchmark.out.parent
    names = ("json", "md", "items.jsonl", "qualification.json", "qualification.md")
    return {name: (folder / f"benchmark.judge.{name}").read_bytes() for name in names}


def test_what_the_report_says_is_what_was_said(told):
    with JudgingServer(honest(by_text)) as server:
        report = run(told, server)
    rows = items_of(told)
    n = len(examples())
    assert [row["id"] for row in rows] == [e.id for e in examples()]
    right = {row["id"]: (row["verdict_1"] == row["label"], row["verdict_2"] == row["label"])
             for row in rows}  # fmt: skip
    for row in rows:
        one, two = right[row["id"]]
        if one != two:  # the verdicts differ: the judge knows which is right
            assert row["outcome"] == ("win" if one else "loss")
        elif row["verdict_1"] == "valid":
            assert row["outcome"] == "identical"
        else:  # model 2 writes the longer text
            assert row["outcome"] == "loss"
    counts = {name: sum(row["outcome"] == outcome for row in rows)
              for name, outcome in OUTCOMES.items()}  # fmt: skip
    assert report["outcomes"] == counts
    assert min(counts["wins_1"], counts["wins_2"], counts["identical"]) > 0
    scored = [row["points"] for row in rows]
    assert report["win_rate"]["value"] == round(sum(scored) / n, 6)
    assert report["slices"]["label"]["valid"]["n"] == n // 2
    assert report["models"]["model_1"]["identity"] == "identity of a"
    assert report["items"]["n"] == n
    assert report["cost"]["judging"]["answers"] == 2 * (n - counts["identical"])
    shown = {row["what"] for row in report["to_read"]}
    assert shown == {"wins_1", "wins_2"}
    page = files_of(told)["md"].decode()
    assert "# Critiques compared by a judge" in page
    assert "It was let judge by force." in page


def test_the_judge_is_shown_neither_names_nor_labels(told):
    with JudgingServer(honest(by_text)) as server:
        run(told, server)
        prompts = [p for p in server.prompts if case_of(Shown.of(p)) is None]
    assert prompts
    for prompt in prompts:
        assert "critic a" not in prompt
        assert "identity" not in prompt
        assert "model_" not in prompt
        shown = Shown.of(prompt)
        rest = prompt.replace(shown.rationale, "").replace(shown.first, "")
        assert "small_sample: " in rest  # the taxonomy
        assert "label" not in rest


def test_run_again_nothing_is_asked_or_written_and_the_bytes_are_the_same(told):
    with JudgingServer(moody) as server:
        run(told, server)
        before, asked = files_of(told), server.counted["requests"]
        critics = {letter: Diligent(letter) for letter in "ab"}
        run(told, server, critics)
        assert server.counted["requests"] == asked
    assert [critic.asked for critic in critics.values()] == [0, 0]
    assert files_of(told) == before


def test_exchanging_the_models_mirrors_every_number(told, tmp_path):
    with JudgingServer(moody) as server:
        one = run(told, server)
        asked = server.counted["requests"]
        rows = items_of(told)
        turned = replace(told, benchmark=replace(told.benchmark, model_1="b", model_2="a"))
        two = run(turned, server)
        assert server.counted["requests"] == asked  # the very same questions
    assert {name for name, n in one["outcomes"].items() if n} >= set(OUTCOMES) - {"unscored"}
    assert two["models"] == {"model_1": one["models"]["model_2"],
                             "model_2": one["models"]["model_1"]}  # fmt: skip
    assert two["outcomes"] == one["outcomes"] | {"wins_1": one["outcomes"]["wins_2"],
                                                 "wins_2": one["outcomes"]["wins_1"]}  # fmt: skip
    for ours, theirs in zip(rates(one), rates(two), strict=True):
        assert_mirrored(ours, theirs)
    assert two["rates"] == one["rates"]
    signs, other = one["sign_test"], two["sign_test"]
    assert (signs["wins"], signs["losses"], signs["p"]) == (
        other["losses"], other["wins"], other["p"])  # fmt: skip
    assert two["length"]["longer_wins"] == one["length"]["longer_wins"]
    assert two["length"]["correlation"] == one["length"]["correlation"]
    assert two["cost"] == one["cost"]
    for row, other in zip(rows, items_of(turned), strict=True):
        assert (row["text_1"], row["text_2"]) == (other["text_2"], other["text_1"])
        points = (row["points"], other["points"])
        assert points == (None, None) or sum(points) == 1


def rates(report):
    return [report["win_rate"], report["corrected"], report["length"]["controlled"],
            *report["slices"]["label"].values(), *report["slices"]["domain"].values()]  # fmt: skip


def assert_mirrored(ours, theirs):
    assert ours["n"] == theirs["n"]
    for one, two in (("value", "value"), ("low", "high"), ("high", "low")):
        if ours[one] is None:
            assert theirs[two] is None
        else:
            assert round(1 - ours[one], 6) == theirs[two]


@pytest.mark.slow
def test_a_fifth_of_garbage_moves_nothing_and_shows_up(told, tmp_path):
    with JudgingServer(honest(by_text)) as server:
        clean = run(told, server)
        known = {row["id"]: row for row in items_of(told)}
    again = replace(told, benchmark=replace(told.benchmark, out=tmp_path / "again" / "benchmark"))
    kinds = ("unparsed", "cut", "refused", b'{"choices": []}')

    def plan(body, attempt):
        shown = Shown.of(body["messages"][-1]["content"])
        if shown.share >= 0.2 or case_of(shown):
            return None
        return kinds[int(shown.share * 1e6) % 3]

    with JudgingServer(honest(by_text), plan) as server:
        with pytest.raises(ValueError, match=r"max_unscored: expected at most 2.5% of 30") as e:
            run(again, server, max_unscored=0.025)
        report = run(again, server, max_unscored=1.0)
    assert "benchmark.judge.md" in str(e.value)
    assert set(report["faults"]) == {"unparsed", "cut", "refused"}
    rows = items_of(again)
    lost = [row for row in rows if row["outcome"] == "unscored"]
    assert report["outcomes"]["unscored"] == len(lost) > 0.1 * len(rows)
    assert report["rates"]["unscored"]["value"] == round(len(lost) / len(rows), 6)
    assert all(row["faults"] and row["points"] is None for row in lost)
    kept = [row for row in rows if row["outcome"] != "unscored"]
    assert [row["outcome"] for row in kept] == [known[row["id"]]["outcome"] for row in kept]
    same = [POINTS[known[row["id"]]["outcome"]] for row in kept]
    assert report["win_rate"]["value"] == round(sum(same) / len(same), 6)
    assert report["win_rate"]["n"] == len(kept)
    assert abs(report["win_rate"]["value"] - clean["win_rate"]["value"]) < 0.1


def test_a_judge_that_does_not_qualify_is_refused_before_anything_is_written(told):
    critics = {letter: Diligent(letter) for letter in "ab"}
    with JudgingServer(lambda shown: "first") as server:
        with pytest.raises(ValueError, match=r"expected a judge that qualifies, got .*flips"):
            run(told, server, critics, force=False)
        assert server.counted["requests"] == 4
    assert [critic.asked for critic in critics.values()] == [0, 0]
    assert not told.benchmark.out.with_name("benchmark.judge.json").exists()


def test_a_judge_that_qualifies_judges_without_force(told):
    with JudgingServer(honest(by_text)) as server:
        report = run(told, server, force=False, cases=0, sample=8)
    assert report["qualification"]["qualified"]
    assert report["qualification"]["failings"] == []
    assert report["corrected"]["better_wins"] == 1.0
    assert report["items"]["n"] == 8


def test_a_run_that_is_killed_while_writing_goes_on(told, tmp_path):
    with JudgingServer(honest(by_text)) as server:
        run(told, server)
        whole = files_of(told)
        again = replace(told, benchmark=replace(told.benchmark, out=tmp_path / "x" / "benchmark"))
        critics = {letter: Diligent(letter) for letter in "ab"}
        critics["b"].dies_at = 20
        with pytest.raises(KeyboardInterrupt):
            run(again, server, critics)
        kept = (tmp_path / "x" / "benchmark.judge.work").glob("judge.*.critiques.jsonl")
        written = next(path for path in kept if path.read_bytes().count(b"\n") == 4)
        with written.open("ab") as file:
            file.write(b'{"made": [{"te')  # killed in the middle of a line
        critics["b"].dies_at, critics["a"].asked, critics["b"].asked = None, 0, 0
        run(again, server, critics)
    assert (critics["a"].asked, critics["b"].asked) == (0, 10)
    for name in ("items.jsonl", "json"):
        assert files_of(again)[name] == whole[name]


def test_after_a_damaged_line_critiques_are_written_again(told):
    with JudgingServer(honest(by_text)) as server:
        run(told, server)
        whole = files_of(told)
        work = told.benchmark.out.with_name("benchmark.judge.work")
        path = sorted(work.glob("judge.*.critiques.jsonl"))[0]
        path.write_bytes(b"{}\n" + path.read_bytes())
        run(told, server)
    assert files_of(told) == whole


class Choosy(Diligent):
    """Cannot read some rationales, and writes what no file of rows may hold."""

    def critique(self, items, *, max_new_tokens=160, batch=8):
        self.p_flawed(items)  # raises where one is too long
        return [replace(w, text="\x07?\x7f", parsed=None) for w in super().critique(items)]


def test_what_a_model_cannot_read_is_unscored_and_control_characters_are_shown(told, tmp_path):
    some = examples()[:6]
    some[2] = replace(some[2], rationale=some[2].rationale + " It is too long.")
    write_examples(told.benchmark.data, some)
    with JudgingServer(moody) as server:
        critics = {"a": Diligent("a"), "b": Choosy("b")}
        report = run(told, server, critics, max_unscored=0.2)
    assert report["outcomes"]["unscored"] == 1
    assert report["faults"] == {"too long": 1}
    assert report["models"]["model_2"]["written"] == 5
    assert report["models"]["model_2"]["parsed"] == 0
    assert items_of(told)[0]["text_2"] == "\ufffd?\ufffd"


def test_whole_groups_are_drawn_with_the_labels_of_all():
    all_ = examples()
    some = docket(all_, 11, seed=1)
    assert len(some) == 10
    assert sum(e.label == "flawed" for e in some) == 5
    assert {e.group for e in some} & {e.group for e in all_ if e not in some} == set()
    assert [e.id for e in docket(all_[::-1], 11, 1)] == [e.id for e in some][::-1]
    assert docket(all_, 11, seed=2) != some
    assert docket(all_, 0, 1) == docket(all_, 500, 1) == all_
    lone = [replace(e, group=e.id) for e in all_ if e.label == "valid" or e.group in tuple("0123")]
    part = docket(lone, 14, seed=0)  # 4 of 19 are flawed: 2.9 of 14
    assert [e.label for e in part].count("flawed") == 3
    with pytest.raises(ValueError, match=r"judge.sample: expected room for a whole group, got 1;"):
        docket(all_, 1, seed=0)


def test_two_models_are_needed(told):
    told.benchmark.model_2 = None
    with pytest.raises(ValueError, match=r"benchmark.model_2: expected a second model"):
        judge(told)


def test_the_command_with_real_critics(tmp_path, tiny_folder, monkeypatch, capsys):
    """The random base against itself: all the same words, so that nobody need be asked."""
    monkeypatch.setenv("NO_PROXY", "*")
    write_examples(tmp_path / "test.jsonl", examples()[:4])
    with JudgingServer(honest()) as server:
        command = [
            "judge", "--judge.backend", "openai", "--judge.model", "m", "--judge.url", server.url,
            "--judge.cases", "1", "--judge.max_new_tokens", "8", "--judge.draws", "50",
            "--benchmark.model_1", "tiny", "--benchmark.model_2", "tiny",
            "--benchmark.data", str(tmp_path / "test.jsonl"), "--base.folder", str(tiny_folder),
            "--benchmark.out", str(tmp_path / "benchmark"),
        ]  # fmt: skip
        assert main(command) == FAILED
        assert "expected a judge that qualifies" in capsys.readouterr().err
        assert main([*command, "--judge.force", "true"]) == OK
        assert server.counted["requests"] == 2
    report = json.loads((tmp_path / "benchmark.judge.json").read_text())
    assert report["outcomes"]["identical"] == report["items"]["n"] == 4
    assert report["win_rate"]["value"] == 0.5
