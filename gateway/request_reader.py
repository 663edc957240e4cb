"""Bytes from a client become requests: the sans-IO half of `accept`.

llhttp (through httptools) is the parser, in its strict mode: both framings at once, duplicate or malformed
Content-Length, bare CR or LF, folded headers, NUL, unknown methods and HTTP/2's preface are errors there,
which end the connection with a 400. What llhttp leaves unbounded is bounded here: the bytes and the number of
header fields, and the length of the target. A request is handed on as soon as its head is complete; its body
follows into the same `Inbound`. Several requests in one read (pipelining) queue up in `ready`; since the
connection reads only when it has nothing to answer, that queue never holds more than one read's worth.
"""

from __future__ import annotations

import httptools

from gateway.refusal import Kind, Refusal
from gateway.trace_context import TraceParent
from gateway.whole_message import WholeMessage, field_of

# 32 KiB of head and 100 fields: SDKs send about 1 KiB in 20; the usual servers stop at 8 to 64 KiB.
HEAD_BYTES_MAX = 32 * 1024
HEADER_COUNT_MAX = 100
TARGET_BYTES_MAX = 8 * 1024
# Trailers after a chunked body are parsed and dropped; they may not be a way round the head's bound.
TRAILER_COUNT_MAX = 32
# A chunk of one byte is six on the wire; more than eight a byte is padding in chunk extensions or trailers.
FRAMING_PER_BODY_BYTE_MAX = 8


