"""Where frames and messages end in a WebSocket's bytes, and what a message says (sans-IO, RFC 6455).

`relay` passes bytes on untouched; a `FrameReader` sees them first. No extension is ever agreed upon, so a
frame's payload is what it says: a reserved bit, as of compression, is an error. What a client sends is
masked; it is unmasked here only to be read.

Bounds: a frame and a message hold at most `message_bytes_max`, or else, with `keep_ends`, only the ends of a
longer one are kept (`sse.Window`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gateway.sse import Window

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_DATA = (TEXT, BINARY)
_CONTROL = (CLOSE, PING, PONG)
_CONTROL_BYTES_MAX = 125
_MASK_BYTES = 4

NORMAL, GOING_AWAY, PROTOCOL_ERROR, POLICY, TOO_BIG, INTERNAL = 1000, 1001, 1002, 1008, 1009, 1011


class FrameError(Exception):
    """These bytes are no frames; `code` is what the close frame says of it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Frame(NamedTuple):
    """A frame that is complete."""

    end: int
    """Where it ends in the data fed."""
    opcode: int
    message: Message | None
    """The whole message, if this frame ends one."""


class Message:
    """One message, whole or, where only its ends are kept, those of a long one."""

    __slots__ = ("_joined", "_window")

    def __init__(self, *, keep_ends: bool) -> None:
        # One of a byte each are many, and no list of them.
        self._joined = bytearray()
        self._window = Window() if keep_ends else None

    def add(self, piece: bytes) -> None:
        if self._window is None:
            self._joined += piece
        else:
            self._window.add(piece)

    @property
    def ends(self) -> Window | None:
        """What is kept of a message that is too long; None where all of it is there."""
        return self._window if self._window is not None and self._window.overflowed else None

    def whole(self) -> bytes:
        """All of it; of one that is too long, the beginning."""
        if self._window is None:
            return bytes(self._joined)
        return self._window.head if self._window.overflowed else self._window.whole()


class FrameReader:
    """Reads one direction. `masked` is how that side sends: a client masks, a server does not."""

    __slots__ = (
        "_final",
        "_head",
        "_keep_ends",
        "_left",
        "_mask",
        "_masked",
        "_message",
        "_message_bytes_max",
        "_opcode",
        "_seen",
        "_size",
        "closed",
    )

    def __init__(self, *, masked: bool, message_bytes_max: int, keep_ends: bool) -> None:
        self._masked = masked
        self._message_bytes_max = message_bytes_max
        self._keep_ends = keep_ends
        self._head = b""
        self._left = -1
        """Bytes of the frame's payload that are to come; -1 within a head."""
        self._message: Message | None = None
        self._size = 0
        """Bytes of the message so far."""
        self._opcode = 0
        self._final = False
        self._mask = b""
        self._seen = 0
        """Payload bytes of this frame so far, for the phase of its mask."""
        self.closed = False
        """A close frame has passed: nothing follows it."""

    @property
    def between_frames(self) -> bool:
        return self._left < 0 and not self._head

    @property
    def between_messages(self) -> bool:
        return self.between_frames and self._message is None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that end within `data`. Raises `FrameError`."""
        at = 0
        while at < len(data) or self._left == 0:
            if self._left < 0:
                at = self._read_head(data, at)
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            self._take(piece)
            if not self._left:
                yield self._end_frame(at)

    def _read_head(self, data: bytes, at: int) -> int:
        """Collect a head, which is up to 14 bytes; where it ends in `data`, or all of it."""
        if self.closed:
            raise FrameError(PROTOCOL_ERROR, "a frame follows the close frame")
        while True:
            needed = self._head_bytes()
            if len(self._head) == needed:
                break
            more = data[at : at + needed - len(self._head)]
            if not more:
                return at
            self._head += more
            at += len(more)
            if len(self._head) == 2:
                # At once: the rest of what is no head may never come.
                self._check_start()
        self._begin_frame()
        return at

    def _head_bytes(self) -> int:
        head = self._head
        if len(head) < 2:
            return 2
        length = head[1] & 0x7F
        extended = {126: 2, 127: 8}.get(length, 0)
        return 2 + extended + (_MASK_BYTES if self._masked else 0)

    def _check_start(self) -> None:
        head = self._head
        if head[0] & 0x70:
            raise FrameError(PROTOCOL_ERROR, "a reserved bit is set, and no extension was agreed upon")
        if bool(head[1] & 0x80) is not self._masked:
            raise FrameError(PROTOCOL_ERROR, "a client masks its frames and a server does not")

    def _begin_frame(self) -> None:
        head, self._head = self._head, b""
        length = head[1] & 0x7F
        mask_at = len(head) - (_MASK_BYTES if self._masked else 0)
        if length > _CONTROL_BYTES_MAX:
            length = int.from_bytes(head[2:mask_at], "big")
        self._final = bool(head[0] & 0x80)
        self._opcode = opcode = head[0] & 0x0F
        self._mask = head[mask_at:]
        self._seen = 0
        if opcode in _CONTROL:
            if not self._final or length > _CONTROL_BYTES_MAX:
                raise FrameError(PROTOCOL_ERROR, "a control frame that is long or in pieces")
        elif opcode in _DATA:
            if self._message is not None:
                raise FrameError(PROTOCOL_ERROR, "a message begins within another")
            self._message, self._size = Message(keep_ends=self._keep_ends), 0
        elif opcode != CONTINUATION or self._message is None:
            raise FrameError(PROTOCOL_ERROR, "an unknown frame")
        if opcode not in _CONTROL:
            self._size += length
            if self._size > self._message_bytes_max and not self._keep_ends:
                raise FrameError(TOO_BIG, f"a message is larger than {self._message_bytes_max} bytes")
        self._left = length

    def _take(self, piece: bytes) -> None:
        if piece and self._opcode not in _CONTROL:
            assert self._message is not None
            self._message.add(_unmask(piece, self._mask, self._seen) if self._masked else piece)
            self._seen += len(piece)

    def _end_frame(self, at: int) -> Frame:
        self._left = -1
        message = None
        if self._opcode == CLOSE:
            self.closed = True
        elif self._opcode not in _CONTROL and self._final:
            message, self._message = self._message, None
        return Frame(at, self._opcode, message)


def _unmask(piece: bytes, mask: bytes, seen: int) -> bytes:
    """XOR with the mask, whose phase `seen` tells. By one large number: no byte is touched in Python."""
    phase = seen % _MASK_BYTES
    turned = mask[phase:] + mask[:phase]
    repeated = (turned * (len(piece) // _MASK_BYTES + 1))[: len(piece)]
    return (int.from_bytes(piece, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(piece), "big")


def text_frame(payload: bytes, *, masked: bool = False) -> bytes:
    """A whole message. `masked` is a client's; it hides nothing from a provider, so zeros do."""
    return _frame(TEXT, payload, masked=masked)


def close_frame(code: int, reason: str, *, masked: bool = False) -> bytes:
    """The end, with its reason cut to what fits. `masked` is a client's; it hides nothing, so zeros do."""
    text = reason.encode()[: _CONTROL_BYTES_MAX - 2].decode("utf-8", "ignore").encode()
    return _frame(CLOSE, code.to_bytes(2, "big") + text, masked=masked)


def _frame(opcode: int, payload: bytes, *, masked: bool) -> bytes:
    bit = 0x80 if masked else 0
    size = len(payload)
    if size <= _CONTROL_BYTES_MAX:
        head = bytes((0x80 | opcode, bit | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, bit | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, bit | 127)) + size.to_bytes(8, "big")
    return head + (bytes(_MASK_BYTES) if masked else b"") + payload
