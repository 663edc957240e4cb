"""Sends one message to one receiver, safely: resolves the name now, checks every address, connects to a
checked one and to nothing else, and reads little.

Strategy. The name is resolved once, and a socket is opened to a checked address by its number: there is no
second question that could be answered otherwise. TLS is by the URL's own name, in the handshake and in the
check of the certificate; HTTP/1.1 is h11's. No proxy of the environment is read, a redirect is an answer like
any other, nothing is decompressed, and each message has a connection of its own.

Bounds: `SECONDS_MAX` for all of it, which also ends receivers that answer a byte at a time; a head of
`HEAD_BYTES_MAX`; `EXCERPT_BYTES_MAX` of the body.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import h11
import trio

from admin.webhooks.safe_address import Address, Rules, Target, UnsafeAddress, UnsafeURL, check_answer, parse
from storage.webhook_deliveries import EXCERPT_BYTES_MAX

SECONDS_MAX = 15.0
"""For all: name, connection, handshake, answer."""
RESOLVE_SECONDS_MAX = 5.0
CONNECT_SECONDS_MAX = 5.0
"""For one address, so that another may be tried."""
BODY_SECONDS_MAX = 2.0
"""For what is only shown."""
ADDRESSES_TRIED_MAX = 3
RESOLUTIONS_MAX = 20
"""Threads at once: a resolver that hangs must not take all of the program's."""
HEAD_BYTES_MAX = 16 * 1024
READ_BYTES = 4096

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True)
class Answer:
    """What a receiver said. `excerpt` is the beginning of the body, as bytes."""

    status: int
    retry_after_seconds: int | None
    excerpt: bytes


class Undelivered(Exception):
    """There is no answer. `reason` is one of a few words, for the log: `unsafe_url`, `unsafe_address`,
    `no_name`, `no_connection`, `tls`, `timeout`, `bad_answer`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Dialer:
    """Made once for a program. `resolve` is the system's resolver, unless a test says otherwise."""

    rules: Rules
    ssl_context: ssl.SSLContext | None = None
    """None: the system's authorities, read when first needed."""
    resolve: Resolve | None = None
    seconds_max: float = SECONDS_MAX
    _resolutions: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(RESOLUTIONS_MAX))

    async def check(self, url: str) -> None:
        """For whoever registers a URL: raises UnsafeURL, or Undelivered when its name cannot be resolved or
        stands for what is refused."""
        await self._addresses(parse(url, self.rules))

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Raises Undelivered."""
        with trio.move_on_after(self.seconds_max):
            return await self._post(url, headers, body)
        raise Undelivered("timeout")

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        try:
            target = parse(url, self.rules)
        except UnsafeURL:
            raise Undelivered("unsafe_url") from None
        transport = await _connect(await self._addresses(target), target.port)
        if self.ssl_context is None:
            self.ssl_context = ssl.create_default_context()
        stream = trio.SSLStream(
            transport, self.ssl_context, server_hostname=target.host, https_compatible=True
        )
        try:
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError:
                raise Undelivered("tls") from None
            return await _exchange(stream, target, headers, body)
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            raise Undelivered("bad_answer") from None
        finally:
            # Without a farewell: the answer is known, and a receiver may not take it.
            await trio.aclose_forcefully(stream)

    async def _addresses(self, target: Target) -> list[Address]:
        resolve = self.resolve or self._ask_system
        try:
            with trio.fail_after(RESOLVE_SECONDS_MAX):
                texts = await resolve(target.host, target.port)
        except (OSError, UnicodeError, trio.TooSlowError):
            raise Undelivered("no_name") from None
        try:
            return check_answer(texts, self.rules)[:ADDRESSES_TRIED_MAX]
        except UnsafeAddress:
            raise Undelivered("unsafe_address") from None

    async def _ask_system(self, host: str, port: int) -> list[str]:
        def ask() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            return [str(address[0]) for *_, address in found]

        return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=self._resolutions)


async def _connect(addresses: Sequence[Address], port: int) -> trio.SocketStream:
    for address in addresses:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        connection = trio.socket.socket(family, socket.SOCK_STREAM)
        try:
            with trio.fail_after(CONNECT_SECONDS_MAX):
                await connection.connect((str(address), port))
        except (OSError, trio.TooSlowError):
            connection.close()
        except BaseException:
            connection.close()
            raise
        else:
            return trio.SocketStream(connection)
    raise Undelivered("no_connection")


async def _exchange(
    stream: trio.abc.Stream, target: Target, headers: Mapping[str, str], body: bytes
) -> Answer:
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
    fields = [("Host", target.authority), ("Content-Length", str(len(body))), *headers.items()]
    request = h11.Request(method="POST", target=target.path, headers=[*fields, ("Connection", "close")])
    sent = b"".join(http.send(event) or b"" for event in (request, h11.Data(data=body), h11.EndOfMessage()))
    await stream.send_all(sent)
    event = await _next_event(http, stream)
    while isinstance(event, h11.InformationalResponse):
        event = await _next_event(http, stream)
    if not isinstance(event, h11.Response):
        raise Undelivered("bad_answer")
    return Answer(event.status_code, _retry_after(event.headers), await _read_excerpt(http, stream))


async def _next_event(http: h11.Connection, stream: trio.abc.Stream) -> object:
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(bytes(await stream.receive_some(READ_BYTES)))
    return event


async def _read_excerpt(http: h11.Connection, stream: trio.abc.Stream) -> bytes:
    """As much of the body as is kept, and comes at once. The status is known, whatever follows."""
    excerpt = b""
    try:
        with trio.move_on_after(BODY_SECONDS_MAX):
            while len(excerpt) < EXCERPT_BYTES_MAX:
                event = await _next_event(http, stream)
                if not isinstance(event, h11.Data):
                    break
                excerpt += bytes(event.data)
    except (trio.BrokenResourceError, h11.RemoteProtocolError):
        pass
    return excerpt[:EXCERPT_BYTES_MAX]


def _retry_after(headers: Sequence[tuple[bytes, bytes]]) -> int | None:
    """Of seconds; dates are not heeded."""
    for name, value in headers:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) <= 9:
            return int(value)
    return None
