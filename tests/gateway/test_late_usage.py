"""Batches and background responses: each piece of work found once, by the same id, whatever the reads."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from bench.sim.anthropic_api import batches as anthropic_batches
from bench.sim.behaviour import of_request
from bench.sim.openai_api import batches as openai_batches
from bench.sim.openai_api import files, responses
from bench.sim.request import Request
from bench.sim.state import State
from gateway import late_usage as late_usage_module
from gateway.late_usage import Counted, LateKind, LateRecord, LateUsage, late_usage
from gateway.refusal import Dialect
from gateway.sse import EVENT_BYTES_MAX
from storage.usage_rows import LATE_PREFIX
from tests.gateway.pieces import cut
from tests.gateway.recorded_streams import named

ORG, OTHER = UUID(int=1), UUID(int=2)
PLAIN = of_request("", None)
RESULTS = "/v1/messages/batches/{message_batch_id}/results"
CONTENT = "/v1/files/{file_id}/content"
RESPONSE = "/v1/responses/{response_id}"


def asked(target: str, document: dict[str, Any] | None = None, *parameters: str) -> Request:
    request = Request.inner(target, document or {})
    request.parameters = parameters
    return request


def read(reader: LateUsage, *pieces: bytes) -> list[LateRecord]:
    return [record for piece in pieces for record in reader.feed(piece)] + reader.finish()


def facts(records: list[LateRecord]) -> list[tuple[str, str | None, int, int, str | None, bool]]:
    return [
        (
            record.request_id,
            record.figures.model,
            record.figures.input_tokens,
            record.figures.output_tokens,
            record.figures.service_tier,
            record.complete,
        )
        for record in records
    ]


def of_anthropic(org_id: UUID = ORG, source: str = "b1") -> LateUsage:
    return LateUsage(LateKind.ANTHROPIC_BATCH, source, org_id)


def of_file(org_id: UUID = ORG, source: str = "f1") -> LateUsage:
    return LateUsage(LateKind.OPENAI_FILE, source, org_id)


def anthropic_results(state: State) -> bytes:
    said = [{"role": "user", "content": "hi"}]
    requests = [
        {
            "custom_id": f'é"{number}',
            "params": {"model": f"sim:tokens={number},input_tokens=7", "max_tokens": 50, "messages": said},
        }
        for number in (3, 4)
    ]
    requests.append({"custom_id": "bad", "params": {"model": "m"}})
    created = anthropic_batches.create(state, asked("/v1/messages/batches", {"requests": requests}), PLAIN)
    batch_id = json.loads(created.body)["id"]
    for _ in range(3):
        anthropic_batches.retrieved(state, asked("/", None, batch_id), PLAIN)
    answer = anthropic_batches.results(state, asked("/", None, batch_id), PLAIN)
    return b"".join(answer.body_pieces())


def openai_output(state: State) -> bytes:
    lines = [
        {"custom_id": "a", "url": "/v1/chat/completions", "body": {"model": "sim:tokens=3,input_tokens=9"}},
        {"custom_id": "b", "url": "/v1/embeddings", "body": {"model": "e", "input": "x" * 40}},
        {"custom_id": "c", "url": "/v1/chat/completions", "body": {}},
    ]
    lines[0]["body"]["messages"] = [{"role": "user", "content": "hi"}]  # type: ignore[index]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    file = files.keep_file(state, "in.jsonl", "batch", len(content), content)
    document = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = json.loads(openai_batches.create(state, asked("/v1/batches", document), PLAIN).body)
    batch = json.loads(openai_batches.retrieved(state, asked("/", None, batch["id"]), PLAIN).body)
    answer = files.content(state, asked("/", None, batch["output_file_id"]), PLAIN)
    return b"".join(answer.body_pieces())


def test_anthropic_results_cut_anywhere() -> None:
    body = anthropic_results(State())
    found = facts(read(of_anthropic(), body))
    assert [fact[2:] for fact in found] == [(7, 3, "batch", True), (7, 4, "batch", True)]
    assert len({fact[0] for fact in found}) == 2
    for at in range(1, len(body), 7):
        assert facts(read(of_anthropic(), body[:at], body[at:])) == found
    assert facts(read(of_anthropic(), *cut(body, 1))) == found
    assert facts(read(of_anthropic(), body.rstrip(b"\n"))) == found


def test_openai_output_cut_anywhere() -> None:
    body = openai_output(State())
    found = facts(read(of_file(), body))
    assert [fact[2:] for fact in found] == [(9, 3, "batch", True), (16, 0, "batch", True)]
    for size in (1, 3, 100):
        assert facts(read(of_file(), *cut(body, size))) == found
    spaced = body.replace(b'{"id":"batch_req_', b' { "id" : "batch_req_')
    assert facts(read(of_file(), *cut(spaced, 1))) == found


def test_ids_are_the_same_for_the_same_work_only() -> None:
    body = anthropic_results(State())
    first = [record.request_id for record in read(of_anthropic(), body)]
    assert all(len(one) == 32 and one.startswith(LATE_PREFIX) and UUID(one) for one in first)
    assert first == [record.request_id for record in read(of_anthropic(), body)]
    others = (of_anthropic(OTHER), of_anthropic(source="b2"))
    for other in others:
        assert not set(first) & {record.request_id for record in read(other, body)}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b'"usage"',
        b'{"custom_id":"a","result":{"type":"errored","error":{"usage":{"input_tokens":5}}}}',
        b'{"custom_id":"a","result":{"type":"succeeded","message":{"usage":null}}}',
        b'{"custom_id":"a","result":{"type":"succeeded","message":7},"usage":1}',
        b'{"custom_id":7,"result":{"type":"succeeded","message":{"usage":{"input_tokens":5}}}}',
        b'{"result":{"type":"succeeded","message":{"usage":{"input_tokens":5}}}}',
        b'{"usage":' + b"[" * 5000,
        b"\xff" * 50,
    ],
)
def test_lines_that_tell_nothing_hide_nothing(line: bytes) -> None:
    good = b'{"custom_id":"g","result":{"type":"succeeded","message":{"usage":{"input_tokens":5}}}}'
    reader = of_anthropic()
    assert [record.figures.input_tokens for record in read(reader, line + b"\n" + good + b"\n" + line)] == [5]
    assert reader.told


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"{}\n", b'{"id":"x"}\n', b"\n\n{", b'{"id":"batch_re"'])
def test_a_file_that_is_no_batch_s_output_is_not_read(start: bytes) -> None:
    body = start + b"\n" + openai_output(State())
    for size in (1, 1000, len(body)):
        reader = of_file()
        assert read(reader, *cut(body, size)) == []
        assert not reader.told
        assert reader._body.empty


def test_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_usage_module, "LINES_MAX", 3)
    good = b'{"custom_id":"%d","result":{"type":"succeeded","message":{"usage":{"input_tokens":5}}}}\n'
    body = b"\n".join(good % number for number in range(9))
    assert len(read(of_anthropic(), *cut(body, 50))) == 3


def test_lines_beyond_the_window() -> None:
    text = "x" * (EVENT_BYTES_MAX + 5)
    message = {"model": "m", "content": [text], "usage": {"input_tokens": 5, "output_tokens": 6}}
    line = json.dumps({"custom_id": 'a"', "result": {"type": "succeeded", "message": message}}).encode()
    (long,) = read(of_anthropic(), *cut(line + b"\n", 65_536))
    short = line.replace(text.encode(), b"")
    assert facts([long]) == facts(read(of_anthropic(), short))
    body = {"model": "m", "choices": [text], "usage": {"prompt_tokens": 5, "completion_tokens": 6}}
    line = json.dumps({"id": "batch_req_1", "response": {"status_code": 200, "body": body}}).encode()
    (long,) = read(of_file(), *cut(line + b"\n", 65_536))
    assert facts([long]) == facts(read(of_file(), line.replace(text.encode(), b"")))


# Background responses.


def background(state: State, *, streamed: bool = False) -> tuple[bytes, bytes]:
    """The answer that creates one, and a later look at it."""
    document = {"model": "sim:tokens=5,input_tokens=8", "input": "hi", "background": True, "stream": streamed}
    behaviour = of_request(document["model"], None)  # type: ignore[arg-type]
    answer = responses.create(state, asked("/v1/responses", document), behaviour)
    events = answer.events() if callable(answer.events) else answer.events
    first = b"".join(event.data for event in events) if events else b"".join(answer.body_pieces())
    response_id = first.partition(b'"id":')[2].split(b'"')[1].decode()
    look = responses.retrieved(state, asked("/", None, response_id), PLAIN)
    return first, b"".join(look.body_pieces())


def of_response(*, streamed: bool = False) -> LateUsage:
    return LateUsage(LateKind.RESPONSE, "", ORG, streamed=streamed)


def test_a_background_response_is_counted_when_it_has_ended() -> None:
    first, look = background(State())
    assert read(of_response(), first) == []
    (record,) = read(of_response(), *cut(look, 10))
    assert (record.figures.input_tokens, record.figures.output_tokens, record.complete) == (8, 5, True)
    assert record.provider_id is not None
    assert record.provider_id.startswith("resp_")


def test_its_stream_and_a_later_look_are_one() -> None:
    first, look = background(State(), streamed=True)
    (streamed,) = read(of_response(streamed=True), *cut(first, 11))
    (looked,) = read(of_response(), look)
    assert streamed.request_id == looked.request_id
    assert facts([streamed]) == facts([looked])


@pytest.mark.parametrize(
    "response",
    [
        {"id": "resp_1", "background": False, "usage": {"input_tokens": 3}},
        {"id": "resp_1", "usage": {"input_tokens": 3}},
        {"id": "resp_1", "background": True, "usage": None},
        {"background": True, "usage": {"input_tokens": 3}},
        {"id": 7, "background": True, "usage": {"input_tokens": 3}},
    ],
)
def test_other_responses_were_counted_when_they_were_made(response: dict[str, object]) -> None:
    assert read(of_response(), json.dumps(response).encode()) == []
    event = {"type": "response.completed", "response": response}
    assert read(of_response(streamed=True), named(event)) == []


def test_a_provider_agrees_to_the_background_by_its_last_word_on_it() -> None:
    made = named({"type": "response.created", "response": {"id": "resp_1", "background": True}})
    drawn = named({"type": "response.image_generation_call.partial_image", "background": "auto"})
    at_once = named(
        {"type": "response.completed", "response": {"id": "resp_1", "usage": {"input_tokens": 3}}}
    )
    for events, agreed in (((drawn,), False), ((made, drawn), True), ((made, drawn, at_once), False)):
        reader = of_response(streamed=True)
        assert read(reader, *events) == []
        assert reader.agreed is agreed


def test_a_response_beyond_the_window() -> None:
    response = {"id": "resp_1", "background": True, "output": ["x" * 2_000_000], "usage": {"input_tokens": 3}}
    whole = json.dumps(response).encode()
    stream = named({"type": "response.completed", "response": response})
    records = read(of_response(), *cut(whole, 65_536)) + read(
        of_response(streamed=True), *cut(stream, 65_536)
    )
    small = read(of_response(), json.dumps(response | {"output": []}).encode())
    assert facts(records) == facts(small * 2)
    response["background"] = False
    assert read(of_response(), *cut(json.dumps(response).encode(), 65_536)) == []


# Which answers may tell.


def reader(
    template: str, target: bytes, *, method: str = "GET", counted: Counted | None = None, org_id: UUID = ORG
) -> LateUsage | None:
    dialect = Dialect.ANTHROPIC if "messages" in template else Dialect.OPENAI
    counted = counted or Counted()
    return late_usage(method, dialect, template, target, org_id, counted, streamed=False)


def test_which_answers_may_tell() -> None:
    found = reader(RESULTS, b"/v1/messages/batches/msgbatch_1/results?x=1")
    assert found is not None
    assert found.source == "anthropic_batch:msgbatch_1"
    found = reader(CONTENT, b"/v1/files/file-1/content")
    assert found is not None
    assert found.source == "openai_file:file-1"
    assert reader(RESPONSE, b"/v1/responses/resp_1") is not None
    assert reader(RESPONSE + "/cancel", b"/v1/responses/resp_1/cancel", method="POST") is not None
    assert reader(RESPONSE, b"/v1/responses/resp_1", method="DELETE") is None
    assert reader("/v1/messages/batches", b"/v1/messages/batches") is None


def test_what_has_been_told_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_usage_module, "SOURCES_MAX", 3)
    counted = Counted()
    _, look = background(State())
    response_id = json.loads(look)["id"]
    target = f"/v1/responses/{response_id}".encode()
    early = reader(RESPONSE, target, counted=counted)
    assert early is not None
    early.finish()
    counted.add(early)
    found = reader(RESPONSE, target, counted=counted)
    assert found is not None, "nothing was told yet"
    read(found, look)
    counted.add(found)
    assert reader(RESPONSE, target, counted=counted) is None
    assert reader(RESPONSE, target, counted=counted, org_id=OTHER) is not None
    for number in range(5):
        other = of_anthropic(source=f"b{number}")
        other.told = True
        counted.add(other)
    assert reader(RESPONSE, target, counted=counted) is not None
    assert len(counted._sources) == 3
