"""Move bytes between clients and the upstream: one task a connection, four data system calls a request.

A request costs one `recv` and one `send` on either side.  Sockets are read only after the kernel said that
they are readable, because trying first (as trio.socket does) finds nothing in nearly every case and costs a
system call; a socket is written at once, because it nearly always has room.  Each upstream read becomes one
client write, so an event stream keeps its pace and its chunk boundaries.  Of what is left, two thirds of the
time are inside the kernel.

Left out on purpose: pipelined requests (the connection is closed), TLS, upgrades, and noticing a client that
left while its answer is still awaited.
"""

import gc
import signal
import socket
from collections.abc import Callable

import trio
from httptools import HttpParserError
from trio.lowlevel import wait_readable, wait_writable

from bench.relay.framing import END_OF_HEAD, RequestFraming, head_bytes_max, with_host
from bench.relay.upstream import UpstreamConnection, UpstreamPool

# One read.  Unary answers fit whole; a bulk body takes several, and memory per stream stays at one read.
read_bytes_max = 65_536
accept_backlog = 4096
_BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


async def send_all(sock: socket.socket, data: bytes) -> None:
    """Write all of `data`, waiting only when the socket's buffer is full."""
    try:
        sent = sock.send(data)
    except BlockingIOError:
        sent = 0
    if sent == len(data):
        return
    rest = memoryview(data)[sent:]
    while rest:
        await wait_writable(sock)
        try:
            rest = rest[sock.send(rest) :]
        except BlockingIOError:
            continue


async def receive(sock: socket.socket) -> bytes:
    """Return what is there, waiting for at least one byte; empty at the end of the stream."""
    while True:
        await wait_readable(sock)
        try:
            return sock.recv(read_bytes_max)
        except BlockingIOError:
            continue


async def serve_connection(client: socket.socket, pool: UpstreamPool) -> None:
    """Serve one client connection until either side is done with it."""
    framing = RequestFraming()
    try:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while request := await receive(client):
            framing.complete = False
            framing.parser.feed_data(request)
            head_end = request.find(END_OF_HEAD)
            while head_end < 0:
                if len(request) > head_bytes_max:
                    return
                more = await receive(client)
                if not more:
                    return
                framing.parser.feed_data(more)
                request += more
                head_end = request.find(END_OF_HEAD)
            if not await exchange(client, framing, with_host(request, head_end, pool.host_line), pool):
                return
    except (OSError, HttpParserError):
        # The client broke off or does not speak HTTP/1.1: there is nobody to tell.
        return
    finally:
        trio.lowlevel.notify_closing(client)
        client.close()


async def exchange(
    client: socket.socket, framing: RequestFraming, request: bytes, pool: UpstreamPool
) -> bool:
    """Send one request up and its answer down; True if the client connection can carry another request.

    A reused connection may have been closed by the upstream while it was idle.  If it yields nothing at all,
    the request is sent once more on a new connection, provided that it was read whole.
    """
    whole = framing.complete
    try:
        upstream = await pool.take()
    except OSError:
        await send_all(client, _BAD_GATEWAY)
        return False
    while True:
        answered = kept = False
        try:
            await send_all(upstream.sock, request)
            if not whole:
                await upload(client, framing, request, upstream)
            first = await receive(upstream.sock)
            if first:
                answered = True
                kept = await download(client, upstream, first, head_only=request.startswith(b"HEAD "))
                return kept and framing.keeps_alive
        except ConnectionError:
            if answered:
                return False
        finally:
            if kept:
                pool.give_back(upstream)
            else:
                upstream.close()
        if not (upstream.reused and whole):
            await send_all(client, _BAD_GATEWAY)
            return False
        try:
            upstream = await pool.dial()
        except OSError:
            await send_all(client, _BAD_GATEWAY)
            return False


async def upload(
    client: socket.socket, framing: RequestFraming, request: bytes, upstream: UpstreamConnection
) -> None:
    """Forward the rest of a request body as it arrives.

    The upstream's own 100 Continue would come too late here, since it is only read after the upload.
    """
    if b"100-continue" in request.lower():
        await send_all(client, _CONTINUE)
    while not framing.complete:
        body = await receive(client)
        if not body:
            raise ConnectionResetError("the client left in the middle of its request")
        framing.parser.feed_data(body)
        await send_all(upstream.sock, body)


async def download(
    client: socket.socket, upstream: UpstreamConnection, chunk: bytes, *, head_only: bool
) -> bool:
    """Forward one answer beginning with `chunk`; True if both connections may carry another exchange.

    An upstream that dies in mid-answer, or whose answer ends with its connection, makes the client's
    connection end as well, which is all that a relay of bytes can truthfully say.
    """
    framing = upstream.framing
    framing.complete = False
    feed = framing.parser.feed_data
    while chunk:
        try:
            feed(chunk)
        except HttpParserError:
            await send_all(client, chunk)
            return False
        await send_all(client, chunk)
        if framing.complete:
            return framing.keeps_alive
        if head_only and END_OF_HEAD in chunk:
            # llhttp would wait for the body that the headers announce and a HEAD answer does not have.
            return False
        chunk = await receive(upstream.sock)
    return False


async def accept_connections(listener: socket.socket, pool: UpstreamPool) -> None:
    """Accept for ever; each connection is a child task, so cancelling this ends them all."""
    async with trio.open_nursery() as nursery:
        while True:
            await wait_readable(listener)
            try:
                while True:
                    client, _ = listener.accept()
                    client.setblocking(False)
                    nursery.start_soon(serve_connection, client, pool)
            except OSError:
                # Nothing (more) to accept, or the client was gone already.
                continue


async def run_relay(port: int, upstream_url: str, on_ready: Callable[[str], None]) -> None:
    """Serve on 127.0.0.1:`port` (0 = any free one) until SIGINT or SIGTERM; `on_ready` gets the base URL."""
    pool = UpstreamPool(upstream_url)
    with socket.create_server(("127.0.0.1", port), backlog=accept_backlog) as listener:
        listener.setblocking(False)
        # Start-up objects never become garbage, so the collector need not walk them again and again.
        gc.freeze()
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accept_connections, listener, pool)
                on_ready(f"http://127.0.0.1:{listener.getsockname()[1]}")
                async for _ in signals:
                    nursery.cancel_scope.cancel()
                    break
    pool.close()
