"""A database with very many organizations, and what is done on it told by its CPU: what `crowd` stands on."""

from __future__ import annotations

import argparse
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from bench.process_watch import cpu_seconds
from storage.bridge import Database
from storage.errors import StorageError
from tests.reach.stand import tell
from tests.support.postgres import PostgresServer

DATABASE = "crowd"
# `replica`: no notification and no foreign key is looked at for what is only there to be many.
FILL = """
SET session_replication_role = replica;
INSERT INTO organizations (org_id, name, plan, salt)
SELECT lpad(to_hex(n), 32, '0')::uuid, 'Organization ' || n, 'pro', sha256(n::text::bytea)
  FROM generate_series(1, {orgs}) n;
INSERT INTO api_keys (key_id, org_id, name, mode, last_four, secret_digest)
SELECT lpad(n::text, 12, '0'), lpad(to_hex(1 + n % {orgs}), 32, '0')::uuid, 'k', 'live', 'abcd',
       convert_to('$2b$12$' || repeat('a', 53), 'UTF8')
  FROM generate_series(1, {keys}) n;
INSERT INTO provider_credentials (credential_id, org_id, provider, last_four, master_key_version, wrapped_key,
                                  ciphertext)
SELECT gen_random_uuid(), org_id, 'anthropic', 'abcd', 1, sha256('w'), sha256('c') || sha256('d')
  FROM organizations;
INSERT INTO limits (org_id, key_id, kind, period, amount)
SELECT k.org_id, k.key_id, l.kind, l.period, 1000000000000000
  FROM api_keys k
 CROSS JOIN (VALUES ('requests', 'minute'), ('tokens', 'minute'), ('money', 'month')) l (kind, period);
RESET session_replication_role;
"""


def key_id(number: int) -> str:
    return f"{number:012}"


def org_id(number: int, orgs: int) -> UUID:
    """The organization of a key."""
    return UUID(int=1 + number % orgs)


class Crowd:
    """The filled database, as each of the programs sees it."""

    def __init__(self, server: PostgresServer, admin: Database, gateway: Database, given: argparse.Namespace):
        self.server = server
        self.admin = admin
        self.gateway = gateway
        self.orgs: int = given.orgs
        self.keys: int = given.keys

    @asynccontextmanager
    async def spent(self, what: str, count: int, *, db: Database | None = None) -> AsyncIterator[None]:
        """Tells what CPU the body took of the one session of a database and of this process, by `count`."""
        pid = await (db or self.gateway).fetch_value("SELECT pg_backend_pid()")
        server, client, began = cpu_seconds([pid]), time.process_time(), time.perf_counter()
        try:
            yield
        except StorageError as error:
            tell(what, f"FAILED: {error}")
            return
        server, client = cpu_seconds([pid]) - server, time.process_time() - client
        wall = time.perf_counter() - began
        tell(
            what,
            f"server {server / count * 1e6:.1f}, client {client / count * 1e6:.1f} µs of CPU each "
            f"({count:,}; {wall:.2f} s)",
        )
