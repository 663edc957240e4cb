"""`karta staff …` on a real database."""

from __future__ import annotations

import json

import pytest

from storage.bridge import open_database
from storage.model import Actor, ActorKind
from storage.passwords import REFERENCE_DIGEST
from storage.users import create_user
from tests.karta.conftest import Karta
from tests.support.postgres import run_in_own_trio


@pytest.fixture
def email(database_url: str) -> str:
    async def make() -> None:
        async with open_database(database_url, role="karta_admin") as db:
            actor = Actor(kind=ActorKind.SYSTEM, actor_id="tests")
            await create_user(db, actor, email="ada@example.com", password_digest=REFERENCE_DIGEST)

    run_in_own_trio(make)
    return "ada@example.com"


def test_one_is_granted_listed_and_revoked(karta: Karta, database_url: str, email: str) -> None:
    where = ("--database-url", database_url)
    assert "Nobody yet" in karta("staff", "list", *where)[1]
    code, out, _ = karta("staff", "grant", email, "--json", *where)
    assert code == 0
    user_id = json.loads(out)["user_id"]
    (listed,) = json.loads(karta("staff", "list", "--json", *where)[1])["staff"]
    assert (listed["user_id"], listed["email"], listed["has_factor"]) == (user_id, email, False)
    assert email in karta("staff", "list", *where)[1]
    assert karta("staff", "revoke", email, *where)[1] == f"{email} is a platform operator no more.\n"
    code, _, err = karta("staff", "revoke", email, *where)
    assert (code, err.count("\n")) == (1, 1)


def test_a_stranger_is_one_clear_line(karta: Karta, database_url: str) -> None:
    code, out, err = karta("staff", "grant", "eve@example.com", "--database-url", database_url)
    assert (code, out) == (1, "")
    assert "they sign up first" in err
