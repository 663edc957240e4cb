"""A program is started on a free port, watched, and ended; its keys are in its environment alone."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.process_watch import command_line
from bench.targets.base import Installation, TargetContext, TargetUnavailable
from bench.targets.packages import Package
from bench.targets.program import ProgramTarget, Start
from bench.targets.registry import INSTALLABLE

SERVE = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"
CONTEXT = {"upstream_url": "http://127.0.0.1:9"}


class Serving(ProgramTarget):
    name = "serving"
    description = "a program that listens"
    package = Package(name="ferrogw", source="pypi", program="x")
    ready = True

    def installation(self) -> Installation:
        return Installation(ready=self.ready, mend="karta bench install serving")

    def start(self, context: TargetContext, port: int) -> Start:
        argv = [sys.executable, "-c", SERVE, str(port)]
        return Start(argv=argv, environment={"SECRET": "s"}, keys=["s"], headers={"x-a": "b"})


async def test_it_runs_while_it_is_open(tmp_path: Path) -> None:
    async with Serving().open(TargetContext(directory=tmp_path, **CONTEXT)) as running:
        [pid] = running.pids
        assert running.base_url.rpartition(":")[2] == command_line(pid)[-1]
        assert (running.keys, running.headers) == (["s"], {"x-a": "b"})
    assert command_line(pid) == []


async def test_what_it_cannot_is_told(tmp_path: Path) -> None:
    missing = Serving()
    missing.ready = False
    for target, workers, says in ((missing, 1, "karta bench install"), (Serving(), 2, "1 worker")):
        with pytest.raises(TargetUnavailable, match=says):
            async with target.open(TargetContext(directory=tmp_path, workers=workers, **CONTEXT)):
                raise AssertionError("it started")


def test_no_program_is_told_a_key_by_its_arguments(tmp_path: Path) -> None:
    for target in INSTALLABLE.values():
        context = TargetContext(upstream_url="http://127.0.0.1:9", directory=tmp_path, ca_file="/ca.pem")
        start = target.start(context, 1234)
        argv: Sequence[str] = start.argv
        assert any("1234" in text for text in (*argv, *start.environment.values())) or any(
            "1234" in path.read_text() for path in tmp_path.iterdir()
        )
        for key in start.keys:
            assert not any(key in argument for argument in argv)
            assert not any(key in path.read_text() for path in tmp_path.iterdir())
        assert "/ca.pem" in start.environment.values()
