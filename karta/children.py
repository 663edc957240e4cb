"""The three programs that `karta up` runs beside the database, and what each is given.

Every child gets our environment without the secrets it has no use for, and with its own: so the
simulated provider knows no database, and the admin pages no provider's key. Settings that somebody made
win over what is filled in here, except for the database and the ports, which `karta up` has decided by
then.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from karta import lifeline, provider_endpoints
from karta.service import Launch, Program, ready_line
from karta.terminal import CommandError
from storage.settings import Bind

SIMULATED_KEY = "sk-simulated-platform-key"
PROVIDERS = ("KARTA_PROVIDER_ANTHROPIC", "KARTA_PROVIDER_OPENAI", "KARTA_SIMULATED")
DRAIN_SECONDS_DEFAULT = 30.0
DRAIN_MARGIN_SECONDS = 10.0
"""Beyond the gateway's own drain limit: cutting what is left, shipping usage, closing."""


@dataclass(frozen=True)
class Children:
    """`variables` are the settings somebody made; `hold` is a descriptor that all children keep open."""

    variables: Mapping[str, object] = field(repr=False)
    hold: int

    def simulated(self) -> Program:
        def launch(earlier: str | None) -> Launch:
            command = karta_command("sim", "--port", str(_port_of(earlier, 0)))
            return Launch(command, environment(keep=("KARTA_SIM_",)))

        return Program("simulated provider", launch, ready_line("base_url"), hold=(self.hold,))

    def gateway(
        self,
        bind: Bind,
        *,
        database_url: str,
        simulated_url: str,
        master_keys_file: Path | None,
        spool: Path,
        workers: str | None,
    ) -> Program:
        def launch(earlier: str | None) -> Launch:
            given = {
                **self._unless_set("KARTA_SPOOL_DIR", str(spool)),
                **environment(drop=("KARTA_SIM_", "KARTA_POSTMARK_", "KARTA_STRIPE_")),
                **self.provider_environment(simulated_url),
                **_master_keys(master_keys_file),
                "KARTA_DATABASE_URL": database_url,
                "KARTA_GATEWAY_BIND": str(bind._replace(port=_port_of(earlier, bind.port))),
            }
            if workers is not None:
                given["KARTA_WORKERS"] = workers
            return Launch(karta_command("gateway"), given)

        return Program(
            "gateway",
            launch,
            ready_line("gateway_url"),
            hold=(self.hold,),
            stop_seconds_max=gateway_stop_seconds(self.variables),
        )

    def admin(
        self,
        bind: Bind,
        *,
        database_url: str,
        gateway_url: str,
        simulated_url: str,
        master_keys_file: Path | None,
    ) -> Program:
        def launch(earlier: str | None) -> Launch:
            given = {
                **self._unless_set("KARTA_PUBLIC_URL", gateway_url),
                **environment(drop=(provider_endpoints.PREFIX, "KARTA_SIM")),
                **self._provider_places(simulated_url),
                **_master_keys(master_keys_file),
                "KARTA_DATABASE_URL": database_url,
                "KARTA_ADMIN_BIND": str(bind._replace(port=_port_of(earlier, bind.port))),
            }
            return Launch(karta_command("admin"), given)

        return Program("admin server", launch, ready_line("admin_url"), hold=(self.hold,))

    def _unless_set(self, name: str, value: str) -> dict[str, str]:
        # A variable would win over the settings file, so one that the file sets is not filled in.
        return {} if name in self.variables else {name: value}

    def _provider_places(self, simulated_url: str) -> dict[str, str]:
        """Where providers are, without a word of the platform's keys."""
        given = environment(keep=(provider_endpoints.PREFIX,)) | self.provider_environment(simulated_url)
        return {name: value for name, value in given.items() if provider_endpoints.is_wanted(name)}

    def provider_environment(self, simulated_url: str) -> dict[str, str]:
        """The simulated provider, wherever nobody has configured another one."""
        filled = {}
        for name in PROVIDERS:
            if not any(variable.startswith(f"{name}_") for variable in self.variables):
                filled[f"{name}_BASE_URL"] = simulated_url
                filled[f"{name}_API_KEY"] = SIMULATED_KEY
        return filled


def gateway_stop_seconds(variables: Mapping[str, object]) -> float:
    """How long the gateway may take to stop. Raises `CommandError` for a setting that is no number."""
    drain = 0.0
    for name, default in (("KARTA_DRAIN_SECONDS", DRAIN_SECONDS_DEFAULT), ("KARTA_DRAIN_NOTICE_SECONDS", 0)):
        try:
            seconds = float(str(variables.get(name, default)))
        except ValueError:
            seconds = -1
        if not 0 <= seconds < math.inf:
            raise CommandError(f"{name}: write a number of seconds, such as 30")
        drain += seconds
    return drain + DRAIN_MARGIN_SECONDS


def karta_command(*arguments: str) -> list[str]:
    """This very Karta as a child, which says in one JSON line when it is ready and stops with its stdin."""
    # -P: a folder called `admin` or `storage` where the user happens to stand must not be imported as ours.
    return [sys.executable, "-P", "-m", "karta", *arguments, "--json", lifeline.FLAG]


def environment(*, keep: tuple[str, ...] = (), drop: tuple[str, ...] = ()) -> dict[str, str]:
    """Our environment, of the KARTA_… variables either only those of `keep`, or all but those of `drop`."""

    def wanted(name: str) -> bool:
        return not name.startswith("KARTA_") or (name.startswith(keep) if keep else not name.startswith(drop))

    return {name: value for name, value in os.environ.items() if wanted(name)}


def _master_keys(file: Path | None) -> dict[str, str]:
    return {} if file is None else {"KARTA_MASTER_KEYS_FILE": str(file)}


def _port_of(url: str | None, otherwise: int) -> int:
    return otherwise if url is None else urlsplit(url).port or otherwise
