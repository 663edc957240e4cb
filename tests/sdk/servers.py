"""The gateway and the simulated provider as processes of their own, so that synchronous SDK clients can be
used."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec

from storage.api_keys import mint_key
from storage.bridge import open_database
from storage.credentials import set_credential
from storage.model import Actor, ActorKind, Mode, Plan
from storage.organizations import create_organization
from storage.sealing import MasterKeys

STOP_SECONDS_MAX = 20.0

DIRECT_KEY = "sk-direct-0123456789abcdef"
"""What the caller shows when it talks to the provider itself."""
BYOK_KEY = "sk-ant-byok-0123456789abcdef"
"""The organization's own key of Anthropic, sealed."""
PLATFORM_KEY = "sk-platform-0123456789abcdef"
"""The platform's key of OpenAI: the organization has none of its own there."""
SIMULATED_KEY = "sk-simulated-0123456789abcdef"
"""Where `kt_test_` keys go."""
PROVIDER_KEYS = (DIRECT_KEY, BYOK_KEY, PLATFORM_KEY, SIMULATED_KEY)

_ACTOR = Actor(kind=ActorKind.SYSTEM, actor_id="tests")


class Tenant(msgspec.Struct, frozen=True):
    """One organization on Pro, with a key of Anthropic of its own."""

    org_id: UUID
    token: str
    test_token: str
    master_keys: str


async def make_tenant(database_url: str) -> Tenant:
    """Put the tenant into an empty database. For `run_in_own_trio`."""
    master_keys = MasterKeys.generate()
    async with open_database(database_url, role="karta_admin") as db:
        org = await create_organization(db, _ACTOR, name="Acme", plan=Plan.PRO)
        _, token = await mint_key(db, _ACTOR, org_id=org.org_id, name="live", mode=Mode.LIVE)
        _, test_token = await mint_key(db, _ACTOR, org_id=org.org_id, name="test", mode=Mode.TEST)
        await set_credential(
            db,
            _ACTOR,
            MasterKeys.parse(master_keys),
            org_id=org.org_id,
            provider="anthropic",
            secret=bytearray(BYOK_KEY.encode()),
        )
    return Tenant(org_id=org.org_id, token=token, test_token=test_token, master_keys=master_keys)


class Provider:
    """The running simulated provider; its ledger is the ground truth."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=20)

    def last_seq(self) -> int:
        """The number of the newest ledger entry."""
        return int(self._look(f"/_sim/ledger?after={1 << 40}")["last_seq"])

    def entries(self, after: int) -> list[dict[str, Any]]:
        """What was asked since, with request headers."""
        found: list[dict[str, Any]] = self._look(f"/_sim/ledger?after={after}&headers=1")["entries"]
        return found

    def reset(self) -> None:
        """Forget what clients created and how often a behaviour was asked for, so that ids repeat."""
        self._http.delete("/_sim/state").raise_for_status()
        self._http.delete("/_sim/ledger").raise_for_status()

    def close(self) -> None:
        self._http.close()

    def _look(self, path: str) -> dict[str, Any]:
        document: dict[str, Any] = self._http.get(path).raise_for_status().json()
        return document


@contextlib.contextmanager
def running_provider() -> Iterator[Provider]:
    """`python -m bench.sim`, which takes these tests' keys only."""
    command = ["-m", "bench.sim", "--port", "0", "--json"]
    with _process(command, {"KARTA_SIM_KEYS": ",".join(PROVIDER_KEYS)}) as ready:
        provider = Provider(ready["base_url"])
        try:
            yield provider
        finally:
            provider.close()


@contextlib.contextmanager
def running_gateway(database_url: str, tenant: Tenant, provider_url: str, spool_dir: Path) -> Iterator[str]:
    """`karta gateway`, all of whose providers are `provider_url`; gives its own URL."""
    environment = {
        "KARTA_DATABASE_URL": database_url,
        "KARTA_GATEWAY_BIND": "127.0.0.1:0",
        "KARTA_MASTER_KEYS": tenant.master_keys,
        "KARTA_SPOOL_DIR": str(spool_dir),
        "KARTA_PROVIDER_ANTHROPIC_BASE_URL": provider_url,
        "KARTA_PROVIDER_OPENAI_BASE_URL": provider_url,
        "KARTA_PROVIDER_OPENAI_API_KEY": PLATFORM_KEY,
        "KARTA_SIMULATED_BASE_URL": provider_url,
        "KARTA_SIMULATED_API_KEY": SIMULATED_KEY,
        # The provider is asked to fail over and over again, and what it says then is what is compared.
        "KARTA_RETRIES_MAX": "0",
        "KARTA_BREAKER_FAILURE_PERCENT": "0",
    }
    with _process(["-m", "karta", "gateway", "--json"], environment) as ready:
        yield ready["gateway_url"]


@contextlib.contextmanager
def _process(arguments: list[str], environment: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A Python process that prints one JSON line when ready, and must end with 0 on SIGTERM."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KARTA_")}
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env=inherited | dict(environment)
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"{arguments} ended with {process.wait(STOP_SECONDS_MAX)} before it was ready"
        yield json.loads(line)
        assert process.poll() is None, f"{arguments} has died with {process.returncode}"
    finally:
        process.terminate()
        try:
            code = process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()
    assert code == 0, f"{arguments} ended with {code}"
