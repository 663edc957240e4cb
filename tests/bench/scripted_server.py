"""An HTTP server that plays a script on real sockets, in threads of its own: one a connection.

A script is called with each request and gives the pieces of the answer: bytes are sent as one write, a
number is a pause in seconds (part of what is played, not a wait for something), `CLOSE` and `RESET` end
the connection.
"""

import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

CLOSE = "close"
RESET = "reset"
Script = Callable[["Asked"], Iterable[bytes | float | str]]
_LINGER_NONE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Asked:
    """One request as it came: its bytes, the number of its connection, and its number on it (from 1)."""

    head: bytes
    body: bytes
    connection: int
    number: int


@dataclass
class ScriptedServer:
    """A running server and what it was asked."""

    base_url: str
    port: int
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    over: threading.Event = field(default_factory=threading.Event)


def unary(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """An answer with a length."""
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def stream_head() -> bytes:
    """The head of a chunked event stream."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk; of nothing, the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def events(count: int) -> list[bytes]:
    """An event stream of the Anthropic shape: `count` events, the last of them terminal."""
    plain = [b'event: content_block_delta\ndata: {"n":%d}\n\n' % number for number in range(count - 1)]
    return [*plain, b'event: message_stop\ndata: {"type":"message_stop"}\n\n']


def _read_request(connection: socket.socket, rest: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Return (head, raw body, what follows) of the next request, or None at the end of the connection."""
    data = rest
    while b"\r\n\r\n" not in data:
        more = connection.recv(65_536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [
        line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    ]
    if b"100-continue" in head.lower():
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        while not body.endswith(b"0\r\n\r\n"):
            body += connection.recv(65_536)
        return head, body, b""
    length = int(lengths[0]) if lengths else 0
    while len(body) < length:
        body += connection.recv(65_536)
    return head, body[:length], body[length:]


def _play(server: ScriptedServer, connection: socket.socket, number: int, script: Script) -> None:
    rest = b""
    asked = 0
    with connection:
        while not server.over.is_set():
            request = _read_request(connection, rest)
            if request is None:
                return
            head, body, rest = request
            asked += 1
            server.asked.append(question := Asked(head, body, number, asked))
            for piece in script(question):
                if isinstance(piece, bytes):
                    connection.sendall(piece)
                elif piece == CLOSE:
                    return
                elif piece == RESET:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
                    return
                elif isinstance(piece, float) and server.over.wait(piece):
                    return


def _serve(
    server: ScriptedServer, listener: socket.socket, script: Script, open_: list[socket.socket]
) -> None:
    def play(connection: socket.socket, number: int) -> None:
        try:
            _play(server, connection, number, script)
        except OSError:
            return

    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        open_.append(connection)
        server.connections += 1
        threading.Thread(target=play, args=(connection, server.connections), daemon=True).start()


@contextmanager
def scripted_server(script: Script) -> Iterator[ScriptedServer]:
    """Serve the script on a free port of 127.0.0.1 while the body runs."""
    open_: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        port = listener.getsockname()[1]
        server = ScriptedServer(f"http://127.0.0.1:{port}", port)
        thread = threading.Thread(target=_serve, args=(server, listener, script, open_), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for connection in open_:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
