from __future__ import annotations

from uuid import uuid4

import pytest

from storage import sign_in_places
from storage.bridge import Database
from storage.model import Actor, User
from storage.outbox import select_waiting
from storage.passwords import REFERENCE_DIGEST
from storage.sealing import MasterKeys
from storage.sessions import create_session
from storage.sign_in_places import Place
from storage.users import create_user
from tests.storage.test_sessions import later

OFFICE = Place(browser="Firefox on Linux", network="192.0.2.7", address="192.0.2.7")
TRAIN = Place(browser="Firefox on Linux", network="2001:db8::/64", address="2001:db8::7")
PHONE = Place(browser="Safari on iOS", network="192.0.2.7", address="192.0.2.7")


@pytest.fixture
async def user(admin_db: Database, actor: Actor) -> User:
    return await create_user(admin_db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)


class SignIns:
    def __init__(self, db: Database, actor: Actor, user: User) -> None:
        self.db, self.actor, self.user = db, actor, user
        self.number = 0

    async def __call__(self, place: Place | None) -> None:
        self.number += 1
        digest = self.number.to_bytes(32, "big")
        await create_session(self.db, self.actor, self.user.user_id, digest, later(), place=place)


async def test_a_new_place_is_told_but_for_the_first(
    admin_db: Database, actor: Actor, user: User, master_keys: MasterKeys
) -> None:
    sign_in = SignIns(admin_db, actor, user)
    told = []
    for place in (None, OFFICE, OFFICE, TRAIN, TRAIN, PHONE, OFFICE):
        await sign_in(place)
        told.append(len(await select_waiting(admin_db, master_keys)))
    assert told == [0, 0, 0, 1, 1, 2, 2]
    newest = (await select_waiting(admin_db, master_keys))[0].letter
    assert newest is not None
    assert (newest.recipient, newest.facts["browser"]) == (user.email, "Safari on iOS")


async def test_places_are_few_and_forgotten(
    admin_db: Database,
    owner_db: Database,
    actor: Actor,
    user: User,
    master_keys: MasterKeys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sign_in = SignIns(admin_db, actor, user)
    monkeypatch.setattr(sign_in_places, "PLACES_MAX", 2)
    for place in (OFFICE, TRAIN, PHONE):
        await sign_in(place)
    assert await owner_db.fetch_value("SELECT count(*) FROM sign_in_places") == 2
    await owner_db.execute("UPDATE sign_in_places SET seen_at = now() - interval '181 days'")
    await sign_in(PHONE)
    assert await owner_db.fetch_value("SELECT count(*) FROM sign_in_places") == 1
    assert len(await select_waiting(admin_db, master_keys)) == 2, "it begins anew, with nobody told"


def test_two_people_have_no_place_in_common() -> None:
    one, two = uuid4(), uuid4()
    assert OFFICE.digest(one) != OFFICE.digest(two)
    shifted = [Place(browser="a", network="bc", address=""), Place(browser="ab", network="c", address="")]
    assert shifted[0].digest(one) != shifted[1].digest(one)
