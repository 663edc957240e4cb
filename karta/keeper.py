"""Runs a foreign program under a lifeline: `python keeper.py [--user UID --group GID] -- PROGRAM ARGUMENTS`.

PostgreSQL does not notice that `karta up` has gone, so this small process stands between them: it starts the
program, and on SIGTERM, or when its own stdin ends, asks the program to stop by SIGINT, then SIGQUIT, then
SIGKILL. For PostgreSQL these are a fast shutdown, an immediate one, and none at all. Its exit code is the
program's.

Run by path, with no site-packages: so it is up in some 20 ms, and it uses only the standard library.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import subprocess
import sys
import threading

STEPS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 1.0))
"""What is sent, and for how many seconds the program may react to it before the next step."""


def main(arguments: list[str]) -> int:
    """Run until the program ends; returns its exit code (128 + the signal's number, when it was killed)."""
    parser = argparse.ArgumentParser(prog="keeper")
    parser.add_argument("--user", type=int)
    parser.add_argument("--group", type=int)
    parser.add_argument("--hold", type=int, action="append", default=[], help="descriptor to hand on")
    parser.add_argument("program", nargs="+")
    given = parser.parse_args(arguments)
    signalled, write_end = os.pipe()
    os.set_blocking(write_end, False)
    # Dying of a signal, the keeper would leave the program behind. These are handlers, not SIG_IGN, because
    # ignored signals are inherited by the program. They do nothing: the byte in the pipe tells, since Python
    # runs a handler after `program.wait` when its signal comes just before that call.
    signal.set_wakeup_fd(write_end)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    program = subprocess.Popen(  # noqa: S603 (only `karta up` calls this, with PostgreSQL's own path)
        given.program,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        user=given.user,
        group=given.group,
        extra_groups=None if given.user is None else [],
        pass_fds=given.hold,
    )
    threading.Thread(target=_stop_when_told, args=(signalled, program), daemon=True).start()
    code = program.wait()
    return code if code >= 0 else 128 - code


def _stop_when_told(signalled: int, program: subprocess.Popen[bytes]) -> None:
    while signalled not in select.select([0, signalled], [], [])[0] and os.read(0, 4096):
        pass
    for number, seconds in STEPS:
        program.send_signal(number)
        try:
            program.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
