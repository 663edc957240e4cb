"""The event loop around the simulator: one listening socket on loopback, until a signal says otherwise.

uvloop carries it. SIGINT and SIGTERM end it at once: open answers are cut, which is what a provider's crash
looks like, and the process exits with 0.
"""

import asyncio
import json
import logging
import resource
import signal
import socket
import ssl
from collections.abc import Sequence

from bench.sim.app import Simulator
from bench.sim.connection import Connection

ADDRESS = "127.0.0.1"
"""Loopback only, without a setting: it takes any key and tells every credential to whoever asks."""
BACKLOG = 4_096
"""Load tests open thousands of connections at once."""


async def serve(
    port: int,
    *,
    keys: Sequence[str] | None,
    json_output: bool,
    ledger_enabled: bool = True,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; says where once connections are taken. OSError when the port is
    taken."""
    simulator = Simulator(keys, ledger_enabled=ledger_enabled)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    # A client that vanishes while it is written to is everyday here, not worth uvloop's warning.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    _raise_descriptor_limit()
    # Bound before anything else starts, so that a taken port is a plain OSError.
    listener = socket.create_server((ADDRESS, port), backlog=BACKLOG)
    open_connections: set[Connection] = set()
    async with asyncio.TaskGroup() as deliveries:

        def accept() -> Connection:
            return Connection(simulator, deliveries, open_connections)

        server = await loop.create_server(accept, sock=listener, backlog=BACKLOG, ssl=tls)
        base_url = f"http{'s' if tls else ''}://{ADDRESS}:{listener.getsockname()[1]}"
        simulator.state.origin = base_url
        if json_output:
            print(json.dumps({"base_url": base_url}), flush=True)
        else:
            print(
                f"simulated provider on {base_url} (any key but kt_…; ledger at {base_url}/_sim/ledger)",
                flush=True,
            )
        await ended.wait()
        server.close()
        for connection in tuple(open_connections):
            connection.die(abruptly=True)


def _raise_descriptor_limit() -> None:
    """Take as many descriptors as the system allows: a load test holds thousands of streams open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
