"""No to a wrong key at once, where a key was wrong before: without the connection's task.

A refusal by the task costs as much as a request that is served, most of it for the task itself; so a flood of
invalid keys would cost honest traffic what as many honest requests do. A connection whose key was not known
is watched from then on: each read that the lane leaves is parsed and recognised as ever, by the same
functions, and refused within the event that brought it if nothing has to be asked or waited for. Everything
else is left to the task, as if nobody had looked.

Bounds: one request a read; what follows it is looked at in the next pass, so that others get their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from gateway.api_request import recognise
from gateway.authenticate import Authenticator
from gateway.client_address import Network, client_network
from gateway.connection import Connection, Take
from gateway.limits import Limits
from gateway.meter import Meter
from gateway.operations import Operations
from gateway.refusal import Refusal, render
from gateway.request_reader import Inbound, RequestReader
from gateway.wait import Waiting

_REQUEST: Final = Waiting.REQUEST


class _Guard:
    """What a watched connection's `take` is."""

    def __init__(self, take: Take, dismiss: Take) -> None:
        self.take = take
        self._dismiss = dismiss

    def __call__(self, connection: Connection, data: bytes) -> bool:
        return self.take(connection, data) or self._dismiss(connection, data)


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
    ) -> None:
        self._limits = limits
        self._operations = operations
        self._authenticator = authenticator
        self._meter = meter
        self._trusted_proxies = trusted_proxies
        self._new_request_id = new_request_id
        self._reader = RequestReader()
        self.refused = 0

    def watch(self, connection: Connection) -> None:
        take = connection.take
        if take is not None and not isinstance(take, _Guard):
            connection.take = _Guard(take, self.dismiss)

    def trust(self, connection: Connection) -> None:
        take = connection.take
        if isinstance(take, _Guard):
            connection.take = take.take

    def dismiss(self, connection: Connection, data: bytes) -> bool:
        """Refuse the request that `data` is; False leaves it to the task."""
        inbound = self._parse(data)
        if inbound is None or connection.last or self._meter.spool.full:
            return False
        try:
            request = recognise(inbound, self._operations, self._limits)
        except Refusal:
            return False
        address = client_network(connection.address, inbound, self._trusted_proxies)
        refusal = self._authenticator.dismissal(request.token, address)
        if refusal is None:
            return False
        self.refused += 1
        request_id = connection.request_id = self._new_request_id()
        answer = render(refusal, request.dialect, request_id, head_only=inbound.method == b"HEAD")
        if connection.transport.send_now(answer) < len(answer):
            # It sends, and does not read.
            connection.abort()
            connection.finish()
            return True
        connection.begin_wait(_REQUEST, self._limits.idle_seconds)
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
