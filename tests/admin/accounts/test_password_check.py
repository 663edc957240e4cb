"""Password checks: right, bounded, and as slow for strangers."""

from __future__ import annotations

import os
import sys
import threading

import pytest
import trio
import trio.testing

from admin.accounts import password_check
from admin.accounts.password_check import NICENESS, PasswordCheck, TooManyChecks
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
    token = trio.lowlevel.current_trio_token()
    monkeypatch.setattr(
        password_check,
        "verify_password",
        lambda *_: trio.from_thread.run(release.wait, trio_token=token) is None,
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


@pytest.mark.skipif(sys.platform != "linux", reason="only there threads have priorities of their own")
async def test_its_threads_step_back_and_no_others_do() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    mine = niceness()
    assert await PasswordCheck().run(niceness) == min(mine + NICENESS, 19)
    assert niceness() == await trio.to_thread.run_sync(niceness) == mine
