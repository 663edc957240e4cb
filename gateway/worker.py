"""One gateway process: puts the stages together, runs them under one nursery, and stops them in order.

Order of the start: settings, spool (an unshipped journal is found here), listener, then traffic; Postgres
may come later. Order of the stop, on SIGTERM or SIGINT: say no to readiness probes, accept what the kernel
already has and no more, let running answers finish until the drain limit, cut the rest and tell them so, ship
what the journal holds, close. A worker that another has replaced (`retire`) stops more gently: see `limits`.

One that serves alone is started by `main`; one of several by `supervised`.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, closing

import trio

from gateway import operations
from gateway.accept import Acceptor, Handler, listen, url_of
from gateway.admission import Admission
from gateway.authenticate import Authenticator
from gateway.authorize import Upstreams
from gateway.connection import Connection, Take
from gateway.cutting import Cutter
from gateway.dial import Pools
from gateway.entrance import Entrance
from gateway.fault import tell
from gateway.journals import Leftovers
from gateway.known_heads import KnownHeads
from gateway.lane import Lane
from gateway.loop_lag import LoopLag
from gateway.meter import Meter
from gateway.metrics import Metrics
from gateway.peers import Alone, Peers
from gateway.pipeline import Pipeline
from gateway.price_library import Library
from gateway.prices import Prices
from gateway.probes import PATHS as PROBE_PATHS
from gateway.probes import Probes
from gateway.process import prepare_process
from gateway.readiness import Readiness
from gateway.refill import Refill
from gateway.refusal import Dialect
from gateway.request_reader import Inbound
from gateway.settings import GatewaySettings
from gateway.ship import Shipper
from gateway.snapshot import KeyRecord, Snapshot
from gateway.spool import Spool, held
from gateway.watch import watching
from gateway.watchdog import Watchdog
from storage.bridge import Database, open_database
from storage.errors import StorageError
from storage.settings import Bind

ROLE = "karta_gateway"
_DATABASE_CONNECTIONS_MAX = 4
_LAST_SHIPMENT_SECONDS = 5.0
_LAST_WORD_SECONDS = 1.0
# For answers that were cut by the drain limit to say so.
_FAREWELL_SECONDS = 0.5
# Between a background service's failure and its next start.
_RESTART_SECONDS = 1.0

_log = logging.getLogger("karta.gateway.worker")


def main(settings: GatewaySettings, *, on_ready: Callable[[str], None]) -> None:
    """Serve alone until SIGINT or SIGTERM. `on_ready` is called once with the gateway's URL.

    Raises `OSError` when the port is taken and `SpoolLocked` when the journal is.
    """
    prepare_process()
    trio.run(serve, settings, on_ready)


async def serve(settings: GatewaySettings, on_ready: Callable[[str], None]) -> None:
    """The same inside a Trio run; returns after the drain when signalled, or cleans up when cancelled."""
    bind = settings.gateway_bind
    listener = listen(bind.host, bind.port)
    with listener, held(settings.spool_dir), closing(Spool(settings.spool_dir)) as spool:
        async with worker_database(settings) as db:
            await Worker(settings, spool, db).run(listener, on_ready)


def worker_database(settings: GatewaySettings) -> AbstractAsyncContextManager[Database]:
    """The database as a worker uses it."""
    url = settings.database_url.get_secret_value()
    return open_database(url, role=ROLE, connections_max=_DATABASE_CONNECTIONS_MAX)


class Worker:
    """The parts of one process. Tests reach them through here."""

    def __init__(
        self, settings: GatewaySettings, spool: Spool, db: Database, peers: Peers | None = None
    ) -> None:
        self.settings = settings
        self.peers = peers or Alone()
        self.limits = settings.limits()
        self.watchdog = Watchdog()
        self.readiness = Readiness()
        self.lag = LoopLag()
        retries, breakers = settings.retries(), settings.breakers()
        self.pools = Pools(self.limits, self.watchdog, self.readiness, retries, breakers)
        self.prices = Prices(Library(), settings.unknown_rate, settings.price_names())
        self.snapshot = Snapshot(db, self.limits, self.watchdog, self.prices)
        self.refill = Refill(db, spool.owner, turn=spool.turn)
        self.meter = Meter(spool, self.prices, self.refill.ledger)
        self.watch = watching(settings, self.prices)
        self.meter.on_settled = None if self.watch is None else self.watch.settled
        self.shipper = Shipper(spool, db)
        self.leftovers = Leftovers(settings.spool_dir, db)
        self._lent_is_known = False
        """What earlier workers on this journal were lent has been accounted for and given back."""
        self.certificates = settings.certificates()
        self.observe: Callable[[str], None] | None = None
        self.metrics_url: str | None = None
        """Where the figures are served, once they are."""
        self.on_leaving: Callable[[], None] = _nobody_to_tell
        """Called when it stops accepting because it was told to stop."""
        self.spares: Sequence[socket.socket] = ()
        """Listening sockets of all workers, for `cover`."""
        self._retired = trio.Event()
        self._stopped = trio.Event()
        self._abandoned = trio.Event()
        self._covering = trio.CancelScope()
        self._able = False
        """It has begun to accept."""

    async def run(
        self,
        listener: socket.socket,
        on_ready: Callable[[str], None],
        hold: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Serve until signalled or cancelled; nothing is accepted before `hold` returns."""
        try:
            async with trio.open_nursery() as background:
                background.start_soon(self.watchdog.run)
                background.start_soon(self.readiness.run)
                for service in self._services():
                    background.start_soon(_keep_running, service)
                async with trio.open_nursery() as verifications:
                    await self._serve(listener, on_ready, hold, verifications)
                    verifications.cancel_scope.cancel()
                background.cancel_scope.cancel()
        finally:
            # Last: until now requests that were cut may have given connections back.
            self.pools.close_idle(0)
        # What cannot be shipped now stays in the journal, and the next start ships it.
        deadline = trio.current_time() + _LAST_SHIPMENT_SECONDS
        with trio.CancelScope(deadline=deadline, shield=True), contextlib.suppress(StorageError):
            await self.shipper.ship_all()
            if await self.refill.give_back(whole=self.meter.spool.whole):
                self.meter.spool.settle()
        if self.watch is not None:
            with trio.move_on_after(_LAST_WORD_SECONDS, shield=True):
                await self.watch.finish()

    def _services(self) -> list[Callable[[], Awaitable[None]]]:
        """What runs behind the traffic, and starts again when it fails."""
        run = [self.pools.run, self.snapshot.run, self.shipper.run, self._refill, self.leftovers.run]
        run += [self.lag.run, *(() if self.watch is None else self.watch.services)]
        return [*run, *([] if self.certificates is None else [self.certificates.run])]

    def retire(self) -> None:
        """Another worker accepts from the same socket: end when the connections have ended."""
        self._retired.set()

    def abandon(self) -> None:
        """Stop, and let go of the port at once: whoever started this process has gone."""
        self._abandoned.set()
        self._stopped.set()

    def cover(self, slots: Iterable[int]) -> None:
        """Accept from these of the spare sockets too, and no longer from those of an earlier call."""
        self._covering.cancel()
        self._covering = trio.CancelScope()
        if not (self._stopped.is_set() or self._retired.is_set()):
            for slot in slots:
                self._traffic.start_soon(self._accept, self.spares[slot], self._covering)

    async def _refill(self) -> None:
        """Lend from the database until cancelled; first settle what this journal's earlier workers left."""
        while not self._lent_is_known:
            with contextlib.suppress(StorageError):
                await self.shipper.ship_all()
                if not self.meter.spool.holds:
                    await self.refill.release()
                    self._lent_is_known = True
                    break
            await trio.sleep(_RESTART_SECONDS)  # Away, or the disk is full: hard limits refuse until then.
        await self.refill.run()

    async def _serve(
        self,
        listener: socket.socket,
        on_ready: Callable[[str], None],
        hold: Callable[[], Awaitable[None]] | None,
        verifications: trio.Nursery,
    ) -> None:
        authenticator = self.authenticator = Authenticator(
            self.snapshot, self.limits, self.watchdog, verifications, self.peers
        )
        pipeline, lane = self._ways(authenticator)
        probes = Probes(self.snapshot, self.meter.spool)

        def handle(connection: Connection, inbound: Inbound) -> Awaitable[None]:
            if inbound.target in PROBE_PATHS:
                return probes.answer(connection, inbound)
            return pipeline.run(connection, inbound)

        entrance = self.entrance = self._entrance(pipeline)
        acceptor = self.acceptor = self._acceptor(handle, pipeline, lane.take, entrance)
        cutter = self.cutter = Cutter(acceptor.connections)
        self.snapshot.on_ended = self._end
        metrics = self.metrics = Metrics(
            acceptor=acceptor,
            authenticator=authenticator,
            cutter=cutter,
            lag=self.lag,
            lane=lane,
            meter=self.meter,
            pipeline=pipeline,
            pools=self.pools,
            refill=self.refill,
            shipper=self.shipper,
            snapshot=self.snapshot,
        )
        accepting = trio.CancelScope()

        async def accept() -> None:
            with accepting:
                if hold is not None:
                    await hold()
                self._able = True
                on_ready(url_of(listener, "http" if self.certificates is None else "https"))
                await acceptor.serve(listener, traffic)

        async def serve_metrics(bind: Bind) -> None:
            with listen(bind.host, bind.port) as metrics_listener:
                self.metrics_url = f"{url_of(metrics_listener)}/metrics"
                scraping = self._acceptor(metrics.answer, pipeline)
                await scraping.serve(metrics_listener, traffic)

        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as traffic:
                self._traffic = traffic
                traffic.start_soon(accept)
                traffic.start_soon(_keep_running, cutter.run)
                traffic.start_soon(_keep_running, pipeline.dismissal.run)
                if self.settings.metrics_bind is not None:
                    traffic.start_soon(serve_metrics, self.settings.metrics_bind)
                traffic.start_soon(self._heed, signals)
                await self._until_told()
                if self._stopped.is_set():
                    probes.draining = True
                    with trio.move_on_after(self.settings.drain_notice_seconds):
                        await self._abandoned.wait()
                    self.on_leaving()
                accepting.cancel()
                self._close((listener, *self.spares))
                await self._finish(acceptor)
                traffic.cancel_scope.cancel()

    async def _accept(self, listener: socket.socket, scope: trio.CancelScope) -> None:
        with scope:
            await self.acceptor.serve(listener, self._traffic)

    async def _heed(self, signals: AsyncIterator[int]) -> None:
        async for _ in signals:
            self._stopped.set()

    async def _until_told(self) -> None:
        """To stop or to retire."""
        async with trio.open_nursery() as nursery:
            for event in (self._stopped, self._retired):
                nursery.start_soon(_cancel_after, event, nursery.cancel_scope)

    def _close(self, listeners: Iterable[socket.socket]) -> None:
        """Accept no more. Of workers that stop together each has all sockets open, and the last to close one
        resets what lies in its queue; so each takes what is there."""
        self._covering.cancel()
        for one in listeners:
            if self._stopped.is_set() and self._able:
                self.acceptor.accept_waiting(one, self._traffic)
            one.close()

    async def _finish(self, acceptor: Acceptor) -> None:
        """Nothing new is accepted: let end what runs, and cut what does not."""
        acceptor.retire()
        if not self._stopped.is_set():
            await self._patiently(acceptor.emptied, self.limits.retire_idle_seconds)
        if not self._stopped.is_set():
            await self._patiently(acceptor.drain, self.limits.retire_seconds)
        with trio.move_on_after(self.limits.drain_seconds if self._stopped.is_set() else 0):
            # What was sent before the client could know of the stop is still answered.
            with trio.move_on_after(self.limits.drain_idle_seconds):
                await acceptor.emptied()
            await acceptor.drain()
        acceptor.cut()
        with trio.move_on_after(_FAREWELL_SECONDS):
            await acceptor.drain()

    async def _patiently(self, until: Callable[[], Awaitable[None]], seconds: float) -> None:
        """So long, or until told to stop after all."""
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_after, self._stopped, nursery.cancel_scope)
                await until()
                nursery.cancel_scope.cancel()

    def _end(self, records: list[KeyRecord]) -> None:
        self.cutter.end(records)
        self.peers.forget([record.key.key_id for record in records])

    def _ways(self, authenticator: Authenticator) -> tuple[Pipeline, Lane]:
        """The two ways of a request: where something may have to be waited for, and where nothing has."""
        settings = self.settings
        providers = settings.providers()
        upstreams = Upstreams(
            live={dialect: providers[dialect.value] for dialect in (Dialect.ANTHROPIC, Dialect.OPENAI)},
            by_name=providers,
            simulated=settings.simulated(),
            shared_account=settings.shared_account,
        )
        master_keys = self.snapshot.master_keys = settings.load_master_keys()
        heads = KnownHeads(authenticator.mac)
        admission = Admission(self.refill, self.prices, settings.output_tokens_default)
        pipeline = self.pipeline = Pipeline(
            limits=self.limits,
            operations=operations.load(),
            authenticator=authenticator,
            upstreams=upstreams,
            master_keys=master_keys,
            pools=self.pools,
            meter=self.meter,
            heads=heads,
            admission=admission,
            observe=self.observe,
            public_url=settings.public_url,
            trusted_proxies=settings.trusted_proxies,
            https_only=settings.env == "production",
        )
        pipeline.watch = self.watch
        lane = self.lane = Lane(
            limits=self.limits,
            heads=heads,
            authenticator=authenticator,
            upstreams=upstreams,
            master_keys=master_keys,
            pools=self.pools,
            meter=self.meter,
            admission=admission,
            new_request_id=pipeline.new_request_id,
        )
        return pipeline, lane

    def _entrance(self, pipeline: Pipeline) -> Entrance | None:
        """What stands before the first request of a connection, where anything does."""
        proxies = self.settings.trusted_proxies if self.settings.proxy_protocol else ()
        if self.certificates is None and not proxies:
            return None
        return Entrance(self.limits, self.certificates, proxies, pipeline.new_request_id)

    def _acceptor(
        self, handler: Handler, pipeline: Pipeline, take: Take | None = None, entrance: Entrance | None = None
    ) -> Acceptor:
        return Acceptor(
            limits=self.limits,
            watchdog=self.watchdog,
            readiness=self.readiness,
            handler=handler,
            request_id=pipeline.new_request_id,
            take=take,
            entrance=entrance,
        )


def _nobody_to_tell() -> None:
    """It serves alone."""


async def _cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def _keep_running(service: Callable[[], Awaitable[None]]) -> None:
    """Run a service until cancelled. A fault in it is logged and costs a pause, not the traffic."""
    while True:
        try:
            await service()
        except* Exception as group:
            tell(_log, group, "%s failed and starts again", service.__qualname__)
        await trio.sleep(_RESTART_SECONDS)
