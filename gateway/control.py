"""What a supervisor and its workers say to each other, and the line they say it on.

The line is a socketpair of packets (`SOCK_SEQPACKET`): a message is one packet, so there is no framing, and
the end of either process is the end of the line. It is the only way by which the secret of the shared keys
and the settings of a command line reach a worker: neither its arguments nor its environment nor any file has
them.

Sending never waits: messages are queued, and a task sends them. Bounds: a message has at most `BYTES_MAX`
bytes; of an other side that does not read at most `QUEUE_MAX` messages are kept, then the line is broken.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec
import trio

from gateway.metric_page import Family

# Linux takes packets of about 200 KB unless told otherwise.
BYTES_MAX = 128 * 1024
QUEUE_MAX = 20_000
# Of about 80 bytes each.
ENTRIES_MAX = 1000
# Of 50 to 400 bytes each: so few that what is usual needs several messages, as more one day would.
SAMPLES_MAX = 100


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A verified key: the MAC of its token, and the mark of the digest it was verified under."""

    mac: bytes
    mark: bytes
    key_id: str


class Message(msgspec.Struct, frozen=True, array_like=True):
    """Anything that is said."""


# To a worker.


class Begin(Message, frozen=True, tag=1):
    """The first thing a worker hears. `secret` is the key of all MACs and marks."""

    slot: int
    listeners: list[int]
    """Its descriptors of the listening sockets, by slot."""
    overrides: dict[str, str | None]
    """Settings of the command line."""
    secret: bytes
    patience: float
    """Seconds that it may take to become able to serve, before it accepts connections anyway."""


class Known(Message, frozen=True, tag=2):
    """These keys have been verified by others."""

    entries: list[Entry]


class Serve(Message, frozen=True, tag=3):
    """What there was to tell at first has been told."""


class Go(Message, frozen=True, tag=4):
    """Verify it: nobody else does."""

    mac: bytes
    mark: bytes


class Wrong(Message, frozen=True, tag=5):
    """Another worker has found that the token does not fit."""

    mac: bytes
    mark: bytes


class Scrape(Message, frozen=True, tag=6):
    """What are your figures? Number 0 asks whether it lives."""

    number: int


class Cover(Message, frozen=True, tag=7):
    """Accept for these slots too, until told otherwise: their worker is gone."""

    slots: list[int]


class Retire(Message, frozen=True, tag=8):
    """Another one accepts in your place: end when your connections have."""


class Orphaned(Message, frozen=True, tag=9):
    """A worker has died, and left a journal."""


# From a worker.


class Serving(Message, frozen=True, tag=20):
    """It accepts connections."""


class Leaving(Message, frozen=True, tag=21):
    """It was told to stop, though not by us, and accepts no more."""


class Claim(Message, frozen=True, tag=22):
    """May I verify this?"""

    mac: bytes
    mark: bytes


class Verified(Message, frozen=True, tag=23):
    entry: Entry


class Failed(Message, frozen=True, tag=24):
    """It did not come to a verification; `wrong` if that is the token's fault."""

    mac: bytes
    mark: bytes
    wrong: bool


class Forget(Message, frozen=True, tag=25):
    """These keys have ended."""

    key_ids: list[str]


class Figures(Message, frozen=True, tag=26):
    """The answer to a scrape, and, with number 0, the last word of a worker that ends. With `more`, the rest
    of it follows."""

    number: int
    families: list[Family]
    more: bool = False


ToWorker = Begin | Known | Serve | Go | Wrong | Scrape | Cover | Retire | Orphaned
FromWorker = Serving | Leaving | Claim | Verified | Failed | Forget | Figures

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[ToWorker | FromWorker] = msgspec.msgpack.Decoder(ToWorker | FromWorker)


class LineBroken(Exception):
    """The other side has ended, does not read, or says what nobody here understands."""


class Line:
    """One end of the line."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = trio.socket.from_stdlib_socket(sock)
        self._queue: deque[bytes] = deque()
        self._queued = trio.Event()
        self._sent = trio.Event()
        self.broken = False

    def send(self, message: ToWorker | FromWorker) -> None:
        """Queue a message; nothing happens when the line is broken, which whoever receives is told."""
        if self.broken:
            return
        data = _encoder.encode(message)
        if len(data) > BYTES_MAX or len(self._queue) >= QUEUE_MAX:
            self.close()
            return
        self._queue.append(data)
        self._queued.set()

    async def receive(self) -> ToWorker | FromWorker:
        """The next message. Raises `LineBroken`."""
        try:
            data = await self._sock.recv(BYTES_MAX)
        except (OSError, trio.ClosedResourceError):
            data = b""
        if not data:
            self.broken = True
            raise LineBroken
        try:
            return _decoder.decode(data)
        except msgspec.MsgspecError:
            # After a reload the other side may be of another release: then there is nothing to be said.
            self.close()
            raise LineBroken from None

    async def run(self) -> None:
        """Send what is queued, until cancelled or broken."""
        while not self.broken:
            while self._queue:
                try:
                    await self._sock.send(self._queue[0])
                except (OSError, trio.ClosedResourceError):
                    self.broken = True
                    return
                self._queue.popleft()
            self._sent.set()
            self._queued = trio.Event()
            await self._queued.wait()

    async def flush(self) -> None:
        """Until all that was queued is sent, while `run` runs."""
        while self._queue and not self.broken:
            self._sent = trio.Event()
            await self._sent.wait()

    def close(self) -> None:
        self.broken = True
        self._queue.clear()
        self._queued.set()
        self._sent.set()
        with contextlib.suppress(OSError):
            # Also for a task that waits to receive.
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


def packets(entries: Sequence[Entry]) -> list[Known]:
    """Any number of entries, in as many messages as they need."""
    return [Known(list(entries[at : at + ENTRIES_MAX])) for at in range(0, len(entries), ENTRIES_MAX)]


def figures(number: int, families: Iterable[Family]) -> list[Figures]:
    """Any number of figures, in as many messages as they need; a family may be parted between some."""
    parts: list[list[Family]] = [[]]
    room = SAMPLES_MAX
    for family in families:
        for piece in _pieces(family):
            size = len(piece.samples) + len(piece.counts)
            if size > room:
                parts.append([])
                room = SAMPLES_MAX
            parts[-1].append(piece)
            room -= size
    return [Figures(number, part, more=part is not parts[-1]) for part in parts]


def _pieces(family: Family) -> list[Family]:
    if len(family.samples) + len(family.counts) <= SAMPLES_MAX:
        return [family]
    samples, counts = list(family.samples.items()), list(family.counts.items())
    return [
        msgspec.structs.replace(
            family, samples=dict(samples[at : at + SAMPLES_MAX]), counts=dict(counts[at : at + SAMPLES_MAX])
        )
        for at in range(0, max(len(samples), len(counts)), SAMPLES_MAX)
    ]


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new line."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
