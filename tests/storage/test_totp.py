"""TOTP: the vectors of RFC 6238, and a code that is taken once, whoever asks at the same time."""

from __future__ import annotations

import base64
import time

import pyotp
import pytest
import trio

from storage.audit import select_audit_rows
from storage.bridge import Database, open_database
from storage.errors import Conflict, NotFound, SessionEnded
from storage.model import Actor, User
from storage.sealing import MasterKeys
from storage.sessions import create_session
from storage.signed_in import select_signed_in
from storage.totp import (
    begin_totp,
    confirm_totp,
    matching_step,
    provisioning_uri,
    remove_totp,
    select_begun_secret,
    select_totp_since,
    use_totp,
)
from tests.storage.factor_people import ELSEWHERE, HERE, LETTER, sign_in_here
from tests.storage.test_sessions import later, user

__all__ = ["user"]
RFC_SECRET = base64.b32encode(b"12345678901234567890").decode()
# RFC 6238, appendix B, SHA-1: the last six of its eight digits are the six-digit code.
RFC_VECTORS = [
    (59, "94287082"),
    (1111111109, "07081804"),
    (1111111111, "14050471"),
    (1234567890, "89005924"),
    (2000000000, "69279037"),
    (20000000000, "65353130"),
]
AT = 1_800_000_015.0


@pytest.mark.parametrize(("at", "digits"), RFC_VECTORS)
def test_the_vectors_of_rfc_6238(at: int, digits: str) -> None:
    assert matching_step(RFC_SECRET, digits[-6:], at) == at // 30
    assert matching_step(RFC_SECRET, digits[-6:], at + 3 * 30) is None


@pytest.mark.parametrize(
    ("seconds", "taken"), [(-60, False), (-30, True), (0, True), (30, True), (60, False)]
)
def test_a_clock_may_be_half_a_minute_off(seconds: int, taken: bool) -> None:
    code = pyotp.TOTP(RFC_SECRET).at(int(AT) + seconds)
    assert (matching_step(RFC_SECRET, code, AT) is not None) is taken


@pytest.mark.parametrize("code", ["", "12345", "1234567", "28 082", "+28708", "٢٨٧٠٨٢", "0x1234", "28708\n"])
def test_only_six_digits_are_a_code(code: str) -> None:
    assert matching_step(RFC_SECRET, code, 59) is None


async def set_up(db: Database, actor: Actor, master_keys: MasterKeys, user: User) -> str:
    """An app that counts since a minute before `AT`; returns its secret."""
    await sign_in_here(db, actor, user.user_id)
    await begin_totp(db, master_keys, user.user_id)
    secret = await select_begun_secret(db, master_keys, user.user_id)
    code = pyotp.TOTP(secret).at(int(AT) - 60)
    confirmed = await confirm_totp(
        db, actor, master_keys, user.user_id, code, LETTER, keep_session=HERE, at=AT - 60
    )
    assert confirmed
    return secret


