"""A real PgBouncer before the tests' PostgreSQL, set up as docs/how-to/pgbouncer.md says."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.karta.processes import wait_until
from tests.support.ports import free_port
from tests.support.postgres import SYSTEM_USER, PostgresServer

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "pgbouncer.md"
PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
LOGINS = {"karta_gw": "karta_gateway", "karta_ad": "karta_admin"}
"""Of the guide, with the roles that they stand for."""


@contextmanager
def pgbouncer(server: PostgresServer, database: str, mode: str, **settings: str) -> Iterator[str]:
    """`postgresql://{}@127.0.0.1:PORT/DATABASE`, for a login; `mode` is what it pools by."""
    if PROGRAM is None:
        pytest.skip("no PgBouncer here (Debian: pgbouncer)")
    (ignored,) = re.findall(r"^ +(ignore_startup_parameters = .*)$", GUIDE.read_text(), re.MULTILINE)
    port = free_port()
    lines = [
        *("[databases]", f"{database} = host={server.directory}", "[pgbouncer]", "unix_socket_dir ="),
        *(
            "listen_addr = 127.0.0.1",
            f"listen_port = {port}",
            "auth_type = trust",
            f"pool_mode = {mode}",
            ignored,
        ),
        *(f"{name} = {value}" for name, value in settings.items()),
    ]
    with tempfile.TemporaryDirectory(prefix="karta-pooler-") as name:
        folder = Path(name)
        (folder / "users").write_text("".join(f'"{login}" ""\n' for login in ("pooled", *LOGINS)))
        (folder / "ini").write_text("\n".join([*lines, f"auth_file = {folder}/users\n"]))
        command = [PROGRAM, str(folder / "ini")]
        if os.geteuid() == 0:
            for path in (folder, folder / "users", folder / "ini"):
                shutil.chown(path, SYSTEM_USER)
            command[1:1] = ["-u", SYSTEM_USER]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: _listens(port))
            yield f"postgresql://{{}}@127.0.0.1:{port}/{database}"
        finally:
            process.terminate()
            process.wait(30)


def make_logins(server: PostgresServer) -> None:
    """The guide's, each for its role. A server's logins are all its databases'."""
    text = GUIDE.read_text()
    statements = re.findall(r"^ +((?:CREATE|GRANT|ALTER) [^;]*);", text, re.MULTILINE)
    assert len(statements) >= 5
    for login, role in LOGINS.items():
        for statement in statements:
            own = statement.replace("karta_gateway", role).replace("karta_gw", login)
            if not own.startswith("CREATE") or not server.sql(
                f"SELECT 1 FROM pg_roles WHERE rolname = '{login}'"
            ):
                server.sql(own)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
