"""Connections to the one upstream, kept alive and reused last-in-first-out.

Last-in-first-out keeps the working set small and lets the surplus of a past peak go cold, where the upstream
closes it.  That is noticed when the connection is used: `server` then tries once more on a new one.
"""

import socket
from urllib.parse import urlsplit

import trio

from bench.relay.framing import ResponseFraming

# Above the connection counts the harness drives, so that a run never redials for lack of room.
idle_connections_max = 4096
connect_seconds_max = 5.0


class UpstreamConnection:
    """One socket to the upstream with the framing of its answers."""

    __slots__ = ("fd", "framing", "reused", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.framing = ResponseFraming()
        self.reused = False

    def close(self) -> None:
        # trio must forget the descriptor before its number is given to another socket.
        trio.lowlevel.notify_closing(self.fd)
        self.sock.close()


class UpstreamPool:
    """A stack of idle connections to one origin.

    Raises ValueError if `base_url` is not a plain-http origin: the floor is measured without TLS.
    """

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"--upstream takes an origin such as http://127.0.0.1:9000, not {base_url!r}")
        port = parts.port or 80
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)[0]
        self._family = found[0]
        self._address = found[4]
        self.host_line = f"\r\nhost: {parts.hostname}:{port}".encode()
        self._idle: list[UpstreamConnection] = []

    async def take(self) -> UpstreamConnection:
        """Return the most recently used idle connection, or dial a new one (OSError if that fails)."""
        if self._idle:
            return self._idle.pop()
        return await self.dial()

    async def dial(self) -> UpstreamConnection:
        """Open a new connection; raises OSError, TimeoutError included."""
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                sock.connect(self._address)
            except BlockingIOError:
                with trio.move_on_after(connect_seconds_max) as scope:
                    await trio.lowlevel.wait_writable(sock)
                if scope.cancelled_caught:
                    raise TimeoutError("the upstream did not accept a connection in time") from None
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise OSError(error, "the upstream refused the connection") from None
            return UpstreamConnection(sock)
        except BaseException:
            sock.close()
            raise

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose last answer is complete and whose upstream keeps it alive."""
        if len(self._idle) < idle_connections_max:
            connection.reused = True
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
