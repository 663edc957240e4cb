"""What a target needs, and what of it breaks first.

How it goes. Traffic asks for so much CPU; a worker has a core, of which the upkeep of what it remembers takes
some, so there are so many workers. From their number follows what they do to the one database they share.
What more hosts help against is told as a *need*; what they do not help against is a *bound*, with how much
of it is used: above 1 it is broken.

Every formula is for one cell, in the busiest hour, evenly spread. Peaks within it are what `busy_share` is
for.
"""

import math
from collections.abc import Mapping

import msgspec

from bench.capacity.target import Target

_MICRO = 1e-6
_MINUTE_LIMITS = 2
"""Of a key's limits, those by the minute."""
_MONTH_SECONDS = 30.4 * 86_400
_STALL_SECONDS_MAX = 0.1
_COLD_SECONDS_MAX = 600
"""After the start of a host, until the last of its busy keys gets through."""
_HERD_SECONDS_MAX = 60
"""After the database comes back, until every worker has read its keys again."""
_AWAY_SECONDS_MIN = 3600
"""So long the database may be away without a usage row being refused its place."""
_ITERATIONS = 20
_CONNECTIONS_SHARE = 0.9


class Need(msgspec.Struct, frozen=True):
    """So much of something that can be bought."""

    name: str
    amount: float
    unit: str


class Bound(msgspec.Struct, frozen=True):
    """Something that more hosts do not help against."""

    name: str
    amount: float
    most: float
    unit: str
    lever: str

    @property
    def used(self) -> float:
        return self.amount / self.most


class Plan(msgspec.Struct, frozen=True):
    """What one cell needs. `bounds` have what breaks first at the top."""

    workers: int
    hosts: int
    worker_cores: float
    gateway_bytes: float
    database_cores: dict[str, float]
    log_bytes_per_second: float
    needs: tuple[Need, ...]
    bounds: tuple[Bound, ...]

    @property
    def first(self) -> Bound:
        """What breaks first."""
        return self.bounds[0]

    @property
    def holds(self) -> bool:
        return self.first.used <= 1


class _Worker(msgspec.Struct, frozen=True):
    """What one worker of so many meets."""

    count: int
    requests: float
    keys: float
    """It remembers."""
    accounts: float
    """Limits in use."""
    leases: float
    groups: float
    """A second, of usage rows by key and model."""


def plan(target: Target, figures: Mapping[str, float]) -> Plan:
    """Work out one of the target's cells."""
    cell = _cell(target)
    traffic = _traffic_cores(cell, figures)
    worker = _settle_workers(cell, figures, traffic)
    upkeep = _upkeep(worker, figures)
    cores = traffic + worker.count * upkeep
    memory = _gateway_bytes(cell, figures, worker)
    hosts, reason = _hosts(cell, figures, worker, memory)
    database = _database_cores(cell, figures, worker)
    log = worker.count * worker.leases * figures["lease_log_bytes"]
    log += cell.requests_per_second * figures["row_log_bytes"]
    log += worker.count * worker.groups * figures["group_log_bytes"]
    bounds = [
        *_worker_bounds(cell, figures, worker, upkeep, hosts),
        *_database_bounds(cell, figures, worker, sum(database.values()), log),
        *_stored_bounds(cell, figures),
    ]
    needs = (
        Need("events", cell.streams * cell.events_per_second, "/s"),
        Need("workers", worker.count, ""),
        Need("hosts, for their " + reason, hosts, ""),
        Need("CPU of workers", cores, "cores"),
        Need("memory of workers", memory, "bytes"),
        Need("CPU of admin pages", cell.pages_per_second * figures["page_cpu_us"] * _MICRO, "cores"),
        Need("leases", worker.count * worker.leases, "/s"),
        Need("usage rows", cell.requests_per_second, "/s"),
        *(Need(f"CPU of the database: {name}", amount, "cores") for name, amount in database.items()),
    )
    return Plan(
        workers=worker.count,
        hosts=hosts,
        worker_cores=cores,
        gateway_bytes=memory,
        database_cores=database,
        log_bytes_per_second=log,
        needs=needs,
        bounds=tuple(sorted(bounds, key=lambda bound: bound.used, reverse=True)),
    )


