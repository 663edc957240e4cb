"""The steady state of the pipeline: a known key, a known head, an idle connection to the provider. No task at
all.

`take` goes through the same stages as `pipeline.run`, in the same order and by the same functions, but only
where none of them has to wait or to refuse: the head is recalled (`known_heads`), the caller is recalled, the
grant is made, the key is opened, used and wiped, and the request is sent, all within the event that brought
it; the answer is an `exchange`. Whatever is otherwise (a new key or head, a long body, no idle connection, a
route, a refusal of any kind) is left to the connection's task and the pipeline, which then see the request as
if it had just come. So do a request whose idle connection turned out dead before a byte of an answer, and one
whose provider says "not now" and may be asked once more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gateway.admission import Admission
from gateway.api_request import read_fields
from gateway.authenticate import Authenticator
from gateway.authorize import Upstreams, authorize
from gateway.connection import Connection
from gateway.decrypt import OpenedCredential, decrypt, request_head
from gateway.dial import Pools, Upstream
from gateway.exchange import Exchange
from gateway.include_usage import add_usage_request
from gateway.known_heads import KnownHead, KnownHeads, is_kept
from gateway.left_alone import abandon, settle_failed
from gateway.limits import Limits
from gateway.meter import Meter, Metering
from gateway.refusal import Refusal, render
from gateway.reservation import Reservation
from gateway.retry import Postponed, counts_as_away
from gateway.send_request import send_at_once, send_request
from gateway.upstream_response import NothingReceived
from storage.model import CredentialKind
from storage.sealing import MasterKeys

# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_PLATFORM: Final = CredentialKind.PLATFORM


class Lane:
    """What `Connection.take` is, for all connections of a worker."""

    def __init__(
        self,
        *,
        limits: Limits,
        heads: KnownHeads,
        authenticator: Authenticator,
        upstreams: Upstreams,
        master_keys: MasterKeys | None,
        pools: Pools,
        meter: Meter,
        admission: Admission,
        new_request_id: Callable[[], str],
    ) -> None:
        self._limits = limits
        self._heads = heads
        self._authenticator = authenticator
        self._upstreams = upstreams
        self._master_keys = master_keys
        self._pools = pools
        self._meter = meter
        self._admission = admission
        self._new_request_id = new_request_id
        self.requests = 0
        self.refused = 0

    def take(self, connection: Connection, data: bytes) -> bool:
        """See to the request that `data` is; False leaves it to the pipeline."""
        began = time.perf_counter()
        found = self._heads.find(data, connection.known)
        if found is None or self._meter.spool.full:
            return False
        known, body = found.known, found.body
        if found.repeated:
            connection.news = 0
            connection.known = known
        if len(body) > self._limits.body_bytes_max:
            return False
        try:
            caller = self._authenticator.recall_mac(found.token_mac)
            if caller is None or caller.scope is not None:
                return False
            request = known.request.again(body, read_fields(known.request, body))
            if caller.server_timing or (caller.routes is not None and request.model in caller.routes):
                return False
            started_us = time.time_ns() // 1000
            grant = authorize(caller, request, self._upstreams, started_us / 1_000_000)
            reservation = self._admission.reserve_now(grant, started_us)
        except Refusal:
            # The pipeline comes to the same, and says it.
            return False
        pool = self._pools.of(grant.provider.origin)
        # Of whoever is suspected all requests are counted, which is not done here.
        suspected = pool.breakers.suspects and grant.account in pool.breakers.suspects
        upstream = None if suspected else pool.take()
        if upstream is None:
            _release(reservation)
            return False
        try:
            opened = decrypt(grant, self._master_keys)
        except Refusal:
            _release(reservation)
            upstream.pool.keep_unused(upstream)
            return False
        metering = self._meter.begin(grant, self._new_request_id(), began, started_us, reservation, len(body))
        try:
            self._send(connection, upstream, metering, opened, known, data)
        except Exception:
            # A fault of Karta's own, told by whoever called: nothing stays held for it.
            connection.exchange = None
            metering.drop()
            upstream.pool.discard(upstream)
            raise
        if not found.repeated:
            connection.news += 1
            if is_kept(connection.news):
                self._heads.keep(data, found)
        return True

    def _send(
        self,
        connection: Connection,
        upstream: Upstream,
        metering: Metering,
        opened: OpenedCredential,
        known: KnownHead,
        data: bytes,
    ) -> None:
        """Admitted: send it, and leave the answer to an exchange."""
        grant = opened.grant
        request = grant.request
        self.requests += 1
        connection.request_id = metering.request_id
        add_usage_request(request, grant.provider)
        with opened:
            head = request_head(
                opened,
                len(request.body),
                request.body,
                known.prefix(grant.provider, hide_account=grant.hides_account),
            )
        upstream.reader.begin(head_only=False)
        exchange = Exchange(
            connection,
            upstream,
            grant,
            metering,
            self._limits,
            self._ended,
        )
        exchange.on_gone = abandon
        exchange.asked = data
        metering.sent = True
        sent = send_at_once(upstream, head)
        metering.verify_us = metering.sent_us = metering.elapsed_us()
        if sent < len(head):
            connection.nursery.start_soon(self._send_rest, exchange, head, sent)
        else:
            exchange.await_answer()

    async def _send_rest(self, exchange: Exchange, head: bytearray, sent: int) -> None:
        """The answer is not looked at before: with it the provider's connection would be free for others."""
        try:
            await send_request(exchange.connection, exchange.upstream, head, b"", self._limits, sent)
        except Exception as error:
            exchange.fail(error)
        else:
            if not exchange.ended:
                exchange.await_answer()

    def _ended(self, exchange: Exchange, error: Exception | None) -> None:
        connection = exchange.connection
        upstream = exchange.upstream
        if error is None:
            if exchange.metering.status >= 500 and counts_as_away(exchange.metering.status):
                upstream.pool.breakers.failed(exchange.grant.account)
            upstream.pool.give_back(upstream)
            connection.rest()
            return
        if isinstance(error, Postponed):
            self._postpone(exchange, error)
            return
        if isinstance(error, NothingReceived) and upstream.reused:
            upstream.pool.discard(upstream)
            exchange.metering.drop()
            connection.tried = True
            connection.transport.unread(exchange.asked)
            return
        self._failed(exchange, error)

    def _postpone(self, exchange: Exchange, postponed: Postponed) -> None:
        """The pipeline sees to it once more, as if it had just come."""
        connection = exchange.connection
        if postponed.failure.away:
            exchange.upstream.pool.breakers.failed(exchange.grant.account)
        exchange.upstream.pool.discard(exchange.upstream)
        exchange.metering.drop()
        connection.postponed = postponed.delay
        connection.transport.unread(exchange.asked)

    def _failed(self, exchange: Exchange, error: Exception) -> None:
        refusal = settle_failed(exchange, error)
        if refusal is None:
            return
        connection = exchange.connection
        self.refused += 1
        refusal.close = refusal.close or not connection.keep_alive
        connection.keep_alive = not refusal.close
        answer = render(refusal, exchange.grant.request.dialect, exchange.metering.request_id)
        try:
            sent = connection.transport.send_now(answer)
        except OSError:
            sent = 0
        if sent < len(answer):
            connection.abort()
        connection.rest()


def _release(reservation: Reservation | None) -> None:
    if reservation is not None:
        reservation.release()
