"""Fixtures for the harness's own tests: one simulated provider for all of them."""

from collections.abc import Iterator

import pytest

from tests.bench.sim.process import running_sim


@pytest.fixture(scope="session")
def provider_url() -> Iterator[str]:
    """The origin of a simulated provider that takes any key."""
    with running_sim() as process:
        yield process.base_url
