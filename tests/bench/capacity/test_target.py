"""Targets that cannot be are refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bench.capacity.coefficients import read_coefficients, values_of
from bench.capacity.model import plan
from bench.capacity.target import SIZES, Target


@pytest.mark.parametrize(
    "wrong",
    [
        *({"streams": -1}, {"streams": math.inf}, {"orgs": math.nan}, {"cells": 0}, {"busy_share": 0}),
        *({"busy_share": 1.1}, {"spread": 0}, {"host_cores": 0}, {"host_bytes": 0}, {"database_bytes": 0}),
        *({"database_sessions": 0}, {"database_disk_bytes": 0}, {"database_log_bytes_per_second": 0}),
    ],
)
def test_no_such_target(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must"):
        Target(**wrong)


def test_what_may_be_none_is_worked_out() -> None:
    none = ("streams", "requests_per_second", "events_per_second", "orgs", "keys_each", "limits_each")
    others = ("models_each", "changes_per_second", "pages_per_second", "retention_days")
    target = Target(**dict.fromkeys((*none, *others), 0.0))  # type: ignore[arg-type]
    assert plan(target, values_of(read_coefficients())).holds


def test_sizes_go_up_to_what_is_promised() -> None:
    assert {target.streams for target in SIZES.values()} == {10_000, 100_000, 1_000_000}
    assert {target.orgs for target in SIZES.values()} == {1000, 10_000, 100_000}
