"""What is kept of an interrupted request; the journeys are in test_views."""

from __future__ import annotations

import re

import msgspec
import pytest

from admin import csrf
from admin.proof.interrupted import KEPT_BYTES_MAX
from storage.bridge import Database
from tests.admin.browsing import Visitor
from tests.admin.conftest import make_stale


@pytest.mark.parametrize(
    ("referer", "path"),
    [
        ("{url}/account/delete?x=1", "/account/delete?x=1"),
        ("https://evil.example/account", "/"),
        ("{url}.evil.example/", "/"),
        ("", "/"),
    ],
)
async def test_too_much_is_not_kept_but_where_it_came_from(
    signed_in: Visitor, admin_db: Database, referer: str, path: str
) -> None:
    token = await signed_in.token("/account/delete")
    await make_stale(admin_db)
    form = {csrf.FIELD: token, "email": "x" * KEPT_BYTES_MAX}
    headers = {"Referer": referer.format(url=signed_in.url)}
    assert (await signed_in.post("/account/delete", form, headers=headers)).headers["location"] == "/prove"
    kept = msgspec.json.decode(await admin_db.fetch_value("SELECT interrupted FROM sessions"))
    assert kept == {"path": path, "fields": None}


async def test_the_form_token_is_not_kept(signed_in: Visitor, admin_db: Database) -> None:
    token = await signed_in.token("/account/delete")
    await make_stale(admin_db)
    await signed_in.post("/account/delete", {csrf.FIELD: token, "email": "typed"})
    kept = msgspec.json.decode(await admin_db.fetch_value("SELECT interrupted FROM sessions"))
    assert kept == {"path": "/account/delete", "fields": {"email": "typed"}}


async def test_a_field_that_was_filled_in_twice_has_both_values_still(
    signed_in: Visitor, admin_db: Database
) -> None:
    token = await signed_in.token("/account/delete")
    await make_stale(admin_db)
    await signed_in.request("POST", "/account/delete", data={csrf.FIELD: token, "email": ["one", "two"]})
    kept = msgspec.json.decode(await admin_db.fetch_value("SELECT interrupted FROM sessions"))
    assert kept == {"path": "/account/delete", "fields": {"email": ["one", "two"]}}
    page = (await signed_in.get("/prove/resume")).text
    assert re.findall(r'name="email" value="([^"]*)"', page) == ["one", "two"]
