"""Two answers say the same if their text and the number of their pieces is the same, in either API."""

import json
from zlib import crc32

import pytest

from bench.load.content import Content, ContentUnreadable, content_of


def test_both_apis_unary_text_is_found() -> None:
    anthropic = {"content": [{"type": "text", "text": "one"}, {"type": "text", "text": " two"}], "id": 1}
    openai = {"choices": [{"message": {"role": "assistant", "content": "one two"}}]}
    for body in (anthropic, openai):
        assert content_of(json.dumps(body).encode(), stream=False) == Content(crc32(b"one two"), 0)


def test_pieces_of_streams_are_counted_however_they_are_written() -> None:
    ours = (
        b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: {"choices":[{"delta":{"content":"b"}}]}\n\n'
        b'data: {"choices":[],"usage":{}}\n\ndata: [DONE]\n\n'
    )
    theirs = (
        b'data:{"choices":[{"delta":{"content":"a"}}]}\r\n\r\n'
        b'data:{"choices":[{"delta":{"content":"b"}}]}\r\n\r\n'
    )
    merged = b'data: {"choices":[{"delta":{"content":"ab"}}]}\n\n'
    assert content_of(ours, stream=True) == content_of(theirs, stream=True) == Content(crc32(b"ab"), 2)
    assert content_of(merged, stream=True) == Content(crc32(b"ab"), 1)
    event = b'event: content_block_delta\ndata: {"delta":{"type":"text_delta","text":"ab"}}\n\n'
    assert content_of(event, stream=True) == Content(crc32(b"ab"), 1)


@pytest.mark.parametrize("body", [b"<html>", b"\xff", b""])
def test_what_is_no_answer_is_told(body: bytes) -> None:
    with pytest.raises(ContentUnreadable):
        content_of(body, stream=False)
