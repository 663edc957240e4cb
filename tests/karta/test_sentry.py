"""Sentry and the real programs: `karta up` with two gateway workers, each with a fault planted in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.admin.browsing import Visitor
from tests.karta.processes import Up
from tests.support.planted_secrets import everything, found_in
from tests.support.sentry_sink import Sink, arrived_whole, sentry_sink

# Python runs it first in each process: what it plants is a fault as a wrong line of ours would be one.
_FAULTS = """
import sys
PLANT = {plant!r}

def fail(*arguments, **named):
    try:
        raise KeyError(PLANT)
    except KeyError as error:
        raise ValueError(PLANT + repr(arguments)) from error

if "gateway" in sys.orig_argv:
    from gateway.admission import Admission
    honest = Admission.reserve
    def reserve(self, grant, *rest):
        return fail(grant.request.body) if b"break-it" in grant.request.body else honest(self, grant, *rest)
    Admission.reserve = reserve
if "admin" in sys.orig_argv:
    from admin.usage import views
    views.services = fail
    from admin import housekeeping
    from storage.errors import StorageError
    def broken(*arguments):
        raise StorageError(PLANT)
    housekeeping.FIRST_AFTER_SECONDS = 0
    housekeeping.do_round = broken
"""


@pytest.fixture
def sink() -> Iterator[Sink]:
    with sentry_sink() as sink:
        yield sink


@pytest.fixture
def up(sink: Sink, tmp_path: Path) -> Iterator[Up]:
    home = tmp_path
    (home / "first").mkdir()
    (home / "first" / "sitecustomize.py").write_text(_FAULTS.format(plant=everything()))
    environment = {
        "PYTHONPATH": os.pathsep.join([str(home / "first"), os.environ.get("PYTHONPATH", "")]).rstrip(
            os.pathsep
        ),
        "KARTA_SENTRY_DSN": sink.dsn,
        "KARTA_SENTRY_ENVIRONMENT": "rehearsal",
        "KARTA_SENTRY_TRACES_PERCENT": "100",
    }
    with Up(home / "data", "--workers", "2", environment=environment) as running:
        running.wait_ready()
        yield running


def _ask(up: Up, prompt: str) -> httpx.Response:
    body = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": prompt}]}
    headers = {"x-api-key": up.told["test_api_key"], "anthropic-version": "2023-06-01"}
    url = f"{up.told['gateway_url']}/v1/messages?beta=true"
    return httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False)


def _of(sink: Sink, program: str, place: str) -> list[dict[str, Any]]:
    return [
        one for one in sink.events if (one["tags"]["program"], one["tags"].get("place")) == (program, place)
    ]


def _a_fault_of_the_gateway_arrives_with_its_tags(up: Up, sink: Sink) -> None:
    answer = _ask(up, "break-it " + everything())
    assert answer.status_code == 500
    assert found_in(answer.text) == []
    sink.wait(lambda: _of(sink, "gateway", "karta.gateway.accept"))
    arrived_whole(sink)
    (event,) = _of(sink, "gateway", "karta.gateway.accept")
    tags = event["tags"]
    assert tags["organization"] == up.told["org_id"]
    assert tags["role"] == "api_key"
    assert tags["endpoint"] == "/v1/messages"
    assert tags["request_id"] == answer.headers["request-id"]
    assert event["user"] == {"id": up.told["test_api_key"].split("_")[2]}
    assert event["environment"] == "rehearsal"
    assert str(event["release"]).startswith("karta@")
    kinds = [value["type"] for value in event["exception"]["values"]]
    assert {"KeyError", "ValueError"} <= set(kinds)


async def _a_fault_of_the_admin_pages_arrives_with_its_tags(up: Up, sink: Sink) -> None:
    async with Visitor(up.told["admin_url"]) as visitor:
        await visitor.sign_in(up.told["owner_email"], up.told["owner_password"])
        path = f"/organizations/{up.told['org_id']}/usage"
        answer = await visitor.get(path, params={"q": everything()}, headers={"user-agent": "planted-agent"})
        assert answer.status_code == 500
        cookies = list(visitor.cookies.values())

    def told() -> list[dict[str, Any]]:
        # The job behind the pages reports as well, and has no endpoint.
        return [one for one in _of(sink, "admin", "karta.admin") if "endpoint" in one["tags"]]

    sink.wait(told)
    (event,) = told()
    tags = event["tags"]
    assert tags["organization"] == up.told["org_id"]
    assert tags["role"] == "owner"
    assert tags["endpoint"].startswith("usage.")
    assert len(event["user"]["id"]) == 36
    everywhere = b"".join(sink.bodies).decode()
    assert "planted-agent" not in everywhere
    assert up.told["owner_email"] not in everywhere
    assert [cookie for cookie in cookies if cookie in everywhere] == []


def _a_fault_of_a_job_behind_the_pages_arrives(sink: Sink) -> None:
    sink.wait(lambda: any("StorageError" in json.dumps(one) for one in sink.events))


def _what_requests_took_arrives(up: Up, sink: Sink) -> None:
    answer = _ask(up, "hello")
    assert answer.status_code == 200
    request_id = answer.headers["x-karta-request-id"]

    def told() -> list[dict[str, Any]]:
        return [one for one in sink.transactions if one["tags"].get("request_id") == request_id]

    sink.wait(told)
    (transaction,) = told()
    assert transaction["transaction"] == "POST /v1/messages"
    assert [span["op"] for span in transaction["spans"]] == ["http.client"]
    assert any(str(one["transaction"]).startswith("GET usage.") for one in sink.transactions)


def _nothing_planted_arrived_from_any_program(up: Up, sink: Sink) -> None:
    """When all have stopped, and sent what they had."""
    assert up.stop() == 0
    assert len(sink.events) >= 3
    for body in sink.bodies:
        assert found_in(body.decode()) == []
        assert up.told["test_api_key"] not in body.decode()
        assert up.told["owner_password"] not in body.decode()


async def test_faults_of_each_program_arrive_and_nothing_planted_does(up: Up, sink: Sink) -> None:
    """One after the other: they share programs that take seconds to start."""
    _a_fault_of_the_gateway_arrives_with_its_tags(up, sink)
    await _a_fault_of_the_admin_pages_arrives_with_its_tags(up, sink)
    _a_fault_of_a_job_behind_the_pages_arrives(sink)
    _what_requests_took_arrives(up, sink)
    _nothing_planted_arrived_from_any_program(up, sink)
