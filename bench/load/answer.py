"""Follow one answer after another on a connection and decide whether each is right.  No sockets, no clocks.

llhttp (httptools) frames the HTTP; the body is checksummed and, for event streams, its events are counted,
however the bytes were cut.  An event ends with a blank line (LF or CRLF).  What is wrong with an answer is
said in one word of a closed vocabulary, `Failure`, because failures are counted by kind.

An answer that is delimited by the end of its connection counts as broken: neither API sends such answers,
and a truncated one could not be told from it.
"""

import math
from enum import StrEnum
from zlib import crc32

from httptools import HttpParserError, HttpResponseParser

from bench.load.content import ContentUnreadable, content_of
from bench.load.plan import Dialect, Expectation

__all__ = ["AnswerReader", "Failure", "HttpParserError"]

# The terminal event of a stream is looked for in this many bytes at its end; it is some fifty bytes long.
tail_bytes_max = 512
_BLANK_LINES = (b"\n\n", b"\r\n\r\n")
_TERMINAL: dict[Dialect, bytes] = {"anthropic": b"event: message_stop", "openai": b"data: [DONE]"}
_FINAL_STATUS_MIN = 200
# Of an answer whose text is looked at, no more is kept.
content_bytes_max = 32 * 1024 * 1024


class Failure(StrEnum):
    """Why an answer does not count as one."""

    CONNECT = "connect"
    """No connection to the target."""
    BROKEN = "broken"
    """The connection ended in the middle of an answer."""
    TIMEOUT = "timeout"
    """No complete answer in time."""
    MALFORMED = "malformed"
    """Not HTTP, or bytes nobody asked for."""
    STATUS = "status"
    """Another status than expected."""
    EVENTS = "events"
    """Events were lost or added."""
    TERMINAL = "terminal"
    """The stream ended without its terminal event."""
    BODY = "body"
    """The body's length or checksum differs."""
    BUFFERED = "buffered"
    """A paced stream came in less time than its provider took: it had been collected."""
    TEXT = "text"
    """The text differs, or came in more or fewer events of a stream."""
    EARLY = "early"
    """The answer came sooner than its provider can have given it: it was made up, or kept from before."""
    UNASKED = "unasked"
    """There were more answers than the provider was asked for."""
    MERGED = "merged"
    """Events of a paced stream came together: they had been held up."""
    BACKLOG = "backlog"
    """An open-loop request was never sent, because too many were waiting."""


class AnswerReader:
    """Reads the answers of one connection.

    `expect` begins an answer; `feed` takes bytes and returns how many events they ended; once `complete`,
    `failure` says what is wrong (None: nothing) and `keeps_alive` whether the connection can be used again.
    """

    __slots__ = (
        "_collected",
        "_crc32",
        "_expectation",
        "_feed",
        "_parser",
        "_stream",
        "_surplus",
        "_tail",
        "_terminal",
        "_unfinished",
        "body_bytes",
        "complete",
        "events",
        "keeps_alive",
        "status",
    )

    def __init__(
        self, expectation: Expectation, dialect: Dialect, *, stream: bool, keep: bool = False
    ) -> None:
        self._expectation = expectation
        # None unless the text is asked for: to keep it costs time that other answers need not take.
        self._collected: bytearray | None = (
            bytearray() if keep or expectation.text_crc32 is not None else None
        )
        self._terminal = _TERMINAL[dialect]
        self._stream = stream
        self.renew()
        self.expect()

    def renew(self) -> None:
        """Start over on a new connection."""
        self._parser = HttpResponseParser(self)
        self._feed = self._parser.feed_data

    def expect(self) -> None:
        """Forget the answer before."""
        self.complete = self.keeps_alive = self._surplus = False
        self.status = self.events = self.body_bytes = self._crc32 = 0
        self._unfinished = self._tail = b""
        if self._collected is not None:
            self._collected.clear()

    def feed(self, data: bytes) -> int:
        """Take bytes from the wire, return how many events ended in them; HttpParserError if not HTTP."""
        before = self.events
        self._feed(data)
        return self.events - before

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        self._crc32 = crc32(body, self._crc32)
        if self._collected is not None and self.body_bytes <= content_bytes_max:
            self._collected += body
        if self._stream:
            self._tail = body if len(body) >= tail_bytes_max else (self._tail + body)[-tail_bytes_max:]
            if self._unfinished:
                body = self._unfinished + body
            self.events += body.count(b"\n\n") + body.count(b"\r\n\r\n")
            # A blank line may be cut anywhere; an unfinished one is looked at again with what follows.
            self._unfinished = b"" if body.endswith(_BLANK_LINES) else body[len(body.rstrip(b"\r\n")) :]

    def on_message_complete(self) -> None:
        # A second answer to the same question: something is out of step.
        self._surplus = self.complete
        self.status = self._parser.get_status_code()
        if self.status >= _FINAL_STATUS_MIN:
            self.complete = True
            self.keeps_alive = self._parser.should_keep_alive()

    def failure(self, span_seconds: float = 0.0, seconds: float = math.inf) -> Failure | None:
        """Say what is wrong with the complete answer; None: nothing.

        It took `seconds` from when it was asked for, and its events spanned `span_seconds`.
        """
        expected = self._expectation
        if self._surplus:
            return Failure.MALFORMED
        if expected.status not in (None, self.status):
            return Failure.STATUS
        if seconds < expected.seconds_min:
            return Failure.EARLY
        if self._stream and expected.status == 200:
            if self._terminal not in self._tail[-tail_bytes_max:]:
                return Failure.TERMINAL
            if expected.events is not None and self.events != expected.events:
                return Failure.EVENTS
            if span_seconds < expected.span_seconds_min:
                return Failure.BUFFERED
        if expected.body_bytes is not None and self.body_bytes != expected.body_bytes:
            return Failure.BODY
        if expected.body_crc32 is not None and self._crc32 != expected.body_crc32:
            return Failure.BODY
        if expected.text_crc32 is not None and not self._says(expected):
            return Failure.TEXT
        return None

    def _says(self, expected: Expectation) -> bool:
        try:
            content = content_of(bytes(self._collected or b""), stream=self._stream)
        except ContentUnreadable:
            return False
        return content.text_crc32 == expected.text_crc32 and expected.deltas in (None, content.deltas)

    def as_expectation(self) -> Expectation:
        """Return the expectation that this complete answer meets, for learning from a trusted source.

        Its text is told if it was kept, and is text.
        """
        text_crc32 = deltas = None
        if self._collected is not None:
            try:
                said = content_of(bytes(self._collected), stream=self._stream)
                # An answer without text (an embedding, say) has nothing that could be compared so.
                text_crc32, deltas = (said.text_crc32, said.deltas) if said.text_crc32 else (None, None)
            except ContentUnreadable:
                text_crc32 = deltas = None
        return Expectation(
            status=self.status,
            events=self.events if self._stream else None,
            body_bytes=self.body_bytes,
            body_crc32=self._crc32,
            text_crc32=text_crc32,
            deltas=deltas if self._stream else None,
        )
