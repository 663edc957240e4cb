"""`GET /metrics` for Prometheus, on a bind of its own (`KARTA_METRICS_BIND`), never on the gateway's.

The figures are kept by the parts themselves as plain numbers; nothing is computed before somebody asks.
No label has a value that a stranger chooses, so the page cannot grow. Where a supervisor runs several
workers, it serves the page, and asks each of them for its `families`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from trio.lowlevel import current_statistics

from gateway.accept import Acceptor
from gateway.authenticate import Authenticator
from gateway.connection import Connection
from gateway.cutting import Cutter
from gateway.dial import Pools
from gateway.lane import Lane
from gateway.meter import Meter
from gateway.metric_page import Family, Kind, Merge, answer, render
from gateway.pipeline import Pipeline
from gateway.refill import Refill
from gateway.request_reader import Inbound
from gateway.ship import Shipper
from gateway.snapshot import Snapshot
from storage.model import LimitKind


class _Figure(NamedTuple):
    name: str
    kind: Kind
    help: str
    read: Callable[[], float]
    merge: Merge = "sum"


class Metrics:
    """The figures of one worker."""

    def __init__(
        self,
        *,
        acceptor: Acceptor,
        authenticator: Authenticator,
        cutter: Cutter,
        lane: Lane,
        meter: Meter,
        pipeline: Pipeline,
        pools: Pools,
        refill: Refill,
        shipper: Shipper,
        snapshot: Snapshot,
    ) -> None:
        spool = meter.spool
        self._figures = (
            _Figure("requests_total", "counter", "Requests received.", lambda: _requests(pipeline, lane)),
            _Figure("lane_requests_total", "counter", "Of those, without a task.", lambda: lane.requests),
            _Figure("refusals_total", "counter", "Refused by Karta.", lambda: _refusals(pipeline, lane)),
            _Figure("usage_records_total", "counter", "Requests metered.", lambda: meter.settled),
            _Figure("usage_shipped_total", "counter", "Usage records in Postgres.", lambda: shipper.shipped),
            _Figure("spool_bytes", "gauge", "Journal waiting to be shipped.", lambda: spool.bytes_waiting),
            _Figure("usage_lost_total", "counter", "Records that found no room.", lambda: spool.lost),
            _Figure("spool_full", "gauge", "1 when no more can be recorded.", lambda: spool.full, "max"),
            _Figure("connections", "gauge", "Client connections.", lambda: len(acceptor.connections)),
            _Figure("websockets", "gauge", "Of those, WebSockets.", lambda: pipeline.websockets.open),
            _Figure("turned_away_total", "counter", "Failed handshakes.", lambda: acceptor.turned_away),
            _Figure(
                "worker_connections",
                "gauge",
                "The same, of each worker.",
                lambda: len(acceptor.connections),
                "each",
            ),
            _Figure("worker_resident_bytes", "gauge", "Memory of each worker.", _resident_bytes, "each"),
            _Figure(
                "upstream_connections", "gauge", "Connections to providers.", lambda: _sum(pools, "open")
            ),
            _Figure("upstream_idle", "gauge", "Of those, idle ones.", lambda: _sum(pools, "idle")),
            _Figure("upstream_queue", "gauge", "Requests waiting for one.", lambda: _sum(pools, "waiting")),
            _Figure("upstream_waits_total", "counter", "Those that had to.", lambda: _sum(pools, "waited")),
            _Figure("retries_total", "counter", "Requests tried again.", lambda: _sum(pools, "retried")),
            _Figure("failovers_total", "counter", "And at another target.", lambda: pipeline.trier.failovers),
            _Figure("breakers_open", "gauge", "Credentials left alone.", lambda: _breakers(pools, "open")),
            _Figure("breakers_opened_total", "counter", "In all.", lambda: _breakers(pools, "opened")),
            _Figure("verified_keys", "gauge", "Keys remembered.", lambda: authenticator.verified),
            _Figure("verifications", "gauge", "Keys being verified.", lambda: authenticator.in_flight),
            _Figure("bcrypt_total", "counter", "Key digests computed.", lambda: authenticator.bcrypt_runs),
            _Figure("vouched_total", "counter", "Keys others verified.", lambda: authenticator.vouched),
            _Figure("cuts_total", "counter", "Answers cut with their key.", lambda: cutter.cuts),
            _Figure("tasks", "gauge", "Trio's tasks.", lambda: current_statistics().tasks_living),
            _Figure("in_flight", "gauge", "Requests in the register.", lambda: len(spool.in_flight)),
            _Figure("interrupted_total", "counter", "Rows after a kill.", lambda: spool.interrupted),
            _Figure("reserved", "gauge", "Requests that hold a limit.", lambda: _reserved(refill)),
            _Figure("limit_windows", "gauge", "Windows of limits held.", lambda: len(refill.ledger)),
            _Figure("refills_total", "counter", "Calls for leases answered.", lambda: refill.refills),
            _Figure("refills_failed_total", "counter", "And not answered.", lambda: refill.failures),
            _Figure("listening", "gauge", "1 while changes are heard.", lambda: snapshot.listening, "min"),
            _Figure("database_seen", "gauge", "1 while Postgres answers.", lambda: snapshot.ready, "min"),
        )

    def families(self) -> list[Family]:
        """All of them, as they are now."""
        return [
            Family(one.name, one.kind, one.help, one.merge, {"": float(one.read())}) for one in self._figures
        ]

    def render(self) -> bytes:
        """The page."""
        return render(self.families())

    async def answer(self, connection: Connection, inbound: Inbound) -> None:
        """One scrape."""
        await answer(connection, inbound, self.render())


def _requests(pipeline: Pipeline, lane: Lane) -> int:
    return pipeline.requests + lane.requests + pipeline.dismissal.refused


def _refusals(pipeline: Pipeline, lane: Lane) -> int:
    return pipeline.refused + lane.refused + pipeline.dismissal.refused


def _sum(pools: Pools, figure: str) -> int:
    """Over all origins."""
    return sum(getattr(pool, figure) for pool in pools.all())


def _breakers(pools: Pools, figure: str) -> int:
    return sum(getattr(pool.breakers, figure) for pool in pools.all())


def _reserved(refill: Refill) -> int:
    return refill.ledger.reserved().get(LimitKind.REQUESTS, 0)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
