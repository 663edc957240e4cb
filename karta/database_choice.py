"""Which database a command means: `--database-url`, else `--data-dir`, else KARTA_DATABASE_URL (or
karta.toml), else the `karta up` that runs on the default data directory. What was said on the command
line wins."""

from __future__ import annotations

import argparse
import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from karta.data_dir import DataDir, Running, default_path
from karta.terminal import CommandError
from storage.database_url import check_database_url, without_password

if TYPE_CHECKING:
    from storage.bridge import Database
    from storage.model import Actor
    from storage.sealing import MasterKeys

Result = TypeVar("Result")
ADMIN_ROLE = "karta_admin"
VARIABLE = "KARTA_DATABASE_URL"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that name a database."""
    parser.add_argument(
        "--database-url",
        metavar="URL",
        help=f"the database (default: of --data-dir, else {VARIABLE}, else of a running `karta up`)",
    )
    add_data_dir(parser, "the data directory of a running `karta up`")


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """The same for a program that serves: it takes no `karta up` that it was not told of, since that one
    serves already."""
    parser.add_argument(
        "--database-url", metavar="URL", help=f"the database (default: of --data-dir, else {VARIABLE})"
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", type=Path, help="the data directory of a running `karta up`"
    )


def add_data_dir(parser: argparse.ArgumentParser, what: str) -> None:
    default = default_path()
    parser.add_argument("--data-dir", metavar="DIR", type=Path, help=f"{what} (default: {default})")


@dataclass(frozen=True)
class Choice:
    """A database to use, and where its choice came from (for `karta doctor`)."""

    owner_url: str = field(repr=False)
    admin_url: str = field(repr=False)
    origin: str
    running: Running | None = None

    @asynccontextmanager
    async def open(self, connections_max: int = 1) -> AsyncIterator[Database]:
        """The database, as karta_admin: a command has no more rights than the admin pages."""
        from storage.bridge import open_database

        async with open_database(self.admin_url, role=ADMIN_ROLE, connections_max=connections_max) as db:
            yield db

    @property
    def place(self) -> str:
        """Where it is and who said so, without a password."""
        return f"{without_password(self.owner_url)}, chosen by {self.origin}"

    @contextmanager
    def place_told(self) -> Iterator[None]:
        """Says of a database that is away which one that is: it may not be the one that was meant."""
        from storage.errors import DatabaseUnavailable

        try:
            yield
        except* DatabaseUnavailable as group:
            away = group.exceptions[0]
            while isinstance(away, BaseExceptionGroup):
                away = away.exceptions[0]
            raise CommandError(f"{away}: {self.place}") from None

    def load_master_keys(self) -> MasterKeys | None:
        """Those of the running `karta up`, else those of the settings; None when there are none."""
        from storage.settings import CommonSettings

        if self.running is not None and self.running.master_keys_file is not None:
            from storage.sealing import MasterKeys

            return MasterKeys.load_file(Path(self.running.master_keys_file))
        return CommonSettings.load(database_url=self.owner_url).load_master_keys()


def choose(given: argparse.Namespace) -> Choice:
    """The database the command line means. Raises `CommandError` when there is none."""
    if given.database_url is not None:
        return Choice(check_url(given.database_url), given.database_url, "--database-url")
    if given.data_dir is None and (url := _configured_url()) is not None:
        return Choice(check_url(url, VARIABLE), url, VARIABLE)
    path = default_path() if given.data_dir is None else given.data_dir
    running = DataDir(path.expanduser().absolute()).find_running()
    if running is None:
        raise CommandError(
            f"no database: no `karta up` is ready on {path}; start one, or give --database-url, "
            f"--data-dir or {VARIABLE}"
        )
    return Choice(running.database_url, running.admin_database_url, f"`karta up` on {path}", running)


def server_overrides(given: argparse.Namespace) -> dict[str, object]:
    """What the command line says of the database, and of the master keys of a `karta up` that has it, as
    settings of a program that serves; without a word there, its settings say it."""
    if given.database_url is None and given.data_dir is None:
        return {}
    choice = choose(given)
    found: dict[str, object] = {"database_url": choice.owner_url}
    if choice.running is not None and choice.running.master_keys_file is not None:
        found |= {"master_keys_file": choice.running.master_keys_file, "master_keys": None}
    return found


def check_url(url: str, origin: str = "--database-url") -> str:
    """Raises `CommandError` for what is no PostgreSQL URL; a password in it is not quoted."""
    try:
        check_database_url(url)
    except ValueError as error:
        raise CommandError(f"{origin}: {error}") from None
    return url


def run(
    given: argparse.Namespace, work: Callable[[Database], Awaitable[Result]], *, connections_max: int = 1
) -> Result:
    """Do `work` on the database the command line means, and return what it returns."""
    import trio

    choice = choose(given)

    async def open_and_work() -> Result:
        async with choice.open(connections_max) as db:
            return await work(db)

    with choice.place_told():
        return trio.run(open_and_work)


def run_as_owner(
    given: argparse.Namespace,
    work: Callable[[Database], Awaitable[Result]],
    *,
    query_seconds_max: float | None = None,
) -> Result:
    """The same as the owner of the schema, for the few commands that are about tables and not rows."""
    import trio

    from storage.bridge import open_database
    from storage.deadlines import QUERY_SECONDS_MAX

    choice = choose(given)
    patience = query_seconds_max or QUERY_SECONDS_MAX

    async def open_and_work() -> Result:
        async with open_database(
            choice.owner_url, role=None, connections_max=1, query_seconds_max=patience
        ) as db:
            return await work(db)

    with choice.place_told():
        return trio.run(open_and_work)


def actor() -> Actor:
    """Whom the audit log names for what a command does: the operating-system user."""
    from storage.model import Actor, ActorKind

    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        name = f"uid {os.geteuid()}"
    return Actor(kind=ActorKind.CLI, actor_id=name)


def _configured_url() -> str | None:
    from storage.settings import read_variables

    variable = read_variables().get(VARIABLE)
    return None if variable is None else str(variable.value)
