"""The short way for the common case: a read that is exactly one complete message.

Most requests, and most answers that do not stream, arrive in one read. Then llhttp is asked only for its
verdict: one parser a process, without a callback for each header field (which would be most of the cost
of parsing), and the fields are taken from the bytes it has approved, line by line. Strict llhttp has
made sure that splitting at CRLF is right: no bare CR or LF, no folding, no NUL. Whatever is not exactly
one complete message (a head alone, a body still coming, pipelined requests, an upgrade, an interim
answer, bytes that do not parse) is left to the readers' own parsers, which then see the same bytes from
their beginning.
"""

from __future__ import annotations

from typing import TypeAlias

import httptools

_Parser: TypeAlias = type[httptools.HttpRequestParser] | type[httptools.HttpResponseParser]


class WholeMessage:
    """llhttp's verdict on bytes that should be one message. Holds nothing from one `read` to the next."""

    __slots__ = ("_begun", "_complete", "_make_parser", "_parser", "body", "keep_alive")

    def __init__(self, make_parser: _Parser) -> None:
        self._make_parser = make_parser
        self._parser = make_parser(self)
        self.body: list[bytes] = []
        self.keep_alive = False

    def read(self, data: bytes) -> bool:
        """True when `data` is one whole message and nothing else; then `body` (to be taken) and
        `keep_alive` hold."""
        self._begun = 0
        self._complete = False
        self.body = []
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # The readers' own parsers say what is wrong, or make sense of it.
            self._parser = self._make_parser(self)
            return False
        whole = self._complete and self._begun == 1
        if not whole or not self.keep_alive:
            # In the middle of a message, or after one that closes, llhttp takes nothing new.
            self._parser = self._make_parser(self)
        return whole

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        self._begun += 1
        self._complete = False

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self._complete = True
        self.keep_alive = self._parser.should_keep_alive()


def field_of(line: bytes) -> tuple[bytes, bytes]:
    """Name and value of one header line."""
    name, _, value = line.partition(b":")
    return name, value.strip(b" \t")
