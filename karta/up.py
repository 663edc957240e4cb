"""`karta up`: everything on one machine by one command.

Order of the start: the data directory is locked and what a killed predecessor left behind has ended; the
simulated provider starts while the database does; migrations and the roles' passwords; then the gateway
and the admin pages start while the first run's owner and keys are made. Each of these is a context
inside the one before, so stopping is the same list backwards, whether by a signal, by an error, or
because a child could not be kept alive.

Settings of the environment win: with KARTA_PROVIDER_… set, live keys reach that provider instead of the
simulated one. Each child is given only the secrets it needs, in its environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import trio

from karta import embedded_postgres, lifeline
from karta.data_dir import DataDir, Running, write_private
from karta.provision import FirstRun, forget_secrets, provision
from karta.service import Launch, Program, ready_line, running
from karta.terminal import CommandError
from karta.welcome import Ready
from storage.bridge import open_database
from storage.migrate import migrate
from storage.sealing import MasterKeys
from storage.settings import Bind, read_variables

ADMIN_ROLE = "karta_admin"
PREDECESSOR_SECONDS_MAX = 30.0
"""Children of a killed `karta up` end themselves within seconds; PostgreSQL may first write a checkpoint."""
DRAIN_MARGIN_SECONDS = 10.0
"""Beyond the gateway's own drain limit: cutting, shipping usage, closing."""
DRAIN_SECONDS_DEFAULT = 30.0


@dataclass(frozen=True)
class Plan:
    """What was asked for."""

    data_dir: Path
    gateway_bind: Bind
    admin_bind: Bind
    workers: int | None
    database_url: str | None = field(repr=False)
    progress: Callable[[str], None]
    ready: Callable[[Ready], None]


@dataclass(frozen=True)
class _Databases:
    """One database, by the URL each party logs in with."""

    owner: str = field(repr=False)
    gateway: str = field(repr=False)
    admin: str = field(repr=False)


async def up(plan: Plan) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP. Raises `CommandError` or `StorageError`."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:

            async def stop_when_told() -> None:
                await anext(signals)
                plan.progress("stopping")
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop_when_told)
            await _run(plan)


async def _run(plan: Plan) -> None:
    data_dir = DataDir.open(plan.data_dir)
    with data_dir.locked():
        async with _predecessors_gone(data_dir) as hold:
            for flag, bind in (("--gateway-port", plan.gateway_bind), ("--admin-port", plan.admin_bind)):
                check_port(flag, bind)
            await _Upward(plan, data_dir, hold).run()


@asynccontextmanager
async def _predecessors_gone(data_dir: DataDir) -> AsyncIterator[int]:
    """Yields a descriptor for the children to hold open.

    A lock on it lasts until the last of them has ended, so the next `karta up` can wait for orphans.
    """
    await embedded_postgres.stop_leftover(data_dir.postgres)
    with data_dir.lock_children() as try_lock:
        with trio.move_on_after(PREDECESSOR_SECONDS_MAX) as waiting:
            while (hold := try_lock()) is None:  # noqa: ASYNC110 (the kernel has no event for a lock)
                await trio.sleep(embedded_postgres.POLL_SECONDS)
        if waiting.cancelled_caught or hold is None:
            raise CommandError(
                f"processes of an earlier `karta up` still use {data_dir.path}: end them, then start again"
            )
        yield hold


