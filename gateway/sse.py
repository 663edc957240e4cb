"""Server-sent events, read from the side as they pass (sans-IO).

`forward` sends the provider's bytes on untouched; a `Splitter` sees a copy and says where events end, whatever the read boundaries: CR, LF or CRLF line
ends, data over several lines, comments, a byte order mark, an event without a last blank line. Strategy: nearly every read ends where an event
ends, so the common case is one `rfind` and no copy; what is left over is carried to the next read. An event larger than
`EVENT_BYTES_MAX` is not kept: only its first and last bytes are, which is where its type and its usage stand.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

# A whole event kept for reading. Usage events are under 4 KiB but for response.completed, which repeats the answer.
EVENT_BYTES_MAX = 1024 * 1024
# What is kept of a larger one.
HEAD_BYTES_KEPT = 4 * 1024
TAIL_BYTES_KEPT = 256 * 1024


class Window:
    """The beginning and the end of something that may be too large to keep whole."""

    __slots__ = ("_pieces", "_size", "_tail", "head", "overflowed")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._tail = bytearray()
        self.head = b""
        self.overflowed = False

    def add(self, piece: bytes) -> None:
        if not self.overflowed:
            self._pieces.append(piece)
            self._size += len(piece)
            if self._size <= EVENT_BYTES_MAX:
                return
            whole = b"".join(self._pieces)
            self._pieces = []
            self.overflowed = True
            self.head = whole[:HEAD_BYTES_KEPT]
            self._tail += whole[-TAIL_BYTES_KEPT:]
            return
        self._tail += piece
        # Trimmed only when twice too long, so that trimming costs little.
        if len(self._tail) > 2 * TAIL_BYTES_KEPT:
            del self._tail[:-TAIL_BYTES_KEPT]

    def whole(self) -> bytes:
        """Everything, when it did not overflow."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def tail(self) -> bytes:
        return bytes(self._tail[-TAIL_BYTES_KEPT:])


class Splitter:
    """Feed it pieces of the body; it gives back complete events.

    `feed` returns the bytes of all events completed by this piece as one block (b"" for none), line ends as LF; an oversized event comes
    through `oversized` as a `Window` instead.
    """

    __slots__ = ("_carry", "_started", "_uses_cr", "_window", "oversized")

    def __init__(self) -> None:
        self._carry = b""
        self._started = False
        self._uses_cr = False
        self._window: Window | None = None
        self.oversized: list[Window] = []

    @property
    def between_events(self) -> bool:
        """Nothing of an unfinished event has passed: something may be said between two events."""
        return not self._carry.strip(b"\n") and self._window is None

    def feed(self, piece: bytes) -> bytes:
        if not self._started and piece:
            self._started = True
            piece = piece.removeprefix(b"\xef\xbb\xbf")
        if self._window is not None:
            return self._feed_window(self._window, piece)
        data = self._carry + piece if self._carry else piece
        if self._uses_cr or b"\r" in data:
            data = self._with_line_feeds(data)
        end = data.rfind(b"\n\n")
        if end < 0:
            self._keep(data)
            return b""
        self._keep(data[end + 2 :])
        return data[: end + 2]

    def finish(self) -> bytes:
        """The body ended: an event that lacks its blank line still counts (the SDKs take it)."""
        rest, self._carry = self._carry, b""
        if self._window is not None:
            self.oversized.append(self._window)
            self._window = None
        return rest.replace(b"\r", b"\n")

    def _keep(self, data: bytes) -> None:
        if len(data) <= EVENT_BYTES_MAX:
            self._carry = data
            return
        self._carry = b""
        self._window = Window()
        self._window.add(data)

    def _with_line_feeds(self, data: bytes) -> bytes:
        """CRLF and CR become LF. A CR at the very end waits for what follows: it may be half a line end."""
        self._uses_cr = True
        waiting = data.endswith(b"\r")
        if waiting:
            data = data[:-1]
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        # A lone CR that ended an event is told apart from half a CRLF only by the next byte; nothing waits on it.
        return data + b"\r" if waiting else data

    def _feed_window(self, window: Window, piece: bytes) -> bytes:
        if self._uses_cr:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        seam = window.tail()[-1:]
        end = (seam + piece).find(b"\n\n")
        if end < 0:
            window.add(piece)
            return b""
        end += 2 - len(seam)
        window.add(piece[:end])
        self.oversized.append(window)
        self._window = None
        return self.feed(piece[end:])


def event_data(event: bytes) -> bytes:
    """The data of one event (LF line ends): its `data:` lines joined, b"" when it has none."""
    lines = []
    for line in event.split(b"\n"):
        if line.startswith(b"data:"):
            lines.append(line[6:] if line[5:6] == b" " else line[5:])
    return lines[0] if len(lines) == 1 else b"\n".join(lines)
