"""What `karta up` keeps on disk, and how other commands find a running one.

    lock             held (flock) by the `karta up` that uses the directory; the kernel drops it on any death
    children.lock    held by each of its children, so that the next one can wait for orphans
    running.json     the URLs of the running `karta up`, for other commands; only while it runs
    first_run.json   what the first run made; secrets are taken out once they have been printed
    passwords.json   of the embedded database's roles
    master.keys      seals provider credentials
    postgres/        the embedded database; postgres.log beside it, begun anew at each start
    spool/           the gateway's usage journal

The directory is 0700 and every file with a secret 0600, replaced whole by rename, so that a crash leaves
the old content or the new.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from karta.terminal import CommandError

LOCK_WAIT_SECONDS = 0.5
"""Another command holds the lock for microseconds when it looks whether a `karta up` runs; wait that out."""


def default_path() -> Path:
    """Where the XDG rules put an application's data: `~/.local/share/karta` unless XDG_DATA_HOME is set."""
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "karta"


@dataclass(frozen=True)
class Running:
    """How to reach a running `karta up`. Holds passwords within URLs, so it is never printed."""

    pid: int
    gateway_url: str
    admin_url: str
    database_url: str
    """As the owner of the schema: for migrations."""
    admin_database_url: str
    """As karta_admin: for every other command."""
    master_keys_file: str | None
    """None when the keys come from the environment."""

    def __repr__(self) -> str:
        return f"Running(pid={self.pid})"


class DataDir:
    """One data directory. Made by `open`, which does not lock it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.postgres = path / "postgres"
        self.postgres_log = path / "postgres.log"
        self.spool = path / "spool"
        self.master_keys_file = path / "master.keys"
        self._lock = path / "lock"
        self._running = path / "running.json"

    @classmethod
    def open(cls, path: Path) -> DataDir:
        """Creates the directory (0700) if need be. Raises `CommandError` if it cannot be ours."""
        path = path.expanduser().absolute()
        data_dir = cls(path)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not data_dir._lock.exists():
                if any(path.iterdir()):
                    raise CommandError(
                        f"{path} holds files that are not Karta's: name an empty directory with --data-dir"
                    )
                path.chmod(0o700)
                data_dir._lock.touch(mode=0o600)
            if path.stat().st_mode & 0o077:
                raise CommandError(f"others may look into {path}, which holds keys: `chmod 700 {path}`")
            if not os.access(path, os.W_OK | os.X_OK) or not os.access(data_dir._lock, os.W_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise CommandError(
                f"cannot use {path} as data directory ({error.strerror}): name another with --data-dir"
            ) from None
        return data_dir

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory for this process. Raises `CommandError` when another `karta up` does."""
        with self._lock.open("r+") as file:
            deadline = time.monotonic() + LOCK_WAIT_SECONDS
            while not _try_lock(file.fileno(), fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    holder = file.read(32).strip() or "unknown"
                    raise CommandError(
                        f"`karta up` is already running on {self.path} (process {holder}): stop that one, or "
                        "name another --data-dir"
                    )
                threading.Event().wait(LOCK_WAIT_SECONDS / 20)
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            try:
                yield
            finally:
                self._running.unlink(missing_ok=True)
                file.truncate(0)

    @contextlib.contextmanager
    def lock_children(self) -> Iterator[Callable[[], int | None]]:
        """Yields what tries to lock `children.lock`: a descriptor for children to inherit, or None while
        children of an earlier `karta up` live. The lock belongs to the open file, so to all who
        inherited it."""
        with (self.path / "children.lock").open("w") as file:
            yield lambda: file.fileno() if _try_lock(file.fileno(), fcntl.LOCK_EX) else None

    def announce(self, running: Running) -> None:
        """Tell other commands how to reach this one."""
        self.write("running", asdict(running))

    def find_running(self) -> Running | None:
        """The `karta up` that holds this directory, once it is ready; None when there is none. Raises
        `CommandError` where that cannot be told, as of a directory that is another user's."""
        try:
            with self._lock.open("r") as file:
                if _try_lock(file.fileno(), fcntl.LOCK_SH):
                    return None
            content = self.read("running")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise CommandError(
                f"cannot look into {self.path} for a running `karta up` ({error.strerror}): be the user that "
                "it runs as, or give --database-url, another --data-dir or KARTA_DATABASE_URL"
            ) from None
        return Running(**content) if content else None

    def read(self, name: str) -> dict[str, Any]:
        """The JSON object kept under `name`, or an empty one. Raises `CommandError` for a damaged file."""
        file = self.path / f"{name}.json"
        try:
            loaded = json.loads(file.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            raise CommandError(
                f"{file} is damaged: put it back from a backup, or begin anew in another --data-dir"
            ) from None
        return loaded if isinstance(loaded, dict) else {}

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Keep a JSON object under `name` (0600)."""
        write_private(self.path / f"{name}.json", json.dumps(content, indent=1).encode() + b"\n")


def write_private(path: Path, content: bytes) -> None:
    """Replace a file whole (0600): after a crash it has the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def _try_lock(descriptor: int, kind: int) -> bool:
    """Released when the file is closed, by whatever end of the process."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
