"""The table: it has a row for each endpoint, and each row holds, for every role, here and elsewhere."""

from __future__ import annotations

import itertools
import re
from typing import Any
from uuid import uuid4

import httpx
import pytest

from admin import csrf, web_session
from admin.app import FEATURES
from admin.authorization import TABLE, Access, Audience
from storage.bridge import Database
from storage.model import Role
from storage.staff import grant_staff
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import (
    ACTOR,
    Person,
    make_person,
    make_stale,
    password_digest,
    running_admin,
)
from tests.admin.management_api.client import plant
from tests.admin.objects import SECRET, URL, everything_of, furnish
from tests.admin.webhooks.arena import NETWORKS

ORG_ENDPOINTS = sorted(name for name, access in TABLE.items() if access.audience is Audience.MEMBER)


KEY_ENDPOINTS = sorted(name for name, access in TABLE.items() if access.audience is Audience.KEY)


def routes() -> dict[str, tuple[str, str]]:
    """Of each endpoint its method and path, as the app has them."""
    from quart import Quart

    app = Quart("admin")
    for feature in FEATURES:
        app.register_blueprint(feature)
    return {
        rule.endpoint: (next(iter(sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}))), rule.rule)
        for rule in app.url_map.iter_rules()
    }


ROUTES = routes()


def path_of(endpoint: str, org_id: object) -> str:
    path = ROUTES[endpoint][1].replace("<uuid:org_id>", str(org_id)).replace("<int:limit_id>", "1")
    path = path.replace("<int:delivery_id>", "1")
    for kind in ("uuid:", ""):
        while f"<{kind}" in path:
            before, _, after = path.partition(f"<{kind}")
            path = before + str(uuid4()) + after.partition(">")[2]
    return path


def test_each_endpoint_has_its_row_and_no_row_is_left_over() -> None:
    assert set(TABLE) == set(ROUTES)


def test_rows_of_members_and_keys_name_roles_and_no_others_do() -> None:
    for endpoint, access in TABLE.items():
        ours = access.audience in (Audience.MEMBER, Audience.KEY)
        assert bool(access.roles) == ours, endpoint
        named = "<uuid:org_id>" in ROUTES[endpoint][1]
        assert named == ours or endpoint == "api.get_management_key", endpoint
        assert (access.scope is not None) == (access.audience is Audience.KEY and named), endpoint


def test_what_reads_and_what_writes_have_scopes_of_their_own() -> None:
    for endpoint in KEY_ENDPOINTS:
        scope = TABLE[endpoint].scope
        if scope is not None:
            assert scope.value.endswith(":read") == (ROUTES[endpoint][0] == "GET"), endpoint
        # Nobody who may only look changes anything.
        if ROUTES[endpoint][0] != "GET":
            assert Role.VIEWER not in TABLE[endpoint].roles, endpoint


async def ask(visitor: Visitor, endpoint: str, org_id: object, token: str) -> int:
    method, _ = ROUTES[endpoint]
    path = path_of(endpoint, org_id)
    if method == "GET":
        return (await visitor.get(path)).status_code
    return (await visitor.request(method, path, data={csrf.FIELD: token})).status_code


@pytest.mark.parametrize("role", list(Role))
async def test_a_member_may_what_the_table_says_and_a_stranger_sees_nothing(
    visitor: Visitor, admin_db: Database, role: Role
) -> None:
    owner = await make_person(admin_db, "ada@example.com")
    elsewhere = await make_person(admin_db, "eve@example.com", name="Elsewhere")
    org_id = owner.organization.org_id
    member = await make_member(admin_db, owner, role)
    await visitor.sign_in(member, owner.password)
    # Nobody's proof is fresh: so nothing is done by asking, and who is allowed is asked for proof.
    await make_stale(admin_db)
    token = token_of((await visitor.get("/account")).text)
    for endpoint in ORG_ENDPOINTS:
        status = await ask(visitor, endpoint, org_id, token)
        if role not in TABLE[endpoint].roles:
            assert status == 403, endpoint
        else:
            assert status not in (401, 403, 405), endpoint
            assert status < 500, endpoint
            assert status != 404 or "<" in ROUTES[endpoint][1].replace("<uuid:org_id>", ""), endpoint
        for stranger_to in (elsewhere.organization.org_id, uuid4()):
            assert await ask(visitor, endpoint, stranger_to, token) == 404, endpoint


async def make_member(db: Database, owner: Person, role: Role) -> str:
    """A second member of the owner's organization; returns the address to sign in with."""
    from storage.users import add_member, create_user

    email = f"{role.value}@example.com"
    user = await create_user(db, ACTOR, email=email, password_digest=password_digest())
    await add_member(db, ACTOR, owner.organization.org_id, user.user_id, role)
    return email


async def test_who_is_not_signed_in_is_sent_to_sign_in(visitor: Visitor, person: Person) -> None:
    token = await visitor.token()
    for endpoint, access in TABLE.items():
        if access.audience in (Audience.EVERYBODY, Audience.KEY):
            continue
        status = await ask(visitor, endpoint, person.organization.org_id, token)
        assert status == 303, endpoint


async def test_what_needs_proof_asks_for_it(signed_in: Visitor, admin_db: Database, person: Person) -> None:
    await make_stale(admin_db)
    token = token_of((await signed_in.get("/account")).text)
    asked = [
        endpoint
        for endpoint, access in TABLE.items()
        if access.proof and access.audience is not Audience.STAFF
    ]
    assert asked
    for endpoint in asked:
        method, _ = ROUTES[endpoint]
        path = path_of(endpoint, person.organization.org_id)
        data = None if method == "GET" else {csrf.FIELD: token}
        response = await signed_in.request(method, path, data=data)
        assert (response.status_code, response.headers["location"]) == (303, "/prove"), endpoint


