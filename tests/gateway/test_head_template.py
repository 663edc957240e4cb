"""A template never says of a head what reading it the whole way would not say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway import head_layout, head_template
from gateway.head_layout import EMPTY, layout_of
from gateway.head_template import Template, template_of
from gateway.provider import AuthStyle, make_provider
from gateway.refusal import Dialect
from gateway.response_head import ClientHead
from gateway.response_reader import ResponseReader, UpstreamBroken

PROVIDER = make_provider(
    "x", Dialect.ANTHROPIC, AuthStyle.CLIENT, "https://p.test", api_key=None, ca_file=None, development=False
)
BODY = b'{"id":"msg_1"}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nDate: Wed, 25 Nov 2026 16:00:00 GMT\r\nContent-Type: application/json \r\n"
    b"request-id: req_1\r\nanthropic-organization-id: abc\r\nserver: edge\r\nset-cookie: a=b\r\n"
    b"x-other:\tvalue \xff\r\nContent-Length: %d\r\nconnection: keep-alive\r\nvary: a\r\n\r\n%s"
    % (len(BODY), BODY)
)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    head_layout._layouts.clear()
    head_template._made = 0


def taught(answer: bytes = ANSWER, times: int = 3) -> ResponseReader:
    reader = ResponseReader()
    for _ in range(times):
        reader.begin(head_only=False)
        reader.feed(answer)
        assert reader.done
    return reader


def told(reader: ResponseReader, data: bytes, *, hide_account: bool = False) -> object:
    """All that is learnt of an answer that came in one read."""
    reader.begin(head_only=False)
    try:
        reader.feed(data)
    except UpstreamBroken:
        return "broken"
    if not reader.done:
        return "not whole"
    head = ClientHead(reader, PROVIDER, hide_account=hide_account)
    return (
        reader.status,
        reader.reason,
        reader.content_length,
        reader.chunked,
        reader.bodiless,
        reader.surplus,
        reader.reusable,
        b"".join(reader.pieces),
        reader.headers,
        head.content_type,
        head.provider_request_id or b"",
        head.render(b"id", b"", close=False),
    )


def knows(reader: ResponseReader) -> bool:
    return reader.match is not None


def test_a_layout_that_came_often_is_known() -> None:
    reader = taught(times=2)
    assert reader.layout.template is None
    reader = taught()
    told(reader, ANSWER)
    assert knows(reader)


@pytest.mark.parametrize("hide_account", [False, True])
def test_a_known_head_says_what_it_says_when_it_is_read(hide_account: bool) -> None:
    reader = taught()
    other = (
        ANSWER.replace(b"16:00:00", b"17:00:01").replace(b"req_1", b"  req_2\t").replace(b"\xff", b"\t\x80 ")
    )
    seen = told(reader, other, hide_account=hide_account)
    assert knows(reader)
    assert seen == told(ResponseReader(), other, hide_account=hide_account)


def test_nothing_but_white_space_is_taken_from_around_a_value() -> None:
    answer = ANSWER.replace(b"application/json", b"\tX/X").replace(b"req_1", b"X1X")
    reader = taught(answer)
    assert told(reader, answer) == told(ResponseReader(), answer)
    assert knows(reader)
    assert ClientHead(reader, PROVIDER, hide_account=False).content_type == b"X/X"


@pytest.mark.parametrize("value", [b"keep-alive", b"Keep-Alive", b"close", b"x-other"])
def test_only_a_connection_that_stays_is_known(value: bytes) -> None:
    reader = taught()
    other = ANSWER.replace(b"keep-alive", value)
    seen = told(reader, other)
    assert knows(reader) is (value.lower() == b"keep-alive")
    assert seen == told(ResponseReader(), other)


def test_a_known_head_without_type_or_request_id_has_none() -> None:
    bare = b"HTTP/1.1 200 OK\r\nx-other: value\r\ncontent-length: 2\r\n\r\nhi"
    reader = taught(bare)
    seen = told(reader, bare)
    assert knows(reader)
    assert seen == told(ResponseReader(), bare)


@given(st.data())
@settings(max_examples=1000, deadline=None)
def test_whatever_is_changed_is_told_as_when_it_is_read(data: st.DataObject) -> None:
    changed = bytearray(ANSWER)
    at = data.draw(st.integers(0, len(ANSWER) - 1))
    bits = [
        b"\r",
        b"\n",
        b"\r\n",
        b"\0",
        b"\x7f",
        b" ",
        b"\t",
        b":",
        b"0",
        b"\r\n\r\n",
        b"transfer-encoding: chunked\r\n",
    ]
    match data.draw(st.sampled_from(["replace", "insert", "delete", "double", "case"])):
        case "replace":
            changed[at : at + 1] = data.draw(
                st.one_of(st.binary(min_size=1, max_size=1), st.sampled_from(bits))
            )
        case "insert":
            changed[at:at] = data.draw(st.one_of(st.binary(min_size=1, max_size=20), st.sampled_from(bits)))
        case "delete":
            del changed[at : at + data.draw(st.integers(1, 20))]
        case "double":
            changed[at:at] = changed[max(0, at - data.draw(st.integers(1, 40))) : at]
        case "case":
            changed[at:] = changed[at:].swapcase()
    answer = bytes(changed)
    assert told(taught(), answer) == told(ResponseReader(), answer)


@given(st.binary(max_size=200))
@example(b"")
def test_a_body_of_any_length_is_taken(body: bytes) -> None:
    reader = taught()
    answer = ANSWER[: -len(BODY)].replace(b"Length: %d" % len(BODY), b"Length: %d" % len(body)) + body
    seen = told(reader, answer)
    assert knows(reader)
    assert seen == told(ResponseReader(), answer)


@pytest.mark.parametrize(
    "line",
    [
        b"location: /x\r\n",
        b"transfer-encoding: chunked\r\n",
        b"content-type: text/plain\r\n",
        b"connection: keep-alive\r\n",
        b"content-length: %d\r\n" % len(BODY),
    ],
)
def test_what_needs_judgement_has_no_template(line: bytes) -> None:
    lines = [*ANSWER.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:], line[:-2]]
    assert template_of(layout_of(lines, EMPTY)) is None


def test_a_name_that_is_none_has_no_template() -> None:
    assert template_of(layout_of([b"content-length: 1", b"a b: c"], EMPTY)) is None


def test_without_a_length_there_is_no_template() -> None:
    assert template_of(layout_of([b"date: now"], EMPTY)) is None


def test_so_many_are_made_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_template, "TEMPLATES_MAX", 2)
    made = [template_of(layout_of([b"content-length: 1", b"x-%d: y" % one], EMPTY)) for one in range(3)]
    assert [isinstance(one, Template) for one in made] == [True, True, False]


def test_an_answer_to_head_is_not_compared() -> None:
    reader = taught()
    reader.begin(head_only=True)
    reader.feed(ANSWER.partition(BODY)[0])
    assert reader.done
    assert not knows(reader)
