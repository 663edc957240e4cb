"""Keep the harness's cores from falling asleep, if a comparison asks for it.

A process that writes to a peer asleep on an idle core pays for waking the core: some ten microseconds a
request on loopback, which are charged to whoever stands in between, and to nobody in a direct run. A busy
process of the kernel's lowest class (SCHED_IDLE) on each harness core keeps it awake and gives way to
everything else at once. It favours targets over the direct arm, so it is off unless asked for, and reports
say when it was on.
"""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench.process import child_process

_SPIN = (
    "import os, select, sys\n"
    "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\n"
    "while not select.select([sys.stdin], [], [], 0)[0]:\n"
    "    for _ in range(1000): pass\n"
)


@asynccontextmanager
async def kept_awake(cpus: Sequence[int], directory: Path) -> AsyncIterator[None]:
    """Keep each of the cores busy with nothing while the body runs."""
    async with AsyncExitStack() as stack:
        for cpu in cpus:
            argv = [sys.executable, "-c", _SPIN]
            stderr_path = directory / "awake.stderr"
            await stack.enter_async_context(child_process(argv, stderr_path=stderr_path, cpus=[cpu]))
        yield
