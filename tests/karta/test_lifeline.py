"""The end of its stdin stops a process, in good order or by force."""

from __future__ import annotations

import subprocess
import sys

from karta.lifeline import EXIT_ORPHANED

OBEDIENT = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def start(behaviour: str) -> subprocess.Popen[str]:
    code = (
        f"{behaviour}\nimport threading\nfrom karta import lifeline\n"
        "lifeline.hold(grace_seconds=0.2)\nprint('ready', flush=True)\n"
        "while True: threading.Event().wait(60)"
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
