"""Sent twice, done once: whatever happens in between."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
import trio

from admin import throttle
from admin.management_api import idempotency, keys
from storage.api_keys import select_keys
from storage.bridge import Database
from storage.errors import CommitUnknown, DatabaseUnavailable
from storage.throttles import Rule
from tests.admin.conftest import Person
from tests.admin.management_api.client import Client, check, mint, problem_of

BODY = {"name": "Web", "mode": "test"}
NAME = {"Idempotency-Key": "order-1"}


async def ask(api: Client, body: object = BODY, headers: dict[str, str] | None = None) -> httpx.Response:
    return await api.call("POST", f"{api.org}/api-keys", json=body, headers=headers or NAME)


async def minted(db: Database, person: Person) -> int:
    return len(await select_keys(db, person.organization.org_id))


async def test_a_repeated_mint_mints_once_and_shows_once(
    api: Client, admin_db: Database, owner_db: Database, person: Person
) -> None:
    first, second = await ask(api), await ask(api)
    assert (first.status_code, second.status_code) == (201, 201)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert first.json()["key"].startswith("kt_test_")
    assert second.json() == {**first.json(), "key": None}
    check("MintedAPIKey", second.json())
    assert await minted(admin_db, person) == 1
    [kept] = await owner_db.fetch(
        "SELECT t::text AS row, convert_from(answer, 'UTF8') AS answer FROM idempotent_requests t"
    )
    for secret in (first.json()["key"], NAME["Idempotency-Key"], '"mode"'):
        assert secret not in kept["row"]
    assert first.json()["key"] not in kept["answer"]


async def test_the_name_belongs_to_one_request_of_one_key(
    api: Client, admin_url: str, admin_db: Database, person: Person
) -> None:
    assert (await ask(api)).status_code == 201
    for changed in (
        await ask(api, {**BODY, "name": "Other"}),
        await api.call("POST", f"{api.org}/api-keys?x=1", json=BODY, headers=NAME),
        await api.call("PATCH", api.org, json=BODY, headers=NAME),
    ):
        # Of a body that is none of that operation's, the first thing that is wrong with it is told.
        assert changed.status_code == 422
    assert problem_of(await ask(api, {**BODY, "name": "Other"})) == "key-reused"
    _, token = await mint(admin_db, person)
    async with Client(admin_url, token, person.organization.org_id) as other:
        again = await ask(other)
    assert again.status_code == 201
    assert again.json()["key"] is not None
    assert await minted(admin_db, person) == 2


async def test_of_many_at_once_one_is_done(api: Client, admin_db: Database, person: Person) -> None:
    answers: list[httpx.Response] = []

    async def send() -> None:
        answers.append(await ask(api))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(send)
    assert await minted(admin_db, person) == 1
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {201, 409}
    assert sum(answer.is_success and answer.json()["key"] is not None for answer in answers) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert problem_of(answer) == "under-way"
            assert answer.headers["retry-after"] == "1"
    assert (await ask(api)).status_code == 201


async def test_what_was_refused_may_be_tried_again(
    api: Client, monkeypatch: pytest.MonkeyPatch, admin_db: Database, person: Person
) -> None:
    monkeypatch.setattr(throttle, "API_MINT_KEY", Rule("none:yet", 1, 0.001))
    assert (await ask(api, {**BODY, "expires_at": "2020-01-01T00:00:00Z"})).status_code == 422
    assert (await ask(api)).status_code == 201

    async def away(*_: object, **__: object) -> object:
        raise DatabaseUnavailable("away")

    other = {"Idempotency-Key": "order-2"}
    with monkeypatch.context() as patch:
        patch.setattr(keys, "mint_key", away)
        assert (await ask(api, headers=other)).status_code == 503
    assert (await ask(api, headers=other)).status_code == 201
    assert await minted(admin_db, person) == 2


async def test_what_nobody_knows_is_not_done_again(
    api: Client, monkeypatch: pytest.MonkeyPatch, owner_db: Database
) -> None:
    async def lost(*_: object, **__: object) -> object:
        raise CommitUnknown("lost")

    with monkeypatch.context() as patch:
        patch.setattr(keys, "mint_key", lost)
        assert (await ask(api)).status_code == 503
    assert problem_of(await ask(api)) == "under-way"
    age = "UPDATE idempotent_requests SET created_at = now() - $1::interval"
    await owner_db.execute(age, timedelta(minutes=2))
    again = await ask(api)
    assert (again.status_code, problem_of(again)) == (409, "outcome-unknown")
    await owner_db.execute(age, timedelta(hours=25))
    assert (await ask(api)).status_code == 201


async def test_who_leaves_finds_it_done(
    api: Client, monkeypatch: pytest.MonkeyPatch, admin_db: Database, person: Person
) -> None:
    begun, go_on = trio.Event(), trio.Event()
    original = keys.mint_key

    async def held(*given: object, **options: object) -> object:
        begun.set()
        await go_on.wait()
        return await original(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(keys, "mint_key", held)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, api)
        await begun.wait()
        nursery.cancel_scope.cancel()
    go_on.set()
    with trio.fail_after(60):
        while (answer := await ask(api)).status_code == 409:
            await trio.sleep(0.05)
    assert answer.headers["idempotency-replayed"] == "true"
    assert await minted(admin_db, person) == 1


async def test_what_takes_too_long_is_not_known(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object, **__: object) -> object:
        await trio.sleep_forever()

    monkeypatch.setattr(idempotency, "SECONDS_MAX", 0.1)
    monkeypatch.setattr(keys, "mint_key", hang)
    answer = await ask(api)
    assert (answer.status_code, problem_of(answer)) == (409, "outcome-unknown")


async def test_what_is_no_name_and_too_many_names(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{api.org}/api-keys"
    for name in ("", "x" * 256, "a\tb", "ü"):
        sent = [(b"Idempotency-Key", name.encode("latin-1"))]
        response = await api.call("POST", url, json=BODY, headers=sent)
        assert (response.status_code, problem_of(response)) == (400, "malformed"), name
    twice = await api.call("POST", url, json=BODY, headers=[*NAME.items(), *NAME.items()])
    assert twice.status_code == 400
    # Where nothing changes, it means nothing.
    assert (await api.call("GET", url, headers={"Idempotency-Key": "x" * 256})).status_code == 200
    monkeypatch.setattr(throttle, "API_IDEMPOTENT_KEY", Rule("api_idempotent:key", 1, 3600))
    assert [(await ask(api)).status_code for _ in range(2)] == [201, 429]
