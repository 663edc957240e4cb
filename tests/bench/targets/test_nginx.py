"""nginx is used where it is installed, with a configuration of its own, and missed politely where it is
not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from bench.load.learn import learn_expectation
from bench.load.plan import Question
from bench.process_watch import command_line
from bench.targets.base import TargetContext, TargetUnavailable
from bench.targets.nginx import (
    PROGRAM_VARIABLE,
    NginxTarget,
    find_program,
    program_version,
    write_configuration,
)

DEADLINE_SECONDS = 10.0


def test_the_configuration_touches_only_its_own_folder(tmp_path: Path) -> None:
    text = write_configuration(tmp_path, "http://127.0.0.1:9", 81).read_text()
    assert "server 127.0.0.1:9;" in text
    assert "listen 127.0.0.1:81 " in text
    paths = [
        line.split()[1] for line in text.splitlines() if line.strip().startswith(("pid", "client_body_temp"))
    ]
    assert all(path.startswith(str(tmp_path)) for path in paths)
    assert "/var" not in text.replace(str(tmp_path), "")


def test_tls_and_workers_are_configured(tmp_path: Path) -> None:
    path = write_configuration(tmp_path, "https://127.0.0.1:9", 81, workers=2, ca_file="/ca.pem")
    text = path.read_text()
    assert "worker_processes 2;" in text
    assert "proxy_pass https://provider;" in text
    assert "proxy_ssl_trusted_certificate /ca.pem;" in text
    assert "proxy_ssl_verify on;" in text


def test_what_cannot_be_run_has_no_version() -> None:
    assert program_version("/nonexistent") == ""


async def test_it_is_missed_politely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROGRAM_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("bench.targets.nginx._SYSTEM_FOLDERS", ())
    with pytest.raises(TargetUnavailable, match="apt install nginx"):
        async with NginxTarget().open(TargetContext(upstream_url="http://127.0.0.1:1", directory=tmp_path)):
            raise AssertionError("it started")


async def test_a_program_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nginx"
    program.write_text("#!/bin/sh\necho 'no such directive' >&2\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setenv(PROGRAM_VARIABLE, str(program))
    with pytest.raises(TargetUnavailable, match="no such directive"):
        async with NginxTarget().open(TargetContext(upstream_url="http://127.0.0.1:1", directory=tmp_path)):
            raise AssertionError("it started")


@pytest.mark.skipif(find_program() is None, reason="nginx is not installed")
async def test_it_answers_as_the_provider_does(provider_url: str, tmp_path: Path) -> None:
    question = Question(behaviour="tokens=3", stream=True)
    async with NginxTarget().open(TargetContext(upstream_url=provider_url, directory=tmp_path)) as running:
        assert len(running.pids) == 2
        through = await learn_expectation(running.base_url, question, running.keys[0])
    assert through == await learn_expectation(provider_url, question, "sk-test")
    assert all(command_line(pid) == [] for pid in running.pids)


@pytest.mark.skipif(find_program() is None, reason="nginx is not installed")
async def test_its_workers_die_with_a_killed_harness(tmp_path: Path) -> None:
    harness = (
        "import trio\n"
        "from pathlib import Path\n"
        "from bench.targets.base import TargetContext\n"
        "from bench.targets.nginx import NginxTarget\n"
        "async def main():\n"
        f"    context = TargetContext(upstream_url='http://127.0.0.1:1', directory=Path({str(tmp_path)!r}))\n"
        "    async with NginxTarget().open(context) as running:\n"
        "        print(*running.pids, flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    with subprocess.Popen([sys.executable, "-c", harness], stdout=subprocess.PIPE, text=True) as running:  # noqa: ASYNC220
        assert running.stdout is not None
        descriptors = [os.pidfd_open(int(pid)) for pid in running.stdout.readline().split()]
        running.kill()
    try:
        assert len(descriptors) == 2
        with trio.fail_after(DEADLINE_SECONDS):
            for descriptor in descriptors:
                await trio.lowlevel.wait_readable(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
