"""The figures: each with its source, and those that are Karta's own as Karta has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.capacity.coefficients import read_coefficients, values_of
from gateway import quota, refill, ship, snapshot, spool, worker
from gateway.limits import Limits
from storage import deadlines


def test_bounds_are_the_gateways() -> None:
    figures = values_of(read_coefficients())
    limits = Limits()
    assert {
        "connections_max": limits.connections_max,
        "verified_keys_max": limits.verified_keys_max,
        "sessions_each": worker._DATABASE_CONNECTIONS_MAX + 1,
        "refresh_seconds": snapshot._REFRESH_SECONDS,
        "renew_seconds": quota.RENEW_SECONDS,
        "lease_calls_per_second": 1 / refill.BACKGROUND_SECONDS,
        "ship_seconds": ship._PERIOD_SECONDS,
        "journal_bytes_max": spool.SPOOL_BYTES_MAX,
        "statement_seconds_max": deadlines.STATEMENT_SECONDS_MAX,
    }.items() <= figures.items()


def test_each_figure_says_where_it_is_from() -> None:
    for name, one in read_coefficients().items():
        assert one.what, name
        assert one.source, name
        assert one.unit, name


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[request_cpu_us]\nvalue = 75\nunit = "µs"\nwhat = "w"\nsource = "s"\n')
    own = values_of(read_coefficients(path))
    assert own == {**values_of(read_coefficients()), "request_cpu_us": 75}
    path.write_text(path.read_text().replace("request_cpu_us", "request_cpu_ms"))
    with pytest.raises(ValueError, match="nothing asks for: request_cpu_ms"):
        read_coefficients(path)
    path.write_text("[request_cpu_us]\nvalue = 75\n")
    with pytest.raises(ValueError, match="not a file of figures"):
        read_coefficients(path)
    path.write_text('[request_cpu_us]\nvalue = 0\nunit = "µs"\nwhat = "w"\nsource = "s"\n')
    with pytest.raises(ValueError, match="above zero"):
        read_coefficients(path)
