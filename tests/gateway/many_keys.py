"""Many keys of one tenant, at the price of one: they share a secret, whose digest is stored with each id.

To the gateway they are as different as any: a digest is verified for each token.
"""

from __future__ import annotations

from storage import key_format
from storage.bridge import Database
from storage.model import Mode
from tests.gateway.conftest import Tenant
from tests.support.tokens import with_id


async def mint_many(db: Database, tenant: Tenant, number: int) -> list[str]:
    """Their tokens. `db` is the owner's."""
    tokens = []
    for _ in range(number):
        token = with_id(tenant.token, key_format.mint(Mode.LIVE).key_id)
        parsed = key_format.parse(token.encode())
        assert parsed is not None
        await db.execute(
            """
            INSERT INTO api_keys (key_id, org_id, name, mode, last_four, secret_digest)
            SELECT $1, org_id, name, mode, last_four, secret_digest FROM api_keys WHERE key_id = $2
            """,
            parsed.key_id,
            tenant.key_id,
        )
        tokens.append(token)
    return tokens
