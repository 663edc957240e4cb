"""No to a wrong key at once, where a key was wrong before: without the connection's task.

A refusal by the task costs as much as a request that is served, most of it for the task itself; so a flood of
invalid keys would cost honest traffic what as many honest requests do. A connection whose key was not known
is watched from then on: each read that the lane leaves is parsed and recognised as ever, by the same
functions, and refused within the event that brought it if nothing has to be asked or waited for. Everything
else is left to the task, as if nobody had looked.

Whoever goes on and on is not read from for a while after each refusal: what it sends waits in the kernel, and
then at its own end. Not so for trusted proxies, on whose connections many clients' requests come.

Bounds: one request a read; what follows it is looked at in the next pass, so that others get their turn.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio

from gateway.api_request import APIRequest, recognise
from gateway.authenticate import Authenticator
from gateway.client_address import Network, client_network, is_trusted, parse_address
from gateway.connection import Connection, Take
from gateway.limits import Limits
from gateway.meter import Meter
from gateway.operations import Operations
from gateway.refusal import Refusal, render
from gateway.request_reader import Inbound, RequestReader
from gateway.wait import Waiting
from gateway.wire import Transport

_REQUEST: Final = Waiting.REQUEST
_LOOK_SECONDS: Final = 0.1


class _Guard:
    """What a watched connection's `take` is."""

    def __init__(self, take: Take, dismissal: Dismissal, *, patient: bool) -> None:
        self.take = take
        self._dismissal = dismissal
        self._patient = patient
        self.wrong = 0
        """How many were refused here, one after the other."""

    def __call__(self, connection: Connection, data: bytes) -> bool:
        if self.take(connection, data):
            self.wrong = 0
            return True
        if not self._dismissal.dismiss(connection, data):
            return False
        self.wrong += 1
        if self.wrong > self._dismissal.limits.refusals_in_a_row_max and not self._patient:
            self._dismissal.pause(connection)
        return True


def _deaf() -> None:
    """What listens on a connection that is not read from."""


class Dismissal:
    """`watch` connections whose key is not known, and no longer those whose key turned out right.

    `refused` counts what was said no to.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        operations: Operations,
        authenticator: Authenticator,
        meter: Meter,
        trusted_proxies: Sequence[Network],
        new_request_id: Callable[[], str],
        tell: Callable[[str, APIRequest, Refusal, int], None],
    ) -> None:
        """`tell` hears of each: its id, the request, why, and what it took in microseconds."""
        self._tell = tell
        self.limits = limits
        self._operations = operations
        self._authenticator = authenticator
        self._meter = meter
        self._trusted_proxies = trusted_proxies
        self._new_request_id = new_request_id
        self._reader = RequestReader()
        self.refused = 0
        self._paused: deque[tuple[float, Transport, Callable[[], None]]] = deque()

    async def run(self) -> None:
        """Listen again to those whose pause is over, until cancelled."""
        while True:
            await trio.sleep(_LOOK_SECONDS)
            now = trio.current_time()
            while self._paused and self._paused[0][0] <= now:
                _, transport, listener = self._paused.popleft()
                # Not if it has ended, or its task does something else, meanwhile.
                if transport.listener is _deaf:
                    transport.listener = listener
                    if transport.ready:
                        listener()

    def pause(self, connection: Connection) -> None:
        """Do not read from it for a while."""
        transport = connection.transport
        listener = transport.listener
        if listener is not None:
            transport.listener = _deaf
            until = trio.current_time() + self.limits.refusal_pause_seconds
            self._paused.append((until, transport, listener))

    def watch(self, connection: Connection) -> None:
        take = connection.take
        if take is not None and not isinstance(take, _Guard):
            address = parse_address(connection.address)
            trusted = address is not None and is_trusted(address, self._trusted_proxies)
            connection.take = _Guard(take, self, patient=trusted)

    def trust(self, connection: Connection) -> None:
        take = connection.take
        if isinstance(take, _Guard):
            connection.take = take.take

    def dismiss(self, connection: Connection, data: bytes) -> bool:
        """Refuse the request that `data` is; False leaves it to the task."""
        began = time.perf_counter()
        inbound = self._parse(data)
        if inbound is None or connection.last or self._meter.spool.full:
            return False
        try:
            request = recognise(inbound, self._operations, self.limits)
        except Refusal:
            return False
        address = client_network(connection.address, inbound, self._trusted_proxies)
        refusal = self._authenticator.dismissal(request.token, address)
        if refusal is None:
            return False
        self.refused += 1
        request_id = connection.request_id = self._new_request_id()
        answer = render(refusal, request.dialect, request_id, head_only=inbound.method == b"HEAD")
        self._tell(request_id, request, refusal, int((time.perf_counter() - began) * 1_000_000))
        if connection.transport.send_now(answer) < len(answer):
            # It sends, and does not read.
            connection.abort()
            connection.finish()
            return True
        connection.begin_wait(_REQUEST, self.limits.idle_seconds)
        if connection.transport.ready:
            connection.transport.again()
        return True

    def _parse(self, data: bytes) -> Inbound | None:
        """The one whole request that `data` is, after which the connection goes on; None for anything
        else."""
        reader = self._reader
        try:
            reader.feed(data)
        except Refusal:
            self._reader = RequestReader()
            return None
        if not reader.idle or len(reader.ready) != 1:
            self._reader = RequestReader()
            return None
        inbound = reader.ready.pop()
        if inbound.upgrade or not inbound.keep_alive or inbound.version != "1.1":
            return None
        return inbound
