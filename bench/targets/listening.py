"""Programs that are told a port and say nothing when they are ready: find a free one, and wait until it
answers."""

import socket
from collections.abc import Callable

import trio

from bench.process import Child
from bench.targets.base import TargetUnavailable

_LOOK_SECONDS = 0.02


def free_port() -> int:
    """Return a port that was free just now; for programs that cannot pick one themselves."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def accepting(
    child: Child,
    port: int,
    *,
    name: str,
    seconds_max: float,
    also: Callable[[], bool] = lambda: True,
) -> None:
    """Wait until the child accepts connections and `also()` holds; TargetUnavailable if it ends or takes too
    long.
    """
    with trio.move_on_after(seconds_max):
        while child.returncode is None:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(_LOOK_SECONDS)
                continue
            await stream.aclose()
            if also():
                return
            await trio.sleep(_LOOK_SECONDS)
    raise TargetUnavailable(f"{name} does not serve: {child.stderr_end() or 'it said nothing'}")
