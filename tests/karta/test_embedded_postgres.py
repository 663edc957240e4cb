"""The embedded cluster: made closed, started, refused to strangers, and taken over from the dead."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from karta import embedded_postgres
from karta.data_dir import DataDir
from karta.embedded_postgres import Cluster, complaint, prepare, role_statements, stop_leftover
from karta.service import Service, running
from karta.terminal import CommandError
from storage.bridge import open_database
from storage.errors import StorageError
from storage.migrate import migrate


@pytest.fixture
def data_dir(tmp_path: Path) -> DataDir:
    return DataDir.open(tmp_path / "data")


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[int]:
    with (tmp_path / "hold").open("w") as file:
        yield file.fileno()


@asynccontextmanager
async def started(data_dir: DataDir, hold: int) -> AsyncIterator[tuple[Cluster, Service, int]]:
    cluster = await prepare(data_dir)
    async with running(cluster.program(hold)) as service:
        url = await service.ready()
        yield cluster, service, int(url.rpartition(":")[2])


def test_what_went_wrong_is_told_and_not_what_was_said_last() -> None:
    said = "a hint\ninitdb: error: could not write: No space left on device\ninitdb: removing contents\n"
    assert complaint(said) == "initdb: error: could not write: No space left on device"
    assert complaint("only this\n") == "only this"
    assert complaint("") == ""


async def test_it_is_closed_to_all_but_its_roles(data_dir: DataDir, hold: int) -> None:
    async with started(data_dir, hold) as (cluster, _, port):
        async with open_database(cluster.url("karta", port), role=None) as db:
            assert await db.fetch_value("SELECT current_user") == "karta"
            assert await db.fetch_value("SELECT datcollate FROM pg_database WHERE datname = 'karta'") == "C"
            assert not await db.fetch_value("SELECT rolsuper FROM pg_roles WHERE rolname = 'karta'")
            assert await db.fetch_value("SHOW data_checksums") == "on"
        for stranger in ("postgres:", "postgres:postgres", "karta:wrong", "karta:"):
            url = f"postgresql://{stranger}@127.0.0.1:{port}/postgres"
            with pytest.raises(StorageError):
                async with open_database(url, role=None) as db:
                    await db.fetch_value("SELECT 1")
    assert list(cluster.pgdata.glob("*.s.PGSQL*")) == []


async def test_programs_log_in_as_their_own_roles(data_dir: DataDir, hold: int) -> None:
    async with started(data_dir, hold) as (cluster, _, port):
        await migrate(cluster.url("karta", port))
        async with open_database(cluster.url("karta", port), role=None) as db:
            await db.execute(role_statements(cluster.passwords))
        for role in embedded_postgres.LOGIN_ROLES:
            async with open_database(cluster.url(role, port), role=role) as db:
                assert await db.fetch_value("SELECT session_user") == role
            # The owner can act as them too, as one login does for an external database.
            async with open_database(cluster.url("karta", port), role=role) as db:
                assert await db.fetch_value("SELECT current_user") == role


async def test_data_and_passwords_outlive_a_restart(data_dir: DataDir, hold: int) -> None:
    async with (
        started(data_dir, hold) as (cluster, _, port),
        open_database(cluster.url("karta", port), role=None) as db,
    ):
        await db.execute("CREATE TABLE kept AS SELECT 1 AS x")
    async with (
        started(data_dir, hold) as (again, _, port),
        open_database(again.url("karta", port), role=None) as db,
    ):
        assert await db.fetch_value("SELECT x FROM kept") == 1
        assert again.passwords == cluster.passwords


async def test_no_password_is_in_any_file_but_its_own(data_dir: DataDir, hold: int) -> None:
    async with started(data_dir, hold) as (cluster, _, _port):
        pass
    assert files_with(cluster.passwords["karta"], data_dir.path) == ["passwords.json"]
    assert "hunter2" not in repr(Cluster(Path(), Path(), Path(), cluster.run_as, {"karta": "hunter2"}))


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def files_with(secret: str, directory: Path) -> list[str]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return [path.name for path in files if secret.encode() in path.read_bytes()]


async def test_a_cluster_that_was_not_finished_is_made_anew(data_dir: DataDir, hold: int) -> None:
    unfinished = data_dir.path / "postgres.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18")
    async with started(data_dir, hold):
        assert names_in(data_dir.path).isdisjoint({unfinished.name})


async def test_a_server_left_behind_is_stopped(data_dir: DataDir, hold: int) -> None:
    async with started(data_dir, hold) as (cluster, service, _):
        server = int((cluster.pgdata / "postmaster.pid").read_text().split()[0])
        assert service.process is not None
        # Without its keeper nobody stops it.
        os.kill(service.process.pid, signal.SIGSTOP)
        await stop_leftover(cluster.pgdata)
        assert not embedded_postgres.runs_in(server, cluster.pgdata)
        os.kill(service.process.pid, signal.SIGCONT)


async def test_a_pid_file_of_somebody_elses_process_is_cleared(data_dir: DataDir) -> None:
    data_dir.postgres.mkdir()
    pid_file = data_dir.postgres / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n")
    await stop_leftover(data_dir.postgres)
    assert not pid_file.exists()


@pytest.mark.parametrize("content", ["", "nonsense\n", "999999999\n"])
async def test_a_pid_file_of_nobody_is_left_to_postgresql(data_dir: DataDir, content: str) -> None:
    data_dir.postgres.mkdir()
    pid_file = data_dir.postgres / "postmaster.pid"
    pid_file.write_text(content)
    await stop_leftover(data_dir.postgres)
    assert pid_file.read_text() == content


async def test_another_major_version_is_refused(data_dir: DataDir, hold: int) -> None:
    async with started(data_dir, hold) as (cluster, _, _port):
        pass
    (cluster.pgdata / "PG_VERSION").write_text("17\n")
    with pytest.raises(CommandError, match="made by PostgreSQL 17"):
        await prepare(data_dir)
    (cluster.pgdata / "PG_VERSION").unlink()
    with pytest.raises(CommandError, match="is damaged"):
        await prepare(data_dir)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_root_finds_a_users_cluster_again(data_dir: DataDir, hold: int) -> None:
    async with started(data_dir, hold) as (cluster, _, _port):
        pass
    assert cluster.pgdata.stat().st_uid != 0
    assert (await prepare(data_dir)).run_as == cluster.run_as
