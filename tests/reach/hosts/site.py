"""What runs on the hosts, as `docs/how-to/production.md` says: a login for each program, by password."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import trio

from storage.sealing import MasterKeys
from tests.reach.hosts.network import NETS, Host, Net, Switch
from tests.support.gateway import PLATFORM_KEY
from tests.support.postgres import PostgresServer

ROOT = Path(__file__).parents[3]
DATABASE = "karta"
GATEWAY_PORT, ADMIN_PORT, PROVIDER_PORT = 8080, 8000, 9000
READY_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 60.0
KEY_STALE_SECONDS = 60.0
"""How long verified keys outlive the database here: the shortest that may be set."""
GATEWAYS = ("a", "b")
_LOGINS = {"karta": "owner-secret", "gateway_login": "gateway-secret", "admin_login": "admin-secret"}
_PLACES: dict[str, tuple[int, tuple[Net, ...]]] = {
    "a": (2, ("front", "back")),
    "b": (3, ("front", "back")),
    "admin": (4, ("front", "back")),
    "provider": (5, ("front",)),
    "postgres": (6, ("back",)),
}


class Site:
    """All hosts; those of `_PLACES` are made as they are switched on. `folder` outlives them, as disks do."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self._workers = workers
        self._master_keys = MasterKeys.generate()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.hosts: dict[str, Host] = {}
        self.switch = Switch()
        self.switch.connect_ourselves("client", 1, "front")
        self.database = PostgresServer(folder / "postgres")
        # A host that is lost loses what was confirmed to nobody only.
        self.database.settings = {"synchronous_commit": "on", "max_connections": "60"}

    async def start(self) -> None:
        """Everything, an empty database of this release included."""
        await self.start_database()
        for name, password in _LOGINS.items():
            rights = "CREATEROLE" if name == "karta" else ""
            self.database.sql(f"CREATE ROLE {name} LOGIN {rights} PASSWORD '{password}'")
        self.database.sql(f"CREATE DATABASE {DATABASE} OWNER karta")
        self.switch_on("admin")
        await self.command("admin", "migrate", login="karta")
        for program in ("gateway", "admin"):
            self.database.sql(f"GRANT karta_{program} TO {program}_login")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.start_provider)
            nursery.start_soon(self.start_admin)
            for name in GATEWAYS:
                nursery.start_soon(self.start_gateway, name)

    # Hosts.

    def switch_on(self, name: str) -> Host:
        """The host as it is after its start: nothing runs on it, and its cables are whole."""
        number, nets = _PLACES[name]
        host = self.hosts[name] = Host(self.switch, name, number, nets)
        return host

    async def lose_power(self, name: str) -> None:
        await self.hosts.pop(name).lose_power()

    def url(self, name: str) -> str:
        """Where a gateway, or the admin pages, are reached by clients."""
        return f"http://{_address(name, 'front')}:{ADMIN_PORT if name == 'admin' else GATEWAY_PORT}"

    # Programs.

    async def start_database(self) -> None:
        host = self.switch_on("postgres")
        access = self.folder / "postgres" / "access"
        access.write_text("local all all trust\nhost all all 10.71.2.0/24 scram-sha-256\n")
        access.chmod(0o644)
        self.database.settings |= {"listen_addresses": host.address("back"), "hba_file": str(access)}
        await trio.to_thread.run_sync(host.run, self.database.start)

    async def lose_database(self) -> None:
        await self.lose_power("postgres")
        # It is dead; and so that another may be started.
        self.database.stop(signal.SIGKILL)

    async def start_gateway(self, name: str) -> None:
        """On a host that is new, or that it was stopped on."""
        provider = f"http://{_address('provider', 'front')}:{PROVIDER_PORT}"
        environment = {
            **self._environment("gateway_login"),
            "KARTA_GATEWAY_BIND": f"0.0.0.0:{GATEWAY_PORT}",
            "KARTA_SPOOL_DIR": str(self.folder / f"spool-{name}"),
            "KARTA_WORKERS": str(self._workers),
            "KARTA_KEY_STALE_SECONDS": f"{KEY_STALE_SECONDS:g}",
            "KARTA_DRAIN_SECONDS": "10",
        }
        for one in ("ANTHROPIC", "OPENAI"):
            environment[f"KARTA_PROVIDER_{one}_BASE_URL"] = provider
            environment[f"KARTA_PROVIDER_{one}_API_KEY"] = PLATFORM_KEY
        await self._start(name, name, _karta("gateway", "--json"), environment)

    async def stop_gateway(self, name: str) -> int:
        """As an operator does; the exit status."""
        process = self._running[name]
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(STOP_SECONDS_MAX):
            return await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)

    async def start_admin(self) -> None:
        environment = {
            **self._environment("admin_login"),
            "KARTA_ADMIN_BIND": f"0.0.0.0:{ADMIN_PORT}",
            "KARTA_ADMIN_URL": self.url("admin"),
        }
        await self._start("admin", "admin", _karta("admin", "--json"), environment)

    async def start_provider(self) -> None:
        ready = await self._start("provider", "provider", _karta("sim", "--json"), {"PATH": "/usr/bin:/bin"})
        port = json.loads(ready)["base_url"].rpartition(":")[2]
        address = _address("provider", "front")
        relay = [sys.executable, "-m", "tests.reach.hosts.relay", address, str(PROVIDER_PORT), port]
        await self._start("provider", "relay", relay, {"PATH": "/usr/bin:/bin"}, directory=ROOT)

    async def command(self, name: str, *arguments: str, login: str = "admin_login") -> str:
        """A command line on a host; what it prints."""
        process = self.hosts[name].start(
            _karta(*arguments), self._environment(login), self._log("commands"), self.folder
        )
        said, _ = await trio.to_thread.run_sync(process.communicate)
        assert process.returncode == 0, f"karta {' '.join(arguments)}: {self._log('commands').read_text()}"
        return said.decode()

    async def hold_lease(self, name: str, limit_id: int, window_start: int) -> None:
        """On that host a transaction stays open that has borrowed of the limit."""
        holder = [sys.executable, "-m", "tests.reach.hosts.holder", str(limit_id), str(window_start)]
        said = await self._start(name, "holder", holder, self._environment("gateway_login"), directory=ROOT)
        assert said == b"holding 1\n", said

    async def _start(
        self,
        host: str,
        name: str,
        command: list[str],
        environment: dict[str, str],
        *,
        directory: Path | None = None,
    ) -> bytes:
        where = self.hosts.get(host) or self.switch_on(host)
        log = self._log(name)
        process = self._running[name] = where.start(command, environment, log, directory or self.folder)
        assert process.stdout is not None
        with trio.fail_after(READY_SECONDS_MAX):
            line: bytes = await trio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True)
        assert line, f"{name} was not ready: {log.read_text()[-2000:]}"
        return line

    def _environment(self, login: str) -> dict[str, str]:
        database = _address("postgres", "back")
        # `development` allows a provider on plain http, nothing else that matters here.
        return {
            "PATH": "/usr/bin:/bin",
            "KARTA_ENV": "development",
            "KARTA_DATABASE_URL": f"postgresql://{login}:{_LOGINS[login]}@{database}:5432/{DATABASE}",
            "KARTA_MASTER_KEYS": self._master_keys,
        }

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def logs(self) -> dict[str, Any]:
        """The end of what each program said, for who looks for a reason."""
        return {path.name: path.read_text()[-1500:] for path in sorted(self.folder.glob("*.log"))}


def _address(name: str, net: Net) -> str:
    return f"{NETS[net]}.{_PLACES[name][0]}"


def _karta(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "karta", *arguments]