class Inbound:
    """One request as it came: the head is complete, the body arrives in `body` until `complete`."""

    __slots__ = (
        "accounted",
        "body",
        "body_at",
        "body_bytes",
        "complete",
        "keep_alive",
        "lines",
        "method",
        "raw",
        "target",
        "trace",
        "upgrade",
        "version",
    )

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.version = "1.1"
        self.lines: list[bytes] = []
        """The header fields as they came, a line each, without its end."""
        self.keep_alive = True
        self.upgrade = False
        self.body: list[bytes] = []
        self.body_bytes = 0
        self.body_at = 0.0
        """When its body had come, by `time.perf_counter()`, if that was waited for."""
        self.complete = False
        self.accounted = False
        """It has been admitted, and will have a usage row."""
        self.trace: TraceParent | None = None
        """The client's own trace, which is looked for only where spans are exported."""
        self.raw = b""
        """The read it came in, if that was this one request and nothing else."""

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names and values of the fields. Taken apart at each call: for what is seldom asked."""
        return [field_of(line) for line in self.lines]

    def take_body(self) -> bytes:
        """The body that has arrived since the last take."""
        pieces = self.body
        if not pieces:
            return b""
        self.body = []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


# What stands in for the current request of a reader that has had none: an idle connection pays for no more.
_NO_REQUEST = Inbound()


class RequestReader:
    """Feed it what the client sent; take requests from `ready`. Raises `Refusal` for what can be none."""

    __slots__ = ("_current", "_fields", "_head_done", "_parser", "_problem", "_reading", "_taken", "ready")

    def __init__(self) -> None:
        self._parser: httptools.HttpRequestParser | None = None
        """Made when the first request comes that is not whole: an idle connection is cheaper without."""
        self.ready: list[Inbound] = []
        self._current = _NO_REQUEST
        self._head_done = True
        self._fields = 0
        self._reading = 0
        """Bytes of the read being parsed that can only belong to the current message."""
        self._taken = 0
        """Bytes of earlier reads that belong to the current message."""
        self._problem: Refusal | None = None
        """Set by a callback, which cannot raise through the parser."""

    def feed(self, data: bytes) -> None:
        if self.idle:
            inbound = _read_whole(data)
            if inbound is not None:
                self.ready.append(inbound)
                return
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        before, pieces = self._current, len(self._current.body)
        while data:
            self._reading = len(data)
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._problem is not None:
                    # It is refused, and so not the last of those that are ready.
                    raise self._problem from None
                data = self._without_upgrade(data[upgrade.args[0] :])
            except httptools.HttpParserInvalidMethodError:
                raise Refusal(
                    Kind.MALFORMED, "The request method is not one of HTTP's.", close=True
                ) from None
            except httptools.HttpParserError as error:
                reason = str(error).rstrip(".") or "it does not parse"
                raise Refusal(Kind.MALFORMED, f"This is not valid HTTP/1.1: {reason}.", close=True) from None
            else:
                data = b""
            if self._problem is not None:
                raise self._problem
        current = self._current
        if not current.complete:
            # A read is kept as one piece, however small its chunks were.
            new = pieces if current is before else 0
            if len(current.body) > new + 1:
                current.body[new:] = [b"".join(current.body[new:])]
            self._taken += self._reading
            # One condition bounds the head, the trailers and the framing of chunks: whatever is not body.
            if self._taken > HEAD_BYTES_MAX + current.body_bytes * FRAMING_PER_BODY_BYTE_MAX:
                self._refuse_endless(current)

    @property
    def idle(self) -> bool:
        """Nothing of an unfinished request has been fed."""
        return self._head_done and (self._current.complete or not self._current.method)

    def _refuse_endless(self, current: Inbound) -> None:
        if self._head_done:
            raise Refusal(Kind.MALFORMED, "The body is nearly all chunk framing or trailers.", close=True)
        if len(current.target) > TARGET_BYTES_MAX:
            raise _target_too_long()
        raise _head_too_long()

    def _without_upgrade(self, rest: bytes) -> bytes:
        """Carry on as if no upgrade had been offered, which RFC 9110 section 7.8 allows: what to parse next.

        llhttp stops after the head of an upgrade request, taking the body (if there is one) for the other
        protocol's. An offer of h2c is ignored by parsing the same head again without it; anything else
        (WebSocket, CONNECT) is left marked, for `websocket` to take or to refuse.
        """
        inbound = self.ready[-1]
        offered = [value.lower() for name, value in inbound.headers if name.lower() == b"upgrade"]
        if inbound.method == b"CONNECT" or offered != [b"h2c"]:
            inbound.upgrade = True
            inbound.keep_alive = False
            if rest:
                # Too early for the other protocol; whether that matters is for `websocket` to say.
                inbound.body, inbound.body_bytes = [rest], len(rest)
            return b""
        self.ready.pop()
        kept = [
            name + b": " + value
            for name, value in inbound.headers
            if name.lower() not in (b"upgrade", b"http2-settings", b"connection")
        ]
        if not inbound.keep_alive:
            kept.append(b"connection: close")
        start = b"%s %s HTTP/%s" % (inbound.method, inbound.target, inbound.version.encode())
        self._parser = httptools.HttpRequestParser(self)
        return b"\r\n".join([start, *kept, b"", rest])

    # Callbacks of the parser, in the order they come.

    def on_message_begin(self) -> None:
        self._current = Inbound()
        self._head_done = False
        self._fields = 0
        self._taken = 0

    def on_url(self, target: bytes) -> None:
        self._current.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        if self._head_done:
            if self._fields > HEADER_COUNT_MAX + TRAILER_COUNT_MAX:
                self._problem = _too_many_fields()
        elif self._fields > HEADER_COUNT_MAX:
            self._problem = _too_many_fields()
        else:
            self._current.lines.append(name + b": " + value)

    def on_headers_complete(self) -> None:
        current = self._current
        assert self._parser is not None
        current.method = self._parser.get_method()
        current.version = self._parser.get_http_version()
        current.keep_alive = self._parser.should_keep_alive()
        self._head_done = True
        if len(current.target) > TARGET_BYTES_MAX:
            self._problem = _target_too_long()
        elif self._taken + self._reading > HEAD_BYTES_MAX and _head_bytes(current) > HEAD_BYTES_MAX:
            self._problem = self._problem or _head_too_long()
        if self._problem is None:
            # Nor any that follows one that is refused.
            self.ready.append(current)

    def on_body(self, body: bytes) -> None:
        self._current.body.append(body)
        self._current.body_bytes += len(body)

    def on_message_complete(self) -> None:
        # With trailers beyond all bounds it is not whole, but refused.
        self._current.complete = self._problem is None
        # What is left of this read belongs to the next message; it is spared the count of its first read.
        self._reading = 0


_whole = WholeMessage(httptools.HttpRequestParser)
_SPACE = ord(" ")
_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}


def _read_whole(data: bytes) -> Inbound | None:
    """The request that `data` is, if it is exactly one within all bounds; None leaves it to the parser."""
    end = data.find(b"\r\n\r\n")
    # Line ends before a request, which llhttp skips, would stand before its method.
    if not 0 < end <= HEAD_BYTES_MAX - len(b"\r\n\r\n") or data[0] <= _SPACE or not _whole.read(data):
        return None
    lines = data[:end].split(b"\r\n")
    start = lines[0].split(b" ")
    if len(start) != 3 or len(start[1]) > TARGET_BYTES_MAX or len(lines) > HEADER_COUNT_MAX + 1:
        return None
    version = _VERSIONS.get(start[2])
    if version is None:
        return None
    inbound = Inbound()
    inbound.method, inbound.target, _ = start
    inbound.version = version
    del lines[0]
    inbound.lines = lines
    inbound.keep_alive = _whole.keep_alive
    inbound.body = _whole.body
    _whole.body = []
    for piece in inbound.body:
        inbound.body_bytes += len(piece)
    inbound.complete = True
    inbound.raw = data
    # Bytes that are neither head nor body are the framing of chunks, which has bounds of its own.
    return inbound if end + len(b"\r\n\r\n") + inbound.body_bytes == len(data) else None


def _head_bytes(inbound: Inbound) -> int:
    fields = sum(len(line) + len(b"\r\n") for line in inbound.lines)
    return len(inbound.method) + len(inbound.target) + len(b"  HTTP/1.1\r\n\r\n") + fields


def _too_many_fields() -> Refusal:
    return Refusal(Kind.HEADERS_TOO_LARGE, f"More than {HEADER_COUNT_MAX} header fields.", close=True)


def _target_too_long() -> Refusal:
    return Refusal(Kind.TARGET_TOO_LONG, f"The URL is longer than {TARGET_BYTES_MAX} bytes.", close=True)


def _head_too_long() -> Refusal:
    return Refusal(Kind.HEADERS_TOO_LARGE, f"The head is longer than {HEAD_BYTES_MAX} bytes.", close=True)
