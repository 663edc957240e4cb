"""A receiver of webhooks, as a customer would run one: HTTPS on loopback, by a certificate of an authority of
its own. What it answers is the test's to say; what it was sent is kept."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h11
import trio
import trustme

HOST = "hooks.example.com"
_REQUEST_BYTES_MAX = 256 * 1024


@dataclass(frozen=True)
class Received:
    method: str
    target: str
    headers: dict[str, str]
    """By their names in small letters."""
    body: bytes


def good(_: Received) -> bytes:
    return answer(200, b"thank you")


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of an answer. Underscores of a header's name stand for dashes."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Receiver:
    """`connections` counts what connected, whether or not a handshake followed."""

    port: int
    authority: trustme.CA
    respond: Callable[[Received], bytes | Awaitable[bytes]] = good
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    arrived: trio.Event = field(default_factory=trio.Event)

    def url(self, path: str = "/hook", host: str = HOST) -> str:
        return f"https://{host}:{self.port}{path}"

    def trusting(self) -> ssl.SSLContext:
        """A client's, that trusts this receiver's authority and no other."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    def write_authority(self, folder: Path) -> Path:
        file = folder / "receivers.pem"
        self.authority.cert_pem.write_to_path(str(file))
        return file

    async def wait_for(self, count: int, seconds: float = 20) -> list[Received]:
        with trio.fail_after(seconds):
            while len(self.received) < count:
                if self.arrived.is_set():
                    self.arrived = trio.Event()
                await self.arrived.wait()
        return self.received


@asynccontextmanager
async def running_receiver(*hosts: str, address: str = "127.0.0.1") -> AsyncIterator[Receiver]:
    """Its certificate is for `hosts` (by default `HOST` and `localhost`)."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*(hosts or (HOST, "localhost"))).configure_cert(context)
    listeners = await trio.open_tcp_listeners(0, host=address)
    receiver = Receiver(listeners[0].socket.getsockname()[1], authority)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, partial(_serve, receiver, context), listeners))
        yield receiver
        nursery.cancel_scope.cancel()


async def _serve(receiver: Receiver, context: ssl.SSLContext, transport: trio.SocketStream) -> None:
    receiver.connections += 1
    stream = trio.SSLStream(transport, context, server_side=True, https_compatible=True)
    with trio.move_on_after(30):
        try:
            received = await read_request(stream)
            if received is None:
                return
            receiver.received.append(received)
            receiver.arrived.set()
            response: Any = receiver.respond(received)
            await stream.send_all(response if isinstance(response, bytes) else await response)
            await stream.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass


async def read_request(stream: trio.abc.Stream) -> Received | None:
    """One request; None when there is none."""
    connection = h11.Connection(h11.SERVER)
    request, body = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(65536))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
            assert len(body) < _REQUEST_BYTES_MAX
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            return None
    assert request is not None
    headers = {name.decode(): value.decode() for name, value in request.headers}
    return Received(request.method.decode(), request.target.decode(), headers, body)
