"""One bcrypt for a secret, however many ask and however often; none remembered for another row."""

from __future__ import annotations

from functools import cache

import pytest
import trio
import trio.testing

from admin import key_check
from admin.accounts.password_check import TooManyChecks
from admin.key_check import REMEMBERED_SECONDS, KeyCheck
from storage.key_format import digest

SECRET = b"s" * 28


@cache
def right_digest() -> bytes:
    return digest(SECRET)


async def test_many_at_once_cost_one_bcrypt_and_later_ones_none() -> None:
    check = KeyCheck()
    found = []

    async def ask() -> None:
        found.append(await check.verify(SECRET, right_digest()))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
    await ask()
    assert found == [True] * 51
    assert check.bcrypt_runs == 1
    assert check.remembers(SECRET, right_digest())


async def test_what_is_wrong_is_not_remembered() -> None:
    check = KeyCheck()
    for _ in range(2):
        assert not await check.verify(SECRET[:-1] + b"x", right_digest())
    assert check.bcrypt_runs == 2
    assert not check.remembers(SECRET[:-1] + b"x", right_digest())


def test_proof_is_of_one_row_and_holds_for_a_while() -> None:
    clock = trio.testing.MockClock()

    async def run() -> None:
        check = KeyCheck()
        assert await check.verify(SECRET, right_digest())
        other = bytearray(right_digest())
        other[40] = ord("b" if other[40] == ord("a") else "a")
        assert not check.remembers(SECRET, bytes(other))
        assert not await check.verify(SECRET, bytes(other))
        clock.jump(REMEMBERED_SECONDS - 1)
        assert check.remembers(SECRET, right_digest())
        clock.jump(2)
        assert not check.remembers(SECRET, right_digest())

    trio.run(run, clock=clock)


async def test_the_oldest_is_forgotten_when_there_are_too_many() -> None:
    check = KeyCheck(remembered_max=1)
    second = b"t" * 28
    other = await trio.to_thread.run_sync(digest, second)
    assert await check.verify(SECRET, right_digest())
    assert await check.verify(second, other)
    assert not check.remembers(SECRET, right_digest())
    assert check.remembers(second, other)


async def test_too_many_different_ones_are_refused_at_once() -> None:
    check = KeyCheck(waiting_max=1)
    right_digest()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(check.verify, SECRET, right_digest())
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(TooManyChecks):
            await check.verify(b"x" * 28, right_digest())


async def test_who_waits_goes_on_when_the_first_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    check, flying = KeyCheck(), trio.Event()
    scopes: list[trio.CancelScope] = []
    original = trio.to_thread.run_sync

    async def first_is_held(*given: object, **options: object) -> object:
        if not flying.is_set():
            flying.set()
            await trio.sleep_forever()
        return await original(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(key_check.trio.to_thread, "run_sync", first_is_held)
    found = []

    async def cut_off() -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await check.verify(SECRET, right_digest())

    async def ask() -> None:
        found.append(await check.verify(SECRET, right_digest()))

    right_digest()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut_off)
        await flying.wait()
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        scopes[0].cancel()
    assert found == [True]
