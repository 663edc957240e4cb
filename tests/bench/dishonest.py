"""A proxy that lies, on real sockets: what the harness must find out.

It forwards to the provider and does one thing wrong: sleeps a millisecond, loses one frame in so many, joins
two frames to one write, collects a stream and sends it at once, or keeps an answer and gives it again without
asking. Threads, one a connection.
"""

import math
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import BinaryIO, Literal
from urllib.parse import urlsplit

from bench.targets.base import PLACEHOLDER_KEY, Installation, RunningTarget, Target, TargetContext

Lie = Literal["sleeps", "drops", "merges", "collects", "replays"]
FRAMES_A_LOSS = 10_000
FRAMES_UNTIL_LOSS = 1_500
"""Until the first one: after the answer that a target is tried with, and soon, however slow the machine."""
_NAP_SECONDS = 0.001


class LyingProxy:
    """The state that all connections share."""

    def __init__(self, lie: Lie, upstream_url: str, times: float) -> None:
        parts = urlsplit(upstream_url)
        self.lie = lie
        self.upstream = (parts.hostname or "", parts.port or 80)
        self.over = threading.Event()
        self._times = times
        self._frames = FRAMES_A_LOSS - FRAMES_UNTIL_LOSS
        self._kept: dict[bytes, bytes] = {}
        self._lock = threading.Lock()

    def serve(self, client: socket.socket) -> None:
        try:
            with client, socket.create_connection(self.upstream) as provider:
                for sock in (client, provider):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with client.makefile("rb") as asked, provider.makefile("rb") as answered:
                    while not self.over.is_set() and (request := _read_message(asked)):
                        self._exchange(b"".join(request), client, provider, answered)
        except OSError:
            return

    def _exchange(
        self, request: bytes, client: socket.socket, provider: socket.socket, answered: BinaryIO
    ) -> None:
        if self.lie == "sleeps":
            self.over.wait(_NAP_SECONDS)
        if (kept := self._kept.get(request)) is not None:
            client.sendall(kept)
            return
        provider.sendall(request)
        whole = b""
        pieces = self._shaped(_pieces(answered))
        if self.lie == "collects" and self._once_more():
            pieces = iter([b"".join(pieces)])
        for piece in pieces:
            client.sendall(piece)
            whole += piece
        if self.lie == "replays":
            self._kept[request] = whole

    def _once_more(self) -> bool:
        with self._lock:
            self._times -= 1
            return self._times >= 0

    def _shaped(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        held = b""
        for piece in pieces:
            if self.lie == "drops" and piece.endswith(b"\n\n\r\n"):
                with self._lock:
                    self._frames += 1
                    lost = self._frames % FRAMES_A_LOSS == 0
                if lost:
                    continue
            if self.lie == "merges" and not held and piece.endswith(b"\n\n\r\n"):
                held = piece
                continue
            yield held + piece
            held = b""


def _read_head(stream: BinaryIO) -> list[bytes]:
    lines = []
    while (line := stream.readline()) and line != b"\r\n":
        lines.append(line)
    return [*lines, line] if lines else []


def _read_message(stream: BinaryIO) -> list[bytes]:
    """A request with its length, or nothing at the end."""
    head = _read_head(stream)
    return [*head, stream.read(_length(head) or 0)] if head else []


def _length(head: list[bytes]) -> int | None:
    found = [line.split(b":")[1] for line in head if line.lower().startswith(b"content-length:")]
    return int(found[0]) if found else None


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    """The head of an answer, and then its body or its chunks, each whole."""
    head = _read_head(stream)
    yield b"".join(head)
    if (length := _length(head)) is not None:
        yield stream.read(length)
        return
    while True:
        line = stream.readline()
        yield line + stream.read(int(line, 16) + 2)
        if line == b"0\r\n":
            return


@contextmanager
def lying_proxy(lie: Lie, upstream_url: str, times: float) -> Iterator[str]:
    """Serve on a free port of 127.0.0.1 while the body runs; gives the URL."""
    proxy = LyingProxy(lie, upstream_url, times)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=proxy.serve, args=(client,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            proxy.over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


class LyingTarget(Target):
    """The proxy as an arm."""

    description = "a proxy that lies"

    def __init__(self, lie: Lie, times: float = math.inf) -> None:
        """`times` is how many streams are collected, of a proxy that does so."""
        self.name = lie
        self._lie = lie
        self._times = times

    def installation(self) -> Installation:
        return Installation(ready=True)

    @asynccontextmanager
    async def open(self, context: TargetContext) -> AsyncIterator[RunningTarget]:
        with lying_proxy(self._lie, context.upstream_url, self._times) as base_url:
            yield RunningTarget(base_url=base_url, keys=[PLACEHOLDER_KEY], pids=[])
