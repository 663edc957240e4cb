"""What `karta doctor` finds wrong with a database that answers."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import GatewaySettings
from karta import database_checks
from karta.database_checks import check_database
from storage.bridge import Database, open_database
from storage.credentials import set_credential
from storage.model import Actor, ActorKind, Plan
from storage.organizations import create_organization
from storage.sealing import MasterKeys
from tests.karta.processes import free_port, wait_until
from tests.support.postgres import SYSTEM_USER, PostgresServer

ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="tests")


async def told(
    db: Database, opened_by: MasterKeys | None = None, **settings: Any
) -> dict[str, tuple[str, str]]:
    loaded = GatewaySettings.load(database_url="postgresql://x/y", **settings)
    return {name: (state, detail) async for name, state, detail in check_database(db, [loaded], opened_by)}


async def test_a_sound_one(owner_db: Database) -> None:
    found = await told(owner_db, MasterKeys.parse(MasterKeys.generate()))
    assert {name: state for name, (state, _) in found.items()} == {
        "notifications": "ok",
        "clock": "ok",
        "connections": "ok",
        "sealed": "ok",
    }


async def test_of_production_more_is_wanted(owner_db: Database) -> None:
    keys = MasterKeys.generate()
    found = await told(owner_db, env="production", master_keys=keys, trusted_proxies="10.0.0.0/8", workers=40)
    assert [name for name, (state, _) in found.items() if state == "warning"] == [
        "connections",
        "archive",
        "login",
    ]
    assert "docs/how-to/backup.md" in found["archive"][1]


async def test_a_clock_that_is_wrong(owner_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = database_checks.time.time
    monkeypatch.setattr(database_checks.time, "time", lambda: honest() + 60)
    assert (await told(owner_db))["clock"][0] == "warning"


async def test_keys_that_do_not_open(owner_db: Database, admin_db: Database) -> None:
    organization = await create_organization(admin_db, ACTOR, name="Acme", plan=Plan.PRO)
    first, second = MasterKeys.generate(1), MasterKeys.generate(2)
    secret = bytearray(b"sk-ant-planted")
    await set_credential(
        admin_db,
        ACTOR,
        MasterKeys.parse(first),
        org_id=organization.org_id,
        provider="anthropic",
        secret=secret,
    )
    state, detail = (await told(owner_db, MasterKeys.parse(second)))["sealed"]
    assert (state, "1 under version 1" in detail) == ("failed", True)
    state, detail = (await told(owner_db))["sealed"]
    assert (state, "1 under version 1" in detail) == ("failed", True), "no key at all"
    state, detail = (await told(owner_db, MasterKeys.parse(f"{first},{second}")))["sealed"]
    assert (state, "master-key rotate" in detail) == ("warning", True)


@pytest.fixture
def pooled(
    postgres_server: PostgresServer, database_name: str, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The database through PgBouncer, pooled as the test's parameter says; as a login of its own, whose
    settings stand for those that Karta cannot send through a pooler."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("no PgBouncer here (Debian: pgbouncer)")
    postgres_server.sql("DROP ROLE IF EXISTS pooled; CREATE ROLE pooled LOGIN SUPERUSER", database_name)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="karta-pooler-") as name:
        folder = Path(name)
        (folder / "users").write_text('"pooled" ""\n')
        (folder / "ini").write_text(
            f"[databases]\n{database_name} = host={postgres_server.directory}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {folder}/users\npool_mode = {request.param}\n"
            "ignore_startup_parameters = role, search_path, statement_timeout, "
            "idle_in_transaction_session_timeout, tcp_keepalives_idle, tcp_keepalives_interval, "
            "tcp_keepalives_count, tcp_user_timeout\n"
        )
        for path in (folder, folder / "users", folder / "ini"):
            shutil.chown(path, SYSTEM_USER)
        command = [program, "-u", SYSTEM_USER, str(folder / "ini")]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: _listens(port))
            yield f"postgresql://pooled@127.0.0.1:{port}/{database_name}"
        finally:
            process.terminate()
            process.wait(30)


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("pooled", "state"), [("session", "ok"), ("transaction", "failed")], indirect=["pooled"]
)
async def test_pooled_by_session_all_is_well_and_by_transaction_it_is_told(pooled: str, state: str) -> None:
    async with open_database(pooled, role=None) as db:
        assert (await told(db))["notifications"][0] == state
