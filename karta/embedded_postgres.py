"""The PostgreSQL of `karta up`: made on first use, on loopback TCP, with passwords from the first moment.

The cluster is made with every connection refused (`initdb --auth=reject`). The owner role and its
database are then put in by a single-user server, which needs no connection; the bootstrap superuser
never gets a password, so nobody can log in as it. The owner makes the roles of the two programs by
migrating, and `karta up` gives these passwords, so that each program logs in as its own role. There is
no Unix socket and no `trust`.

Under root the server runs as an unprivileged user that need not be able to reach the data directory: it is
started inside it, and calls it `/proc/self/cwd`.

A directory that was not finished is thrown away (it is made under another name and renamed); a server
that was left behind by a killed `karta up` is stopped before a new one is started.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import trio

from karta import keeper, scram
from karta.data_dir import DataDir
from karta.postgres_binaries import WHEEL, RunAs, choose_user, find_programs
from karta.service import Launch, Program
from karta.terminal import CommandError

DATABASE = "karta"
OWNER = "karta"
LOGIN_ROLES = ("karta_gateway", "karta_admin")
ROLES = (OWNER, *LOGIN_ROLES)
HOST = "127.0.0.1"
PASSWORD_BYTES = 24
POLL_SECONDS = 0.05
LEFTOVER_SECONDS_MAX = 15.0
"""A fast shutdown writes a checkpoint first, which takes as long as the disk needs."""
SERVER_OPTIONS: Mapping[str, str] = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "cluster_name": "karta",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
    # Statements may hold a password's verifier or a sealed secret: they do not belong in a log.
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_line_prefix": "%m [%p] ",
    # One machine's defaults: a bounded journal, and no compiling of queries that take a millisecond.
    "max_wal_size": "256MB",
    "jit": "off",
}
# Programs find their way by arguments alone: a PGPORT or PGDATA of the caller's must not lead them astray.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


@dataclass(frozen=True)
class Cluster:
    """A cluster on disk, ready to be started."""

    pgdata: Path
    log: Path
    programs: Path
    run_as: RunAs
    passwords: Mapping[str, str] = field(repr=False)

    def url(self, role: str, port: int) -> str:
        return f"postgresql://{role}:{self.passwords[role]}@{HOST}:{port}/{DATABASE}"

    def program(self, hold: int) -> Program:
        """To be kept running; its URL is `postgresql://127.0.0.1:PORT`."""

        def launch(earlier: str | None) -> Launch:
            port = _free_port() if earlier is None else int(earlier.rpartition(":")[2])
            return Launch(self._server_command(port, hold), ENVIRONMENT, self.pgdata)

        return Program(
            name="database",
            launch=launch,
            wait_ready=self._wait_ready,
            log=self.log,
            hold=(hold,),
            # Longer than all of the keeper's own steps.
            stop_seconds_max=sum(seconds for _, seconds in keeper.STEPS) + 5,
            first_starts_max=3,
        )

    def _server_command(self, port: int, hold: int) -> list[str]:
        ids = (
            []
            if self.run_as.uid is None
            else ["--user", str(self.run_as.uid), "--group", str(self.run_as.gid)]
        )
        options = [f"-c{name}={value}" for name, value in {**SERVER_OPTIONS, "port": str(port)}.items()]
        return [
            *(sys.executable, "-I", "-S", keeper.__file__, *ids, "--hold", str(hold), "--"),
            *(str(self.programs / "postgres"), "-D", _location(self.pgdata, self.run_as), *options),
        ]

    async def _wait_ready(self, process: trio.Process) -> str | None:
        """The server's own pid file says when it is ready, and on which port."""
        while process.poll() is None:
            lines = _read_pid_file(self.pgdata)
            if len(lines) >= 8 and lines[7].strip() == "ready":
                return f"postgresql://{HOST}:{lines[3].strip()}"
            await trio.sleep(POLL_SECONDS)
        return None


async def prepare(data_dir: DataDir) -> Cluster:
    """The cluster of a data directory that this process has locked; made now if there is none.

    Raises `CommandError` when it cannot be made or a server left behind cannot be stopped.
    """
    pgdata = data_dir.postgres
    run_as = choose_user(pgdata)
    programs = find_programs(run_as)
    if not (await trio.Path(pgdata).exists()):
        passwords = {role: secrets.token_urlsafe(PASSWORD_BYTES) for role in ROLES}
        data_dir.write("passwords", passwords)
        await _make(pgdata, programs, run_as, passwords[OWNER])
    _check_usable(pgdata, run_as)
    return Cluster(pgdata, data_dir.postgres_log, programs, run_as, data_dir.read("passwords"))


