from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.errors import CheckFailed, NotFound
from storage.model import Actor
from storage.passwords import REFERENCE_DIGEST
from storage.suppressions import (
    EVERY_STREAM,
    Reason,
    lift,
    reactivate,
    select_suppressed,
    select_suppressions,
    suppress,
)
from storage.users import create_user

AT = datetime(2026, 11, 26, 2, tzinfo=UTC)
EMAIL = "ada@example.com"


async def test_told_twice_it_is_noted_once(admin_db: Database, actor: Actor) -> None:
    user = await create_user(admin_db, actor, email=EMAIL, password_digest=REFERENCE_DIGEST)
    for expected in (True, False):
        done = await suppress(admin_db, actor, "Ada@Example.com", EVERY_STREAM, Reason.HARD_BOUNCE, AT)
        assert done is expected
    (one,) = await select_suppressions(admin_db, email="ADA@example.com")
    assert (one.email, one.stream, one.reason, one.changed_at) == (EMAIL, "*", Reason.HARD_BOUNCE, AT)
    assert await select_suppressed(admin_db, [EMAIL, "eve@example.com"]) == {(EMAIL, "*")}
    told = [row for row in await select_audit_rows(admin_db, None) if row.event == "mail:suppressed"]
    assert [row.subject for row in told] == [str(user.user_id)]
    assert EMAIL not in told[0].details


async def test_in_whatever_order_it_is_told_the_last_holds(admin_db: Database, actor: Actor) -> None:
    """A bounce, a complaint, their end: or the end before the complaint."""
    later = AT + timedelta(seconds=1)
    orders = itertools.product(itertools.permutations(("bounce", "complaint", "end")), (0.5, 2.0))
    for number, (told, ended) in enumerate(orders):
        email = f"{number}@example.com"
        for what in (*told, *told):
            if what == "bounce":
                await suppress(admin_db, actor, email, "outbound", Reason.HARD_BOUNCE, AT)
            elif what == "complaint":
                await suppress(admin_db, actor, email, "outbound", Reason.SPAM_COMPLAINT, later)
            else:
                await reactivate(admin_db, actor, email, "outbound", AT + timedelta(seconds=ended))
        found = [one.reason for one in await select_suppressions(admin_db, email=email)]
        assert found == ([Reason.SPAM_COMPLAINT] if ended < 1 else []), told


async def test_an_end_that_is_told_again_and_a_bounce_before_it(admin_db: Database, actor: Actor) -> None:
    await suppress(admin_db, actor, EMAIL, EVERY_STREAM, Reason.HARD_BOUNCE, AT)
    later = AT + timedelta(seconds=1)
    assert not await reactivate(admin_db, actor, EMAIL, "outbound", AT - timedelta(seconds=1))
    assert await reactivate(admin_db, actor, EMAIL, "outbound", later)
    assert not await reactivate(admin_db, actor, EMAIL, "outbound", later)
    assert not await suppress(admin_db, actor, EMAIL, EVERY_STREAM, Reason.HARD_BOUNCE, AT)
    assert await select_suppressions(admin_db) == []


async def test_staff_lift_it_by_hand(admin_db: Database, actor: Actor) -> None:
    await suppress(admin_db, actor, EMAIL, "outbound", Reason.INACTIVE, AT)
    await lift(admin_db, actor, EMAIL, "outbound")
    with pytest.raises(NotFound):
        await lift(admin_db, actor, EMAIL, "outbound")
    assert await select_suppressed(admin_db, [EMAIL]) == set()
    assert not await suppress(admin_db, actor, EMAIL, "outbound", Reason.INACTIVE, AT), "that is known"
    assert await suppress(admin_db, actor, EMAIL, "outbound", Reason.INACTIVE, datetime.now(UTC))
    told = [row.event for row in await select_audit_rows(admin_db, None)]
    assert told == ["mail:suppressed", "mail:suppression_lifted", "mail:suppressed"]


async def test_what_is_no_address_is_refused(admin_db: Database, actor: Actor) -> None:
    with pytest.raises(CheckFailed):
        await suppress(admin_db, actor, "x", "outbound", Reason.INACTIVE, AT)