def cells_needed(target: Target, figures: Mapping[str, float], most: int = 1000) -> int | None:
    """Return the least number of cells in which nothing breaks; None if that is more than `most`."""
    for cells in range(1, most + 1):
        if plan(msgspec.structs.replace(target, cells=cells), figures).holds:
            return cells
    return None


def _cell(target: Target) -> Target:
    parts = target.cells
    return msgspec.structs.replace(
        target,
        cells=1,
        streams=target.streams / parts,
        requests_per_second=target.requests_per_second / parts,
        orgs=target.orgs / parts,
        changes_per_second=target.changes_per_second / parts,
        pages_per_second=target.pages_per_second / parts,
    )


def _traffic_cores(cell: Target, figures: Mapping[str, float]) -> float:
    event = figures["event_cpu_us"] * (figures["event_tls_factor"] if cell.tls else 1)
    requests = cell.requests_per_second * figures["request_cpu_us"]
    return (requests + cell.streams * cell.events_per_second * event) * _MICRO


def _settle_workers(cell: Target, figures: Mapping[str, float], traffic: float) -> _Worker:
    """How many there are depends on what each has to look after, and that on how many there are."""
    least = max(1, math.ceil(cell.streams / (figures["connections_max"] * _CONNECTIONS_SHARE)))
    count = least
    for _ in range(_ITERATIONS):
        # Where upkeep would take more than half, that is a bound of its own, and no reason for more workers.
        upkeep = min(_upkeep(_meet(cell, figures, count), figures), cell.busy_share / 2)
        following = max(least, math.ceil(traffic / (cell.busy_share - upkeep)))
        if following == count:
            break
        count = following
    return _meet(cell, figures, count)


def _meet(cell: Target, figures: Mapping[str, float], count: int) -> _Worker:
    requests = cell.requests_per_second / count
    keys = cell.orgs * cell.keys_each * cell.spread
    # Whoever is idle for a minute has no leases.
    used = min(keys, requests * 60)
    accounts = used * cell.limits_each
    each = requests / used if used else 0.0
    minutes = used * min(cell.limits_each, _MINUTE_LIMITS)
    leases = accounts / figures["renew_seconds"] + minutes * 2 / 60 + accounts * min(1, each / 2)
    batch = requests * figures["ship_seconds"]
    groups = min(batch, keys * cell.models_each) / figures["ship_seconds"]
    return _Worker(count, requests, min(keys, figures["verified_keys_max"]), accounts, leases, groups)


def _upkeep(worker: _Worker, figures: Mapping[str, float]) -> float:
    """The part of its core that a worker spends whoever asks: on its clocks and on what it remembers."""
    reads = worker.keys / figures["refresh_seconds"] * figures["key_read_client_us"]
    return figures["worker_idle_cores"] + (reads + worker.accounts * figures["survey_us"]) * _MICRO


def _gateway_bytes(cell: Target, figures: Mapping[str, float], worker: _Worker) -> float:
    stream = figures["stream_bytes"] + (figures["stream_tls_bytes"] if cell.tls else 0)
    each = figures["worker_bytes"]
    each += worker.keys * figures["key_bytes"] + worker.accounts * figures["account_bytes"]
    return worker.count * each + cell.streams * stream


def _hosts(cell: Target, figures: Mapping[str, float], worker: _Worker, memory: float) -> tuple[int, str]:
    """How many, and what it is that asks for them."""
    asked = {
        "cores": worker.count / cell.host_cores,
        "memory": memory / (cell.host_bytes * cell.busy_share),
        "local ports": cell.streams / (figures["local_ports"] * cell.provider_addresses),
    }
    reason = max(asked, key=lambda name: asked[name])
    return max(1, math.ceil(asked[reason])), reason


def _database_cores(cell: Target, figures: Mapping[str, float], worker: _Worker) -> dict[str, float]:
    calls = min(figures["lease_calls_per_second"], worker.leases)
    others = max(0.0, worker.count * cell.spread - 1)
    each = figures["lease_us"] + figures["lease_owner_us"] * others
    work = {
        "keys read again": worker.keys / figures["refresh_seconds"] * figures["key_read_server_us"],
        "leases": worker.leases * each + calls * figures["lease_call_us"],
        "usage": worker.requests * figures["row_us"] + worker.groups * figures["group_us"],
        "notifications": cell.changes_per_second * figures["notice_us"],
    }
    return {name: worker.count * amount * _MICRO for name, amount in work.items()}


