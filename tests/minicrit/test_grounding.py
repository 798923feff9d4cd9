"""Critiques that quote and count only what the rationale holds."""

import pytest
import torch

from data_gen.compose import compose
from minicrit.accepting import Greedy
from minicrit.critic import Critic
from minicrit.figures import figures
from minicrit.grounding import MARK, Asked, Grounded, Sources, write
from minicrit.pens import Together
from minicrit.prompts import parse_critique
from minicrit.sums import stated_sums

RATIONALE = "In 1,200 runs there were 5 faults, at 12:30 in all. So it is safe."
SOURCES = Sources(RATIONALE)


@pytest.mark.parametrize("text", [
    "5 faults", "5.", "5,", "1,2", "1,200", "1200", "240", "240.0", "6,000", "0.4", "4.17",
    "12:30", "100%", "Per 1,000", "3.1%", "none", "B77", "of 1,200, 5",
])  # fmt: skip
def test_figures_with_a_source(text):
    """Stated; 1,200 / 5; 1,200 * 5; 5 / 1,200 in percent and per 1,000; 0.5 to the fifth."""
    assert SOURCES.lets("", text)
    for end in range(1, len(text)):
        assert SOURCES.lets(text[: end - 1], text[:end])


@pytest.mark.parametrize(("before", "text"), [
    ("", "77"), ("", "77 runs"), ("5", "57"), ("5", "57 runs"), ("1,2", "1,29"),
    ("of 24", "of 24 "),
])  # fmt: skip
def test_figures_without(before, text):
    assert not SOURCES.lets(before, text)


def test_a_figure_that_may_go_on_must_be_one_itself_at_the_end():
    assert SOURCES.lets("", "24")  # on the way to 240
    assert not SOURCES.ends("it is 24")
    assert SOURCES.ends("it is 240")
    assert SOURCES.ends("nothing")


def passes(sources, begin, text):
    """Whether a text may be written after another one, letter by letter."""
    whole = begin + text
    return all(sources.lets(whole[: at - 1], whole[:at])
               for at in range(len(begin) + 1, len(whole) + 1)) and sources.ends(whole)  # fmt: skip


@pytest.mark.parametrize(("begin", "right", "wrong"), [
    ("20 a day for 8 days makes ", "160, not 220", "220, not 160"),
    ("8 times 20 is ", "160.", "20."),
    ("1,220 times 20 is ", "24,400", "1,220"),
    ("8 of 20 is ", "40%", "8%"),
    ("8 of 220, which is ", "3.6%", "8%"),
    ("20% of 220 is ", "44", "20"),
    ("220 minus 20 is ", "200", "220"),
])  # fmt: skip
def test_a_sum_comes_to_what_it_makes(begin, right, wrong):
    """Whatever figures have a source: those here all have one, or are results."""
    sources = Sources("A crew packs 20 a day for 8 days, in all 220 of 1,220, so they say.")
    assert passes(sources, begin, right)
    assert not passes(sources, begin, wrong)
    assert passes(sources, begin.rstrip(" ") + " about ", wrong)  # that states no sum


def test_what_is_worked_out_comes_to_what_it_makes():
    """Whatever figures have a source: 95% and 18 do."""
    sources = Sources("One in 2,000 cups is bad. A ring comes with 90% of them, and 5% of the rest."
                      " The hall saw 18 falls in 1,000 days and the yard 6 in 14,000.")  # fmt: skip
    case = "With one true case in 2,000, 90% of them caught and 5% of the rest flagged too, "
    rates = "Per 1,000 days the yard had "
    for begin, right, wrong in ((case, "0.9%", "95%"), (rates, "0.43", "18"),
                                ("At one in ", "2,000", "18")):  # fmt: skip
        assert passes(sources, begin, right)
        assert not passes(sources, begin, wrong)
    assert not passes(sources, case, "0.9 of 100 are real")  # right, but no way to say it
    assert not passes(sources, "At one in 2,000, only ", "9 are")
    for said in ("0", "0.43%", "0.430", "1 fall", "6 falls"):
        assert not passes(sources, rates, said)
    assert not passes(Sources("It rang 9 times."), case, "95%")  # whatever the text says of it


