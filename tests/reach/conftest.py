"""A tenant in a database of the test's own."""

from __future__ import annotations

from tests.faults.conftest import own_tenant, template

__all__ = ["own_tenant", "template"]