def _worker_bounds(
    cell: Target, figures: Mapping[str, float], worker: _Worker, upkeep: float, hosts: int
) -> list[Bound]:
    met = cell.orgs * cell.keys_each
    of_host = met * min(1, cell.spread * worker.count / hosts)
    return [
        Bound(
            "keys of a host",
            of_host,
            figures["verified_keys_max"],
            "keys",
            "balance by key, so that a host meets a part of them; cells. Beyond, the oldest are forgotten, "
            "and cost a bcrypt each time",
        ),
        Bound(
            "upkeep of what a worker remembers",
            upkeep,
            cell.busy_share / 2,
            "of its core",
            "balance by key; cells",
        ),
        Bound(
            "the worker stands still, looking over its limits",
            worker.accounts * figures["survey_us"] * _MICRO,
            _STALL_SECONDS_MAX,
            "s",
            "balance by key; fewer limits on each key, more on organizations",
        ),
        Bound(
            "a host's start, until its last busy key gets through",
            of_host * figures["bcrypt_seconds"] / min(cell.host_cores, worker.count / hosts),
            _COLD_SECONDS_MAX,
            "s",
            "balance by key; reload (SIGHUP) instead of starting anew",
        ),
        Bound(
            "an hour without the database: the journal",
            worker.requests * figures["journal_bytes"] * _AWAY_SECONDS_MIN,
            figures["journal_bytes_max"],
            "bytes",
            "more workers",
        ),
    ]


def _database_bounds(
    cell: Target, figures: Mapping[str, float], worker: _Worker, cores: float, log: float
) -> list[Bound]:
    sessions = worker.count * figures["sessions_each"]
    reads = worker.count * worker.keys * figures["key_read_server_us"] * _MICRO
    # One refill a second of each worker, during which nobody else has the limit's row.
    borrowers = max(1.0, worker.count * cell.spread)
    held = (figures["lease_call_us"] + figures["lease_owner_us"] * borrowers) * _MICRO
    return [
        Bound(
            "CPU of the database",
            cores,
            cell.database_cores * cell.busy_share,
            "cores",
            "balance by key, then cells: most of it grows with workers times the keys each meets",
        ),
        Bound(
            "sessions of the database",
            sessions,
            cell.database_sessions,
            "sessions",
            "a larger server; cells. By workers, so fewer, larger hosts do not help",
        ),
        Bound(
            "memory of those sessions",
            sessions * figures["session_bytes"],
            cell.database_bytes / 4,
            "bytes",
            "a larger server; cells. By workers, so fewer, larger hosts do not help",
        ),
        Bound(
            "write-ahead log",
            log,
            cell.database_log_bytes_per_second,
            "bytes/s",
            "cells; disks",
        ),
        Bound(
            "after the database was away, keys read by all workers at once",
            reads / cell.database_cores,
            _HERD_SECONDS_MAX,
            "s",
            "balance by key; cells",
        ),
        Bound(
            "one limit that all workers borrow of",
            borrowers * held,
            1.0,
            "s of each second",
            "balance by organization, so that fewer workers borrow of it",
        ),
    ]


def _stored_bounds(cell: Target, figures: Mapping[str, float]) -> list[Bound]:
    rows = cell.requests_per_second * figures["row_bytes"]
    keys = cell.orgs * cell.keys_each
    sums = keys * cell.models_each * figures["hourly_bytes"] * 24 * 365
    return [
        Bound(
            "a month of usage, in one partition",
            rows * _MONTH_SECONDS,
            figures["partition_bytes_max"],
            "bytes",
            "cells; partitions by the day",
        ),
        Bound(
            f"usage of {cell.retention_days:g} days, and sums of a year",
            rows * cell.retention_days * 86_400 + sums,
            cell.database_disk_bytes,
            "bytes",
            "karta usage retention --days fewer; cells; disks",
        ),
        Bound(
            "finding the windows of limits that are over",
            keys * cell.limits_each * figures["limit_look_us"] * _MICRO,
            figures["statement_seconds_max"],
            "s",
            "limits on organizations instead of each key; cells. Beyond, none is deleted any more",
        ),
    ]
