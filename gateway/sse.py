"""Server-sent events, read from the side as they pass (sans-IO).

`forward` sends the provider's bytes on untouched; a `Splitter` sees a copy and says where events end,
whatever the read boundaries: CR, LF or CRLF line ends, data over several lines, comments, a byte order mark,
an event without a last blank line. Strategy: nearly every read ends where an event ends, so the common case
is one `rfind` and no copy; what is left over is carried to the next read. A long event is collected in
pieces, and of one larger than `EVENT_BYTES_MAX` only the first and last bytes are kept, which is where its
model and its usage stand.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

from typing import Final

# A whole event kept for reading. Usage events are under 4 KiB but for response.completed, which repeats the
# answer.
EVENT_BYTES_MAX: Final = 1024 * 1024
# What is kept of a larger one.
HEAD_BYTES_KEPT: Final = 4 * 1024
TAIL_BYTES_KEPT: Final = 256 * 1024
# An unfinished event is copied into the next read up to here and collected in pieces beyond: copying a long
# one again with each of many small reads would take time that grows with its square.
CARRY_BYTES_MAX: Final = 16 * 1024

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class Window:
    """The beginning and the end of something that may be too large to keep whole."""

    __slots__ = ("_pieces", "_size", "_tail", "ends_line", "head", "overflowed")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._tail = bytearray()
        self.head = b""
        self.overflowed = False
        self.ends_line = False
        """The last byte is a line feed."""

    def add(self, piece: bytes) -> None:
        self.ends_line = piece.endswith(b"\n")
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

    @property
    def empty(self) -> bool:
        return not self._pieces and not self.overflowed

    def whole(self) -> bytes:
        """Everything, when it did not overflow."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def tail(self) -> bytes:
        return bytes(self._tail[-TAIL_BYTES_KEPT:])


class Splitter:
    """Feed it pieces of the body; it gives back complete events.

    `feed` returns the bytes of all events completed by this piece as one block (b"" for none), line ends as
    LF; an oversized event comes through `oversized` as a `Window` instead, and precedes that block.
    """

    __slots__ = ("_after_cr", "_carry", "_started", "_uses_cr", "_window", "oversized")

    def __init__(self) -> None:
        self._carry = b""
        self._started = False
        self._uses_cr = False
        self._after_cr = False
        """The last byte was a CR, so that an LF now is the second half of that line end."""
        self._window: Window | None = None
        self.oversized: list[Window] = []

    @property
    def between_events(self) -> bool:
        """Nothing of an unfinished event has passed: something may be said between two events."""
        return not self._carry.strip(b"\n") and self._window is None

    def feed(self, piece: bytes) -> bytes:
        if not self._started:
            piece = self._without_mark(piece)
        if not piece:
            return b""
        if self._uses_cr or b"\r" in piece:
            piece = self._with_line_feeds(piece)
            if not piece:
                # The second half of a line end that counts already.
                return b""
        return self._split(piece)

    def finish(self) -> bytes:
        """The body ended: an event that lacks its blank line still counts (the SDKs take it)."""
        rest, self._carry = self._carry, b""
        window, self._window = self._window, None
        return rest if window is None else self._close(window)

    def _split(self, piece: bytes) -> bytes:
        if self._window is not None:
            return self._split_in_window(self._window, piece)
        data = self._carry + piece if self._carry else piece
        end = data.rfind(b"\n\n")
        if end < 0:
            self._keep(data)
            return b""
        self._keep(data[end + 2 :])
        return data[: end + 2]

    def _split_in_window(self, window: Window, piece: bytes) -> bytes:
        if window.ends_line and piece.startswith(b"\n"):
            end = 1
        else:
            end = piece.find(b"\n\n") + 2
            if end < 2:
                window.add(piece)
                return b""
        window.add(piece[:end])
        self._window = None
        return self._close(window) + self._split(piece[end:])

    def _close(self, window: Window) -> bytes:
        """A long event is complete: given back whole if it was kept whole."""
        if not window.overflowed:
            return window.whole()
        self.oversized.append(window)
        return b""

    def _keep(self, data: bytes) -> None:
        if len(data) <= CARRY_BYTES_MAX:
            self._carry = data
            return
        self._carry = b""
        self._window = Window()
        self._window.add(data)

    def _without_mark(self, piece: bytes) -> bytes:
        """Drop a byte order mark at the very beginning, however it is cut; b"" while it may still be one."""
        piece = self._carry + piece
        self._carry = b""
        if len(piece) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(piece):
            self._carry = piece
            return b""
        self._started = True
        return piece.removeprefix(_BYTE_ORDER_MARK)

    def _with_line_feeds(self, piece: bytes) -> bytes:
        """CRLF and CR become LF. A CR counts at once; an LF after it, even in the next read, is its own."""
        self._uses_cr = True
        if self._after_cr:
            piece = piece.removeprefix(b"\n")
        self._after_cr = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def event_data(event: bytes) -> bytes:
    """The data of one event (LF line ends): its `data:` lines joined, b"" when it has none."""
    lines = [
        line[6:] if line[5:6] == b" " else line[5:]
        for line in event.split(b"\n")
        if line.startswith(b"data:")
    ]
    return lines[0] if len(lines) == 1 else b"\n".join(lines)
