"""Streams as the providers write them, an event an item, and how to read what a client received of one."""

from __future__ import annotations

ANTHROPIC = (
    (
        b"event: message_start\n"
        b'data: {"type":"message_start","message":{"model":"claude-test","usage":{"input_tokens":7}}}\n\n'
    ),
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"Hel"}}\n\n',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"lo"}}   \n\n',
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":5}}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)
CHAT = (
    b'data: {"model":"gpt-test","choices":[{"delta":{"content":"Hel"}}]}\n\n',
    b'data: {"model":"gpt-test","choices":[{"delta":{"content":"lo"}}]}\n\n',
    b'data: {"model":"gpt-test","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":5}}\n\n',
    b"data: [DONE]\n\n",
)
RESPONSES = (
    b'event: response.created\ndata: {"type":"response.created","response":{"model":"gpt-test"}}\n\n',
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"Hello"}\n\n',
    (
        b"event: response.completed\n"
        b'data: {"type":"response.completed","response":{"model":"gpt-test",'
        b'"usage":{"input_tokens":7,"output_tokens":5}}}\n\n'
    ),
)

STREAM_BODY = b'{"model":"claude-test","max_tokens":10,"stream":true,"messages":[]}'


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def dechunk(framed: bytes) -> tuple[bytes, bool]:
    """The body of what a client received of a chunked answer, and whether it ended as one must.

    Read as leniently as any client may: sizes in hex with extensions, whatever stands in trailers.
    """
    body = b""
    while True:
        line, found, framed = framed.partition(b"\r\n")
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            return body, False
        if not found:
            return body, False
        if size == 0:
            return body, framed.startswith(b"\r\n") or b"\n\n" in framed or b"\n\r\n" in framed
        body += framed[:size]
        if len(framed) < size + 2:
            return body, False
        framed = framed[size + 2 :]