async def test_an_app_counts_once_a_code_was_shown(
    admin_db: Database, owner_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    for digest in (HERE, ELSEWHERE):
        await create_session(admin_db, actor, user.user_id, digest, later(hours=1))
    with pytest.raises(NotFound):
        await select_begun_secret(admin_db, master_keys, user.user_id)
    await begin_totp(admin_db, master_keys, user.user_id)
    await begin_totp(admin_db, master_keys, user.user_id)
    secret = await select_begun_secret(admin_db, master_keys, user.user_id)
    assert len(base64.b32decode(secret)) == 20
    assert secret.encode() not in await owner_db.fetch_value("SELECT sealed_secret FROM totp_factors")
    code = pyotp.TOTP(secret).now()
    assert not await use_totp(admin_db, master_keys, user.user_id, code)
    assert not await confirm_totp(
        admin_db, actor, master_keys, user.user_id, "000000", LETTER, keep_session=HERE, at=0
    )
    assert await select_totp_since(admin_db, user.user_id) is None
    at = time.time()
    code = pyotp.TOTP(secret).at(int(at))
    assert await confirm_totp(
        admin_db, actor, master_keys, user.user_id, code, LETTER, keep_session=HERE, at=at
    )
    assert await select_totp_since(admin_db, user.user_id) is not None
    assert not await use_totp(admin_db, master_keys, user.user_id, code, at=at)
    assert await select_signed_in(admin_db, HERE) is not None
    assert await select_signed_in(admin_db, ELSEWHERE) is None
    with pytest.raises(Conflict):
        await begin_totp(admin_db, master_keys, user.user_id)
    rows = await select_audit_rows(admin_db, None)
    assert rows[-1].event == "factor:added"
    assert secret not in "".join(row.details for row in rows)


async def test_of_fifty_at_once_one_wins(
    admin_db: Database, database_url: str, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    secret = await set_up(admin_db, actor, master_keys, user)
    code = pyotp.TOTP(secret).at(int(AT))
    taken = []
    async with open_database(database_url, role="karta_admin") as other, trio.open_nursery() as nursery:

        async def attempt(db: Database) -> None:
            taken.append(await use_totp(db, master_keys, user.user_id, code, at=AT))

        for _ in range(25):
            nursery.start_soon(attempt, admin_db)
            nursery.start_soon(attempt, other)
    assert (len(taken), sum(taken)) == (50, 1)


async def test_after_a_code_no_older_one_is_taken(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    secret = await set_up(admin_db, actor, master_keys, user)
    app = pyotp.TOTP(secret)

    async def attempt(seconds: int) -> bool:
        return await use_totp(admin_db, master_keys, user.user_id, app.at(int(AT) + seconds), at=AT)

    assert await attempt(0)
    assert not await attempt(-30)
    assert not await attempt(0)
    assert await attempt(30)


async def test_a_secret_does_not_open_for_somebody_else(
    admin_db: Database, owner_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    from storage.errors import SealError
    from storage.passwords import REFERENCE_DIGEST
    from storage.users import create_user

    await set_up(admin_db, actor, master_keys, user)
    eve = await create_user(admin_db, actor, email="eve@example.com", password_digest=REFERENCE_DIGEST)
    await owner_db.execute("UPDATE totp_factors SET user_id = $1", eve.user_id)
    with pytest.raises(SealError):
        await use_totp(admin_db, master_keys, eve.user_id, "123456")


async def test_an_app_is_removed(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    secret = await set_up(admin_db, actor, master_keys, user)
    await remove_totp(admin_db, actor, master_keys, user.user_id, LETTER, keep_session=HERE)
    code = pyotp.TOTP(secret).at(int(AT))
    assert not await use_totp(admin_db, master_keys, user.user_id, code, at=AT)
    with pytest.raises(NotFound):
        await remove_totp(admin_db, actor, master_keys, user.user_id, LETTER, keep_session=HERE)


async def test_a_session_that_has_ended_meanwhile_changes_no_app(
    admin_db: Database, actor: Actor, master_keys: MasterKeys, user: User
) -> None:
    await sign_in_here(admin_db, actor, user.user_id)
    await begin_totp(admin_db, master_keys, user.user_id)
    secret = await select_begun_secret(admin_db, master_keys, user.user_id)
    code = pyotp.TOTP(secret).at(int(AT))
    given = (admin_db, actor, master_keys, user.user_id)
    with pytest.raises(SessionEnded):
        await confirm_totp(*given, code, LETTER, keep_session=ELSEWHERE, at=AT)
    assert await select_totp_since(admin_db, user.user_id) is None
    assert await confirm_totp(*given, code, LETTER, keep_session=HERE, at=AT)
    with pytest.raises(SessionEnded):
        await remove_totp(*given, LETTER, keep_session=ELSEWHERE)
    assert await select_totp_since(admin_db, user.user_id) is not None


def test_what_the_qr_code_says() -> None:
    uri = provisioning_uri(RFC_SECRET, "ada@example.com")
    assert uri.startswith("otpauth://totp/Karta:ada%40example.com?")
    assert f"secret={RFC_SECRET}" in uri
