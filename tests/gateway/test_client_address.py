"""Whose failures are counted, told by trusted proxies and by nobody else; and who spoke plain HTTP."""

from __future__ import annotations

import ipaddress
import json

import pytest

from gateway.client_address import client_network
from gateway.request_reader import Inbound
from tests.gateway.conftest import Stage, Tenant
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import answering, silent

TRUSTED = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]


def asked_with(*forwarded: str) -> Inbound:
    inbound = Inbound()
    inbound.lines = [b"Host: karta", *(f"X-Forwarded-For: {one}".encode() for one in forwarded)]
    return inbound


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        # Whoever is no proxy of ours says what it likes.
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        # What a client wrote itself stands to the left of what our proxy saw.
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7, 10.9.9.9"], "198.51.100.7"),
        ("10.0.0.1", ["10.9.9.9"], "10.9.9.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7, nonsense, 10.9.9.9"], "10.9.9.9"),
        ("10.0.0.1", ["198.51.100.7" + ", 10.1.1.1" * 100], "10.1.1.1"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("fd00::1", ["2001:db8:1:2:ffff::1"], "2001:db8:1:2::/64"),
        ("unix", ["198.51.100.7"], "unix"),
    ],
)
def test_who_is_counted(peer: str, forwarded: list[str], counted: str) -> None:
    assert client_network(peer, asked_with(*forwarded), TRUSTED) == counted


# What a proxy says that its client spoke, and whether that was without TLS for certain.
SCHEMES = {
    "http": (["X-Forwarded-Proto: http"], True),
    "HTTP": (["x-forwarded-proto:  HTTP "], True),
    "http on all of its way": (["X-Forwarded-Proto: http, http"], True),
    "https": (["X-Forwarded-Proto: https"], False),
    "https to the first of two": (["X-Forwarded-Proto: https, http"], False),
    "by one of two lines": (["X-Forwarded-Proto: http", "X-Forwarded-Proto: https"], False),
    "nothing": ([], False),
    "nothing that is known": (["X-Forwarded-Proto: ws"], False),
}
PRODUCTION = {"env": "production", "trusted_proxies": "127.0.0.1/32"}


def proxied(case: str) -> str:
    return "".join(f"{line}\r\n" for line in SCHEMES[case][0])


@pytest.mark.parametrize("case", SCHEMES)
async def test_a_key_that_came_over_plain_http_is_refused(case: str, stage: Stage, tenant: Tenant) -> None:
    plain = SCHEMES[case][1]
    async with stage(answering(ANSWER), **PRODUCTION) as (gateway, provider):
        # More than once: also by the head that was known before.
        for _ in range(3):
            answer = await gateway.ask(post(tenant.token, headers=proxied(case)))
            assert answer.status == (403 if plain else 200)
        if plain:
            error = json.loads(answer.body)
            assert (error["type"], error["error"]["type"]) == ("error", "permission_error")
            assert "https:// URL" in error["error"]["message"]
            assert "location" not in answer.headers
            assert provider.lines == []


async def test_what_was_let_in_from_elsewhere_is_refused_from_the_proxy(stage: Stage, tenant: Tenant) -> None:
    """Another peer is not asked what its clients speak, and its heads are nobody else's."""
    request = post(tenant.token, headers=proxied("http"))
    async with stage(answering(ANSWER), **PRODUCTION) as (gateway, _):
        async with gateway.client(address="127.0.0.2") as stranger:
            for _ in range(3):
                await stranger.send(request)
                assert (await stranger.read_answer()).status == 200
        # One with the same names in their order is known by its shape.
        assert (await gateway.ask(post(tenant.token, headers=proxied("https")))).status == 200
        assert (await gateway.ask(request)).status == 403
        assert (await gateway.ask(post(tenant.token, headers=proxied("https")))).status == 200


async def test_sockets_and_unread_bodies_are_refused_as_well(stage: Stage, tenant: Tenant) -> None:
    upgrade = (
        f"GET /v1/responses HTTP/1.1\r\nhost: karta\r\nauthorization: Bearer {tenant.token}\r\n"
        f"{proxied('http')}connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()
    async with stage(answering(ANSWER), **PRODUCTION) as (gateway, provider):
        for request in (upgrade, post(tenant.token, headers=proxied("http"))[:-5]):
            answer = await gateway.ask(request)
            assert answer.status == 403
            assert "https:// URL" in json.loads(answer.body)["error"]["message"]
        assert provider.lines == []


async def test_who_asks_whether_it_lives_is_answered(stage: Stage) -> None:
    async with stage(silent, **PRODUCTION) as (gateway, _):
        probe = f"GET /healthz HTTP/1.1\r\nhost: karta\r\n{proxied('http')}\r\n".encode()
        assert (await gateway.ask(probe)).status == 200


async def test_elsewhere_than_in_production_plain_http_is_as_good(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER), trusted_proxies="127.0.0.1/32") as (gateway, _):
        for _ in range(2):
            assert (await gateway.ask(post(tenant.token, headers=proxied("http")))).status == 200
        assert gateway.worker.lane.requests == 1
