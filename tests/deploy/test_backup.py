"""The scripts of `deploy/backup`: what was done up to a moment comes back on a second server, whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from karta.cli import main
from storage.bridge import open_database
from storage.migrate import migrate
from storage.model import Actor, ActorKind, Plan
from storage.organizations import create_organization
from tests.deploy.files import DEPLOY
from tests.support.postgres import PostgresServer, run_in_own_trio

ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="tests")
SCRIPTS = DEPLOY / "backup"


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="karta-pitr-") as folder:
        yield Path(folder)


def _archiving(folder: Path) -> PostgresServer:
    server = PostgresServer(folder / "first")
    for name in ("wal", "base"):
        (server.directory / name).mkdir()
        if server._user is not None:
            shutil.chown(server.directory / name, server._user)
    shutil.copy(SCRIPTS / "archive-wal.sh", server.directory)
    command = f'{server.directory}/archive-wal.sh "%p" "%f" {server.directory}/wal'
    # Whole pages: a base backup needs them.
    server.settings = {"archive_mode": "on", "archive_command": command, "full_page_writes": "on"}
    return server


async def _create(url: str, *names: str) -> None:
    async with open_database(url, role="karta_admin", connections_max=1) as db:
        for name in names:
            await create_organization(db, ACTOR, name=name, plan=Plan.PRO)


def test_a_moment_comes_back_and_verifies(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = _archiving(folder)
    server.start()
    try:
        server.create_database("karta")
        url = server.url("karta")
        run_in_own_trio(migrate, url)
        run_in_own_trio(_create, url, "Before the backup")
        connection = f"host={server.directory} user=postgres"
        backup = server.run_script(SCRIPTS / "backup.sh", str(server.directory / "base"), connection)
        run_in_own_trio(_create, url, "After the backup")
        moment = server.sql("SELECT now()")
        run_in_own_trio(_create, url, "After the moment")
        server.sql("DROP TABLE usage CASCADE; SELECT pg_switch_wal()", "karta")
    finally:
        server.stop()

    data = server.directory / "second" / "data"
    data.parent.mkdir()
    if server._user is not None:
        shutil.chown(data.parent, server._user)
    archive = str(server.directory / "wal")
    server.run_script(SCRIPTS / "restore.sh", backup, archive, str(data), moment)
    with pytest.raises(RuntimeError, match="name a new directory"):
        server.run_script(SCRIPTS / "restore.sh", backup, archive, str(data), moment)
    restored = PostgresServer(data.parent)
    restored.settings = {"archive_mode": "off"}
    restored.start()
    try:
        url = restored.url("karta")
        names = restored.sql("SELECT name FROM organizations ORDER BY name", "karta").splitlines()
        assert names == ["After the backup", "Before the backup"]
        assert restored.sql("SELECT count(*) FROM usage", "karta") == "0"
        assert main(["audit", "verify", "--database-url", url]) == 0, capsys.readouterr()
        # It is a server like any other: it takes changes, and their chain goes on.
        run_in_own_trio(_create, url, "After the restore")
        assert main(["audit", "verify", "--database-url", url]) == 0
        restored.sql(
            "ALTER TABLE audit_log DISABLE TRIGGER ALL; DELETE FROM audit_log WHERE seq = 1", "karta"
        )
        with pytest.raises(SystemExit):
            main(["audit", "verify", "--database-url", url])
    finally:
        restored.stop()
