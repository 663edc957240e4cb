"""A client that sends exactly the bytes it is given and keeps exactly the bytes that came: for what no HTTP
library lets one say."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import msgspec

TIMEOUT_SECONDS = 20.0
RECEIVE_BYTES = 64 * 1024
_QUIET_SECONDS = 0.05


class RawAnswer(msgspec.Struct):
    """One answer. `raw` is its body with its framing, `body` without; `interim` the 1xx answers before it."""

    status_line: str
    headers: list[tuple[str, str]]
    raw: bytes
    body: bytes
    interim: list[str]
    framing: str

    @property
    def status(self) -> int:
        return int(self.status_line.split(" ")[1])

    def header(self, name: str) -> str | None:
        """The only value of a field, None when it is not there."""
        values = [value for its_name, value in self.headers if its_name == name]
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None


class RawClient:
    """One connection to a side."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.host = parts.netloc
        self.sock = socket.create_connection((parts.hostname, parts.port or 80), timeout=TIMEOUT_SECONDS)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def send(self, *pieces: bytes) -> None:
        """Each piece in a write of its own."""
        for piece in pieces:
            self.sock.sendall(piece)

    def receive(self) -> bytes:
        """What arrives next; b"" at the end, whichever way the connection ended."""
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except ConnectionResetError:
            data = b""
        self.ended = self.ended or not data
        return data

    def wait_for_more(self) -> None:
        """Wait until no more arrives because nobody reads: the kernel's buffer stays as full as it is."""
        before, waiting = -1, 0
        while waiting != before:
            threading.Event().wait(_QUIET_SECONDS)
            before, waiting = waiting, len(self.sock.recv(1 << 20, socket.MSG_PEEK))

    def read_to_end(self) -> bytes:
        """Everything until the connection ends."""
        data, self._data = self._data, b""
        while piece := self.receive():
            data += piece
        return data

    def read_interim(self) -> str:
        """The status line of a 1xx answer, which must come now."""
        line = self._head().partition("\r\n")[0]
        assert line.startswith("HTTP/1.1 1"), line
        return line

    def read_answer(self, method: str = "GET") -> RawAnswer:
        """The next answer, whole. Fails when the connection ends before it."""
        interim: list[str] = []
        while (head := self._head()).startswith("HTTP/1.1 1"):
            interim.append(head)
        status_line, *lines = head.split("\r\n")
        headers = []
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon, f"no header field: {line!r}"
            headers.append((name.lower(), value.strip()))
        answer = RawAnswer(status_line, headers, b"", b"", interim, "none")
        if method != "HEAD" and answer.status not in (204, 304):
            self._read_body(answer)
        return answer

    def _read_body(self, answer: RawAnswer) -> None:
        length = answer.header("content-length")
        if (answer.header("transfer-encoding") or "").lower() == "chunked":
            assert length is None
            answer.framing = "chunked"
            self._read_chunks(answer)
        elif length is not None:
            answer.framing = "length"
            answer.raw = answer.body = self._exactly(int(length))
        else:
            answer.framing = "close"
            answer.raw = answer.body = self.read_to_end()

    def _read_chunks(self, answer: RawAnswer) -> None:
        raw, body = [], []
        while True:
            line = self._until(b"\r\n")
            raw.append(line)
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            piece = self._exactly(size + 2)
            assert piece.endswith(b"\r\n")
            raw.append(piece)
            body.append(piece[:-2])
        while (line := self._until(b"\r\n")) != b"\r\n":
            raw.append(line)
        answer.raw, answer.body = b"".join([*raw, line]), b"".join(body)

    def _head(self) -> str:
        return self._until(b"\r\n\r\n")[:-4].decode("latin-1")

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._data:
            self._more()
        found, mark, self._data = self._data.partition(mark)
        return found + mark

    def _exactly(self, size: int) -> bytes:
        pieces = [self._data]
        have = len(self._data)
        while have < size:
            self._data = b""
            self._more()
            pieces.append(self._data)
            have += len(self._data)
        whole = b"".join(pieces)
        self._data = whole[size:]
        return whole[:size]

    def _more(self) -> None:
        data = self.receive()
        assert data, f"the connection ended in the middle of an answer: {self._data[:2000]!r}"
        self._data += data


def request(
    method: str, target: str, headers: list[tuple[str, str]], body: bytes | None = None, *, chunks: int = 0
) -> bytes:
    """The bytes of a request. A `body` gets a content-length, or with `chunks` so many chunks."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if body is not None:
        lines.append("Transfer-Encoding: chunked" if chunks else f"Content-Length: {len(body)}")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    if body is None:
        return head
    return head + (chunked(body, chunks) if chunks else body)


def chunked(body: bytes, count: int) -> bytes:
    """`body` in `count` chunks, with extensions and upper-case sizes as odd clients write them."""
    size = max(1, -(-len(body) // count))
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    framed = [b"%X;x=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
    return b"".join(framed) + b"0\r\n\r\n"
