"""Every error is problem details, whoever raises it."""

from __future__ import annotations

import pytest
import trio
from quart import Quart
from werkzeug import exceptions

from admin.accounts.password_check import TooManyChecks
from admin.authorization import FactorNeeded, Forbidden, ScopeMissing
from admin.bearer import Unauthenticated
from admin.management_api import organization, problems
from admin.management_api.problems import KINDS, Fault, Problem, answer
from admin.services import NoMasterKey
from admin.throttle import Throttled
from admin.transport import Misdirected, PlainHTTP
from storage import errors
from storage.management_keys import Scope
from tests.admin.conftest import Person, raw_exchange, running_admin
from tests.admin.management_api.client import Client, check, problem_of


def from_database(error: errors.StorageError) -> errors.StorageError:
    error.sqlstate = "23505"
    return error


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        (Unauthenticated(), "unauthenticated", 401),
        (ScopeMissing(Scope.KEYS_READ), "scope-missing", 403),
        (Forbidden(), "role", 403),
        (FactorNeeded(), "factor-needed", 403),
        (errors.NotAllowed("x"), "role", 403),
        (errors.PlanRefused("x"), "plan", 403),
        (PlainHTTP(), "plain-http", 403),
        (errors.NotFound("x"), "not-found", 404),
        (exceptions.NotFound(), "not-found", 404),
        (exceptions.MethodNotAllowed(["GET"]), "method", 405),
        (exceptions.RequestTimeout(), "too-slow", 408),
        (errors.Conflict("two of them"), "conflict", 409),
        (exceptions.RequestEntityTooLarge(), "too-large", 413),
        (Misdirected(), "misdirected", 421),
        (errors.InvalidValue("x"), "invalid", 422),
        (errors.CheckFailed("x"), "invalid", 422),
        (errors.InvalidReference("x"), "invalid", 422),
        (Throttled(7), "throttled", 429),
        (TooManyChecks(), "throttled", 429),
        (exceptions.InternalServerError(), "internal", 500),
        (NoMasterKey(), "no-master-key", 503),
        (errors.DatabaseBusy("x"), "unavailable", 503),
        (errors.CommitUnknown("x"), "unavailable", 503),
        (exceptions.BadRequest(), "malformed", 400),
        (exceptions.SecurityError(), "malformed", 400),
    ],
)
async def test_what_each_error_is(error: Exception, kind: str, status: int) -> None:
    async with Quart("admin").test_request_context("/api/v1/x"):
        response = answer(error)
        told = await response.get_json(force=True)
    assert (told["type"], response.status_code) == (f"urn:karta:problem:{kind}", status)
    assert status == KINDS[kind].status
    check("ProblemDetails", told)
    waits = isinstance(error, Throttled | TooManyChecks | errors.DatabaseBusy)
    assert ("Retry-After" in response.headers) == waits


async def test_storages_words_are_told_and_the_databases_are_not() -> None:
    async with Quart("admin").test_request_context("/api/v1/x"):
        ours = await answer(errors.Conflict("that is taken")).get_json(force=True)
        assert ours["detail"] == "That is taken."
        for error in (errors.Conflict, errors.InvalidValue, errors.CheckFailed):
            theirs = await answer(from_database(error("violates idempotent_requests_pkey"))).get_json(
                force=True
            )
            assert "pkey" not in str(theirs)


async def test_what_is_no_fault_of_the_call_is_raised_again() -> None:
    async with Quart("admin").test_request_context("/api/v1/x"):
        with pytest.raises(ZeroDivisionError):
            answer(ZeroDivisionError())


async def test_where_it_is_wrong_is_told() -> None:
    async with Quart("admin").test_request_context("/api/v1/x"):
        told = await answer(Problem("invalid", errors=(Fault("Too long.", "$.name"),))).get_json(force=True)
    assert told["errors"] == [{"detail": "Too long.", "pointer": "$.name"}]


async def test_what_no_view_ever_saw(api: Client, admin_url: str, person: Person) -> None:
    for path in ("/nothing", "", "/organizations/x", f"{api.org}/", f"/{api.org}", "/organizations/../x"):
        response = await api.call("GET", path)
        assert (response.status_code, problem_of(response)) == (404, "not-found"), path
    for method in ("POST", "DELETE", "OPTIONS", "TRACE"):
        response = await api.call(method, api.org)
        assert (response.status_code, problem_of(response)) == (405, "method"), method
        assert "PATCH" in response.headers["allow"]
    port = admin_url.rpartition(":")[2]
    length = 10**6
    head = f"PATCH /api/v1{api.org} HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: {length}\r\n"
    key = api.authorization
    sent = f"{head}Authorization: {key}\r\nConnection: close\r\n\r\n".encode() + b" " * 70_000
    answered = await trio.to_thread.run_sync(raw_exchange, admin_url, sent)
    assert answered.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answered


async def test_a_fault_of_ours_tells_nothing(
    api: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> object:
        raise ZeroDivisionError("kt_live_secret")

    monkeypatch.setattr(organization, "rename", broken)
    response = await api.call("PATCH", api.org, json={"name": "x"})
    assert (response.status_code, problem_of(response)) == (500, "internal")
    assert "kt_live_secret" not in response.text
    assert "ZeroDivisionError" in caplog.text


async def test_in_production_a_key_sent_in_the_clear_is_told_so(
    database_url: str, token: str, person: Person
) -> None:
    settings = {
        "env": "production",
        "admin_url": "https://admin.example.com",
        "trusted_proxies": "127.0.0.1",
    }
    async with (
        running_admin(database_url, **settings) as url,
        Client(url, token, person.organization.org_id) as client,
    ):
        host = {"Host": "admin.example.com"}
        clear = await client.call("GET", client.org, headers=host)
        assert (clear.status_code, problem_of(clear)) == (403, "plain-http")
        elsewhere = await client.call("GET", client.org)
        assert (elsewhere.status_code, problem_of(elsewhere)) == (421, "misdirected")
        good = await client.call("GET", client.org, headers={**host, "X-Forwarded-Proto": "https"})
        assert good.status_code == 200


def test_every_kind_says_the_mend() -> None:
    for name, kind in KINDS.items():
        assert kind.detail.endswith("."), name
        assert 400 <= kind.status < 600
    assert problems.CONTENT_TYPE == "application/problem+json"
