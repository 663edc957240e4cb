"""The arithmetic, with figures that can be reckoned by hand."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bench.capacity.coefficients import read_coefficients, values_of
from bench.capacity.model import Bound, Plan, cells_needed, plan
from bench.capacity.target import SIZES, Target

OWN = {**values_of(read_coefficients()), "worker_idle_cores": 1e-9}
QUIET = Target(
    streams=0,
    requests_per_second=0,
    orgs=0,
    changes_per_second=0,
    pages_per_second=0,
    tls=False,
    busy_share=0.5,
)
"""Nobody does anything."""


def bound(found: Plan, start: str) -> Bound:
    [one] = [one for one in found.bounds if one.name.startswith(start)]
    return one


def test_nothing_needs_one_worker_that_is_idle() -> None:
    found = plan(QUIET, OWN)
    assert (found.workers, found.hosts, found.worker_cores) == (1, 1, 1e-9)
    assert found.gateway_bytes == OWN["worker_bytes"]
    assert found.database_cores == dict.fromkeys(found.database_cores, 0)
    assert found.log_bytes_per_second == 0
    assert found.holds


def test_requests_make_workers() -> None:
    figures = {**OWN, "request_cpu_us": 100}
    found = plan(replace(QUIET, requests_per_second=49_000), figures)
    # Half of each core may be used.
    assert found.worker_cores == pytest.approx(4.9)
    assert found.workers == 10
    assert bound(found, "sessions").amount == 10 * OWN["sessions_each"]


def test_events_cost_more_by_tls() -> None:
    figures = {**OWN, "event_cpu_us": 50, "event_tls_factor": 3}
    target = replace(QUIET, streams=1000, events_per_second=10)
    assert plan(target, figures).worker_cores == pytest.approx(0.5)
    assert plan(replace(target, tls=True), figures).worker_cores == pytest.approx(1.5)


def test_streams_take_memory_connections_and_ports() -> None:
    target = replace(QUIET, streams=28_800, events_per_second=0, provider_addresses=1)
    figures = {**OWN, "worker_bytes": 10**6, "stream_bytes": 1000, "local_ports": 10_000}
    found = plan(target, figures)
    # A worker takes 16,000, of which a tenth is kept free.
    assert found.workers == 2
    assert found.gateway_bytes == 2 * 10**6 + 28_800 * 1000
    assert found.hosts == 3
    assert any(need.name == "hosts, for their local ports" for need in found.needs)


def test_each_worker_reads_all_keys_again() -> None:
    target = replace(QUIET, orgs=1000, keys_each=10, requests_per_second=50_000, limits_each=0)
    figures = {**OWN, "request_cpu_us": 100, "key_read_server_us": 40, "key_read_client_us": 20}
    found = plan(target, figures)
    # 10,000 keys every 20 s are 500 a second, and 10 ms of a worker's time.
    assert found.workers == 11
    assert found.worker_cores == pytest.approx(5 + 11 * 500 * 20e-6)
    assert found.database_cores["keys read again"] == pytest.approx(11 * 500 * 40e-6)
    by_key = plan(replace(target, spread=0.1), figures)
    assert by_key.database_cores["keys read again"] == pytest.approx(by_key.workers * 50 * 40e-6)


def test_leases_by_the_limit_the_call_and_the_owners() -> None:
    target = replace(QUIET, orgs=60, keys_each=1, requests_per_second=60, limits_each=1)
    figures = {**OWN, "lease_us": 100, "lease_call_us": 1000, "lease_owner_us": 0}
    found = plan(target, figures)
    # Each limit: renewed each 20 s, two windows a minute, and every other second something is borrowed.
    leases = 60 / 20 + 60 * 2 / 60 + 60 * 0.5
    assert found.database_cores["leases"] == pytest.approx((leases * 100 + 4 * 1000) * 1e-6)


def test_rows_by_the_row_and_by_the_group() -> None:
    target = replace(QUIET, orgs=1, keys_each=1, models_each=2, requests_per_second=1000, limits_each=0)
    figures = {**OWN, "row_us": 10, "group_us": 50, "row_log_bytes": 100, "group_log_bytes": 1000}
    found = plan(target, figures)
    assert found.workers == 1
    assert found.database_cores["usage"] == pytest.approx((1000 * 10 + 4 * 50) * 1e-6)
    assert found.log_bytes_per_second == pytest.approx(1000 * 100 + 4 * 1000)


def test_what_breaks_first_is_told_first() -> None:
    found = plan(replace(QUIET, orgs=100_000, keys_each=1, requests_per_second=10, host_cores=1000), OWN)
    assert not found.holds
    assert [one.used for one in found.bounds] == sorted((one.used for one in found.bounds), reverse=True)
    assert bound(found, "keys of a host").used == pytest.approx(2)
    assert found.first.name.startswith("a host's start")


def test_cells_divide_everything() -> None:
    target = replace(QUIET, orgs=120_000, keys_each=1, requests_per_second=0)
    figures = {**OWN, "bcrypt_seconds": 1e-6}
    assert bound(plan(replace(target, cells=4), figures), "keys of a host").amount == 30_000
    assert cells_needed(target, figures) == 3
    assert cells_needed(target, figures, most=2) is None


@pytest.mark.parametrize("name", SIZES)
def test_more_cells_never_use_more_of_a_bound(name: str) -> None:
    one, two = plan(SIZES[name], OWN), plan(replace(SIZES[name], cells=2), OWN)
    assert two.first.used <= one.first.used
