"""What an automation has: a key, an organization, and an HTTP client. Every answer is held against the
document."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from typing import Any
from uuid import UUID

import httpx
from openapi_schema_validator import OAS31Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from admin.api_path import PREFIX
from admin.management_api.document import make
from admin.management_api.problems import CONTENT_TYPE, REQUEST_ID
from storage import key_format
from storage.bridge import Database
from storage.key_format import MintedKey
from storage.management_keys import ManagementKey, Scope, mint_management_key
from tests.admin.conftest import ACTOR, Person

DOCUMENT = make()


async def mint(
    db: Database, person: Person, scopes: Collection[Scope] = tuple(Scope)
) -> tuple[ManagementKey, str]:
    return await mint_management_key(
        db,
        ACTOR,
        org_id=person.organization.org_id,
        user_id=person.user.user_id,
        name="CI",
        scopes=scopes,
        days=30,
    )


@cache
def planted() -> tuple[MintedKey, bytes]:
    """Made once: it costs a quarter of a second."""
    minted = key_format.mint_management()
    return minted, key_format.digest(minted.secret)


async def plant(db: Database, person: Person) -> str:
    """A key with all scopes; returns its token. Once in a database."""
    minted, digest = planted()
    await db.execute(
        """
        INSERT INTO management_keys
               (key_id, org_id, user_id, role, name, scopes, last_four, secret_digest, expires_at)
        VALUES ($1, $2, $3, 'owner', 'CI', $4, $5, $6, now() + interval '30 days')
        """,
        minted.key_id,
        person.organization.org_id,
        person.user.user_id,
        [scope.value for scope in Scope],
        minted.last_four,
        digest,
    )
    return minted.token


class Client:
    def __init__(self, url: str, token: str | None, org_id: UUID) -> None:
        self.org = f"/organizations/{org_id}"
        self.authorization = f"Bearer {token}"
        headers = {} if token is None else {"Authorization": self.authorization}
        self._client = httpx.AsyncClient(base_url=url + PREFIX, headers=headers, timeout=30, trust_env=False)

    async def __aenter__(self) -> Client:
        await self._client.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._client.__aexit__(*error)

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """`path` is below the API's prefix."""
        response = await self._client.request(method, path, **options)
        assert len(response.headers[REQUEST_ID]) == 32
        assert response.headers["cache-control"] == "no-store"
        assert "set-cookie" not in response.headers
        if response.is_error:
            assert response.headers["content-type"] == CONTENT_TYPE
            problem = response.json()
            assert problem["status"] == response.status_code
            assert problem["request_id"] == response.headers[REQUEST_ID]
            check("ProblemDetails", problem)
        else:
            assert response.headers["content-type"] == "application/json"
        operation = find_operation(method, response.request.url.path.removeprefix(PREFIX))
        if operation is not None:
            assert str(response.status_code) in operation["responses"], operation["operationId"]
            if response.is_success:
                told = operation["responses"][str(response.status_code)]["content"]["application/json"]
                check(told["schema"]["$ref"].rpartition("/")[2], response.json())
        return response

    async def get(self, path: str, **query: Any) -> Any:
        """The answer of a listing or a look that must succeed."""
        response = await self.call("GET", path, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    async def all_items(self, path: str, limit: int, **query: Any) -> list[Any]:
        """Of all pages, none with more than `limit`."""
        items: list[Any] = []
        cursor: dict[str, str] = {}
        while True:
            page = await self.get(path, limit=limit, **query, **cursor)
            assert len(page["items"]) <= limit
            items += page["items"]
            if page["next_cursor"] is None:
                return items
            assert len(page["items"]) == limit
            cursor = {"cursor": page["next_cursor"]}


def find_operation(method: str, path: str) -> dict[str, Any] | None:
    """What the document says of a call; None when there is no such operation."""
    for template, operations in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            found: dict[str, Any] | None = operations.get(method.lower())
            return found
    return None


def problem_of(response: httpx.Response) -> str:
    """The kind of problem it is."""
    return str(response.json()["type"]).removeprefix("urn:karta:problem:")


def check(schema: str, value: Any) -> None:
    """Holds a value against a schema of the document."""
    validator(schema).validate(value)


@cache
def validator(schema: str) -> OAS31Validator:
    resource = Resource.from_contents(DOCUMENT, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:document", resource)
    return OAS31Validator({"$ref": f"urn:document#/components/schemas/{schema}"}, registry=registry)
