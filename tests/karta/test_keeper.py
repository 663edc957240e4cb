"""The keeper starts a program, stops it with its own stdin, and tells how it ended."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from karta import keeper

# Held back until it is waited for: `signal.pause` misses one that comes just before it.
LISTENER = (
    "import signal\nheld = [signal.SIGINT]\nsignal.pthread_sigmask(signal.SIG_BLOCK, held)\n"
    "print('up', flush=True)\nsignal.sigwait(held)\nraise SystemExit(9)"
)


def start(program: str, *options: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", keeper.__file__, *options, "--", sys.executable, "-S", "-c", program],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    # The program's stdout is the keeper's stderr: nothing but a log.
    assert process.stderr.readline() == "up\n"
    return process


def test_the_end_of_its_stdin_is_a_gentle_stop() -> None:
    with start(LISTENER) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_too(number: signal.Signals) -> None:
    with start(LISTENER) as process:
        process.send_signal(number)
        assert process.wait(30) == 9


def test_the_program_starts_with_the_usual_signals() -> None:
    program = (
        "import signal\nprint('up', flush=True)\n"
        "found = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]\n"
        "usual = [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]\n"
        "raise SystemExit(0 if found == usual else 6)"
    )
    with start(program) as process:
        assert process.wait(30) == 0


def test_a_program_that_ends_ends_the_keeper() -> None:
    with start("print('up', flush=True); raise SystemExit(5)") as process:
        assert process.wait(30) == 5


def test_a_program_that_was_killed_is_told_of() -> None:
    program = "import os, signal; print('up', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    with start(program) as process:
        assert process.wait(30) == 128 + signal.SIGKILL


def test_descriptors_are_handed_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (tmp_path_factory.mktemp("keeper") / "held").open("w") as held:
        number = held.fileno()
        program = f"import os; os.fstat({number}); print('up', flush=True)"
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", keeper.__file__, "--hold", str(number), "--"),
                *(sys.executable, "-S", "-c", program),
            ],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(number,),
        )
        with process:
            assert process.wait(30) == 0
