"""How one request is run: Quart-Trio's way, but with an answer that is sent to its end.

Quart-Trio runs two tasks for a request, and the one that listens for the client's leaving cancels the
other. With `Connection: close` Hypercorn reports that the client has left while the answer's last piece
is still being sent: the cancellation then hits before the socket is closed, and the connection stays
open until the client gives up. So sending is shielded here, and bounded. (Hypercorn shields each write
anyway; what is added is the rest.)
"""

from __future__ import annotations

import trio
from hypercorn.typing import ASGISendCallable
from quart.wrappers import Request
from quart_trio.asgi import TrioASGIHTTPConnection

SEND_SECONDS_MAX = 20.0
"""Pages are some ten kilobytes: who has not taken one by then is not reading it."""


class Connection(TrioASGIHTTPConnection):
    async def handle_request(  # type: ignore[override]
        self, nursery: trio.Nursery, request: Request, send: ASGISendCallable
    ) -> None:
        response = await self.app.handle_request(request)
        with trio.move_on_after(SEND_SECONDS_MAX, shield=True):
            await self._send_response(send, response)
        nursery.cancel_scope.cancel()
