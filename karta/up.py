"""`karta up`: everything on one machine by one command.

Order of the start: the data directory is locked and what a killed predecessor left behind has ended; the
simulated provider starts while the database does; migrations and the roles' passwords; the gateway; the admin
pages, while the first run's owner and keys are made. Each of these is a context inside the one before, so
stopping is the same list backwards, whether by a signal, by an error, or because a child could not be kept
alive.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import trio

from karta import embedded_postgres
from karta.children import Children, gateway_stop_seconds
from karta.data_dir import DataDir, Running, write_private
from karta.health_probes import Targets
from karta.health_targets import load_targets
from karta.provision import FirstRun, forget_secrets, provision
from karta.service import running
from karta.terminal import CommandError
from karta.welcome import Ready
from storage import error_reports
from storage.bridge import open_database
from storage.migrate import migrate
from storage.sealing import MasterKeys
from storage.settings import Bind, CommonSettings

ADMIN_ROLE = "karta_admin"
PREDECESSOR_SECONDS_MAX = 30.0
"""Children of a killed `karta up` end themselves within seconds; PostgreSQL may first write a checkpoint."""
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Plan:
    """What was asked for. `variables` are the settings somebody made, by environment or file."""

    data_dir: Path
    gateway_bind: Bind
    admin_bind: Bind
    workers: str | None
    database_url: str | None = field(repr=False)
    variables: Mapping[str, object] = field(repr=False)
    progress: Callable[[str], None]
    ready: Callable[[Ready], None]


@dataclass(frozen=True)
class Databases:
    """One database, by the URL each party logs in with."""

    owner: str = field(repr=False)
    gateway: str = field(repr=False)
    admin: str = field(repr=False)


async def up(plan: Plan) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP. Raises `CommandError` or `StorageError`."""
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        numbers.remove(signal.SIGHUP)  # started by nohup: to outlive its terminal is what was asked
    with trio.open_signal_receiver(*numbers) as signals:
        async with trio.open_nursery() as nursery:

            async def stop_when_told() -> None:
                await anext(signals)
                plan.progress("stopping")
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop_when_told)
            await _run(plan)


async def _run(plan: Plan) -> None:
    # What cannot be is told before anything starts.
    gateway_stop_seconds(plan.variables)
    targets = load_targets(plan.variables)
    data_dir = DataDir.open(plan.data_dir)
    with data_dir.locked():
        async with _predecessors_gone(data_dir) as hold:
            check_port("--gateway-port", plan.gateway_bind)
            check_port("--admin-port", plan.admin_bind)
            await _start(plan, data_dir, Children(plan.variables, hold), targets)


@asynccontextmanager
async def _predecessors_gone(data_dir: DataDir) -> AsyncIterator[int]:
    """Yields a descriptor for the children to hold open.

    A lock on it lasts until the last of them has ended, so the next `karta up` can wait for orphans.
    """
    await embedded_postgres.stop_leftover(data_dir.postgres)
    with data_dir.lock_children() as try_lock:
        with trio.move_on_after(PREDECESSOR_SECONDS_MAX):
            while (hold := try_lock()) is None:  # noqa: ASYNC110 (the kernel has no event for a lock)
                await trio.sleep(POLL_SECONDS)
        if hold is None:
            raise CommandError(
                f"processes of an earlier `karta up` still use {data_dir.path}: end them, then start again"
            )
        yield hold


async def _start(plan: Plan, data_dir: DataDir, children: Children, targets: Targets) -> None:
    plan.progress("starting the simulated provider and the database")
    async with running(children.simulated()) as simulated, _database(plan, data_dir, children) as databases:
        plan.progress("migrating the database")
        await migrate(databases.owner)
        if plan.database_url is None:
            await _set_passwords(databases.owner, data_dir)
        plan.progress("starting the gateway and the admin pages")
        master_keys_file = _ensure_master_keys(plan, data_dir)
        gateway_program = children.gateway(
            plan.gateway_bind,
            database_url=databases.gateway,
            simulated_url=await simulated.ready(),
            master_keys_file=master_keys_file,
            spool=data_dir.spool,
            workers=plan.workers,
        )
        async with running(gateway_program) as gateway:
            gateway_url = await gateway.ready()
            admin_program = children.admin(
                plan.admin_bind,
                database_url=databases.admin,
                gateway_url=gateway_url,
                simulated_url=await simulated.ready(),
                master_keys_file=master_keys_file,
            )
            async with running(admin_program) as admin:
                async with open_database(databases.admin, role=ADMIN_ROLE, connections_max=1) as db:
                    first_run = await provision(db, data_dir)
                admin_url = await admin.ready()
                data_dir.announce(
                    Running(
                        pid=os.getpid(),
                        gateway_url=gateway_url,
                        admin_url=admin_url,
                        database_url=databases.owner,
                        admin_database_url=databases.admin,
                        master_keys_file=None if master_keys_file is None else str(master_keys_file),
                    )
                )
                simulates = "KARTA_PROVIDER_ANTHROPIC_BASE_URL" in children.provider_environment("")
                plan.ready(_tell(gateway_url, admin_url, databases, data_dir, first_run, simulates))
                forget_secrets(data_dir)
                # Where nobody configured a provider there is the simulated one, which is not looked at: it is
                # no one's.
                targets = replace(targets, gateway_url=gateway_url, admin_url=admin_url)
                await _watch_health(databases, targets, master_keys_file)


