"""OpenAI's protocol: whole and streamed answers are the critique of the critic itself."""

import json

import pytest

from tests.minicrit.serving.running import running

TEXT = "Three of three swans were white, so all swans are white."


def ask(live, content=TEXT, **more):
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": content}]
    return live.ask("/v1/chat/completions", {"model": "minicrit", "messages": messages, **more})


@pytest.mark.parametrize(("content", "more", "domain"), [
    (TEXT, {}, "general"), (f"Domain: trading\n{TEXT}", {}, "trading"),
    (TEXT, {"metadata": {"domain": "medical"}}, "medical"),
    ([{"type": "text", "text": TEXT}], {"temperature": 0, "seed": 3}, "general"),
])  # fmt: skip
def test_the_answer_is_the_critique(live, critic, content, more, domain):
    (written,) = critic.critique([(domain, TEXT)], max_new_tokens=8)
    answer = ask(live, content, **more).json()
    assert answer["object"] == "chat.completion"
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": written.text, "refusal": None}
    assert choice["finish_reason"] == "length"  # random weights do not end
    prompt = len(critic.encoder.prompt(domain, TEXT))
    assert answer["usage"] == {"prompt_tokens": prompt, "completion_tokens": 8,
                               "total_tokens": prompt + 8}  # fmt: skip
    assert answer["minicrit"]["domain"] == domain
    body = {"request_id": answer["minicrit"]["request_id"], "decision": "agree", "operator": "a"}
    assert live.ask("/v1/feedback", body).status_code == 201


CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.mark.parametrize("more", [
    {"stream": None, "n": None, "max_tokens": None, "stream_options": None, "metadata": None},
    {"stream_options": {"include_usage": None}},
])  # fmt: skip
def test_null_is_as_good_as_nothing(live, more):
    """OpenAI's own client sends null for a setting that is None."""
    assert ask(live, **more).json()["choices"][0]["message"]["content"].startswith("Verdict: ")


def test_messages_that_are_not_read_may_hold_anything(live):
    before = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {"role": "function", "name": "look", "content": "3"},
    ]
    told = {"model": "minicrit", "messages": [*before, {"role": "user", "content": TEXT}]}
    answer = live.ask("/v1/chat/completions", told)
    assert answer.status_code == 200, answer.text
    refused = live.ask("/v1/chat/completions", {**told, "messages": before[:1]}).json()["error"]
    assert "expected text in the user's last one, got a part of type 'image_url'" in refused[
        "message"]  # fmt: skip


def events(live, **more):
    body = {"model": "minicrit", "stream": True, "messages": [{"role": "user", "content": TEXT}]}
    with live.http.stream("POST", "/v1/chat/completions", json={**body, **more}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


def test_a_stream_says_the_same_in_pieces(live, critic):
    (written,) = critic.critique([("general", TEXT)], max_new_tokens=5)
    live.service.recorder.settle_all()
    before = live.service.store.state()["requests"]
    found = events(live, max_tokens=5, stream_options={"include_usage": True})
    assert found[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(c["delta"].get("content", "") for e in found for c in e["choices"])
    assert text == written.text
    assert found[0]["choices"][0]["delta"]["content"] in ("Verdict: valid", "Verdict: flawed")
    assert [c["finish_reason"] for e in found for c in e["choices"]][-1] == "length"
    assert found[-1]["usage"]["completion_tokens"] == 5
    assert len({e["id"] for e in found}) == 1
    live.service.recorder.settle_all()
    assert live.service.store.request(found[-2]["minicrit"]["request_id"]) is not None
    assert live.service.store.state()["requests"] == before + 1  # one answer, one request


@pytest.mark.parametrize(("body", "status"), [
    ({"model": "gpt-5"}, 404), ({"n": 2}, 422), ({"messages": []}, 422),
    ({"messages": [{"role": "system", "content": "x"}]}, 422),
    ({"messages": [{"role": "user", "content": "Domain: law\nx"}]}, 422),
    ({"messages": [{"role": "user", "content": "Domain: trading\n"}]}, 422),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, 422),
    ({"metadata": {"domain": "law"}}, 422), ({"stream": True, "model": "other"}, 404),
])  # fmt: skip
def test_what_is_refused(live, body, status):
    answer = ask(live, **body) if "messages" not in body else live.ask(
        "/v1/chat/completions", {"model": "minicrit", **body})  # fmt: skip
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_models_are_the_critic_alone(live, critic):
    rows = live.http.get("/v1/models").json()["data"]
    assert [row["id"] for row in rows] == ["tiny", "minicrit"]
    assert {row["identity"] for row in rows} == {critic.identity}


def test_a_stream_that_fails_says_so(critic, tmp_path):
    class Mute:
        def __getattr__(self, name):
            return getattr(critic, name)

        def critique(self, *_, **__):
            raise RuntimeError("broken")

    with running(Mute(), tmp_path) as live:
        body = {"model": "minicrit", "stream": True,
                "messages": [{"role": "user", "content": TEXT}]}  # fmt: skip
        lines = [line for line in live.ask("/v1/chat/completions", body).text.split("\n") if line]
        assert "Verdict: " in lines[0]
        assert json.loads(lines[-1][6:])["error"]["code"] == "internal"