def test_the_critiques_that_are_taught_state_no_false_sum():
    said = 0
    for example in (c.example for c in compose(400, 3, "train")):
        sources = Sources(example.rationale)
        for text in filter(None, (example.strengths, example.critique, example.fix)):
            found = list(stated_sums(text))
            said += len(found)
            assert all(one.holds for one in found), text
            for one in found:
                assert passes(sources, one.text.removesuffix(one.said), one.said), one
    assert said > 20


def test_what_the_rationale_has_of_digits_may_be_copied():
    sources = Sources("Since 1.2.3 of 2024-05-01, at 12:30, 7 failed.")
    for text in ("in 1.2.3.", "of 2024-05-01,", "at 12:30.", "7."):
        for end in range(1, len(text) + 1):
            assert sources.lets(text[: end - 1], text[:end]), text[:end]


def test_what_was_let_pass_once_does_not_silence_the_rest():
    assert SOURCES.lets("so 77 and", "so 77 and more 5 ")


#: 5, 95, 10, 25, 1, 3.1, 100, 1,000 and the like have a source; nothing that begins with 7 or 8.
FEW = Sources("It has 5.")


def scored(encoder, *texts):
    """Logits (1, V) that hold the first tokens of these texts the likeliest, in this order."""
    logits = torch.zeros(1, len(encoder.tokenizer))
    for place, text in enumerate(texts):
        logits[0, encoder.ids(text)[0]] = 10.0 - place
    return logits


def test_the_next_likeliest_token_is_taken_where_a_figure_has_no_source(tiny_encoder):
    rule = Grounded(tiny_encoder, FEW, quotes=False)
    (token,) = rule.take(scored(tiny_encoder, "7", "8", "5", "x"), [], None, 0)
    assert token == tiny_encoder.ids("5")[0]
    (token,) = rule.take(scored(tiny_encoder, "7", " "), [], None, 1)  # 57 is none
    assert token == tiny_encoder.ids(" ")[0]


def test_it_does_not_end_within_a_figure(tiny_encoder):
    rule = Grounded(tiny_encoder, SOURCES, quotes=False)
    for text in ("2", "4"):
        rule.take(scored(tiny_encoder, text), [], None, 0)
    logits = scored(tiny_encoder, "7", "0")
    logits[0, tiny_encoder.end] = 20.0
    assert rule.take(logits, [], None, 2) == [tiny_encoder.ids("0")[0]]
    assert rule.take(logits, [], None, 3) == [tiny_encoder.end]


@pytest.mark.parametrize(("begun", "liked", "taken"), [
    ("\nFlaw: s", "x", "u"),  # sunk_cost, survivorship_bias
    ("\nFlaw: sunk_cos", "\n", "t"),  # a name ends where it is whole
    ("\nFlaw: sunk_cost", "s", "\n"),
    ("\nFlaw: sunk_cost\nSeverity: hig", "x", "h"),
    ("\nCritique: It says", "x", "x"),
])  # fmt: skip
def test_flaw_and_severity_are_of_those_that_there_are(tiny_encoder, begun, liked, taken):
    """Before, one critique in some hundreds named a flaw such as real_time, and did not parse."""
    rule = Grounded(tiny_encoder, FEW, quotes=True)
    for token in tiny_encoder.ids(begun):
        logits = torch.zeros(1, len(tiny_encoder.tokenizer))
        logits[0, token] = 9.0
        assert rule.take(logits, [], None, 0) == [token]
    (token,) = rule.take(scored(tiny_encoder, liked, taken), [], None, 0)
    assert token == tiny_encoder.ids(taken)[0]


def test_with_nothing_else_to_take_the_likeliest_passes(tiny_encoder, monkeypatch):
    monkeypatch.setattr("minicrit.grounding._TRIED", 1)
    rule = Grounded(tiny_encoder, FEW, quotes=False)
    assert rule.take(scored(tiny_encoder, "7"), [], None, 0) == [tiny_encoder.ids("7")[0]]