def role_statements(passwords: Mapping[str, str]) -> str:
    """What the owner runs after migrating, so that the two programs can log in."""
    return "\n".join(
        f"ALTER ROLE {role} LOGIN PASSWORD '{scram.make_verifier(passwords[role])}';" for role in LOGIN_ROLES
    )


async def stop_leftover(pgdata: Path) -> None:
    """Stop a server that a killed `karta up` left behind on `pgdata`."""
    lines = _read_pid_file(pgdata)
    if not lines or not lines[0].strip().isdigit():
        return
    pid = int(lines[0])
    if not runs_in(pid, pgdata):
        if _exists(pid):
            # The number belongs to some other process by now, which PostgreSQL would take for a server.
            (pgdata / "postmaster.pid").unlink(missing_ok=True)
        return
    for number in (signal.SIGINT, signal.SIGQUIT):
        os.kill(pid, number)
        with trio.move_on_after(LEFTOVER_SECONDS_MAX):
            while runs_in(pid, pgdata):  # noqa: ASYNC110 (another process ends; nothing tells us when)
                await trio.sleep(POLL_SECONDS)
            return
    raise CommandError(
        f"a PostgreSQL left behind (process {pid}) does not stop: `kill {pid}`, then start again"
    )


async def _make(pgdata: Path, programs: Path, run_as: RunAs, owner_password: str) -> None:
    building = _begin_anew(pgdata.with_name(f"{pgdata.name}.new"), run_as)
    location = _location(building, run_as)
    await _run(
        [
            *(str(programs / "initdb"), "-D", location, "--username=postgres", "--auth=reject"),
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ],
        building,
        run_as,
    )
    statements = (
        f"CREATE ROLE {OWNER} LOGIN CREATEROLE CREATEDB PASSWORD '{scram.make_verifier(owner_password)}';\n"
        f"CREATE DATABASE {DATABASE} OWNER {OWNER};\n"
    )
    single_user = [str(programs / "postgres"), "--single", "-D", location, "postgres"]
    await _run(single_user, building, run_as, statements)
    _finish(building, pgdata)


def _begin_anew(building: Path, run_as: RunAs) -> Path:
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(mode=0o700)
    if run_as.uid is not None and run_as.gid is not None:
        os.chown(building, run_as.uid, run_as.gid)
    return building


def _finish(building: Path, pgdata: Path) -> None:
    (building / "pg_hba.conf").write_text(f"host all all {HOST}/32 scram-sha-256\n")
    building.rename(pgdata)


async def _run(command: list[str], directory: Path, run_as: RunAs, stdin: str = "") -> None:
    finished = await trio.run_process(
        command,
        stdin=stdin.encode(),
        stdout=subprocess.DEVNULL,
        capture_stderr=True,
        check=False,
        cwd=directory,
        env=ENVIRONMENT,
        user=run_as.uid,
        group=run_as.gid,
        extra_groups=None if run_as.uid is None else [],
    )
    said = finished.stderr.decode(errors="replace")
    # A single-user server goes on after an error and ends well: what it said counts as much as its code.
    if finished.returncode != 0 or "ERROR:" in said or "FATAL:" in said:
        told = complaint(said) or f"exit code {finished.returncode}"
        raise CommandError(f"cannot make the embedded database: {Path(command[0]).name} said: {told}")


def complaint(said: str) -> str:
    """The line that says what went wrong. What programs say last is often only how they tidied up."""
    lines = said.strip().splitlines()
    wrong = [line for line in lines if re.search(r"\b(?:error|ERROR|FATAL|PANIC):", line)]
    return (wrong[:1] or lines[-1:] or [""])[0]


def _check_usable(pgdata: Path, run_as: RunAs) -> None:
    if not run_as.owns(pgdata):
        raise CommandError(
            f"{pgdata} belongs to another user: run `karta up` as the user who ran it first, or name another "
            "--data-dir"
        )
    try:
        made_by = (pgdata / "PG_VERSION").read_text().strip()
    except (OSError, ValueError):
        raise CommandError(
            f"{pgdata} is damaged (no PG_VERSION): put it back from a backup, or begin anew in another "
            "--data-dir"
        ) from None
    if made_by != (ours := version(WHEEL).partition(".")[0]):
        raise CommandError(
            f"{pgdata} was made by PostgreSQL {made_by} and this Karta brings {ours}: install the older "
            "Karta, dump the database, and restore it into a new data directory"
        )


def _location(pgdata: Path, run_as: RunAs) -> str:
    return str(pgdata) if run_as.uid is None else "/proc/self/cwd"


def _read_pid_file(pgdata: Path) -> list[str]:
    try:
        return (pgdata / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def runs_in(pid: int, directory: Path) -> bool:
    """Whether the process lives and has `directory` as its working directory, as only a cluster's server
    has."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(directory)
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
