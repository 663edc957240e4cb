from __future__ import annotations

import time

import pyotp

from storage.bridge import Database
from storage.factors import delete_factors, select_factors
from storage.model import Actor, User
from storage.passkeys import insert_passkey
from storage.recovery_codes import replace_recovery_codes
from storage.sealing import MasterKeys
from storage.totp import begin_totp, confirm_totp, remove_totp, select_begun_secret
from storage.users import has_factor
from tests.storage.factor_people import HERE, LETTER, make_passkey, sign_in_here
from tests.storage.test_sessions import user

__all__ = ["user"]


async def test_what_counts_and_what_does_not(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    arguments = (admin_db, actor, master_keys)
    await begin_totp(admin_db, master_keys, user.user_id)
    await sign_in_here(admin_db, actor, user.user_id)
    await replace_recovery_codes(admin_db, actor, user.user_id, session=HERE)
    assert not (await select_factors(admin_db, user.user_id)).any
    assert not await has_factor(admin_db, user.user_id)
    code = pyotp.TOTP(await select_begun_secret(admin_db, master_keys, user.user_id)).at(
        int(at := time.time())
    )
    await confirm_totp(*arguments, user.user_id, code, LETTER, keep_session=HERE, at=at)
    assert await has_factor(admin_db, user.user_id)
    await insert_passkey(*arguments, make_passkey(user.user_id), LETTER, keep_session=HERE)
    await remove_totp(*arguments, user.user_id, LETTER, keep_session=HERE)
    found = await select_factors(admin_db, user.user_id)
    assert found.any
    assert (found.totp_since, len(found.passkeys), found.recovery_codes_left) == (None, 1, 10)
    async with admin_db.transaction() as tx:
        await delete_factors(tx, user.user_id)
    found = await select_factors(admin_db, user.user_id)
    assert (found.any, found.recovery_codes_left) == (False, 0)
