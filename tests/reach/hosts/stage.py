"""The site with tenants on it, clients, and what is found out: what a scenario is given."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
import trio

from storage.api_keys import mint_key
from storage.bridge import Database
from storage.limits import LimitScope, set_limit
from storage.management_keys import Scope
from storage.model import Limit, LimitKind, Mode, Period
from storage.prices import set_price_override
from tests.admin.conftest import ACTOR, Person, make_person
from tests.admin.management_api.client import mint
from tests.faults.history import check
from tests.reach.hosts.site import GATEWAYS, Site
from tests.reach.hosts.traffic import OUTPUT_TOKENS_MAX, Traffic, until

MICRODOLLAR = 1_000_000
RATES = {"input": 3 * MICRODOLLAR, "cache_read": 300_000, "output": 15 * MICRODOLLAR}
ANSWER_PICODOLLARS = 40 * RATES["input"] + 20 * RATES["output"]
"""About what one of the load comes to."""
USAGE_SECONDS_MAX = 45.0
"""From the last trouble to the last row: a lost host has to come back and ship its journal."""


class Figure(msgspec.Struct):
    scenario: str
    what: str
    value: str


class Stage:
    """`figures` are told in the end. `db` is the database as its owner sees it, past all cables."""

    def __init__(self, site: Site, db: Database) -> None:
        self.site = site
        self.db = db
        self.traffic = Traffic(site)
        self.figures: list[Figure] = []
        self.scenario = ""
        self.key_ids: dict[str, str] = {}
        self._owner: Person | None = None
        self._token = ""

    @property
    def owner(self) -> Person:
        assert self._owner is not None, "prepare first"
        return self._owner

    async def prepare(self) -> None:
        """An organization with a key that has no limits, `plain`, which every worker knows."""
        self._owner = await make_person(self.db, "ada@example.com")
        _, self._token = await mint(self.db, self.owner, [Scope.KEYS_WRITE])
        for provider in ("anthropic", "openai"):
            await set_price_override(
                self.db, ACTOR, org_id=None, provider=provider, model="sim:*", tier=None, rates=RATES
            )
        await self.mint("plain")
        await self.traffic.warm("plain", *GATEWAYS)

    async def mint(self, name: str) -> None:
        key, token = await mint_key(
            self.db, ACTOR, org_id=self.owner.organization.org_id, name=name, mode=Mode.LIVE
        )
        self.key_ids[name], self.traffic.tokens[name] = key.key_id, token

    async def limit(self, name: str, kind: LimitKind, period: Period, amount: int) -> Limit:
        scope = LimitScope(
            org_id=self.owner.organization.org_id, key_id=self.key_ids[name], kind=kind, period=period
        )
        return await set_limit(self.db, ACTOR, scope, amount)

    async def revoke(self, name: str) -> float:
        """By the management API, on the admin host; when it said so, in seconds since 1970."""
        path = f"/api/v1/organizations/{self.owner.organization.org_id}/api-keys/{self.key_ids[name]}/revoke"
        headers = {"Authorization": f"Bearer {self._token}"}
        async with httpx.AsyncClient(base_url=self.site.url("admin"), trust_env=False, timeout=30) as client:
            answer = await client.post(path, headers=headers)
        assert answer.is_success, answer.text
        return time.time()

    async def sessions_of(self, host: str) -> int:
        """How many the database believes to have with that host."""
        address = {"a": "10.71.2.2", "b": "10.71.2.3"}[host]
        count: int = await self.db.fetch_value(
            "SELECT count(*) FROM pg_stat_activity WHERE client_addr = $1::text::inet", address
        )
        return count

    async def until_ready(self, host: str, seconds_max: float) -> float:
        """Until each of a dozen probes is told so: any worker may answer."""

        async def ready() -> bool:
            return all([(await self.traffic.probe(host))[0] == 200 for _ in range(12)])

        return await until(ready, seconds_max)

    def tell(self, what: str, value: object) -> None:
        text = f"{value:.2f}" if isinstance(value, float) else str(value)
        self.figures.append(Figure(self.scenario, what, text))
        print(f"  {what}: {text}", flush=True)

    async def run(self, scenario: Callable[[Stage], Awaitable[None]], seconds_max: float) -> None:
        self.scenario = scenario.__name__.replace("_", " ")
        print(f"{self.scenario}:", flush=True)
        with trio.fail_after(seconds_max):
            await scenario(self)

    async def usage_is_complete(self) -> None:
        """Whatever reached the provider has one row; what was answered whole has the provider's figures."""
        ledger = await self.traffic.ledger()
        asked = {entry["model"] for entry in ledger}
        assert len(asked) == len(ledger), "nothing goes up twice"

        async def stored() -> bool:
            rows = await self.db.fetch("SELECT model_asked FROM usage")
            return asked <= {row["model_asked"] for row in rows}

        took = await until(stored, USAGE_SECONDS_MAX, every=0.5)
        rows = [dict(row) for row in await self.db.fetch("SELECT * FROM usage")]
        findings = check(self.traffic.history, ledger, rows)
        self.tell(
            "requests, of the provider, rows", f"{len(self.traffic.history)}, {len(ledger)}, {len(rows)}"
        )
        self.tell("seconds to the last row", took)
        assert findings.none, findings

    async def spent(self, key: str) -> tuple[int, int]:
        """By the provider's own ledger, in picodollars, and the answers it comes from."""
        mine = {one.model for one in self.traffic.history if one.key == key}
        entries = [entry for entry in await self.traffic.ledger() if entry["model"] in mine]
        return sum(map(cost, entries)), len(entries)


def cost(entry: dict[str, Any]) -> int:
    """What a provider would charge: a stream that broke off too."""
    tokens = entry["tokens"] or {}
    output = max(tokens.get("output_tokens", 0), entry["tokens_sent"] or 0)
    assert output <= OUTPUT_TOKENS_MAX
    read = tokens.get("cache_read_tokens", 0)
    found: int = tokens.get("input_tokens", 0) * RATES["input"]
    return found + read * RATES["cache_read"] + output * RATES["output"]
