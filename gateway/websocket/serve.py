"""The opening handshake with both sides, and then the relay. What is refused before the provider has agreed
is refused as any request: with a status and an error in the dialect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from gateway.admission import Admission
from gateway.api_request import APIRequest
from gateway.authenticate import Authenticator, Caller
from gateway.authorize import Grant, Upstreams, authorize, authorize_route, check_standing
from gateway.client_address import Network, client_network
from gateway.connection import Connection
from gateway.dial import Pools
from gateway.forward import forward
from gateway.limits import Limits
from gateway.meter import Meter
from gateway.response_reader import UpstreamBroken
from gateway.targets import Targets
from gateway.upstream_response import UpstreamResponse
from gateway.wait import Waiting
from gateway.watchdog import NEVER
from gateway.websocket.handshake import Answer, Handshakes, let_go
from gateway.websocket.live import Live
from gateway.websocket.relay import Relay
from gateway.websocket.turns import Turns, require_journal
from gateway.websocket.upgrade import LIVE_SESSION, aim, read_handshake
from storage.model import Outcome
from storage.sealing import MasterKeys


class WebSockets:
    """Serves the sockets of a worker."""

    def __init__(
        self,
        *,
        limits: Limits,
        authenticator: Authenticator,
        upstreams: Upstreams,
        master_keys: MasterKeys | None,
        pools: Pools,
        meter: Meter,
        admission: Admission,
        new_request_id: Callable[[], str],
        trusted_proxies: Sequence[Network],
    ) -> None:
        self._limits = limits
        self._authenticator = authenticator
        self._upstreams = upstreams
        self._handshakes = Handshakes(
            limits=limits, upstreams=upstreams, master_keys=master_keys, pools=pools
        )
        self._meter = meter
        self._admission = admission
        self._new_request_id = new_request_id
        self._trusted_proxies = trusted_proxies
        self.open = 0
        """Sockets being relayed."""

    @property
    def failovers(self) -> int:
        """How often another target was asked."""
        return self._handshakes.failovers

    async def run(self, connection: Connection, request: APIRequest, request_id: str) -> None:
        """From a request that `recognise_socket` understood to the end of the socket. Raises as the pipeline
        does."""
        handshake = read_handshake(request.inbound)
        caller = await self._verified(connection, request)
        require_journal(self._meter)
        check_standing(caller, time.time())
        if caller.scope is not None:
            peer = connection.address
            caller.scope.check(request.operation, request.inbound, peer, self._trusted_proxies)
        targets = self._targets(caller, request)
        await self._try_limits(targets.grants)
        answer = await self._handshakes.shake(connection, targets, handshake, request_id.encode())
        try:
            if answer.head:
                await self._relay(connection, answer, request_id)
            else:
                await self._forward_refusal(connection, answer, targets, request_id)
        finally:
            let_go(answer.upstream)

    def _targets(self, caller: Caller, request: APIRequest) -> Targets:
        """Where the socket may go. Raises `Refusal`."""
        now = time.time()
        # A call that exists is where it is, whatever its model is called.
        if caller.routes is not None and request.model is not None and request.operation.stateless:
            route = caller.routes.get(request.model)
            if route is not None:
                grants = authorize_route(caller, request, route, self._upstreams, now)
                for grant in grants:
                    aim(grant)
                return Targets(grants, routed=True)
        return Targets([authorize(caller, request, self._upstreams, now)], routed=False)

    async def _verified(self, connection: Connection, request: APIRequest) -> Caller:
        caller = self._authenticator.recall(request.token)
        if caller is not None:
            return caller
        counted = client_network(connection.address, request.inbound, self._trusted_proxies)
        flight = self._authenticator.begin(request.token, counted)
        await flight.landed.wait()
        return flight.verdict()

    async def _try_limits(self, grants: Sequence[Grant]) -> None:
        """Who has nothing left is told so by a status, which an SDK understands; each response is admitted
        by itself later."""
        reservation = await self._admission.reserve(grants[0], time.time_ns() // 1000, grants[1:])
        if reservation is not None:
            reservation.release()

    async def _relay(self, connection: Connection, answer: Answer, request_id: str) -> None:
        await connection.send(answer.head + b"\r\n\r\n")
        # From here on the relay keeps its own time.
        connection.begin_wait(Waiting.UPSTREAM, NEVER)
        kind = Live if answer.grant.request.operation is LIVE_SESSION else Turns
        turns = kind(
            answer.grant,
            upstreams=self._upstreams,
            admission=self._admission,
            meter=self._meter,
            new_request_id=self._new_request_id,
        )
        self.open += 1
        try:
            relay = Relay(connection, answer.upstream, answer.grant, turns, self._limits, request_id)
            await relay.run(answer.raw.partition(b"\r\n\r\n")[2])
        finally:
            self.open -= 1

    async def _forward_refusal(
        self, connection: Connection, answer: Answer, targets: Targets, request_id: str
    ) -> None:
        """The provider will not: its answer goes down as any other, and has a usage row."""
        upstream, grant, raw, _ = answer
        metering = self._meter.begin(grant, request_id, time.perf_counter(), time.time_ns() // 1000, None, 0)
        metering.sent = grant.request.inbound.accounted = True
        try:
            upstream.reader.begin(head_only=False)
            upstream.reader.feed(raw)
            if not 400 <= upstream.reader.status <= 599:
                raise UpstreamBroken("it did not agree to the WebSocket that was asked for")
            response = UpstreamResponse(grant, upstream, raw)
            response.head.lines += [line.encode("latin-1") for line in targets.lines(answered=True)]
            await forward(connection, response, metering, self._limits, None)
        finally:
            metering.settle(Outcome.UPSTREAM_FAILED)