def test_a_draft_is_taken_as_far_as_it_is_what_the_rule_would_write(tiny_encoder):
    rule = Grounded(tiny_encoder, FEW, quotes=False)
    five, seven, blank = (tiny_encoder.ids(text)[0] for text in ("5", "7", " "))
    logits = torch.cat([scored(tiny_encoder, *order) for order in (("7", "5"), (" ",), ("7",))])
    assert rule.take(logits, [seven, blank], None, 0) == [five]  # 7 was drafted, 5 is due
    assert rule.take(logits[1:], [blank], None, 1)[0] == blank


class Started(Together):
    """A pen whose first go writes what it is told, by the rules; the model does all else."""

    def __init__(self, reader, text):
        super().__init__(reader)
        self.told = reader.encoder.ids(text)

    def write(self, rows, texts, rules, longest):
        if not self.told:
            return super().write(rows, texts, rules, longest)
        told, self.told = [*self.told, 0], []
        found = []
        for rule in rules:
            tokens = []
            for token in told:
                logits = torch.randn(1, len(self.reader.tokenizer),
                                     generator=torch.Generator().manual_seed(3))  # fmt: skip
                logits[0, token] = 50.0
                tokens += rule.take(logits, (), None, len(tokens))
            assert tokens.pop() == self.reader.encoder.end  # it stopped at the quotation
            found.append(tokens)
        return found


def opened(critic, rationale, longest):
    """What is written after a scripted beginning that opens a quotation."""
    encoder = critic.encoder
    ids = encoder.prompt("trading", rationale) + encoder.begun("Verdict: flawed")
    begin = f"\nFlaw: small_sample\nSeverity: medium{MARK}"
    (row,) = write(Started(critic, begin), encoder, [Asked(ids, rationale)], longest)
    assert len(row) <= longest
    return str(encoder.tokenizer.decode(row))


@pytest.fixture
def unread(monkeypatch):
    """A critic that has learnt nothing hardly expects words of the rationale."""
    monkeypatch.setattr("minicrit.spans._ELSEWHERE", 0.0)


@pytest.fixture
def critic(tiny_adapted, tiny_encoder):
    return Critic(tiny_adapted, tiny_encoder.tokenizer, name="tiny", identity="tiny")


@pytest.mark.parametrize("rationale", [
    RATIONALE, 'He said "no" twice.\nThen, with a C:\\path, "yes".', "Ça coûte 5 € déjà, « trop ».",
])  # fmt: skip
def test_a_quotation_stands_in_the_rationale_word_for_word(critic, rationale, unread):
    text = "Verdict: flawed" + opened(critic, rationale, 60)
    lines = text.split("\n")
    quoted = parse_critique("\n".join(lines[:4])).evidence
    assert quoted
    assert quoted in rationale
    assert lines[3].endswith('"')


def test_a_rationale_without_a_word_is_quoted_freely(critic):
    assert MARK in opened(critic, "\n", 30)


def test_nothing_is_longer_than_it_may_be(critic):
    begin = f"\nFlaw: small_sample\nSeverity: medium{MARK}"
    for more in (1, 4, 30):
        text = opened(critic, RATIONALE, len(critic.encoder.ids(begin)) + more)
        assert text.startswith(begin)
        assert len(text) > len(begin)


def test_figures_have_a_source_whatever_the_model_would_write(tiny_encoder):
    """Noise that is full of digits, commas and stops."""
    sources = Sources("Of 18 lots 36 fell, 2.5 each, in all 1,250.")
    favoured = [tiny_encoder.ids(text)[0] for text in (*"0123456789,.", " of", "%")]
    strays = {}
    for kind in ("free", "grounded"):
        strays[kind] = 0
        for seed in range(12):
            generator = torch.Generator().manual_seed(seed)
            rule = Grounded(tiny_encoder, sources, quotes=False) if kind == "grounded" else Greedy()
            ids = []
            for step in range(60):
                logits = torch.randn(1, len(tiny_encoder.tokenizer), generator=generator)
                logits[0, favoured] += 4.0
                logits[0, tiny_encoder.end] = -9.0 if step < 39 else 9.0
                ids += rule.take(logits, (), None, step)
            text = str(tiny_encoder.tokenizer.decode(ids[: ids.index(tiny_encoder.end)]))
            strays[kind] += len(figures(text) - sources.values)
    assert strays["free"] > 10
    assert strays["grounded"] == 0


