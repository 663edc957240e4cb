"""`GET /metrics` for Prometheus, on a bind of its own (`KARTA_METRICS_BIND`), never on the gateway's.

The figures are kept by the parts themselves as plain numbers; nothing is computed before somebody asks.
No label has a value that a stranger chooses, so the page cannot grow: providers and their hosts are the
configuration's, everything else is Karta's own words. Where a supervisor runs several workers, it serves the
page, and asks each of them for its `families`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from trio.lowlevel import current_statistics

from gateway.accept import Acceptor
from gateway.authenticate import Authenticator
from gateway.breaker import State
from gateway.connection import Connection
from gateway.cutting import Cutter
from gateway.dial import Pool, Pools
from gateway.lane import Lane
from gateway.loop_lag import LoopLag
from gateway.meter import Meter
from gateway.metric_page import Family, Kind, Merge, answer, numbers_of, render
from gateway.pipeline import Pipeline
from gateway.refill import Refill
from gateway.request_reader import Inbound
from gateway.ship import Shipper
from gateway.snapshot import Snapshot
from gateway.stages import AllStages
from gateway.watch import Watch
from storage.model import LimitKind

# Told apart on the page: what the APIs answer with. A worker's figures are one message to its supervisor, so
# their number is bounded; all others are counted by their class.
_STATUSES = frozenset(
    {
        *(0, 200, 201, 202, 204, 206, 400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 424, 429),
        *(500, 502, 503, 504, 529),
    }
)

Samples = Mapping[str, float]


class _Figure(NamedTuple):
    name: str
    kind: Kind
    help: str
    read: Callable[[], float | Samples]
    """A number, or several by their labels."""
    merge: Merge = "sum"


class Metrics:
    """The figures of one worker."""

    def __init__(
        self,
        *,
        acceptor: Acceptor,
        authenticator: Authenticator,
        cutter: Cutter,
        lag: LoopLag,
        lane: Lane,
        meter: Meter,
        pipeline: Pipeline,
        pools: Pools,
        refill: Refill,
        shipper: Shipper,
        snapshot: Snapshot,
    ) -> None:
        self._meter = meter
        self._lag = lag
        self._figures = (
            *_of_requests(pipeline, lane, meter, cutter),
            *_of_clients(acceptor, pipeline, meter, lag),
            *_of_providers(pools, pipeline),
            *_of_keys(authenticator, pipeline, lane),
            *_of_usage(meter, shipper),
            *_of_limits(refill),
            *_of_watchers(pipeline.watch),
            _Figure("listening", "gauge", "1 while changes are heard.", lambda: snapshot.listening, "min"),
            _Figure("database_seen", "gauge", "1 while Postgres answers.", lambda: snapshot.ready, "min"),
        )

    def families(self) -> list[Family]:
        """All of them, as they are now."""
        found = []
        for one in self._figures:
            value = one.read()
            samples = dict(value) if isinstance(value, Mapping) else {"": float(value)}
            found.append(Family(one.name, one.kind, one.help, one.merge, samples))
        return [*found, *self._histograms()]

    def _histograms(self) -> Iterator[Family]:
        yield Family(
            "stage_seconds",
            "histogram",
            "How long requests take, by provider and stage.",
            "sum",
            {},
            {
                f'provider="{provider}",stage="{stage}"': numbers_of(histogram)
                for provider, stages in self._meter.stages.by_provider.items()
                for stage, histogram in stages.by_name().items()
                if any(histogram.counts)
            },
        )
        yield Family(
            "loop_lag_seconds",
            "histogram",
            "How late the event loop turns.",
            "sum",
            {},
            {"": numbers_of(self._lag.histogram)},
        )

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


def _of_requests(pipeline: Pipeline, lane: Lane, meter: Meter, cutter: Cutter) -> Iterable[_Figure]:
    spool = meter.spool
    return (
        _Figure("requests_total", "counter", "Requests received.", lambda: _requests(pipeline, lane)),
        _Figure("lane_requests_total", "counter", "Of those, without a task.", lambda: lane.requests),
        _Figure(
            "refusals_total",
            "counter",
            "Requests Karta itself refused.",
            lambda: _refusals(pipeline, lane),
        ),
        _Figure(
            "ends_total",
            "counter",
            "Requests metered, by provider, outcome and status (0: no answer).",
            lambda: _ends(meter.stages),
        ),
        _Figure("usage_records_total", "counter", "Requests metered.", lambda: meter.settled),
        _Figure("cuts_total", "counter", "Answers cut with their key.", lambda: cutter.cuts),
        _Figure("in_flight", "gauge", "Requests in the register.", lambda: len(spool.in_flight)),
        _Figure("interrupted_total", "counter", "Rows after a kill.", lambda: spool.interrupted),
    )


def _of_clients(acceptor: Acceptor, pipeline: Pipeline, meter: Meter, lag: LoopLag) -> Iterable[_Figure]:
    return (
        _Figure("connections", "gauge", "Client connections.", lambda: len(acceptor.connections)),
        _Figure("websockets", "gauge", "Of those, WebSockets.", lambda: pipeline.websockets.open),
        _Figure("body_bytes", "gauge", "Request bodies being held.", lambda: pipeline.bodies.bytes),
        _Figure("bodies_refused_total", "counter", "Too many of them.", lambda: pipeline.bodies.refused),
        _Figure("tasks", "gauge", "Trio's tasks.", lambda: current_statistics().tasks_living),
        _Figure("streams", "gauge", "Answers that are streams of events, and open.", lambda: meter.streams),
        _Figure("turned_away_total", "counter", "Failed handshakes.", lambda: acceptor.turned_away),
        _Figure(
            "worker_connections",
            "gauge",
            "Client connections of each worker.",
            lambda: len(acceptor.connections),
            "each",
        ),
        _Figure("worker_resident_bytes", "gauge", "Memory of each worker.", _resident_bytes, "each"),
        _Figure(
            "worker_loop_lag_seconds",
            "gauge",
            "The latest that each worker's event loop turned in the last minute or two.",
            lambda: lag.worst,
            "each",
        ),
    )


def _of_providers(pools: Pools, pipeline: Pipeline) -> Iterable[_Figure]:
    def by_origin(figure: Callable[[Pool], int]) -> Callable[[], Samples]:
        return lambda: _sums((f'origin="{_name(pool)}"', figure(pool)) for pool in pools.all())

    def breakers() -> Samples:
        return _sums(
            (f'origin="{_name(pool)}",state="{state.name.lower()}"', pool.breakers.count(state))
            for pool in pools.all()
            for state in State
            if state is not State.TRUSTED
        )

    return (
        _Figure(
            "upstream_connections",
            "gauge",
            "Connections to providers, those being dialled too.",
            by_origin(lambda pool: pool.open),
        ),
        _Figure("upstream_idle", "gauge", "Of those, idle ones.", by_origin(lambda pool: pool.idle)),
        _Figure("upstream_queue", "gauge", "Requests waiting for one.", by_origin(lambda pool: pool.waiting)),
        _Figure("upstream_waits_total", "counter", "Those that had to.", by_origin(lambda pool: pool.waited)),
        _Figure(
            "upstream_taken_total",
            "counter",
            "Times a connection was taken or dialled.",
            by_origin(lambda pool: pool.asked),
        ),
        _Figure("retries_total", "counter", "Requests tried again.", by_origin(lambda pool: pool.retried)),
        _Figure(
            "failovers_total",
            "counter",
            "And at another target.",
            lambda: pipeline.trier.failovers + pipeline.websockets.failovers,
        ),
        _Figure("breakers", "gauge", "Credentials that are not trusted, by their breaker's state.", breakers),
        _Figure(
            "breakers_open",
            "gauge",
            "Credentials left alone.",
            lambda: sum(pool.breakers.open for pool in pools.all()),
        ),
        _Figure(
            "breakers_opened_total",
            "counter",
            "In all.",
            lambda: sum(pool.breakers.opened for pool in pools.all()),
        ),
    )


def _of_keys(authenticator: Authenticator, pipeline: Pipeline, lane: Lane) -> Iterable[_Figure]:
    return (
        _Figure("verified_keys", "gauge", "Keys remembered.", lambda: authenticator.verified),
        _Figure(
            "recalled_total",
            "counter",
            "Requests whose key was remembered.",
            lambda: authenticator.recalled + lane.requests,
        ),
        _Figure("known_heads", "gauge", "Request heads remembered.", lambda: len(pipeline.heads)),
        _Figure("verifications", "gauge", "Keys being verified.", lambda: authenticator.in_flight),
        _Figure("bcrypt_running", "gauge", "Digests being computed.", lambda: authenticator.bcrypt_running),
        _Figure("bcrypt_queue", "gauge", "And waiting for that.", lambda: authenticator.bcrypt_waiting),
        _Figure("bcrypt_total", "counter", "Key digests computed.", lambda: authenticator.bcrypt_runs),
        _Figure("vouched_total", "counter", "Keys others verified.", lambda: authenticator.vouched),
    )


def _of_usage(meter: Meter, shipper: Shipper) -> Iterable[_Figure]:
    spool = meter.spool
    return (
        _Figure("usage_shipped_total", "counter", "Usage records in Postgres.", lambda: shipper.shipped),
        _Figure(
            "spool_lag_seconds",
            "gauge",
            "How long the oldest usage record may have waited to be shipped.",
            lambda: shipper.lag,
            "max",
        ),
        _Figure("spool_bytes", "gauge", "Journal on disk.", lambda: spool.bytes_waiting),
        _Figure("usage_lost_total", "counter", "Records that found no room.", lambda: spool.lost),
        _Figure("spool_full", "gauge", "1 when no more can be recorded.", lambda: spool.full, "max"),
    )


def _of_limits(refill: Refill) -> Iterable[_Figure]:
    ledger = refill.ledger

    def by_kind(amounts: Mapping[LimitKind, int]) -> Samples:
        return {f'kind="{kind.value}"': float(amount) for kind, amount in amounts.items()}

    return (
        _Figure(
            "reserved",
            "gauge",
            "Requests that hold a limit.",
            lambda: ledger.reserved().get(LimitKind.REQUESTS, 0),
        ),
        _Figure("limit_windows", "gauge", "Windows of limits held.", lambda: len(ledger)),
        _Figure(
            "lease_free",
            "gauge",
            "Of what the database has lent, what is free (money in picodollars).",
            lambda: by_kind(ledger.free()),
        ),
        _Figure(
            "lease_reserved",
            "gauge",
            "And what running requests have set apart.",
            lambda: by_kind(ledger.reserved()),
        ),
        _Figure("refills_total", "counter", "Calls for leases answered.", lambda: refill.refills),
        _Figure("refills_failed_total", "counter", "And not answered.", lambda: refill.failures),
    )


def _of_watchers(watch: Watch | None) -> Iterator[_Figure]:
    if watch is not None and (log := watch.log) is not None:
        yield _Figure("log_lines_total", "counter", "Lines of the request log.", lambda: log.written)
        yield _Figure(
            "log_lines_dropped_total", "counter", "And those there was no room for.", lambda: log.dropped
        )
    if watch is not None and (traces := watch.traces) is not None:
        yield _Figure("traces_total", "counter", "Requests whose spans were taken.", lambda: traces.written)
        yield _Figure("traces_dropped_total", "counter", "And those whose were not.", lambda: traces.dropped)


def _ends(stages: AllStages) -> Samples:
    return _sums(
        (f'provider="{provider}",outcome="{outcome}",status="{_status(status)}"', count)
        for provider, found in stages.by_provider.items()
        for (outcome, status), count in found.ends.items()
    )


def _status(status: int) -> str:
    return str(status) if status in _STATUSES else f"{status // 100}xx"


def _name(pool: Pool) -> str:
    return f"{pool.origin.host}:{pool.origin.port}"


def _sums(samples: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for labels, value in samples:
        found[labels] = found.get(labels, 0.0) + value
    return found


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
