"""How a child process notices that its parent has gone: its stdin ends.

The parent holds the writing end of a pipe that is the child's stdin, and never writes. When the parent
dies, in any way (`kill -9` too), the kernel closes the pipe and the child reads end of file.
PR_SET_PDEATHSIG would not do: it fires when the parent's *thread* ends, and children are started from
worker threads.

Bounds: an orphan that has not ended `GRACE_SECONDS` after it was told to is ended without ceremony. That is
short on purpose: nobody waits for its answers any more, the next `karta up` waits for its ports, and what it
knows of usage is on disk already.
"""

from __future__ import annotations

import os
import signal
import threading

FLAG = "--stop-with-stdin"
GRACE_SECONDS = 3.0
EXIT_ORPHANED = 70


def hold(descriptor: int = 0, grace_seconds: float = GRACE_SECONDS) -> None:
    """From now on, stop this process (SIGTERM, then by force) when `descriptor` ends. Returns at once.

    A daemon thread, not a Trio task, so that it also works while a program is still importing, or is stuck.
    """

    def watch() -> None:
        while os.read(descriptor, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(grace_seconds)
        os._exit(EXIT_ORPHANED)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
