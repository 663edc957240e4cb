"""What an answer says, whoever wrote its JSON: for gateways that write answers anew, in other bytes.

Two answers that say the same text in the same number of events are the same answer; ids, padding, the order
of fields and figures nobody reads may differ.
"""

from typing import NamedTuple
from zlib import crc32

import msgspec


class ContentUnreadable(ValueError):
    """The body is not JSON of either API."""


class Content(NamedTuple):
    """The checksum of the text, and the number of stream events that brought a piece of it (unary: 0)."""

    text_crc32: int
    deltas: int


class _Piece(msgspec.Struct):
    """A message, a delta or a content block: the OpenAI API calls its text content, Anthropic's text."""

    content: str | None = None
    text: str | None = None


class _Choice(msgspec.Struct):
    message: _Piece | None = None
    delta: _Piece | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice] = []
    content: list[_Piece] = []
    delta: _Piece | None = None


_decode = msgspec.json.Decoder(_Body).decode
_DATA = b"data:"
_DONE = b"[DONE]"


def _text(body: _Body) -> str:
    pieces = [*body.content, *(choice.message or choice.delta for choice in body.choices), body.delta]
    return "".join(piece.content or piece.text or "" for piece in pieces if piece is not None)


def content_of(body: bytes, *, stream: bool) -> Content:
    """Return what the whole body of an answer says; ContentUnreadable if it cannot be read."""
    try:
        if not stream:
            return Content(crc32(_text(_decode(body)).encode()), 0)
        payloads = [line[len(_DATA) :].strip() for line in body.splitlines() if line.startswith(_DATA)]
        texts = [_text(_decode(payload)) for payload in payloads if payload != _DONE]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ContentUnreadable(str(error)) from error
    said = [text for text in texts if text]
    return Content(crc32("".join(said).encode()), len(said))
