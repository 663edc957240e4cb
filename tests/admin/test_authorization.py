"""The table: it has a row for each endpoint, and each row holds, for every role, here and elsewhere."""

from __future__ import annotations

from uuid import uuid4

import pytest

from admin import csrf
from admin.app import FEATURES
from admin.authorization import TABLE, Access, Audience
from storage.bridge import Database
from storage.model import Role
from tests.admin.browsing import Visitor, token_of
from tests.admin.conftest import ACTOR, Person, make_person, make_stale, password_digest

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
