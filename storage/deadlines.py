"""How long anything that talks to the database may take, in seconds, and why that long.

They nest: the server gives up a statement before our own patience ends, and that is before a pooled caller
gives up, so that the most precise error is the one that is raised.
"""

from __future__ import annotations

CONNECT_SECONDS_MAX = 3
"""A local or same-region server accepts in milliseconds; three seconds allow for a TLS handshake and a lost
SYN."""

STATEMENT_SECONDS_MAX = 5
"""The server stops a statement after this long. Nothing here is an analytical query."""

QUERY_SECONDS_MAX = 7
"""Our own patience for one statement. Longer than the server's, so that it fires only when the network is
dead."""

POOL_WAIT_SECONDS_MAX = 8
"""How long a caller waits for a free connection: longer than any one statement can hold it."""

IDLE_IN_TRANSACTION_SECONDS_MAX = 30
"""The server ends a session that holds locks and says nothing, as that of a stopped process would."""

RETIRE_SECONDS_MAX = 2
"""How long a spoilt connection may take to say goodbye before its socket is simply closed."""

LISTEN_PROBE_SECONDS = 2
"""How often a listening connection is asked whether it is still there, since a cut cable sends no FIN; and
how long it may take to say so. So a revocation that nobody was told of is looked for within five seconds."""

KEEPALIVE_SECONDS = 5
"""After so much silence the server asks whether we are still there, and again every
`KEEPALIVE_INTERVAL_SECONDS`."""

KEEPALIVE_INTERVAL_SECONDS = 2

LOST_HOST_SECONDS_MAX = 11
"""When the server has heard nothing for so long it ends the session and rolls back. A host that lost its
power says no goodbye: by default the server would keep its sessions for two hours."""
