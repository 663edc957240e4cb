"""The keeper starts a program, stops it with its own stdin, and tells how it ended."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from karta import keeper

LISTENER = (
    "import signal, sys\nsignal.signal(signal.{}, lambda *_: sys.exit(9))\nprint('up', flush=True)\n"
    "while True: signal.pause()"
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
    with start(LISTENER.format("SIGINT")) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_too(number: signal.Signals) -> None:
    with start(LISTENER.format("SIGINT")) as process:
        process.send_signal(number)
        assert process.wait(30) == 9


def test_the_program_starts_with_the_usual_signals() -> None:
    with start("import signal; print('up', flush=True); signal.pause()") as process:
        process.send_signal(signal.SIGTERM)
        # Killed by the keeper's SIGINT, which Python turns into an exception of its own.
        assert process.wait(30) in (1, 128 + signal.SIGINT)


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
