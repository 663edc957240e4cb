"""`karta gateway`, `karta admin` and `karta sim` as processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from karta.data_dir import DataDir, write_private
from storage.sealing import MasterKeys
from tests.karta.conftest import Karta
from tests.karta.test_data_dir import RUNNING

PROGRAMS = ["gateway", "admin", "sim"]
KEYS = {"gateway": "gateway_url", "admin": "admin_url", "sim": "base_url"}
PATHS = {"gateway": "/healthz", "admin": "/healthz", "sim": "/_sim/ledger"}


@contextmanager
def started(
    name: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("KARTA_")}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "karta", name, "--json", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**inherited, **(environment or {})},
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield process, json.loads(line) if line else {}
        finally:
            process.kill()


def environment_of(name: str, database_url: str, directory: Path) -> dict[str, str]:
    if name == "sim":
        return {}
    return {
        "KARTA_DATABASE_URL": database_url,
        f"KARTA_{name.upper()}_BIND": "127.0.0.1:0",
        "KARTA_SPOOL_DIR": str(directory / "spool"),
    }


@pytest.mark.parametrize("name", ["gateway", "admin", "webhooks"])
def test_one_takes_no_running_up_that_it_was_not_told_of(karta: Karta, name: str) -> None:
    assert "running `karta up`)" not in " ".join(karta(name, "--help")[1].split())
    code, _, err = karta(name)
    assert code == 1
    assert "KARTA_DATABASE_URL: not set" in err


@pytest.mark.parametrize("name", PROGRAMS)
def test_one_says_when_it_is_ready_and_stops_at_sigterm(name: str, database_url: str, tmp_path: Path) -> None:
    with started(name, environment=environment_of(name, database_url, tmp_path)) as (process, told):
        assert list(told) == [KEYS[name]]
        with urllib.request.urlopen(told[KEYS[name]] + PATHS[name], timeout=30) as response:
            assert response.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_one_stops_with_its_stdin(name: str, database_url: str, tmp_path: Path) -> None:
    environment = environment_of(name, database_url, tmp_path)
    with started(name, "--stop-with-stdin", environment=environment) as (process, _):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_taken_port_is_one_clear_line(name: str, database_url: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment = environment_of(name, database_url, tmp_path)
        arguments = ("--port", str(port)) if name == "sim" else ()
        if name != "sim":
            environment[f"KARTA_{name.upper()}_BIND"] = f"127.0.0.1:{port}"
        with started(name, *arguments, environment=environment) as (process, told):
            assert told == {}
            assert process.wait(30) == 1
            assert process.stderr is not None
            (line,) = process.stderr.read().splitlines()
    assert line.startswith(f"karta: cannot listen on 127.0.0.1:{port} (Address already in use)")
    assert ("--port" if name == "sim" else f"KARTA_{name.upper()}_BIND") in line


def test_a_spool_in_use_is_one_clear_line(database_url: str, tmp_path: Path) -> None:
    environment = environment_of("gateway", database_url, tmp_path)
    with (
        started("gateway", environment=environment) as (_, first),
        started("gateway", environment=environment) as (second, told),
    ):
        assert first
        assert told == {}
        assert second.wait(30) == 1
        assert second.stderr is not None
        (line,) = second.stderr.read().splitlines()
    assert line.endswith("give this one its own by KARTA_SPOOL_DIR")


def test_a_spool_that_cannot_be_made_is_one_clear_line(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    with started("gateway", environment=environment_of("gateway", database_url, tmp_path)) as (process, _):
        assert process.wait(30) == 1
        assert process.stderr is not None
        assert process.stderr.read() == f"karta: cannot use {tmp_path / 'spool'} (File exists)\n"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gateway", ()),
        ("gateway", ("--workers", "2")),
        ("admin", ()),
        ("admin", ("--processes", "2")),
        ("webhooks", ()),
    ],
)
def test_of_a_running_up_one_takes_the_master_keys_as_well(
    name: str, arguments: tuple[str, ...], database_url: str, tmp_path: Path
) -> None:
    data_dir = DataDir.open(tmp_path / "data")
    write_private(data_dir.master_keys_file, MasterKeys.generate(2).encode())
    environment = {
        **environment_of(name, database_url, tmp_path),
        "KARTA_DATABASE_URL": "postgresql://another/karta",
        "KARTA_ADMIN_URL": "https://admin.example.com",
        # Without a master key nothing starts in production; of those of another database it is one too many.
        "KARTA_ENV": "production",
        "KARTA_MASTER_KEYS": "1:of another database",
        "KARTA_TRUSTED_PROXIES": "127.0.0.1",
    }
    running = replace(RUNNING, database_url=database_url, master_keys_file=str(data_dir.master_keys_file))
    with data_dir.locked():
        data_dir.announce(running)
        with started(name, "--data-dir", str(data_dir.path), *arguments, environment=environment) as (
            process,
            told,
        ):
            assert told, process.communicate()[1]
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


@pytest.mark.parametrize("name", ["gateway", "admin"])
def test_settings_that_are_wrong_are_one_line(
    name: str, karta: Karta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KARTA_ENV", "production")
    monkeypatch.setenv(f"KARTA_{name.upper()}_BIND", "x")
    code, out, err = karta(name)
    assert (code, out, err.count("\n")) == (1, "", 1)
    for variable in (
        "KARTA_DATABASE_URL",
        "KARTA_MASTER_KEYS",
        "KARTA_TRUSTED_PROXIES",
        f"KARTA_{name.upper()}_BIND",
    ):
        assert variable in err
