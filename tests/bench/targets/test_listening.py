"""Free ports are free; a program that does not come to serve is told with what it said."""

import socket
import sys
from pathlib import Path

import pytest

from bench.process import child_process
from bench.targets.base import TargetUnavailable
from bench.targets.listening import accepting, free_port

SERVE = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"


def test_a_free_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", free_port())):
        pass


async def test_it_waits_until_the_program_accepts_and_whatever_else_holds(tmp_path: Path) -> None:
    port = free_port()
    asked: list[bool] = []

    def also() -> bool:
        asked.append(True)
        return len(asked) == 3

    argv = [sys.executable, "-c", SERVE, str(port)]
    async with child_process(argv, stderr_path=tmp_path / "stderr") as child:
        await accepting(child, port, name="it", seconds_max=30, also=also)
    assert len(asked) == 3


async def test_one_that_ends_or_takes_too_long_is_quoted(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import sys; sys.exit('no such luck')"]
    async with child_process(argv, stderr_path=tmp_path / "stderr") as child:
        with pytest.raises(TargetUnavailable, match="it does not serve: no such luck"):
            await accepting(child, free_port(), name="it", seconds_max=30)
    argv = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    async with child_process(argv, stderr_path=tmp_path / "other") as child:
        with pytest.raises(TargetUnavailable, match="it said nothing"):
            await accepting(child, free_port(), name="it", seconds_max=0.1)
