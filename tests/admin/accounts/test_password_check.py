"""Password checks: right, bounded, and as slow for strangers."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from admin.accounts import password_check
from admin.accounts.password_check import PasswordCheck, TooManyChecks
from storage.passwords import REFERENCE_DIGEST, digest_password


async def test_it_tells_right_from_wrong_and_unknown() -> None:
    digest = await trio.to_thread.run_sync(digest_password, "secret")
    check = PasswordCheck()
    assert await check.verify("secret", digest)
    assert not await check.verify("Secret", digest)
    assert not await check.verify("secret", None)


async def test_an_unknown_user_costs_a_check_too(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []

    def verify(_: str, digest: bytes) -> bool:
        checked.append(digest)
        return True

    monkeypatch.setattr(password_check, "verify_password", verify)
    assert not await PasswordCheck().verify("secret", None)
    assert checked == [REFERENCE_DIGEST]


async def test_no_more_wait_than_can_be_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    release = trio.Event()
    monkeypatch.setattr(
        password_check, "verify_password", lambda *_: trio.from_thread.run(release.wait) is None
    )
    check = PasswordCheck(threads_max=1, waiting_max=2)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(check.verify, "x", b"")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(TooManyChecks):
            await check.verify("x", b"")
        release.set()
    assert await check.verify("x", b"")
