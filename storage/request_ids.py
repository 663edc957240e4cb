"""What a request's id tells: when it was made.

An id is 32 hex digits. The first 16 are the nanoseconds since 1970 at which a gateway made it, so that its
row is found without an index of ids; the others are random. Gateways make them (`gateway.pipeline`), one for
each request and one more for each further try that is metered by itself. Ids of older releases are random as
a whole, and those of work that is learnt of late are derived (`usage_rows.LATE_PREFIX`): the time that they
seem to tell is none, which cannot always be seen.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

_FIRST_NS = 1_767_225_600 * 10**9
"""2026 began: no id that tells a time is older."""
_AHEAD = timedelta(minutes=5)
"""How far a gateway's clock may be ahead of the reader's."""


def made_at(request_id: UUID) -> datetime | None:
    """When an id was made, to the microsecond; None for one that can tell no time."""
    nanoseconds = request_id.int >> 64
    if nanoseconds < _FIRST_NS or nanoseconds > (datetime.now(UTC) + _AHEAD).timestamp() * 1e9:
        return None
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=nanoseconds // 1000)
