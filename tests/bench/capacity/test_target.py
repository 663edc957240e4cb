"""Targets that cannot be are refused."""

from __future__ import annotations

from typing import Any

import pytest

from bench.capacity.target import SIZES, Target


@pytest.mark.parametrize(
    "wrong",
    [{"streams": -1}, {"cells": 0}, {"busy_share": 0}, {"busy_share": 1.1}, {"spread": 0}, {"host_cores": 0}],
)
def test_no_such_target(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must"):
        Target(**wrong)


def test_sizes_go_up_to_what_is_promised() -> None:
    assert {target.streams for target in SIZES.values()} == {10_000, 100_000, 1_000_000}
    assert {target.orgs for target in SIZES.values()} == {1000, 10_000, 100_000}
