"""What second factors a person has, all kinds together. Whether there is any, `users` tells: a session asks
for that, and the kinds stand on sessions."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from storage.bridge import Transaction
from storage.passkeys import Passkey, select_passkeys
from storage.queries import Queries
from storage.recovery_codes import count_recovery_codes
from storage.totp import select_totp_since


class Factors(msgspec.Struct, frozen=True, kw_only=True):
    """Recovery codes are no factor by themselves: they stand in for the others."""

    totp_since: datetime | None
    passkeys: tuple[Passkey, ...]
    recovery_codes_left: int

    @property
    def any(self) -> bool:
        return self.totp_since is not None or bool(self.passkeys)


async def select_factors(db: Queries, user_id: UUID) -> Factors:
    return Factors(
        totp_since=await select_totp_since(db, user_id),
        passkeys=tuple(await select_passkeys(db, user_id)),
        recovery_codes_left=await count_recovery_codes(db, user_id),
    )


async def delete_factors(tx: Transaction, user_id: UUID) -> None:
    """Forgets all of them, with the account."""
    for table in ("totp_factors", "passkeys", "recovery_codes", "pending_sign_ins"):
        await tx.execute(f"DELETE FROM {table} WHERE user_id = $1", user_id)  # noqa: S608
