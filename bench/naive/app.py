"""The whole naive proxy: read the request, send it with httpx, stream the answer back.

Bounds: the request body is collected in memory (as such proxies do); the answer is not.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio import serve

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

# Above the connection counts the harness drives, so that the pool is never what is measured.
upstream_connections_max = 4096
connect_seconds_max = 5.0

_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"host",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
    )
)
_SENT_BY_HYPERCORN = frozenset((b"date", b"server"))


def forwardable(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the request headers that travel on; httpx adds its own host and framing."""
    return [(name, value) for name, value in headers if name.lower() not in _HOP_BY_HOP]


def answerable(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the response headers that travel back; the length stays, since the body does."""
    hop_by_hop = _HOP_BY_HOP - {b"content-length"}
    return [(n.lower(), v) for n, v in headers if n.lower() not in hop_by_hop | _SENT_BY_HYPERCORN]


async def read_body(receive: Receive) -> bytes:
    """Collect the whole request body."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


class NaiveProxy:
    """The ASGI application; `client` is the one shared httpx client."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await answer_lifespan(receive, send)
        elif scope["type"] == "http":
            await self.forward(scope, receive, send)

    async def forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        url = httpx.URL(raw_path=scope["raw_path"] + query)
        request = self._client.build_request(
            scope["method"], url, headers=forwardable(scope["headers"]), content=await read_body(receive)
        )
        # As web frameworks do it: whichever ends first, the answer or the client, ends the other.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._answer, request, send, nursery.cancel_scope)
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()

    async def _answer(self, request: httpx.Request, send: Send, whole: trio.CancelScope) -> None:
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TransportError:
            await send({"type": "http.response.start", "status": 502, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
        else:
            try:
                headers = answerable(response.headers.raw)
                status = response.status_code
                await send({"type": "http.response.start", "status": status, "headers": headers})
                async for chunk in response.aiter_raw():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body"})
            finally:
                with trio.CancelScope(shield=True):
                    await response.aclose()
        whole.cancel()


async def answer_lifespan(receive: Receive, send: Send) -> None:
    """Acknowledge start and end; the client is opened outside, so there is nothing to do."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


@asynccontextmanager
async def open_client(upstream_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Open the shared client: wide pool, no read timeout (streams may pause), no proxy variables."""
    limits = httpx.Limits(
        max_connections=upstream_connections_max, max_keepalive_connections=upstream_connections_max
    )
    timeout = httpx.Timeout(None, connect=connect_seconds_max)
    async with httpx.AsyncClient(
        base_url=upstream_url, limits=limits, timeout=timeout, trust_env=False
    ) as client:
        yield client


async def run_naive(port: int, upstream_url: str, on_ready: Callable[[str], None]) -> None:
    """Serve on 127.0.0.1:`port` (0 = any free one) until cancelled; `on_ready` gets the base URL."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.accesslog = config.errorlog = None
    async with open_client(upstream_url) as client, trio.open_nursery() as nursery:
        # Hypercorn's own types name every message of ASGI; a proxy of one afternoon does without.
        app: Any = NaiveProxy(client)
        binds: list[str] = await nursery.start(partial(serve, app, config, mode="asgi"))
        on_ready(binds[0])
