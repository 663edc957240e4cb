"""Before the simulated provider, which serves its own host only.

`python -m tests.reach.hosts.relay ADDRESS PORT TO` takes connections there and passes them on to port TO of
loopback.
"""

from __future__ import annotations

import sys

import trio

from tests.faults.fault_proxy import FaultProxy


async def relay(address: str, port: int, server_port: int) -> None:
    (listener,) = await trio.open_tcp_listeners(port, host=address)
    proxy = FaultProxy(listener, server_port)
    print("ready", flush=True)
    await trio.serve_listeners(proxy.serve, [listener])


if __name__ == "__main__":
    trio.run(relay, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
