"""The document is a valid one, and says of each operation what the tables say."""

from __future__ import annotations

import re

import httpx
from openapi_spec_validator import OpenAPIV31SpecValidator

from admin.authorization import TABLE
from admin.management_api.document import make
from admin.management_api.operations import OPERATIONS
from admin.management_api.problems import KINDS

DOCUMENT = make()


def test_it_is_openapi() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_it_has_every_operation_with_its_scope() -> None:
    described = {
        operation["operationId"]: operation
        for path in DOCUMENT["paths"].values()
        for operation in path.values()
    }
    assert set(described) == {operation.name for operation in OPERATIONS}
    for operation in OPERATIONS:
        scope = TABLE[operation.endpoint].scope
        [security] = described[operation.name]["security"]
        assert security == {"managementKey": [] if scope is None else [scope.value]}
        named = {one["name"] for one in described[operation.name]["parameters"] if one["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", operation.path))


def test_every_status_of_a_problem_is_told() -> None:
    told = {int(status) for status in DOCUMENT["components"]["responses"]}
    assert {kind.status for kind in KINDS.values()} - told == {405}  # of a method that is no operation


def test_times_say_that_they_are() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["APIKey"]["properties"]["created_at"] == {"type": "string", "format": "date-time"}
    choices = schemas["APIKey"]["properties"]["expires_at"]["anyOf"]
    assert {"type": "string", "format": "date-time"} in choices
    assert schemas["Member"]["properties"]["since"]["format"] == "date-time"


def test_nothing_secret_is_in_an_answer() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    fields = {f"{name}.{field}" for name, schema in schemas.items() for field in schema.get("properties", ())}
    secret = {field for field in fields if re.search(r"secret|digest|token(?!s)|cipher|password", field)}
    assert secret == {"NewProviderKey.secret", "NewSecret.secret", "MadeWebhook.secret"}, (
        "the last is shown once"
    )


async def test_anybody_may_read_it(admin_url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"{admin_url}/api/v1/openapi.json")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == DOCUMENT
