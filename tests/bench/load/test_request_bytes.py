"""Requests are whole, alike but for key and host, and never malformed by a bad key."""

import json

import httptools
import pytest

from bench.load.plan import LoadPlan, Question
from bench.load.request_bytes import plan_requests, question_body, request_bytes


class Parsed:
    """What llhttp reads in a request."""

    def __init__(self, request: bytes) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.url = self.body = b""
        self.complete = False
        httptools.HttpRequestParser(self).feed_data(request)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def test_an_anthropic_request() -> None:
    parsed = Parsed(request_bytes("http://h:1/base/", Question(behaviour="tokens=5", stream=True), "sk-1"))
    assert parsed.complete
    assert parsed.url == b"/base/v1/messages"
    assert parsed.headers[b"host"] == b"h:1"
    assert parsed.headers[b"x-api-key"] == b"sk-1"
    assert parsed.headers[b"anthropic-version"]
    body = json.loads(parsed.body)
    assert body["model"] == "sim:tokens=5"
    assert body["stream"] is True
    assert body["messages"][0]["role"] == "user"


def test_an_openai_request() -> None:
    parsed = Parsed(request_bytes("https://api.example", Question(dialect="openai", model="gpt"), "sk-2"))
    assert parsed.url == b"/v1/chat/completions"
    assert parsed.headers[b"authorization"] == b"Bearer sk-2"
    assert b"anthropic-version" not in parsed.headers
    assert "stream" not in json.loads(parsed.body)


@pytest.mark.parametrize("size", [0, 1, 44, 45, 46, 10_000])
def test_prompts_have_the_size_asked_for(size: int) -> None:
    body = json.loads(question_body(Question(prompt_bytes=size)))
    assert len(body["messages"][0]["content"]) == size


def test_one_request_for_each_key() -> None:
    requests = plan_requests(LoadPlan(base_url="http://h", keys=["aaa", "bbb"]))
    assert [request.replace(b"bbb", b"aaa") for request in requests] == [requests[0]] * 2


def test_ids_differ_and_keys_are_used_in_turn() -> None:
    requests = plan_requests(LoadPlan(base_url="http://h", keys=["aaa", "bbb"], request_ids=4))
    assert len(set(requests)) == 4
    assert [
        (b": aaa" in one, b"x-request-id: %032x" % number in one) for number, one in enumerate(requests)
    ] == [(number % 2 == 0, True) for number in range(4)]
    requests = plan_requests(LoadPlan(base_url="http://h", keys=["aaa", "bbb", "ccc"], request_ids=1))
    assert [b"x-request-id: " + b"0" * 32 in one for one in requests] == [True] * 3


@pytest.mark.parametrize("key", ["a\r\nx: y", "naïve", "tab\t"])
def test_a_key_that_is_no_header_value_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        request_bytes("http://h", Question(), key)
    assert key not in str(caught.value)


def test_a_plans_headers_are_sent_besides() -> None:
    plan = LoadPlan(base_url="http://h", keys=["k"], headers={"x-portkey-provider": "openai"})
    [request] = plan_requests(plan)
    assert b"\r\nx-portkey-provider: openai\r\n" in request
