"""The life of a request: all control flow of the data plane, and nothing else.

Stages are leaves; this is the only place that decides their order, runs them at the same time, or turns an
exception into an answer (what is tried again, and where, is `tries`'). Two ways lead through it:

- **Warm**: the key is known. One task, no nursery, no look-up, no thread: recognise, recall, (read the
  body,) authorize, decrypt, take an idle connection, send, relay, settle. It waits only where the network
  does.
- **Cold**: the key is not known. Verification (look-up, then bcrypt), reading the body, unsealing and
  dialling run at the same time in one nursery, and not one byte of the prompt leaves before the verdict. A
  refusal cancels the rest.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

import trio

from gateway.admission import Admission
from gateway.api_request import APIRequest, guess_dialect, recognise, take_body
from gateway.authenticate import Authenticator, Caller
from gateway.authorize import (
    Grant,
    Upstreams,
    authorize,
    authorize_route,
    check_standing,
    choose_credential,
)
from gateway.bodies import Bodies
from gateway.client_address import Network, client_network, refuse_plain
from gateway.connection import Connection
from gateway.decrypt import OpenedCredential, decrypt
from gateway.dial import Pools, Upstream
from gateway.dismissal import Dismissal
from gateway.ending import Cut, cut_by_provider, ending_of
from gateway.forward import forward
from gateway.known_heads import KnownHeads, is_kept
from gateway.limits import Limits
from gateway.meter import Meter
from gateway.operations import Operations
from gateway.refusal import Dialect, Kind, Refusal, render
from gateway.request_reader import Inbound
from gateway.response_reader import UpstreamBroken
from gateway.trace_context import tells_trace, trace_parent
from gateway.tries import Trier, Tries
from gateway.wait import Overdue
from gateway.watch import Watch
from gateway.websocket.serve import WebSockets
from gateway.websocket.upgrade import recognise_socket
from storage.model import Outcome
from storage.sealing import MasterKeys

# Members used per request, bound once: until Python 3.12 reaching one through its class costs 0.2 µs.
_CLIENT_GONE = Outcome.CLIENT_GONE

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Observer = Callable[[str], None]


def _unobserved(_step: str) -> None:
    """Nobody watches."""


class Pipeline:
    """Runs requests. `observe` is told the names of steps as they happen, for tests of their order."""

    def __init__(
        self,
        *,
        limits: Limits,
        operations: Operations,
        authenticator: Authenticator,
        upstreams: Upstreams,
        master_keys: MasterKeys | None,
        pools: Pools,
        meter: Meter,
        heads: KnownHeads,
        admission: Admission,
        observe: Observer | None = None,
        public_url: str | None = None,
        trusted_proxies: Sequence[Network] = (),
        https_only: bool = False,
    ) -> None:
        self._limits = limits
        self._operations = operations
        self._authenticator = authenticator
        self._upstreams = upstreams
        self._master_keys = master_keys
        self._pools = pools
        self._meter = meter
        self.heads = heads
        self._admission = admission
        self._observe = observe or _unobserved
        self._public_url = public_url
        self.bodies = Bodies(limits.bodies_bytes_max)
        self._trusted_proxies = trusted_proxies
        self._https_only = https_only
        self.websockets = WebSockets(
            limits=limits,
            authenticator=authenticator,
            upstreams=upstreams,
            master_keys=master_keys,
            pools=pools,
            meter=meter,
            admission=admission,
            new_request_id=self.new_request_id,
            trusted_proxies=trusted_proxies,
        )
        self.dismissal = Dismissal(
            limits=limits,
            operations=operations,
            authenticator=authenticator,
            meter=meter,
            trusted_proxies=trusted_proxies,
            new_request_id=self.new_request_id,
            tell=self._tell_dismissed,
        )
        self._ids = random.Random()  # noqa: S311 - unique, not secret; seeded by the system
        self.trier = Trier(
            limits=limits,
            upstreams=upstreams,
            master_keys=master_keys,
            pools=pools,
            meter=meter,
            admission=admission,
            new_request_id=self.new_request_id,
        )
        self.watch: Watch | None = None
        self.requests = 0
        self.refused = 0

    def _tell_dismissed(self, request_id: str, request: APIRequest, refusal: Refusal, spent_us: int) -> None:
        if self.watch is not None:
            self.watch.refused(request_id, request, None, refusal, spent_us)

    def new_request_id(self) -> str:
        """When it was made and 64 random bits, in hex (`storage.request_ids`): unique, and no secret."""
        return "%032x" % (time.time_ns() << 64 | self._ids.getrandbits(64))

    async def run(self, connection: Connection, inbound: Inbound) -> None:
        """One request from its head to the last byte of its answer, or until that can be left alone
        (`left_alone`)."""
        began = time.perf_counter()
        self.requests += 1
        request_id = connection.request_id = self.new_request_id()
        request: APIRequest | None = None
        try:
            if inbound.upgrade:
                request = recognise_socket(inbound, self._limits)
            else:
                request = recognise(inbound, self._operations, self._limits)
            if self._https_only and request.told_plain:
                refuse_plain(connection.address, self._trusted_proxies)
            if self._traces:
                inbound.trace = trace_parent(inbound.lines)
            with trio.CancelScope() as connection.running:
                if inbound.upgrade:
                    await self.websockets.run(connection, request, request_id)
                else:
                    await self._admit_and_relay(connection, request, request_id, began)
            if connection.cut_for is not None:
                raise connection.cut_for
            if not (inbound.complete or inbound.upgrade):
                await connection.linger()
        except (Refusal, Overdue, UpstreamBroken, Cut) as error:
            if connection.answered and isinstance(error, Overdue):
                raise
            if not connection.answered or isinstance(error, Refusal | Cut):
                refusal = ending_of(error).refusal
                if self.watch is not None and not inbound.accounted:
                    spent_us = int((time.perf_counter() - began) * 1_000_000)
                    self.watch.refused(request_id, request, connection.grant, refusal, spent_us)
                await self._refuse(connection, inbound, request, refusal, request_id)
        except Exception:
            connection.blamed = connection.grant
            raise
        finally:
            connection.running = connection.grant = connection.cut_for = None
            if self.bodies.holding:
                self.bodies.let_go(inbound)

    async def _admit_and_relay(
        self, connection: Connection, request: APIRequest, request_id: str, began: float
    ) -> None:
        if self._meter.spool.full:
            raise Refusal(Kind.UNAVAILABLE, "Karta cannot record usage at the moment.", retry_after=10)
        started_us = time.time_ns() // 1000
        caller = self._authenticator.recall(request.token)
        upstream: Upstream | None = None
        if caller is not None:
            check_standing(caller, time.time())
            if request.inbound.complete:
                take_body(request)
            else:
                await self._read_body(connection, request, verified=True)
            opened = None
        else:
            caller, opened, upstream = await self._admit_cold(connection, request)
        verified_us = int((time.perf_counter() - began) * 1_000_000)
        try:
            grants, routed = self._authorize(caller, connection, request)
            connection.grant = grants[0]
            reservation = await self._admission.reserve(grants[0], started_us, grants[1:])
        except BaseException:
            _dismiss(opened, upstream)
            raise
        if request.inbound.raw:
            self._learn(connection, request)
        metering = self._meter.begin(grants[0], request_id, began, started_us, reservation, len(request.body))
        request.inbound.accounted = True
        metering.verify_us = verified_us
        if request.inbound.body_at:
            metering.body_us = int((request.inbound.body_at - began) * 1_000_000)
        metering.queue_us = metering.elapsed_us() - verified_us
        opened, upstream = self._use_or_dismiss(grants[0], opened, upstream)
        await self._relay(connection, Tries(grants, metering, began, opened, upstream, routed=routed))

    def _authorize(
        self, caller: Caller, connection: Connection, request: APIRequest
    ) -> tuple[list[Grant], bool]:
        """Where it may go, in the order of trying, and whether a route says so."""
        now = time.time()
        if caller.scope is not None:
            check_standing(caller, now)
            caller.scope.check(request.operation, request.inbound, connection.address, self._trusted_proxies)
        if caller.routes is not None and request.model is not None and not request.boundary:
            route = caller.routes.get(request.model)
            if route is not None:
                return authorize_route(caller, request, route, self._upstreams, now), True
        return [authorize(caller, request, self._upstreams, now)], False

    def _use_or_dismiss(
        self, grant: Grant, opened: OpenedCredential | None, upstream: Upstream | None
    ) -> tuple[OpenedCredential | None, Upstream | None]:
        """What was prepared, if it is what the grant names; the organization may have changed its mind
        meanwhile, or mean something else by the model."""
        if (
            opened is not None
            and opened.grant.sealed is grant.sealed
            and opened.grant.provider is grant.provider
        ):
            opened.grant = grant
            return opened, upstream
        _dismiss(opened, upstream)
        return None, None

    @property
    def _traces(self) -> bool:
        return self.watch is not None and self.watch.traces is not None

    def _learn(self, connection: Connection, request: APIRequest) -> None:
        """It has been admitted: the next request with the same head need not come here."""
        raw, request.inbound.raw = request.inbound.raw, b""
        if self._https_only and request.told_plain:
            # From another peer the same head is refused.
            return
        connection.news += 1
        if is_kept(connection.news) and not (self._traces and tells_trace(request.inbound.lines)):
            self.heads.remember(raw, request)

    async def _read_body(self, connection: Connection, request: APIRequest, *, verified: bool) -> None:
        """Read a body that must be whole before it goes up; one that streams is left for `send_request`."""
        inbound = request.inbound
        if not inbound.complete and request.expects_continue:
            await connection.send(_CONTINUE)
            connection.answered = False
        if request.buffered:
            while not inbound.complete:
                await connection.read_body(inbound, self._limits.body_bytes_max)
                self.bodies.hold(inbound, verified=verified)
                inbound.body_at = time.perf_counter()
            self._observe("body read")
            take_body(request)

    async def _admit_cold(
        self, connection: Connection, request: APIRequest
    ) -> tuple[Caller, OpenedCredential | None, Upstream | None]:
        """Verify, and meanwhile do everything that can be done without trusting the caller."""
        counted = client_network(connection.address, request.inbound, self._trusted_proxies)
        self.dismissal.watch(connection)
        flight = self._authenticator.begin(request.token, counted)
        opened: OpenedCredential | None = None
        upstream: Upstream | None = None
        problem: Refusal | Overdue | OSError | None = None

        async def read() -> None:
            nonlocal problem
            try:
                await self._read_body(connection, request, verified=False)
            except (Refusal, Overdue, OSError) as error:
                problem = error
                nursery.cancel_scope.cancel()

        async def prepare() -> None:
            nonlocal opened, upstream
            await flight.looked_up.wait()
            if flight.candidate is None:
                return
            self._observe("looked up")
            try:
                # Only to know where to and with what; `authorize` decides later, on the verified caller.
                grant = choose_credential(Caller(flight.candidate), request, self._upstreams)
                opened = decrypt(grant, self._master_keys)
                pool = self._pools.of(grant.provider.origin)
                # As in `tries`: what cannot be sent twice needs a connection that cannot be stale.
                upstream = pool.take() if request.buffered and request.repeatable else None
                if upstream is None:
                    if pool.full:
                        # Strangers take nobody's place, nor one in the queue.
                        return
                    upstream = await pool.dial()
                # Verification may take its time, and what waits that long may be stale when it is used.
                upstream.reused = True
                self._observe("dialled")
            except Refusal:
                # Said later, to a caller who is known: a stranger learns nothing of the organization's
                # standing.
                return

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                nursery.start_soon(prepare)
                await flight.landed.wait()
                if flight.caller is None:
                    nursery.cancel_scope.cancel()
                self._observe("verified" if flight.caller is not None else "not verified")
            if problem is not None:
                raise problem
            caller = flight.verdict()
            self.dismissal.trust(connection)
            return caller, opened, upstream
        except BaseException:
            _dismiss(opened, upstream)
            raise

    async def _relay(self, connection: Connection, tries: Tries) -> None:
        """Send the request up and the answer down, then settle."""
        outcome = _CLIENT_GONE
        begun = left = False
        try:
            response = await self.trier.ask(connection, tries)
            begun = True
            if self.bodies.holding:
                self.bodies.let_go(tries.request.inbound)
            if tries.routed:
                tries.release()
            left = await forward(
                connection, response, tries.metering, self._limits, self._public_url, leavable=True
            )
        except Exception as error:
            # Not kept in a variable: a refusal is its own ending, and would hold this frame, which holds it.
            outcome = ending_of(error).outcome
            if not connection.answered and not isinstance(error, OSError):
                tries.metering.status = ending_of(error).refusal.status
            if begun and cut_by_provider(error):
                grant = tries.grant
                self._pools.of(grant.provider.origin).breakers.failed(grant.account, counted=True)
            raise
        finally:
            if connection.cut_for is not None:
                outcome = connection.cut_for.outcome
                if not connection.answered:
                    tries.metering.status = connection.cut_for.refusal.status
            if not left:
                tries.end(outcome)

    async def _refuse(
        self,
        connection: Connection,
        inbound: Inbound,
        request: APIRequest | None,
        refusal: Refusal,
        request_id: str,
    ) -> None:
        """Say no in the dialect that was spoken. If the body was not read, the connection ends afterwards."""
        self.refused += 1
        if connection.answered:
            connection.abort()
            return
        dialect: Dialect = guess_dialect(inbound) if request is None else request.dialect
        refusal.close = refusal.close or not inbound.complete or not connection.keep_alive
        await connection.send(render(refusal, dialect, request_id, head_only=inbound.method == b"HEAD"))
        if refusal.close:
            connection.keep_alive = False
            if not inbound.complete:
                await connection.linger()


def _dismiss(opened: OpenedCredential | None, upstream: Upstream | None) -> None:
    """What was prepared for a caller who turned out to be nobody."""
    if opened is not None:
        opened.__exit__(None, None, None)
    if upstream is not None:
        upstream.pool.keep_unused(upstream)