@pytest.fixture
def quoting(monkeypatch, critic, unread):
    """The critic opens a quotation after some words of its own; how it goes on is the model's."""
    begin = critic.encoder.ids(f"\nFlaw: small_sample\nSeverity: medium{MARK}")
    own = Grounded._next

    def scripted(rule, logits, first):
        if rule.quotes and len(rule._ids) < len(begin):
            first = begin[len(rule._ids)]
            logits = torch.nn.functional.one_hot(torch.tensor(first), len(logits)).float()
        return own(rule, logits, first)

    monkeypatch.setattr(Grounded, "_next", scripted)
    critic.threshold = 0.0
    return critic


ITEMS = [("trading", RATIONALE), ("medical", "Of 12 wards 4 had falls, so a third will."),
         ("planning", "Nobody fell on Monday. So nobody falls."), ("general", "\n\n")]  # fmt: skip


def test_alone_with_drafts_it_is_the_same_text(quoting):
    """Twice, as the second time whole texts are guessed, the end at the quotation among them."""
    together = [w.text for w in quoting.critique(ITEMS, max_new_tokens=60, drafts=False)]
    for _ in range(2):
        alone = [quoting.critique([item], max_new_tokens=60)[0].text for item in ITEMS]
        assert alone == together
    assert quoting.scribe.last.drafts > 0
    for (_, rationale), text in zip(ITEMS[:3], together, strict=False):
        assert parse_critique("\n".join(text.split("\n")[:4])).evidence in rationale


@pytest.mark.parametrize("longest", [60, 25])
def test_every_forward_and_every_token_is_told(quoting, longest):
    seen = []
    handle = quoting.causal_lm.model.register_forward_pre_hook(lambda *_: seen.append(1))
    for item in ITEMS:
        seen.clear()
        (written,) = quoting.critique([item], max_new_tokens=longest)
        cost = quoting.scribe.last
        assert cost.forwards == len(seen)
        assert cost.tokens == written.tokens + (written.tokens < longest)
    handle.remove()


def test_in_a_batch_of_any_size_it_is_the_same_text(quoting):
    one = [quoting.critique([i], max_new_tokens=40, drafts=False)[0].text for i in ITEMS]
    assert one == [w.text for w in quoting.critique(ITEMS, max_new_tokens=40, batch=3)]


def test_ungrounded_it_writes_on_behind_the_quote_as_it_likes(quoting):
    quoting.grounded = False
    text = quoting.critique(ITEMS[:1], max_new_tokens=20, drafts=False)[0].text
    assert MARK not in text


def test_a_token_that_merges_the_quote_with_what_follows_is_not_taken(tiny_encoder):
    rule = Grounded(tiny_encoder, SOURCES, quotes=True)
    begin, merged = MARK[:-1], tiny_encoder.ids('"x')
    for token in tiny_encoder.ids(begin):
        logits = torch.zeros(1, len(tiny_encoder.tokenizer))
        logits[0, token] = 9.0
        rule.take(logits, (), None, 0)
    said = rule._said
    rule._said = lambda more: said(more) + ("x" if more == merged[:1] else "")
    logits = torch.zeros(1, len(tiny_encoder.tokenizer))
    logits[0, merged[0]], logits[0, tiny_encoder.ids("x")[0]] = 9.0, 8.0
    assert rule.take(logits, (), None, 0) == [tiny_encoder.ids("x")[0]]


@pytest.mark.parametrize(("rationale", "text"), [
    ("In 2019: 40 units.", "in 2019 it"), ("It is p<.05 then.", "at 0.05 it"),
    ("It is " + "9" * 400 + ".", "so 100 and"),
])  # fmt: skip
def test_figures_in_odd_places_count(rationale, text):
    sources = Sources(rationale)
    for end in range(1, len(text) + 1):
        assert sources.lets(text[: end - 1], text[:end]), text[:end]


def test_a_colon_does_not_hide_a_figure():
    assert SOURCES.lets("", "24")  # 240
    assert not SOURCES.lets("24", "24:")


def test_of_many_figures_only_those_stated_count():
    sources = Sources(" ".join(f"{n} eggs," for n in range(1000, 1300)))
    assert 1299.0 in sources.values
    assert 2001.0 not in sources.values
