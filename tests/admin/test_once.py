"""That a form does its work once, and may be sent again where nothing can have come of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio
from werkzeug.exceptions import BadRequest

from admin import once
from admin.once import AlreadySent, use_up
from storage import throttles
from storage.bridge import Database
from storage.errors import CommitUnknown, DatabaseBusy, DatabaseUnavailable, PlanRefused
from storage.throttles import Rule

RULE = Rule("tests:form", 1, 3600)
NUMBER = "a number of a form"


@pytest.fixture(autouse=True)
async def _services(admin_db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "services", lambda: SimpleNamespace(db=admin_db))


async def send(number: str = NUMBER, *, fails: Exception | None = None) -> None:
    async with use_up(RULE, number):
        if fails is not None:
            raise fails


async def test_a_form_does_its_work_once() -> None:
    await send()
    with pytest.raises(AlreadySent):
        await send()
    await send("a number of another")


async def test_of_many_at_once_one_does_it() -> None:
    done = 0

    async def attempt() -> None:
        nonlocal done
        try:
            await send()
            done += 1
        except AlreadySent:
            pass

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(attempt)
    assert done == 1


@pytest.mark.parametrize("error", [PlanRefused, DatabaseBusy, DatabaseUnavailable, RuntimeError])
async def test_where_nothing_came_of_it_it_may_be_sent_again(error: type[Exception]) -> None:
    for _ in range(2):
        with pytest.raises(error):
            await send(fails=error("no"))
    await send()
    with pytest.raises(AlreadySent):
        await send()


async def test_but_not_where_something_may_have() -> None:
    with pytest.raises(CommitUnknown):
        await send(fails=CommitUnknown("lost"))
    with pytest.raises(AlreadySent):
        await send()


async def test_nor_where_nobody_waited_for_its_end() -> None:
    with trio.CancelScope() as scope:
        async with use_up(RULE, NUMBER):
            scope.cancel()
            await trio.lowlevel.checkpoint()
    with pytest.raises(AlreadySent):
        await send()


async def test_what_went_wrong_is_told_also_where_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object) -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(throttles, "forgive", fail)
    with pytest.raises(PlanRefused):
        await send(fails=PlanRefused("full"))


@pytest.mark.parametrize("number", ["", "x" * 10, "x" * 100])
async def test_what_is_no_number_of_ours(number: str) -> None:
    with pytest.raises(BadRequest):
        await send(number)
