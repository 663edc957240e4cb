"""Endpoints and networks of a key: held to on both ways through the gateway, and at once when they change."""

from __future__ import annotations

import ipaddress
import json

import pytest
import trio

from gateway.operations import Operation, load
from gateway.refusal import Refusal
from gateway.request_reader import Inbound
from gateway.scope import Scope, endpoint_of
from storage.api_keys import mint_key
from storage.key_scopes import set_scope
from storage.model import KeyScope, Mode
from tests.gateway.conftest import ACTOR, Stage, Tenant
from tests.support.gateway import PATIENCE_SECONDS, poll
from tests.support.requests import ANSWER, chat, get, post
from tests.support.scripted_provider import answering

OPERATIONS = {(one.method, one.path): one for one in load().all}
MESSAGES = OPERATIONS["POST", "/v1/messages"]
TRUSTED = [ipaddress.ip_network("10.0.0.0/8")]


def asked(forwarded: str | None = None) -> Inbound:
    inbound = Inbound()
    inbound.lines = [b"Host: karta", *([f"X-Forwarded-For: {forwarded}".encode()] if forwarded else [])]
    return inbound


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [("/v1/messages/batches/{message_batch_id}", "messages"), ("/v1/chat/completions", "chat")],
)
def test_an_endpoint_is_what_follows_v1(path: str, endpoint: str) -> None:
    assert endpoint_of(next(one for one in load().all if one.path == path)) == endpoint


def may(
    scope: Scope, operation: Operation = MESSAGES, peer: str = "192.0.2.7", via: str | None = None
) -> bool:
    try:
        scope.check(operation, asked(via), peer, TRUSTED)
    except Refusal as refusal:
        return refusal.status != 403
    return True


def test_only_endpoints_of_the_scope() -> None:
    scope = Scope(("messages",), None)
    assert may(scope)
    assert not may(scope, OPERATIONS["GET", "/v1/models"])


@pytest.mark.parametrize(
    ("peer", "via", "allowed"),
    [
        ("192.0.2.7", None, True),
        ("192.0.3.7", None, False),
        ("::ffff:192.0.2.7", None, True),
        ("2001:db8::1", None, True),
        ("2001:db9::1", None, False),
        ("unix", None, False),
        ("10.0.0.1", None, False),
        ("10.0.0.1", "192.0.2.7", True),
        ("10.0.0.1", "192.0.2.7, 198.51.100.1", False),
        # Anybody can write such a header.
        ("198.51.100.1", "192.0.2.7", False),
    ],
)
def test_only_from_networks_of_the_scope(peer: str, via: str | None, allowed: bool) -> None:
    scope = Scope(None, ("192.0.2.0/24", "2001:db8::/32"))
    assert may(scope, peer=peer, via=via) is allowed


async def test_a_scope_holds_cold_and_warm_and_when_it_changes(stage: Stage, own_tenant: Tenant) -> None:
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, provider):
        await poll(lambda: gateway.worker.snapshot.listening)
        key, token = await mint_key(
            gateway.db,
            ACTOR,
            org_id=own_tenant.org_id,
            name="scoped",
            mode=Mode.LIVE,
            allowed_endpoints=["messages"],
            allowed_networks=["127.0.0.0/8"],
        )
        # Verified by the first, recalled by the others.
        for request, status in (
            (chat(token), 403),
            (post(token), 200),
            (get(token), 403),
            (post(token), 200),
        ):
            assert (await gateway.ask(request)).status == status
        refused = json.loads((await gateway.ask(get(token))).body)
        assert refused["error"]["type"] == "permission_error"
        assert "endpoint" in refused["error"]["message"]
        seen = provider.received.count(b"POST /v1/messages ")
        assert (seen, provider.received.count(b"HTTP/1.1")) == (2, 2)

        async def until(status: int) -> None:
            with trio.fail_after(PATIENCE_SECONDS):
                while (await gateway.ask(post(token))).status != status:
                    pass

        await set_scope(
            gateway.db, ACTOR, own_tenant.org_id, key.key_id, KeyScope(networks=("192.0.2.0/24",))
        )
        await until(403)
        await set_scope(gateway.db, ACTOR, own_tenant.org_id, key.key_id, KeyScope())
        await until(200)
        assert (await gateway.ask(get(token))).status == 200


async def test_a_scope_given_to_a_key_in_use_is_held_to_on_its_open_connection(
    stage: Stage, own_tenant: Tenant
) -> None:
    async with stage(answering(ANSWER), of=own_tenant) as (gateway, _):
        await poll(lambda: gateway.worker.snapshot.listening)
        for _again in range(3):
            assert (await gateway.ask(post(own_tenant.token))).status == 200
        scope = KeyScope(endpoints=("chat",))
        await set_scope(gateway.db, ACTOR, own_tenant.org_id, own_tenant.key_id, scope)
        with trio.fail_after(PATIENCE_SECONDS):
            while (await gateway.ask(post(own_tenant.token))).status != 403:
                pass