class _Upward:
    """The steps of the start, each a context inside the last."""

    def __init__(self, plan: Plan, data_dir: DataDir, hold: int) -> None:
        self.plan = plan
        self.data_dir = data_dir
        self.hold = hold
        self.variables = {name: variable.value for name, variable in read_variables().items()}
        self.simulated_url = ""

    async def run(self) -> None:
        self.plan.progress("starting the simulated provider and the database")
        async with running(self._simulated()) as simulated, self._database() as databases:
            self.plan.progress("migrating the database")
            await self._migrate(databases)
            self.simulated_url = await simulated.ready()
            master_keys_file = self._ensure_master_keys()
            self.plan.progress("starting the gateway and the admin pages")
            async with (
                running(self._admin(databases)) as admin,
                running(self._gateway(databases, master_keys_file)) as gateway,
            ):
                async with open_database(databases.admin, role=ADMIN_ROLE, connections_max=1) as db:
                    first_run = await provision(db, self.data_dir)
                urls = await gateway.ready(), await admin.ready()
                self._announce(urls, databases, first_run, master_keys_file)
                await trio.sleep_forever()

    @asynccontextmanager
    async def _database(self) -> AsyncIterator[_Databases]:
        url = self.plan.database_url
        if url is not None:
            yield _Databases(url, url, url)
            return
        cluster = await embedded_postgres.prepare(self.data_dir)
        async with running(cluster.program(self.hold)) as server:
            port = urlsplit(await server.ready()).port or 0
            yield _Databases(*(cluster.url(role, port) for role in ("karta", "karta_gateway", "karta_admin")))

    async def _migrate(self, databases: _Databases) -> None:
        await migrate(databases.owner)
        if self.plan.database_url is None:
            passwords = self.data_dir.read("passwords")
            async with open_database(databases.owner, role=None, connections_max=1) as db:
                await db.execute(embedded_postgres.role_statements(passwords))

    def _ensure_master_keys(self) -> Path | None:
        """The file with the master keys, made on the first run; None when the environment has them."""
        if {"KARTA_MASTER_KEYS", "KARTA_MASTER_KEYS_FILE"} & self.variables.keys():
            return None
        path = self.data_dir.master_keys_file
        if not path.exists():
            write_private(path, MasterKeys.generate().encode() + b"\n")
        return path

    def _announce(
        self, urls: tuple[str, str], databases: _Databases, first_run: FirstRun, master_keys_file: Path | None
    ) -> None:
        gateway_url, admin_url = urls
        self.data_dir.announce(
            Running(
                pid=os.getpid(),
                gateway_url=gateway_url,
                admin_url=admin_url,
                database_url=databases.owner,
                admin_database_url=databases.admin,
                master_keys_file=None if master_keys_file is None else str(master_keys_file),
            )
        )
        self.plan.ready(
            Ready(
                gateway_url=gateway_url,
                admin_url=admin_url,
                database_url=databases.owner,
                data_dir=self.data_dir.path,
                org_id=str(first_run.org_id),
                owner_email=first_run.owner_email,
                owner_password=first_run.owner_password,
                api_key=first_run.api_key,
                test_api_key=first_run.test_api_key,
                simulated="KARTA_PROVIDER_ANTHROPIC_BASE_URL" in self._provider_environment(),
            )
        )
        forget_secrets(self.data_dir)

    def _simulated(self) -> Program:
        def launch(earlier: str | None) -> Launch:
            return Launch(
                _karta("sim", "--port", str(_port_of(earlier, 0))), _environment(keep=("KARTA_SIM_",))
            )

        return Program("simulated provider", launch, ready_line("base_url"), hold=(self.hold,))

    def _admin(self, databases: _Databases) -> Program:
        def launch(earlier: str | None) -> Launch:
            bind = self.plan.admin_bind
            environment = _environment(drop=("KARTA_PROVIDER_", "KARTA_SIM_"))
            environment["KARTA_DATABASE_URL"] = databases.admin
            environment["KARTA_ADMIN_BIND"] = str(bind._replace(port=_port_of(earlier, bind.port)))
            return Launch(_karta("admin"), environment)

        return Program("admin server", launch, ready_line("admin_url"), hold=(self.hold,))

    def _gateway(self, databases: _Databases, master_keys_file: Path | None) -> Program:
        def launch(earlier: str | None) -> Launch:
            bind = self.plan.gateway_bind
            environment = {
                "KARTA_SPOOL_DIR": str(self.data_dir.spool),
                **_environment(drop=("KARTA_SIM_",)),
                **self._provider_environment(),
                "KARTA_DATABASE_URL": databases.gateway,
                "KARTA_GATEWAY_BIND": str(bind._replace(port=_port_of(earlier, bind.port))),
            }
            if master_keys_file is not None:
                environment["KARTA_MASTER_KEYS_FILE"] = str(master_keys_file)
            if self.plan.workers is not None:
                environment["KARTA_WORKERS"] = str(self.plan.workers)
            return Launch(_karta("gateway"), environment)

        drain = float(str(self.variables.get("KARTA_DRAIN_SECONDS", DRAIN_SECONDS_DEFAULT)))
        return Program(
            "gateway",
            launch,
            ready_line("gateway_url"),
            hold=(self.hold,),
            stop_seconds_max=drain + DRAIN_MARGIN_SECONDS,
        )

    def _provider_environment(self) -> dict[str, str]:
        """The simulated provider wherever nobody has configured another one."""
        environment = {}
        for name in ("KARTA_PROVIDER_ANTHROPIC", "KARTA_PROVIDER_OPENAI", "KARTA_SIMULATED"):
            if not any(variable.startswith(f"{name}_") for variable in self.variables):
                environment[f"{name}_BASE_URL"] = self.simulated_url
                environment[f"{name}_API_KEY"] = "sk-simulated-platform-key"
        return environment


def check_port(flag: str, bind: Bind) -> None:
    """Raises `CommandError` naming the flag when `bind` cannot be had. A fixed port may have just been
    left."""
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    with contextlib.closing(socket.socket(family)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind.host, bind.port))
            probe.listen()
        except OSError as error:
            raise CommandError(
                f"cannot listen on {bind} ({error.strerror}): choose another port with {flag} (0 takes a "
                "free one)"
            ) from None


def _karta(*arguments: str) -> list[str]:
    # -P: a folder called `admin` or `storage` where the user happens to stand must not be imported as ours.
    return [sys.executable, "-P", "-m", "karta", *arguments, "--json", lifeline.FLAG]


def _environment(*, keep: tuple[str, ...] = (), drop: tuple[str, ...] = ()) -> dict[str, str]:
    """Our environment without secrets the child has no use for: either of KARTA_… only `keep`, or all but
    `drop`."""

    def wanted(name: str) -> bool:
        return not name.startswith("KARTA_") or (name.startswith(keep) if keep else not name.startswith(drop))

    return {name: value for name, value in os.environ.items() if wanted(name)}


def _port_of(url: str | None, otherwise: int) -> int:
    return otherwise if url is None else urlsplit(url).port or otherwise


def bind_from(variables: Mapping[str, object], name: str, default: Bind, port: int | None) -> Bind:
    """Where to listen: the setting `name`, its port replaced by the flag's, if one was given."""
    try:
        bind = Bind.parse(variables.get(name, default))
    except ValueError as error:
        raise CommandError(f"{name}: {error}") from None
    return bind if port is None else bind._replace(port=port)
