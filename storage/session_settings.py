"""What every session asks of the server as it begins.

Behind PgBouncer each that it does not know must stand in its `ignore_startup_parameters`: see
docs/how-to/pgbouncer.md.
"""

from __future__ import annotations

from storage.deadlines import (
    IDLE_IN_TRANSACTION_SECONDS_MAX,
    KEEPALIVE_INTERVAL_SECONDS,
    KEEPALIVE_SECONDS,
    LOST_HOST_SECONDS_MAX,
    STATEMENT_SECONDS_MAX,
)


def session_settings(role: str | None) -> dict[str, str]:
    """Server settings by name. `role` is what all statements run as; None: as logged in.

    Those that begin with `tcp_` do nothing on a Unix socket.
    """
    probes = (LOST_HOST_SECONDS_MAX - KEEPALIVE_SECONDS) // KEEPALIVE_INTERVAL_SECONDS
    settings = {
        "application_name": f"karta {role or 'owner'}",
        "search_path": "public",
        "TimeZone": "UTC",
        "statement_timeout": str(STATEMENT_SECONDS_MAX * 1000),
        "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_SECONDS_MAX * 1000),
        "tcp_keepalives_idle": str(KEEPALIVE_SECONDS),
        "tcp_keepalives_interval": str(KEEPALIVE_INTERVAL_SECONDS),
        "tcp_keepalives_count": str(probes),
        # The same where an answer of the server's is under way.
        "tcp_user_timeout": str(LOST_HOST_SECONDS_MAX * 1000),
    }
    if role is not None:
        settings["role"] = role
    return settings
