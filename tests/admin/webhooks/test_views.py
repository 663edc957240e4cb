"""The pages of webhook endpoints, with a real receiver behind them and the admin server's own worker."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import httpx
import pytest
import trio
from standardwebhooks import Webhook

from admin import csrf
from admin.webhooks import views
from storage.audit import select_audit_rows
from storage.bridge import Database
from storage.errors import DatabaseBusy
from storage.model import Plan
from storage.organizations import set_plan
from storage.webhooks import Endpoint, select_endpoints
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import ACTOR, Person, make_stale, running_admin
from tests.admin.keys.test_minting import once_of
from tests.admin.webhooks.arena import NETWORKS
from tests.admin.webhooks.receiver import Receiver, running_receiver

EVENTS = {"plan.changed": "yes", "key.minted": "yes"}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as receiver:
        yield receiver


@pytest.fixture
async def admin_url(database_url: str, receiver: Receiver, tmp_path: Path) -> AsyncIterator[str]:
    settings = {
        "webhooks_allowed_networks": NETWORKS,
        "webhooks_ca_file": receiver.write_authority(tmp_path),
    }
    async with running_admin(database_url, **settings) as url:
        yield url


def page_of(person: Person) -> str:
    return f"/organizations/{person.organization.org_id}/webhooks"


async def fill(visitor: Visitor, page: str, **fields: str) -> httpx.Response:
    shown = (await visitor.get(page)).text
    return await visitor.post(page, {csrf.FIELD: token_of(shown), "once": once_of(shown), **fields})


def secret_in(page: str) -> str:
    found = re.search(r"whsec_[A-Za-z0-9+/=]{44}", unescape(page))
    assert found is not None
    return found[0]


async def make(visitor: Visitor, person: Person, receiver: Receiver, db: Database) -> tuple[Endpoint, str]:
    url = receiver.url("/t0ken", "localhost")
    made = await fill(visitor, f"{page_of(person)}/new", url=url, description="CI", **EVENTS)
    assert made.status_code == 200
    [endpoint] = await select_endpoints(db, person.organization.org_id)
    return endpoint, secret_in(made.text)


async def post(visitor: Visitor, page: str, action: str) -> httpx.Response:
    return await visitor.post(f"{page}/{action}", {csrf.FIELD: token_of((await visitor.get(page)).text)})


async def test_an_endpoint_is_made_told_and_looked_at(
    signed_in: Visitor, person: Person, receiver: Receiver, admin_db: Database
) -> None:
    assert "None yet" in (await signed_in.get(page_of(person))).text
    endpoint, secret = await make(signed_in, person, receiver, admin_db)
    page = f"{page_of(person)}/{endpoint.endpoint_id}"
    for shown in (page, page_of(person), f"{page}/change"):
        text = (await signed_in.get(shown)).text
        assert "localhost" in text
        assert secret not in unescape(text)
    await set_plan(admin_db, ACTOR, person.organization.org_id, Plan.ENTERPRISE)
    assert (await post(signed_in, page, "test")).status_code == 303
    told = await receiver.wait_for(2)
    kinds = {Webhook(secret).verify(one.body, one.headers)["type"] for one in told}
    assert kinds == {"plan.changed", "webhook.test"}
    with trio.fail_after(20):
        while (text := (await signed_in.get(page)).text).count("Delivered") < 2:
            await trio.sleep(0.05)
    [link, *_] = re.findall(rf"{page}/deliveries/\d+", text)
    one = (await signed_in.get(link)).text
    for words in ("Answered 200", "thank you", "Webhook-Signature: (not kept)", "msg_"):
        assert words in one
    assert "v1," not in one
    assert (await post(signed_in, link, "redeliver")).headers["location"].endswith("done=again")
    await receiver.wait_for(3)
    assert (await signed_in.get(f"{page}/deliveries/{10**30}")).status_code == 404
    assert (await signed_in.get(f"{page}?before=1")).status_code == 200
    assert (await signed_in.get(f"{page}?before=x")).status_code == 200


async def test_a_form_that_found_the_database_busy_makes_an_endpoint_afterwards(
    signed_in: Visitor, person: Person, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = f"{page_of(person)}/new"
    shown = (await signed_in.get(page)).text
    form = {csrf.FIELD: token_of(shown), "once": once_of(shown), **EVENTS}
    form["url"] = receiver.url("/t0ken", "localhost")

    async def fail(*_: object) -> None:
        raise DatabaseBusy("busy")

    with monkeypatch.context() as patch:
        patch.setattr(views, "create_endpoint", fail)
        assert (await signed_in.post(page, form)).status_code == 503
    assert secret_in((await signed_in.post(page, form)).text)
    assert (await signed_in.post(page, form)).status_code == 303


async def test_an_endpoint_is_changed_rotated_switched_and_deleted(
    signed_in: Visitor, person: Person, receiver: Receiver, admin_db: Database
) -> None:
    endpoint, _ = await make(signed_in, person, receiver, admin_db)
    org_id, page = person.organization.org_id, f"{page_of(person)}/{endpoint.endpoint_id}"
    moved = receiver.url("/b", "localhost")
    changed = await fill(signed_in, f"{page}/change", url=moved, ordered="yes", **{"budget.set": "yes"})
    assert changed.status_code == 303
    [after] = await select_endpoints(admin_db, org_id)
    assert (after.url, after.events, after.ordered, after.description) == (moved, ("budget.set",), True, "")
    rotated = await signed_in.submit(f"{page}/rotate", {"overlap": "3600"})
    assert rotated.status_code == 200
    assert secret_in(rotated.text)
    assert rotated.headers["cache-control"] == "no-store"
    assert (await post(signed_in, page, "disable")).status_code == 303
    text = (await signed_in.get(page)).text
    assert "This endpoint is off" in text
    assert "Send a test event" not in text
    assert (await post(signed_in, page, "test")).status_code == 303
    assert (await post(signed_in, page, "enable")).status_code == 303
    assert (await post(signed_in, page, "delete")).status_code == 303
    assert await select_endpoints(admin_db, org_id) == []
    for gone in (page, f"{page}/change", f"{page}/rotate", f"{page}/deliveries/1"):
        assert (await signed_in.get(gone)).status_code == 404
    events = [row.event for row in await select_audit_rows(admin_db, org_id)]
    assert [one for one in events if one.startswith("webhook:")] == [
        f"webhook:{what}"
        for what in ("created", "changed", "secret_rotated", "disabled", "enabled", "deleted")
    ]


async def test_what_makes_no_endpoint_is_said_at_its_field(
    signed_in: Visitor, person: Person, receiver: Receiver, admin_db: Database
) -> None:
    page = f"{page_of(person)}/new"
    good = {"url": receiver.url("/", "localhost"), **EVENTS}
    for fields, words in (
        ({**good, "url": "http://hooks.example.com/"}, "Write it as https://"),
        ({**good, "url": "https://10.0.0.1/"}, "no address"),
        ({**good, "url": "https://nobody.invalid/"}, "cannot be found"),
        ({"url": good["url"]}, "Choose what it is told of"),
        ({**good, "description": "a\x07b"}, "200 printable characters"),
    ):
        refused = await fill(signed_in, page, **fields)
        assert refused.status_code == 422
        assert words in refused.text
    assert await select_endpoints(admin_db, person.organization.org_id) == []
    shown = (await signed_in.get(page)).text
    form = {csrf.FIELD: token_of(shown), "once": once_of(shown), **good}
    assert "whsec_" in (await signed_in.post(page, form)).text
    again = await signed_in.post(page, form)
    assert again.headers["location"].endswith("done=created"), "the same form makes one"
    assert len(await select_endpoints(admin_db, person.organization.org_id)) == 1


async def test_a_prompt_for_proof_keeps_what_was_typed(
    signed_in: Visitor, person: Person, receiver: Receiver, admin_db: Database
) -> None:
    shown = (await signed_in.get(f"{page_of(person)}/new")).text
    await make_stale(admin_db)
    form = {
        csrf.FIELD: token_of(shown),
        "once": once_of(shown),
        "url": receiver.url("/", "localhost"),
        **EVENTS,
    }
    asked = await signed_in.post(f"{page_of(person)}/new", form)
    assert asked.headers["location"] == "/prove"
    assert await select_endpoints(admin_db, person.organization.org_id) == []
    proved = await signed_in.submit("/prove", {"password": person.password}, "/prove/password")
    resumed = await signed_in.get(proved.headers["location"])
    assert "key.minted" in resumed.text
