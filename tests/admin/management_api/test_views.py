"""What is read of a call, and what is refused before anything is done."""

from __future__ import annotations

import httpx
import msgspec

from admin.management_api.call import Operation
from admin.management_api.forms import Done
from admin.management_api.organization import get_organization
from admin.management_api.views import rule_of
from storage.audit import select_audit_rows
from storage.bridge import Database
from tests.admin.conftest import Person
from tests.admin.management_api.client import Client, problem_of

JSON = {"Content-Type": "application/json"}


def test_a_path_is_one_of_quarts() -> None:
    operation = Operation("x", "GET", "/a/{org_id}/b/{key_id}/c/{limit_id}", "", get_organization, Done)
    assert rule_of(operation) == "/api/v1/a/<uuid:org_id>/b/<key_id>/c/<int:limit_id>"


async def test_bodies_that_are_refused(api: Client, admin_db: Database, person: Person) -> None:
    before = await select_audit_rows(admin_db, person.organization.org_id)
    given: list[tuple[bytes, dict[str, str], int, str]] = [
        (b'{"name": "x"}', {}, 415, "media-type"),
        (b'{"name": "x"}', {"Content-Type": "text/plain"}, 415, "media-type"),
        (b"name=x", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "media-type"),
        (b"", JSON, 400, "malformed"),
        (b"{", JSON, 400, "malformed"),
        (b'{"name": "\xff"}', JSON, 400, "malformed"),
        (b'{"name": "\\ud800"}', JSON, 400, "malformed"),
        (b"[" * 60_000, JSON, 422, "invalid"),
        (b"[]", JSON, 422, "invalid"),
        (b"null", JSON, 422, "invalid"),
        (b"{}", JSON, 422, "invalid"),
        (b'{"name": 1}', JSON, 422, "invalid"),
        (b'{"name": "x", "plan": "enterprise"}', JSON, 422, "invalid"),
        (b'{"name": "' + b"x" * 70_000 + b'"}', JSON, 413, "too-large"),
    ]
    for body, headers, status, problem in given:
        response = await api.call("PATCH", api.org, content=body, headers=headers)
        assert (response.status_code, problem_of(response)) == (status, problem), body[:40]
    assert await select_audit_rows(admin_db, person.organization.org_id) == before
    named = await api.call(
        "PATCH",
        api.org,
        content=msgspec.json.encode({"name": "x"}),
        headers={"Content-Type": "application/json; charset=utf-8"},
    )
    assert named.status_code == 200


async def test_queries_that_are_refused(api: Client) -> None:
    path = f"{api.org}/api-keys"
    for query in ("limit=0", "limit=101", "limit=ten", "limit=1&limit=2", "cursor=", "cursor=%00", "page=2"):
        response = await api.call("GET", f"{path}?{query}")
        assert (response.status_code, problem_of(response)) == (422, "invalid"), query
        assert response.json()["errors"]


async def test_no_cookie_and_no_other_origin_counts(api: Client, admin_url: str) -> None:
    asked = {
        "Cookie": "__Host-karta-session=x",
        "Origin": "https://evil.example",
        "Sec-Fetch-Site": "cross-site",
    }
    response = await api.call("PATCH", api.org, json={"name": "x"}, headers=asked)
    # The key is what counts: no browser sends it by itself.
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers
    async with httpx.AsyncClient(trust_env=False) as client:
        seen = await client.request("HEAD", f"{admin_url}/api/v1/openapi.json")
        assert (seen.status_code, seen.content) == (200, b"")
