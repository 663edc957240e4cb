"""One gateway process: puts the stages together, runs them under one nursery, and stops them in order.

Order of the start: settings, spool (an unshipped journal is found here), listener, then traffic; Postgres
may come later. Order of the stop, on SIGTERM or SIGINT: accept no more, let running answers finish until
the drain limit, cut the rest and tell them so, ship what the journal holds, close.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from gateway import operations
from gateway.accept import Acceptor, Handler, listen
from gateway.admission import Admission
from gateway.authenticate import Authenticator
from gateway.authorize import Upstreams
from gateway.connection import Connection, Take
from gateway.dial import Pools
from gateway.entrance import Entrance
from gateway.fault import describe
from gateway.known_heads import KnownHeads
from gateway.lane import Lane
from gateway.meter import Meter
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.price_library import Library
from gateway.prices import Prices
from gateway.probes import PATHS as PROBE_PATHS
from gateway.probes import Probes
from gateway.readiness import Readiness
from gateway.refill import Refill
from gateway.refusal import Dialect
from gateway.request_reader import Inbound
from gateway.settings import GatewaySettings
from gateway.ship import Shipper
from gateway.snapshot import Snapshot
from gateway.spool import Spool
from gateway.watchdog import Watchdog
from storage.bridge import Database, open_database
from storage.errors import StorageError
from storage.settings import Bind

ROLE = "karta_gateway"
_DATABASE_CONNECTIONS_MAX = 4
_LAST_SHIPMENT_SECONDS = 5.0
_COLLECT_AFTER_OBJECTS = 20_000
# For answers that were cut by the drain limit to say so.
_FAREWELL_SECONDS = 0.5
# Between a background service's failure and its next start.
_RESTART_SECONDS = 1.0

_log = logging.getLogger("karta.gateway.worker")


def main(settings: GatewaySettings, *, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. `on_ready` is called once with the gateway's URL.

    Raises `OSError` when the port is taken and `SpoolLocked` when the journal is.
    """
    # What start-up made stays for good: the collector need not look at it again. And requests make few
    # cycles, so that it may look less often than after every 700 objects.
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS)
    # A core file would hold prompts and keys.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    trio.run(serve, settings, on_ready)


async def serve(settings: GatewaySettings, on_ready: Callable[[str], None]) -> None:
    """The same inside a Trio run; returns after the drain when signalled, or cleans up when cancelled."""
    bind = settings.gateway_bind
    listener = listen(bind.host, bind.port)
    with listener, _spool(settings) as spool:
        url = settings.database_url.get_secret_value()
        async with open_database(url, role=ROLE, connections_max=_DATABASE_CONNECTIONS_MAX) as db:
            await Worker(settings, spool, db).run(listener, on_ready)


@contextmanager
def _spool(settings: GatewaySettings) -> Iterator[Spool]:
    spool = Spool(settings.spool_dir)
    try:
        yield spool
    finally:
        spool.close()


