"""Headers on every answer, HTTPS in production, one name for loopback, and reports of violations."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest

from admin import transport
from admin.transport import HEADERS, HSTS, REPORT_BYTES_MAX, REPORT_PATH, content_security_policy
from storage.bridge import Database
from storage.csp_violations import select_violations
from storage.sealing import MasterKeys
from tests.admin.browsing import Visitor
from tests.admin.conftest import Person, running_admin
from tests.support.database_line import database_line

ANSWERS = [
    ("GET", "/sign-in", 200),
    ("GET", "/", 303),
    ("GET", "/nowhere", 404),
    ("DELETE", "/sign-in", 403),
    ("POST", "/sign-in", 403),
    ("GET", "/static/karta.css", 200),
    ("GET", "/static/nowhere.css", 404),
    ("GET", "/healthz", 200),
    ("POST", REPORT_PATH, 204),
    ("OPTIONS", "/sign-in", 200),
]
PRODUCTION = {
    "env": "production",
    "trusted_proxies": ["127.0.0.0/8"],
    "admin_url": "https://admin.example.com",
}


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
async def test_every_answer_has_the_headers(visitor: Visitor, method: str, path: str, status: int) -> None:
    response = await visitor.request(method, path)
    assert response.status_code == status
    for name, value in HEADERS.items():
        assert response.headers[name] == value
    policy = response.headers["content-security-policy"]
    assert "*" not in policy
    assert "unsafe" not in policy
    assert re.search(r"script-src 'nonce-[\w-]{22}';", policy)
    assert "frame-ancestors 'none'" in policy
    assert f"report-uri {REPORT_PATH}" in policy
    assert "server" not in response.headers
    assert "strict-transport-security" not in response.headers
    assert ("no-store" in response.headers.get("cache-control", "")) == ("/static/karta" not in path)


async def test_each_page_has_its_own_nonce_on_every_script(visitor: Visitor) -> None:
    seen = set()
    for _ in range(2):
        response = await visitor.get("/sign-in")
        (nonce,) = set(re.findall(r'<script[^>]* nonce="([^"]+)"', response.text))
        assert response.text.count("<script") == response.text.count("nonce=")
        assert content_security_policy(nonce) == response.headers["content-security-policy"]
        seen.add(nonce)
    assert len(seen) == 2


async def test_no_page_has_anything_inline(visitor: Visitor, person: Person) -> None:
    await visitor.sign_in(person.email, person.password)
    for path in ("/sign-in", f"/organizations/{person.organization.org_id}", "/nowhere"):
        page = (await visitor.get(path)).text
        assert not re.search(r"\sstyle=|\son\w+=|<style|javascript:", page)


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {**PRODUCTION, "master_keys": MasterKeys.generate()}


async def test_production_speaks_https_only(database_url: str, production: dict[str, Any]) -> None:
    async with running_admin(database_url, **production) as url, Visitor(url) as visitor:
        https = {"Host": "admin.example.com", "X-Forwarded-Proto": "https"}
        http = {"Host": "admin.example.com", "X-Forwarded-Proto": "http"}
        assert (await visitor.get("/sign-in", headers=https)).headers["strict-transport-security"] == HSTS
        sent = await visitor.get("/sign-in?next=%2F", headers=http)
        assert (sent.status_code, sent.headers["location"]) == (
            308,
            "https://admin.example.com/sign-in?next=%2F",
        )
        assert "strict-transport-security" not in sent.headers
        assert (await visitor.request("POST", "/sign-in", headers=http)).status_code == 403
        assert (await visitor.get("/healthz", headers=http)).status_code == 200


async def test_it_answers_to_its_own_name_alone(
    visitor: Visitor, database_url: str, production: dict[str, Any]
) -> None:
    assert (await visitor.get("/sign-in", headers={"Host": "evil.example"})).status_code == 421
    assert (await visitor.get("/sign-in", headers={"Host": "localhost.evil.example"})).status_code == 421
    async with running_admin(database_url, **production) as url, Visitor(url) as other:
        https = {"X-Forwarded-Proto": "https"}
        for host, status in (("ADMIN.example.com", 200), ("localhost", 421), ("admin.example.com.evil", 421)):
            assert (await other.get("/sign-in", headers={**https, "Host": host})).status_code == status
        assert (await other.get("/healthz")).status_code == 200


async def test_loopback_has_one_name(visitor: Visitor) -> None:
    port = visitor.url.rpartition(":")[2]
    sent = await visitor.get("/sign-in?x=1", headers={"Host": f"127.0.0.1:{port}"})
    assert (sent.status_code, sent.headers["location"]) == (307, f"http://localhost:{port}/sign-in?x=1")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            b'{"csp-report": {"blocked-uri": "https://evil.example/x", "effective-directive": "img-src"}}',
            "evil.example",
        ),
        (b'[{"type": "csp-violation", "body": {"blockedURL": "inline\\u001b[31m"}}]', "inline"),
        (b"nonsense", "unreadable"),
        (b"[1]", ""),
        (b"3", "unreadable"),
        (b"", "unreadable"),
    ],
)
async def test_a_violation_is_noted(
    visitor: Visitor,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    told: str,
) -> None:
    monkeypatch.setattr(transport._Reports, "minute", -1)
    with caplog.at_level(logging.WARNING, "karta.admin"):
        response = await visitor.request("POST", REPORT_PATH, content=body)
    assert (response.status_code, response.text) == (204, "")
    assert told in caplog.text
    assert "\x1b" not in caplog.text


async def test_a_flood_of_reports_is_not(
    visitor: Visitor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "REPORTS_PER_MINUTE_MAX", 2)
    monkeypatch.setattr(transport._Reports, "minute", -1)
    monkeypatch.setattr(transport.time, "monotonic", lambda: 60.0)
    with caplog.at_level(logging.WARNING, "karta.admin"):
        await visitor.request("POST", REPORT_PATH, content=b"x" * (REPORT_BYTES_MAX + 1))
        for _ in range(4):
            await visitor.request("POST", REPORT_PATH, content=b"{}")
    assert len(caplog.records) == 2


async def test_violations_are_kept_without_what_may_be_secret(
    visitor: Visitor, admin_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport._Reports, "minute", -1)
    old = {
        "effective-directive": "img-src",
        "blocked-uri": "https://evil.example/x?token=1",
        "source-file": "",
    }
    new = {"effectiveDirective": "script-src", "blockedURL": "inline", "documentURL": "https://x/a#b?c"}
    for body in ({"csp-report": old}, [{"type": "csp-violation", "body": new}], {"csp-report": old}):
        await visitor.request("POST", REPORT_PATH, content=json.dumps(body).encode())
    kept = {one.violation.directive: one for one in await select_violations(admin_db)}
    assert kept["img-src"].violation.blocked == "https://evil.example/x"
    assert kept["img-src"].count == 2
    assert kept["script-src"].violation.page == "https://x/a"


async def test_a_report_needs_no_database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport._Reports, "minute", -1)
    async with database_line(database_url) as line, running_admin(line.url) as url, Visitor(url) as visitor:
        line.cut()
        answer = await visitor.request("POST", REPORT_PATH, content=b'{"csp-report": {}}')
    assert answer.status_code == 204
