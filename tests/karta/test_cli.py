"""The command line as a whole: help, exit codes, and what becomes of errors."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from karta.cli import EXIT_INTERRUPTED, build_parser, find_foreseen
from karta.terminal import CommandError
from storage.errors import DatabaseUnavailable
from storage.settings import SettingsError
from tests.karta.conftest import Karta

COMMANDS = (
    "up",
    "gateway",
    "admin",
    "sim",
    "migrate",
    "doctor",
    "org",
    "keys",
    "byok",
    "budget",
    "limits",
    "prices",
    "usage",
    "master-key",
    "bench",
)
ACTIONS = (
    *(("org", "create"), ("org", "set-plan")),
    *(("keys", "mint"), ("keys", "list"), ("keys", "allow"), ("keys", "revoke"), ("keys", "rotate")),
    *(("byok", "set"), ("byok", "rotate"), ("byok", "revoke"), ("byok", "list")),
    *(("prices", "set"), ("prices", "list"), ("prices", "remove"), ("prices", "show")),
    *(("budget", "set"), ("budget", "show"), ("limits", "set"), ("limits", "show")),
    *(("usage", "report"), ("usage", "retention"), ("usage", "rebuild")),
    ("master-key", "generate"),
)


def test_help_names_every_command(karta: Karta) -> None:
    code, out, _ = karta("--help")
    assert code == 0
    assert all(f"\n    {command}" in out for command in COMMANDS)


@pytest.mark.parametrize("command", [*((command,) for command in COMMANDS), *ACTIONS])
def test_every_command_has_help(karta: Karta, command: tuple[str, ...]) -> None:
    code, out, _ = karta(*command, "--help")
    assert code == 0
    assert f"usage: karta {' '.join(command)}" in out


@pytest.mark.parametrize(
    "command", [*ACTIONS, ("up",), ("gateway",), ("admin",), ("sim",), ("migrate",), ("doctor",)]
)
def test_every_command_takes_json(command: tuple[str, ...], karta: Karta) -> None:
    assert "--json" in karta(*command, "--help")[1]


def test_help_imports_nothing_heavy() -> None:
    heavy = ("trio", "asyncpg", "quart", "hypercorn", "pydantic", "cryptography", "msgspec", "rich")
    code = (
        "import sys, karta.cli\n"
        "try: karta.cli.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    for arguments in (["--help"], ["keys", "mint", "--help"], ["keys", "mint"]):
        done = subprocess.run([sys.executable, "-P", "-c", code, *arguments], capture_output=True, text=True)
        assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("unknown",),
        ("keys",),
        ("keys", "mint"),
        ("up", "--gateway-port", "http"),
        ("keys", "list", "--org", "x"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(karta: Karta, arguments: tuple[str, ...]) -> None:
    code, out, err = karta(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--help`" in err


def test_what_cannot_be_done_is_one_line_and_exit_code_1(karta: Karta) -> None:
    code, out, err = karta("migrate")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "start one, or give --database-url" in err


def test_the_version_is_told(karta: Karta) -> None:
    code, out, _ = karta("--version")
    assert code == 0
    assert out.strip()[0].isdigit()


def test_python_m_karta_is_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "karta", "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout == build_parser().format_help()


def test_errors_that_were_foreseen_are_told() -> None:
    error = DatabaseUnavailable("away")
    assert find_foreseen(error) is error
    assert find_foreseen(ExceptionGroup("", [ExceptionGroup("", [error])])) is error
    assert isinstance(find_foreseen(CommandError("x")), CommandError)
    assert isinstance(find_foreseen(SettingsError(("x",))), SettingsError)


@pytest.mark.parametrize("error", [ValueError(), ExceptionGroup("", [CommandError("x"), ValueError()])])
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    assert find_foreseen(error) is None


def test_no_command_leaves_a_core_file() -> None:
    """Nor what it starts: each may hold keys."""
    program = (
        "import argparse, resource, karta.cli\n"
        "karta.cli.parse = lambda _: argparse.Namespace(\n"
        "    run=lambda _: print(*resource.getrlimit(resource.RLIMIT_CORE)))\n"
        "karta.cli.main([])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0"]


def test_as_a_container_s_first_process_a_command_heeds_sigterm() -> None:
    """The kernel keeps the signal from process 1 unless it has a handler; elsewhere it kills."""
    # Waits as commands do: Trio hears of a signal that comes just before it sleeps, a plain wait does not.
    program = (
        "import argparse, os, sys, trio, karta.cli\n"
        "async def wait():\n"
        "    print('runs', flush=True)\n"
        "    await trio.sleep_forever()\n"
        "def run(_):\n"
        "    trio.run(wait)\n"
        "os.getpid = lambda: int(sys.argv[1])\n"
        "karta.cli.parse = lambda _: argparse.Namespace(run=run)\n"
        "sys.exit(karta.cli.main([]))\n"
    )
    for process_id, code in (("1", EXIT_INTERRUPTED), ("2", -signal.SIGTERM)):
        command = [sys.executable, "-P", "-c", program, process_id]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "runs\n"
            process.terminate()
            assert process.wait(60) == code