class Worker:
    """The parts of one process. Tests reach them through here."""

    def __init__(self, settings: GatewaySettings, spool: Spool, db: Database) -> None:
        self.settings = settings
        self.limits = settings.limits()
        self.watchdog = Watchdog()
        self.readiness = Readiness()
        self.pools = Pools(self.limits, self.watchdog, self.readiness)
        self.prices = Prices(Library(), settings.unknown_rate, _price_names(settings))
        self.snapshot = Snapshot(db, self.limits, self.watchdog, self.prices)
        self.refill = Refill(db, spool.owner)
        self.meter = Meter(spool, self.prices, self.refill.ledger)
        self.shipper = Shipper(spool, db)
        self._lent_is_known = False
        """What earlier workers on this journal were lent has been accounted for and given back."""
        self.certificates = settings.certificates()
        self.observe: Callable[[str], None] | None = None
        self.metrics_url: str | None = None
        """Where the figures are served, once they are."""

    async def run(self, listener: socket.socket, on_ready: Callable[[str], None]) -> None:
        """Serve until signalled or cancelled."""
        try:
            async with trio.open_nursery() as background:
                background.start_soon(self.watchdog.run)
                background.start_soon(self.readiness.run)
                services = [self.pools.run, self.snapshot.run, self.shipper.run, self._refill]
                if self.certificates is not None:
                    services.append(self.certificates.run)
                for service in services:
                    background.start_soon(_keep_running, service)
                async with trio.open_nursery() as verifications:
                    await self._serve(listener, on_ready, verifications)
                    verifications.cancel_scope.cancel()
                background.cancel_scope.cancel()
        finally:
            # Last: until now requests that were cut may have given connections back.
            self.pools.close_idle(0)
        # What cannot be shipped now stays in the journal, and the next start ships it.
        deadline = trio.current_time() + _LAST_SHIPMENT_SECONDS
        with trio.CancelScope(deadline=deadline, shield=True), contextlib.suppress(StorageError):
            await self.shipper.ship_all()
            await self.refill.give_back()

    async def _refill(self) -> None:
        """Lend from the database until cancelled; first settle what this journal's earlier workers left."""
        while not self._lent_is_known:
            try:
                await self.shipper.ship_all()
                await self.refill.release()
                self._lent_is_known = True
            except StorageError:
                # Away: hard limits refuse until it is back.
                await trio.sleep(_RESTART_SECONDS)
        await self.refill.run()

    async def _serve(
        self, listener: socket.socket, on_ready: Callable[[str], None], verifications: trio.Nursery
    ) -> None:
        authenticator = Authenticator(self.snapshot, self.limits, self.watchdog, verifications)
        pipeline, lane = self._ways(authenticator)
        probes = Probes(self.snapshot, self.meter.spool)

        def handle(connection: Connection, inbound: Inbound) -> Awaitable[None]:
            if inbound.target in PROBE_PATHS:
                return probes.answer(connection, inbound)
            return pipeline.run(connection, inbound)

        entrance = self.entrance = self._entrance(pipeline)
        acceptor = self.acceptor = self._acceptor(handle, pipeline, lane.take, entrance)
        metrics = Metrics(
            acceptor=acceptor,
            authenticator=authenticator,
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
                await acceptor.serve(listener, traffic)

        async def serve_metrics(bind: Bind) -> None:
            with listen(bind.host, bind.port) as metrics_listener:
                self.metrics_url = f"{_url(metrics_listener)}/metrics"
                scraping = self._acceptor(metrics.answer, pipeline)
                await scraping.serve(metrics_listener, traffic)

        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as traffic:
                traffic.start_soon(accept)
                if self.settings.metrics_bind is not None:
                    traffic.start_soon(serve_metrics, self.settings.metrics_bind)
                on_ready(_url(listener, "http" if self.certificates is None else "https"))
                await anext(signals)
                probes.draining = True
                accepting.cancel()
                listener.close()
                with trio.move_on_after(self.limits.drain_seconds):
                    await acceptor.drain()
                acceptor.cut()
                with trio.move_on_after(_FAREWELL_SECONDS):
                    await acceptor.drain()
                traffic.cancel_scope.cancel()

    def _ways(self, authenticator: Authenticator) -> tuple[Pipeline, Lane]:
        """The two ways of a request: where something may have to be waited for, and where nothing has."""
        settings = self.settings
        providers = settings.providers()
        upstreams = Upstreams(
            live={dialect: providers[dialect.value] for dialect in (Dialect.ANTHROPIC, Dialect.OPENAI)},
            simulated=settings.simulated(),
            shared_account=settings.shared_account,
        )
        master_keys = settings.load_master_keys()
        heads = KnownHeads()
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
        )
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
        settings = self.settings
        proxies = settings.trusted_proxies if settings.proxy_protocol else ()
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


async def _keep_running(service: Callable[[], Awaitable[None]]) -> None:
    """Run a service until cancelled. A fault in it is logged and costs a pause, not the traffic."""
    while True:
        try:
            await service()
        except* Exception as group:
            _log.error("%s failed and starts again: %s", service.__qualname__, describe(group))
        await trio.sleep(_RESTART_SECONDS)


def _price_names(settings: GatewaySettings) -> dict[str, str]:
    """What the price library calls the providers whose names differ."""
    return {name: one.price_name for name, one in settings.providers().items() if one.price_name != name}


def _url(listener: socket.socket, scheme: str = "http") -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
