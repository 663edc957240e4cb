"""Server-sent events as the two APIs write them.

Anthropic names its events and pads some data lines with spaces before the last brace; OpenAI's chat and
legacy completions send bare data lines; its responses name theirs. All are built with LF and turned to CRLF
or CR at the end, which is safe since JSON holds no raw newline.
"""

import zlib
from typing import Any, NamedTuple

import msgspec

DONE = b"data: [DONE]\n\n"
PADDING_SPACES_MAX = 16
_encode = msgspec.json.Encoder().encode


class Event(NamedTuple):
    """One event on its way out: its bytes, and what the ledger should know once it has been written."""

    data: bytes
    tokens: int = 0
    """Content tokens this event carries; such events are paced, others go at once."""
    usage: dict[str, Any] | None = None
    """Usage figures it reports, merged over those reported before."""


def named(name: str, payload: dict[str, Any], *, pad: bool) -> bytes:
    """An event with an `event:` line; `pad` puts spaces before its last brace, as many as its own bytes
    decide."""
    data = _encode(payload)
    if pad and (spaces := zlib.crc32(data) % PADDING_SPACES_MAX):
        # Real lines have them on either side of the last brace.
        data = data + b" " * spaces if spaces % 2 else data[:-1] + b" " * spaces + b"}"
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def bare(payload: dict[str, Any]) -> bytes:
    """An event of one `data:` line."""
    return b"data: " + _encode(payload) + b"\n\n"


def with_newline(data: bytes, newline: str) -> bytes:
    """The same bytes with the line ends asked for: `lf`, `crlf` or `cr`."""
    if newline == "lf":
        return data
    return data.replace(b"\n", b"\r\n" if newline == "crlf" else b"\r")
