"""The official SDKs see no difference: every call is made twice, directly to the simulated provider and
through Karta, and what comes back must be equal.

`servers` starts the two programs once for the session; `compare` makes a call on both sides and compares;
`clients` are the SDKs' clients of both generations; `table` is every operation with odd but valid requests;
`wire` is a client that sends exactly the bytes it is given. These packages test no single source file, so
they have no twins.
"""

import pytest

# Their assertions are the tests' own: a failure must show what differs.
pytest.register_assert_rewrite("tests.sdk.compare", "tests.sdk.wire")
