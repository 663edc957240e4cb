"""Bytes from a provider become an answer: the sans-IO half of `forward`.

One reader serves one upstream connection for all its answers. It keeps the framing honest (llhttp, strict)
and hands out the body without its framing for the meter; the bytes that go to the client are the ones that
came, not these. Anything an answer should not have (bytes after its end, two framings, too many interim
responses) marks the connection as not to be used again.
"""

from __future__ import annotations

import re
from typing import Final

import httptools

from gateway.head_layout import EMPTY, Layout, Rule, layout_of
from gateway.head_template import template_of
from gateway.whole_message import WholeMessage, field_of

# The providers send about 30 header fields; a megabyte of them is an attack or a fault.
HEAD_BYTES_MAX: Final = 64 * 1024
HEADER_COUNT_MAX: Final = 200
# 100 Continue and 103 Early Hints come once or twice; an endless flood of them must end.
INTERIM_MAX: Final = 8

_BODILESS: Final = {204, 304}
# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_CONTENT_LENGTH: Final = Rule.CONTENT_LENGTH
_TRANSFER_ENCODING: Final = Rule.TRANSFER_ENCODING


_STATUS_LINE: Final = b"HTTP/1.1 200"
_STATUS_LINE_BYTES: Final = len(_STATUS_LINE)

# Whole answers of one layout before a template is made of it.
_LEARNT_AFTER: Final = 3

_whole: Final = WholeMessage(httptools.HttpResponseParser)


class UpstreamBroken(Exception):
    """The provider's bytes are not a valid HTTP/1.1 answer, or ended too soon."""


