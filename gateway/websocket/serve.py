"""The opening handshake with both sides, and then the relay. What is refused before the provider has agreed
is refused as any request: with a status and an error in the dialect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import trio

from gateway.admission import Admission
from gateway.api_request import APIRequest
from gateway.authenticate import Authenticator, Caller
from gateway.authorize import Grant, Upstreams, authorize, check_standing
from gateway.client_address import Network, client_network
from gateway.connection import Connection
from gateway.decrypt import decrypt, request_head
from gateway.dial import Pools, Upstream
from gateway.forward import forward
from gateway.head_layout import layout_of
from gateway.limits import Limits
from gateway.meter import Meter
from gateway.refusal import Kind, Refusal
from gateway.response_head import ClientHead
from gateway.response_reader import HEAD_BYTES_MAX, UpstreamBroken
from gateway.send_request import send_at_once, send_request
from gateway.upstream_response import UpstreamResponse
from gateway.wait import Waiting
from gateway.watchdog import NEVER
from gateway.websocket.relay import Relay
from gateway.websocket.turns import Turns
from gateway.websocket.upgrade import Handshake, answer_head, read_handshake, upstream_prefix
from storage.model import CredentialKind, Outcome
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
        self._master_keys = master_keys
        self._pools = pools
        self._meter = meter
        self._admission = admission
        self._new_request_id = new_request_id
        self._trusted_proxies = trusted_proxies
        self.open = 0
        """Sockets being relayed."""

    async def run(self, connection: Connection, request: APIRequest, request_id: str) -> None:
        """From a request that `recognise_socket` understood to the end of the socket. Raises as the pipeline
        does."""
        handshake = read_handshake(request.inbound)
        caller = await self._verified(connection, request)
        if self._meter.spool.full:
            raise Refusal(Kind.UNAVAILABLE, "Karta cannot record usage at the moment.", retry_after=10)
        check_standing(caller, time.time())
        if caller.scope is not None:
            peer = connection.address
            caller.scope.check(request.operation, request.inbound, peer, self._trusted_proxies)
        grant = authorize(caller, request, self._upstreams, time.time())
        await self._try_limits(grant)
        upstream = await self._pools.of(grant.provider.origin).acquire(fresh=True)
        try:
            raw = await self._shake_hands(connection, upstream, grant, handshake)
            if raw.startswith(b"HTTP/1.1 101 "):
                await self._relay(connection, upstream, grant, handshake, raw, request_id)
            else:
                await self._forward_refusal(connection, upstream, grant, raw, request_id)
        finally:
            upstream.spoiled = True
            if upstream.transport.sock.fileno() >= 0:
                upstream.pool.give_back(upstream)

    async def _verified(self, connection: Connection, request: APIRequest) -> Caller:
        caller = self._authenticator.recall(request.token)
        if caller is not None:
            return caller
        counted = client_network(connection.address, request.inbound, self._trusted_proxies)
        flight = self._authenticator.begin(request.token, counted)
        await flight.landed.wait()
        return flight.verdict()

    async def _try_limits(self, grant: Grant) -> None:
        """Who has nothing left is told so by a status, which an SDK understands; each response is admitted
        by itself later."""
        reservation = await self._admission.reserve(grant, time.time_ns() // 1000)
        if reservation is not None:
            reservation.release()

    async def _shake_hands(
        self, connection: Connection, upstream: Upstream, grant: Grant, handshake: Handshake
    ) -> bytes:
        """Send the request up; the head of the answer, and what came along with it."""
        prefix = upstream_prefix(grant.request.upstream_prefix(grant.provider), handshake)
        with decrypt(grant, self._master_keys) as opened:
            head = request_head(opened, 0, b"", prefix)
        raw = b""
        with trio.move_on_after(self._limits.handshake_seconds):
            sent = send_at_once(upstream, head)
            if sent < len(head):
                await send_request(connection, upstream, head, b"", self._limits, sent)
            while b"\r\n\r\n" not in raw:
                try:
                    data = await upstream.transport.receive()
                except OSError:
                    raise UpstreamBroken("it reset the connection") from None
                if not data:
                    raise UpstreamBroken("it closed the connection without an answer")
                raw += data
                if len(raw) > HEAD_BYTES_MAX and b"\r\n\r\n" not in raw:
                    raise UpstreamBroken("its head is too long")
            return raw
        raise Refusal(Kind.UPSTREAM_TIMEOUT, "The provider did not answer in time.")

    async def _relay(
        self,
        connection: Connection,
        upstream: Upstream,
        grant: Grant,
        handshake: Handshake,
        raw: bytes,
        request_id: str,
    ) -> None:
        head, _, first = raw.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")[1:]
        reader = upstream.reader
        reader.status, reader.lines = 101, lines
        reader.layout = layout_of(lines, reader.layout)
        client_head = ClientHead(reader, grant.provider, hide_account=self._hides_account(grant))
        reader.lines = []
        try:
            answer = answer_head(handshake, lines, client_head, request_id.encode())
        except ValueError as error:
            raise UpstreamBroken(str(error)) from None
        await connection.send(answer)
        # From here on the relay keeps its own time.
        connection.begin_wait(Waiting.UPSTREAM, NEVER)
        turns = Turns(
            grant,
            upstreams=self._upstreams,
            admission=self._admission,
            meter=self._meter,
            new_request_id=self._new_request_id,
        )
        self.open += 1
        try:
            await Relay(connection, upstream, grant, turns, self._limits, request_id).run(first)
        finally:
            self.open -= 1

    async def _forward_refusal(
        self, connection: Connection, upstream: Upstream, grant: Grant, raw: bytes, request_id: str
    ) -> None:
        """The provider will not: its answer goes down as any other, and has a usage row."""
        metering = self._meter.begin(grant, request_id, time.perf_counter(), time.time_ns() // 1000, None, 0)
        metering.sent = grant.request.inbound.accounted = True
        try:
            upstream.reader.begin(head_only=False)
            upstream.reader.feed(raw)
            if not 400 <= upstream.reader.status <= 599:
                raise UpstreamBroken("it did not agree to the WebSocket that was asked for")
            hide = self._hides_account(grant)
            response = UpstreamResponse(grant, upstream, raw, hide_account=hide)
            await forward(connection, response, metering, self._limits, None)
        finally:
            metering.settle(Outcome.UPSTREAM_FAILED)

    def _hides_account(self, grant: Grant) -> bool:
        return grant.kind is CredentialKind.PLATFORM and self._upstreams.shared_account
