"""Hostile bytes do no harm: mutated requests from clients, mutated answers from providers, against a gateway
in the test's own run.

`arena` is the gateway between a provider that records everything and clients that send anything; `examples`
runs hypothesis there; `http` reads bytes with h11, which shares no code with the gateway; `mutations` are the
hostile bytes. These packages test no single source file, so they have no twins.
"""

import pytest

pytest.register_assert_rewrite("tests.fuzz.arena", "tests.fuzz.http")