class ResponseReader:
    """`begin` before each request, then `feed` what arrives until `done`."""

    __slots__ = (
        "_bodiless_bytes",
        "_fields",
        "_fresh",
        "_head_only",
        "_keeps_open",
        "_parser",
        "bodiless",
        "chunk_open",
        "chunked",
        "content_length",
        "done",
        "head_bytes",
        "head_done",
        "interim",
        "layout",
        "lines",
        "match",
        "pieces",
        "reason",
        "status",
        "surplus",
    )

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = None
        """Made when the first answer comes that is not whole."""
        self.pieces: list[bytes] = []
        self.lines: list[bytes] = []
        """The header fields of the answer as they came, a line each, without its end."""
        self.layout = EMPTY
        """What those fields mean, once the head is done; from one answer to the next, the likely one."""
        self.begin(head_only=False)

    def begin(self, *, head_only: bool) -> None:
        """A request has gone up; `head_only` for HEAD, whose answer has a body's headers but no body."""
        self._head_only = head_only
        self._fresh = not head_only
        """Nothing of the answer has been fed."""
        self._keeps_open = False
        self._bodiless_bytes = 0
        self._fields = 0
        self.bodiless = head_only
        """No body follows the head, whatever it announces."""
        self.status = 0
        self.reason = b""
        self.lines = []
        self.match: re.Match[bytes] | None = None
        """In place of `lines`, when the head was one that the layout's template knows."""
        self.head_done = False
        self.head_bytes = 0
        """Where the head of an answer ends that came whole; 0 of another."""
        self.done = False
        self.surplus = False
        self.interim = 0
        self.chunk_open = False
        self.chunked = False
        self.content_length: int | None = None
        self.pieces = []

    @property
    def until_close(self) -> bool:
        """Neither length nor chunks: the body ends with the connection."""
        return self.content_length is None and not self.chunked and not self.bodiless

    @property
    def reusable(self) -> bool:
        """The answer ended cleanly and the provider keeps the connection open."""
        return self.done and not self.surplus and not self._head_only and self._keeps_open

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names and values of the fields. Taken apart at each call: for what is seldom asked."""
        if self.match is not None:
            return [field_of(line) for line in self.match[0].split(b"\r\n")[1:-2]]
        return [field_of(line) for line in self.lines]

    def feed(self, data: bytes) -> None:
        if self._fresh:
            self._fresh = False
            if self._match_whole(data) or self._read_whole(data):
                return
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise UpstreamBroken("it switched protocols unasked") from None
        except httptools.HttpParserError as error:
            if self.done:
                # The answer itself was whole; what follows it is nobody's.
                self.surplus = True
                return
            # A callback of ours may have raised: then the parser's own words are no help.
            ours = error.__context__
            raise UpstreamBroken(str(ours if isinstance(ours, UpstreamBroken) else error)) from None
        if self._fields > HEADER_COUNT_MAX or self.interim > INTERIM_MAX:
            raise UpstreamBroken("its head is too long")
        if self.pieces:
            self._bodiless_bytes = 0
        elif not self.done:
            # One bound for a head, for trailers and for chunk extensions.
            self._bodiless_bytes += len(data)
            if self._bodiless_bytes > HEAD_BYTES_MAX:
                raise UpstreamBroken("its head or its framing is too long")

    def _match_whole(self, data: bytes) -> bool:
        """True when `data` was the whole answer, with a head like those before."""
        template = self.layout.template
        match = None if template is None else template.match(data)
        if template is None or match is None:
            return False
        end = match.end()
        length = int(match[template.length])
        if len(data) - end != length or end > HEAD_BYTES_MAX:
            return False
        self.status = 200
        self.reason = b"OK"
        self.match = match
        self.content_length = length
        self.head_done = True
        self.head_bytes = end
        self.pieces = [data[end:]] if length else []
        self._keeps_open = True
        self.done = True
        return True

    def _read_whole(self, data: bytes) -> bool:
        """True when `data` was the whole answer, within all bounds; False leaves it to the parser."""
        end = data.find(b"\r\n\r\n")
        if not _STATUS_LINE_BYTES <= end <= HEAD_BYTES_MAX or not _whole.read(data):
            return False
        if data[:5] != b"HTTP/":
            # llhttp skips empty lines here.
            return False
        lines = data[:end].split(b"\r\n")
        status = data[9:12]
        if len(lines) > HEADER_COUNT_MAX + 1 or not b"200" <= status <= b"599":
            return False
        self.status = int(status)
        self.reason = lines[0][13:]
        del lines[0]
        self.lines = lines
        self._read_framing()
        self.head_done = True
        self.head_bytes = end + 4
        self.pieces = _whole.body
        _whole.body = []
        self._keeps_open = _whole.keep_alive
        self.done = True
        if self.status == 200 and self._keeps_open and data[:_STATUS_LINE_BYTES] == _STATUS_LINE:
            self._learn(self.layout)
        return True

    def _learn(self, layout: Layout) -> None:
        if layout.times < _LEARNT_AFTER:
            layout.times += 1
            if layout.times == _LEARNT_AFTER:
                layout.template = template_of(layout)

    def end(self) -> None:
        """The provider closed. Raises `UpstreamBroken` unless that is how this answer ends."""
        if self.head_done and self.until_close:
            self.done = True
        if not self.done:
            raise UpstreamBroken("it closed the connection before the answer was complete")

    def take(self) -> list[bytes]:
        """Body pieces since the last take, without framing."""
        pieces = self.pieces
        if pieces:
            self.pieces = []
        return pieces

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        if self.done:
            self.surplus = True

    def on_status(self, reason: bytes) -> None:
        if not self.done:
            self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        if not self.head_done and self._fields <= HEADER_COUNT_MAX:
            self.lines.append(name + b": " + value)

    def on_headers_complete(self) -> None:
        if self.done:
            return
        assert self._parser is not None
        status = self._parser.get_status_code()
        if not 100 <= status <= 599:
            raise UpstreamBroken("its status is not one of HTTP's")
        if status < 200:
            self.interim += 1
            self.lines = []
            self.reason = b""
            return
        self.status = status
        self.head_done = True
        self._read_framing()
        if self._head_only:
            self.done = True

    def _read_framing(self) -> None:
        self.bodiless = self._head_only or self.status in _BODILESS
        self.layout = layout = layout_of(self.lines, self.layout)
        for index, begin, rule in layout.special:
            if rule is _CONTENT_LENGTH:
                self.content_length = int(self.lines[index][begin:])
            elif rule is _TRANSFER_ENCODING:
                if self.chunked or self.lines[index][begin:].strip(b" \t").lower() != b"chunked":
                    raise UpstreamBroken("it used a transfer coding other than chunked")
                self.chunked = True
        if self.status == 204:
            # It has no body, whatever it announces (RFC 9110 section 8.6 forbids both).
            self.chunked = False
            self.content_length = None

    def on_chunk_header(self) -> None:
        self.chunk_open = True
        if self.done:
            self.surplus = True

    def on_chunk_complete(self) -> None:
        self.chunk_open = False

    def on_body(self, body: bytes) -> None:
        if self.done:
            self.surplus = True
        else:
            self.pieces.append(body)

    def on_message_complete(self) -> None:
        if self.head_done:
            self.done = True
            # Asked now, because after the message llhttp has forgotten.
            assert self._parser is not None
            self._keeps_open = self._parser.should_keep_alive()
