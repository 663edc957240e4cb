"""How one request is run: Quart-Trio's way, but with an answer that is sent to its end.

Beside a request a task listens for the client's leaving, which cancels it. With `Connection: close` Hypercorn
reports that the client has left while the answer's last piece is still being sent: the cancellation then hits
before the socket is closed, and the connection stays open until the client gives up. So sending is shielded
here, and bounded. (Hypercorn shields each write anyway; what is added is the rest.)

A stream (an export) may take as long as its reader does, but no piece of it longer than a page; and when the
reader leaves, it ends.
"""

from __future__ import annotations

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent
from quart.wrappers import Request, Response
from quart_trio.asgi import TrioASGIHTTPConnection

SEND_SECONDS_MAX = 20.0
"""Pages are some ten kilobytes: who has not taken one by then is not reading it."""


class Connection(TrioASGIHTTPConnection):
    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        request = self._create_request_from_scope(send)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.handle_messages, nursery, request, receive)
            await self.handle_request(nursery, request, send)

    async def handle_request(  # type: ignore[override]
        self, nursery: trio.Nursery, request: Request, send: ASGISendCallable
    ) -> None:
        response = await self.app.handle_request(request)
        with trio.move_on_after(SEND_SECONDS_MAX, shield=not _is_stream(response)) as sending:
            if _is_stream(response):
                send = _paced(send, sending)
            await self._send_response(send, response)
        nursery.cancel_scope.cancel()


def _is_stream(response: object) -> bool:
    """Whether a view made the answer one of any length: by `response.timeout = None`."""
    return isinstance(response, Response) and response.timeout is None


def _paced(send: ASGISendCallable, sending: trio.CancelScope) -> ASGISendCallable:
    """Each piece of a stream has the time that a page has; who leaves ends it, but not its last piece."""

    async def send_in_time(event: ASGISendEvent) -> None:
        sending.deadline = trio.current_time() + SEND_SECONDS_MAX
        if event["type"] == "http.response.body" and not event.get("more_body"):
            sending.shield = True
        await send(event)

    return send_in_time
