"""Limits: every one bounded, named with its unit last, and consistent with the others."""

from __future__ import annotations

import msgspec

from gateway.limits import Limits

UNITS = ("_bytes_max", "_seconds", "_max", "_threads", "_per_minute", "_per_second_min")


def test_every_limit_has_a_unit_and_a_positive_value() -> None:
    for field in msgspec.structs.fields(Limits):
        assert field.name.endswith(UNITS), field.name
        assert field.default > 0


def test_limits_that_depend_on_each_other() -> None:
    limits = Limits()
    assert limits.body_bytes_max <= limits.upload_bytes_max
    assert limits.upstream_idle_max <= limits.upstream_connections_max
    assert limits.key_fresh_seconds < limits.key_stale_seconds
    # The SDKs' own timeouts: 5 s to connect, 600 s for an answer.
    assert limits.connect_seconds <= 5
    assert limits.first_byte_seconds >= 600


def test_limits_cannot_be_changed_while_they_are_in_force() -> None:
    assert Limits.__struct_config__.frozen
