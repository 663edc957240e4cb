"""The list is that of the gateway."""

from __future__ import annotations

from admin.providers import PROVIDERS
from gateway.provider import read_table


def test_the_providers_are_those_of_every_gateway() -> None:
    assert set(PROVIDERS) == set(read_table())