async def _watch_health(databases: Databases, targets: Targets, master_keys_file: Path | None) -> None:
    """Keeps the status page up to date, for ever."""
    from karta.health_job import run_every_minute

    files = {} if master_keys_file is None else {"master_keys_file": master_keys_file}
    error_reports.begin(CommonSettings.load(database_url=databases.admin, **files), "up")
    async with open_database(databases.admin, role=ADMIN_ROLE, connections_max=2) as db:
        await run_every_minute(db, targets, _load_master_keys(databases, master_keys_file))


def _load_master_keys(databases: Databases, file: Path | None) -> MasterKeys | None:
    if file is not None:
        return MasterKeys.load_file(file)
    return CommonSettings.load(database_url=databases.admin).load_master_keys()


def _tell(
    gateway_url: str,
    admin_url: str,
    databases: Databases,
    data_dir: DataDir,
    first_run: FirstRun,
    simulates: bool,
) -> Ready:
    return Ready(
        gateway_url=gateway_url,
        admin_url=admin_url,
        database_url=databases.owner,
        data_dir=data_dir.path,
        org_id=str(first_run.org_id),
        owner_email=first_run.owner_email,
        owner_password=first_run.owner_password,
        api_key=first_run.api_key,
        test_api_key=first_run.test_api_key,
        simulated=simulates,
    )


@asynccontextmanager
async def _database(plan: Plan, data_dir: DataDir, children: Children) -> AsyncIterator[Databases]:
    if plan.database_url is not None:
        # One login for all: each program takes its role with its first message to the server.
        yield Databases(plan.database_url, plan.database_url, plan.database_url)
        return
    cluster = await embedded_postgres.prepare(data_dir)
    async with running(cluster.program(children.hold)) as server:
        port = urlsplit(await server.ready()).port or 0
        owner, gateway, admin = embedded_postgres.ROLES
        yield Databases(cluster.url(owner, port), cluster.url(gateway, port), cluster.url(admin, port))


async def _set_passwords(owner_url: str, data_dir: DataDir) -> None:
    async with open_database(owner_url, role=None, connections_max=1) as db:
        await db.execute(embedded_postgres.role_statements(data_dir.read("passwords")))


def _ensure_master_keys(plan: Plan, data_dir: DataDir) -> Path | None:
    """The file with the master keys, made on the first run; None when the settings have them."""
    if {"KARTA_MASTER_KEYS", "KARTA_MASTER_KEYS_FILE"} & plan.variables.keys():
        return None
    if not data_dir.master_keys_file.exists():
        write_private(data_dir.master_keys_file, MasterKeys.generate().encode() + b"\n")
    return data_dir.master_keys_file


def check_port(flag: str, bind: Bind) -> None:
    """Raises `CommandError` naming the flag when `bind` cannot be had."""
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    with contextlib.closing(socket.socket(family)) as probe:
        # A port that was left a moment ago may be had; one that somebody listens on may not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind.host, bind.port))
            probe.listen()
        except OSError as error:
            raise CommandError(
                f"cannot listen on {bind} ({error.strerror}): choose another port with {flag} "
                "(0 takes a free one)"
            ) from None


def bind_from(variables: Mapping[str, object], name: str, default: Bind, port: int | None) -> Bind:
    """Where to listen: the setting `name`, its port replaced by the flag's, if one was given."""
    try:
        bind = Bind.parse(variables.get(name, default))
    except ValueError as error:
        raise CommandError(f"{name}: {error}") from None
    return bind if port is None else bind._replace(port=port)
