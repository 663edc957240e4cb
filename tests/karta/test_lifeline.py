"""The end of its stdin stops a process, in good order or by force."""

from __future__ import annotations

import subprocess
import sys

from karta.lifeline import EXIT_ORPHANED

OBEDIENT = "signal.sigwait(held); raise SystemExit(7)"
STUBBORN = "while True: signal.pause()"


def start(behaviour: str) -> subprocess.Popen[str]:
    # Held back by all threads until one waits for it: a wait misses a handler's that comes just before it.
    code = (
        "import signal\nheld = [signal.SIGTERM]\nsignal.pthread_sigmask(signal.SIG_BLOCK, held)\n"
        "from karta import lifeline\nlifeline.hold(grace_seconds=0.2)\nprint('ready', flush=True)\n"
        f"{behaviour}"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_process_ends_with_its_stdin() -> None:
    with start(OBEDIENT) as process:
        assert process.poll() is None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 7


def test_one_that_does_not_obey_is_ended() -> None:
    with start(STUBBORN) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == EXIT_ORPHANED