async def test_an_endpoint_without_a_row_is_refused(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await visitor.get("/sign-up")).status_code == 200
    monkeypatch.delitem(TABLE, "sign_up.show")
    assert (await visitor.get("/sign-up")).status_code == 404
    monkeypatch.setitem(TABLE, "sign_up.show", Access(Audience.SIGNED_IN))
    assert (await visitor.get("/sign-up")).status_code == 303


HOMES = ("org_id", "subject_id")
"""What they are called whose objects the others are."""
NO_IDS = frozenset({"form"})
KINDS = {
    ("management_keys.revoke", "key_id"): "management_key_id",
    ("api.remove_limit", "limit_id"): "organization_limit_id",
}
"""Where a route's word for an id is another route's for something else."""
ENDING = ("", "disable", "remove", "revoke", "withdraw", "delete", "end_session", "remove_passkey")
"""In which order: the last gives the session another token."""
BODIES: dict[str, dict[str, Any]] = {
    "limits.change_of_key": {"requests": "200"},
    "members.change": {"role": "admin"},
    "minting.rotate": {"overlap": "3600", "once": "x" * 22},
    "provider_keys.rotate": {"secret": SECRET.decode(), "untried": "yes"},
    "webhooks.change": {"url": URL, "plan.changed": "yes"},
    "webhooks.rotate": {"overlap": "0"},
    "api.change_member_role": {"role": "admin"},
    "api.change_webhook": {"url": URL, "events": ["plan.changed"]},
    "api.rotate_provider_key": {"secret": SECRET.decode(), "untried": True},
    "api.set_api_key_limit": {"kind": "requests", "period": "minute", "amount": "200"},
}
"""With which each would be done, were the object the organization's own."""


def ids_of(endpoint: str) -> list[str]:
    """What a route says of an object besides whose it is."""
    said = re.findall(r"<(?:\w+:)?(\w+)>", ROUTES[endpoint][1])
    return [name for name in said if name not in HOMES and name not in NO_IDS]


def naming_endpoints() -> list[str]:
    """Those that name an object of somebody's; what ends it behind what only looks at it or changes it."""
    audiences = (Audience.MEMBER, Audience.KEY, Audience.SIGNED_IN, Audience.STAFF)
    found = [
        endpoint
        for endpoint, access in TABLE.items()
        if access.audience in audiences
        and ids_of(endpoint)
        # What staff see of the platform itself is nobody's.
        and (access.audience is not Audience.STAFF or any(home in ROUTES[endpoint][1] for home in HOMES))
    ]
    return sorted(found, key=lambda endpoint: max(at for at, word in enumerate(ENDING) if word in endpoint))


class Neighbours:
    """Two organizations with one of each kind of object, and the owner of the first."""

    def __init__(self, url: str, key: str, token: str, home: Person, own: dict[str, str]) -> None:
        self._url, self._key, self._token = url, key, token
        self._home, self._own = str(home.organization.org_id), own

    async def ask(self, endpoint: str, foreign: dict[str, str]) -> int:
        """Asks for the own object, but for the ids that are `foreign`."""
        method, path = ROUTES[endpoint]
        for name in re.findall(r"<(?:\w+:)?(\w+)>", path):
            kind = KINDS.get((endpoint, name), name)
            chosen = self._home if name in HOMES else foreign.get(kind) or self._own[kind]
            path = re.sub(rf"<(?:\w+:)?{name}>", chosen, path)
        body = BODIES.get(endpoint, {})
        if endpoint.startswith("api."):
            headers = {"Authorization": f"Bearer {self._key}"}
            options: dict[str, Any] = {} if method == "GET" else {"json": body}
        else:
            headers = {"Cookie": f"{web_session.COOKIE}={self._token}"}
            form = {csrf.FIELD: csrf.make_token(self._token), **body}
            options = {} if method == "GET" else {"data": form}
        async with httpx.AsyncClient(base_url=self._url, timeout=30, trust_env=False) as client:
            response = await client.request(method, path, headers=headers, **options)
        return response.status_code


@pytest.mark.parametrize("by", ["page", "call"])
async def test_an_object_of_another_organization_does_not_exist(
    database_url: str, admin_db: Database, owner_db: Database, by: str
) -> None:
    ada = await make_person(admin_db, "ada@example.com")
    eve = await make_person(admin_db, "eve@example.com", name="Elsewhere")
    token = web_session.new_token()
    own = await furnish(admin_db, owner_db, ada, token)
    theirs = await furnish(admin_db, owner_db, eve, web_session.new_token())
    key = await plant(owner_db, ada)
    await grant_staff(owner_db, ACTOR, ada.email)
    endpoints = [one for one in naming_endpoints() if one.startswith("api.") == (by == "call")]
    async with running_admin(database_url, webhooks_deliver=False, webhooks_allowed_networks=NETWORKS) as url:
        neighbours = Neighbours(url, key, token, ada, own)
        before = await everything_of(owner_db, eve, theirs)
        for endpoint in endpoints:
            kinds = [KINDS.get((endpoint, name), name) for name in ids_of(endpoint)]
            for number in range(1, len(kinds) + 1):
                for foreign in itertools.combinations(kinds, number):
                    told = await neighbours.ask(endpoint, {kind: theirs[kind] for kind in foreign})
                    assert told == 404, (endpoint, foreign)
                    assert await everything_of(owner_db, eve, theirs) == before, (endpoint, foreign)
        # And none of them asks for what does not exist at all.
        for endpoint in endpoints:
            assert await neighbours.ask(endpoint, {}) < 400, endpoint
