"""Who asks: verified once, remembered without their token, and never at the cost of those already known."""

from __future__ import annotations

import gc
import json
import os
import types
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from gateway.authenticate import Authenticator
from gateway.limits import Limits
from gateway.refusal import Kind, Refusal
from storage import key_format
from storage.api_keys import revoke_key
from tests.gateway.conftest import ACTOR, Stage, Tenant
from tests.support.database_line import database_line
from tests.support.gateway import RunningGateway, poll
from tests.support.raw_client import Answer
from tests.support.requests import ANSWER, chat, post
from tests.support.scripted_provider import answering, silent
from tests.support.tokens import GARBAGE, disguise, forge, unknown


async def ask_from(gateway: RunningGateway, address: str, token: str) -> Answer:
    async with gateway.client(address=address) as client:
        await client.send(post(token))
        return await client.read_answer()


async def test_many_first_requests_cost_one_verification(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER), cold=True) as (gateway, _):
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await gateway.ask(post(tenant.token))).status)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ask)
        assert statuses == [200] * 20
        assert gateway.authenticator.bcrypt_runs == 1
        assert (await gateway.ask(post(tenant.token))).status == 200
        assert gateway.authenticator.bcrypt_runs == 1
        await gateway.settled(21)


async def test_a_verification_stands_back_for_traffic(
    stage: Stage, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify, seen = key_format.verify, []

    def watched(secret: bytes, digest: bytes) -> bool:
        seen.append(os.getpriority(os.PRIO_PROCESS, 0))
        return verify(secret, digest)

    monkeypatch.setattr(key_format, "verify", watched)
    async with stage(answering(ANSWER), cold=True) as (gateway, _):
        assert (await gateway.ask(post(tenant.token))).status == 200
    assert seen == [min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5)]


async def test_a_first_caller_that_leaves_takes_nobody_along(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER), cold=True) as (gateway, _), gateway.client() as second:
        async with gateway.client() as first, gateway.authenticator._threads:
            # The one thread is taken: the verification waits for it, and so does its verdict.
            await first.send(post(tenant.token))
            await poll(lambda: gateway.authenticator.in_flight)
            await second.send(post(tenant.token))
            await poll(lambda: len(gateway.worker.watchdog.watched) == 2)
            await first.reset()
            await poll(lambda: len(gateway.worker.watchdog.watched) == 1)
        assert (await second.read_answer()).body == ANSWER
        assert gateway.authenticator.bcrypt_runs == 1
        await gateway.settled(1)


async def test_garbage_costs_neither_a_look_up_nor_a_verification(stage: Stage, tenant: Tenant) -> None:
    """With the database away whatever needs it is told so: garbage never is."""
    async with (
        database_line(tenant.database_url) as line,
        stage(silent, cold=True, database_url=line.url, owner_url=tenant.database_url) as (gateway, provider),
    ):
        line.cut()
        for token in GARBAGE:
            assert (await gateway.ask(post(token))).status == 401
        assert (await gateway.ask(post("x").replace(b"x-api-key: x\r\n", b""))).status == 401
        assert gateway.authenticator.bcrypt_runs == 0
        assert (await gateway.ask(post(unknown()))).status == 503
        assert provider.lines == []


async def test_every_wrong_key_gets_the_same_answer(stage: Stage, own_tenant: Tenant) -> None:
    async with stage(silent, of=own_tenant, cold=True) as (gateway, _):
        await revoke_key(gateway.db, ACTOR, own_tenant.key_id)
        wrong = [GARBAGE[0], unknown(), forge(own_tenant.token), disguise(own_tenant.token), own_tenant.token]
        answers = [await gateway.ask(post(token)) for token in wrong]
        # Also where it could have been remembered what was wrong with it.
        answers += [await gateway.ask(post(token)) for token in wrong]
        answers_in_openai = [await gateway.ask(chat(token)) for token in wrong]
    told = {(answer.status, _without_id(answer)) for answer in answers}
    assert len(told) == 1
    assert {answer.status for answer in answers_in_openai} == {401}
    assert len({answer.body for answer in answers_in_openai}) == 1
    assert json.loads(answers_in_openai[0].body)["error"]["code"] == "invalid_api_key"
    assert answers[0].headers["x-should-retry"] == "false"


def _without_id(answer: Answer) -> str:
    body = json.loads(answer.body)
    del body["request_id"]
    return json.dumps(body)


async def test_a_wrong_key_is_remembered_for_a_while(stage: Stage, tenant: Tenant) -> None:
    wrong = forge(tenant.token)
    async with stage(silent, cold=True) as (gateway, _):
        for _ in range(3):
            assert (await gateway.ask(post(wrong))).status == 401
        assert gateway.authenticator.bcrypt_runs == 1
        # Its time has passed.
        gateway.authenticator._refused = dict.fromkeys(gateway.authenticator._refused, 0.0)
        assert (await gateway.ask(post(wrong))).status == 401
        assert gateway.authenticator.bcrypt_runs == 2


async def test_a_key_of_the_other_mode_costs_no_verification(stage: Stage, tenant: Tenant) -> None:
    async with stage(silent, cold=True) as (gateway, _):
        for token in (disguise(tenant.token), disguise(tenant.test_token)):
            assert (await gateway.ask(post(token))).status == 401
        assert gateway.authenticator.bcrypt_runs == 0


async def test_an_address_that_fails_too_often_waits(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER), limits={"failures_per_minute": 3}) as (gateway, _):
        for _ in range(3):
            assert (await gateway.ask(post(unknown()))).status == 401
        refused = await gateway.ask(post(unknown()))
        assert refused.status == 429
        assert 0 < int(refused.headers["retry-after"]) <= 120
        # A known key from there is as welcome as before, and so is a new one from elsewhere.
        assert (await gateway.ask(post(tenant.token))).status == 200
        assert (await ask_from(gateway, "127.0.0.2", unknown())).status == 401
        # A minute later it may try again.
        failures = gateway.authenticator.guesses.failures
        for name, (since, count) in failures.items():
            failures[name] = (since - 61, count)
        assert (await gateway.ask(post(unknown()))).status == 401


async def test_behind_a_trusted_proxy_each_client_has_a_budget_of_its_own(
    stage: Stage, tenant: Tenant
) -> None:
    limits = {"failures_per_minute": 2}
    async with stage(silent, limits=limits, trusted_proxies="127.0.0.0/8") as (gateway, provider):

        async def status_for(client: str) -> int:
            forwarded = f"x-forwarded-for: 203.0.113.1, {client}\r\n"
            return (await gateway.ask(post(unknown(), headers=forwarded))).status

        assert [await status_for("198.51.100.7") for _ in range(3)] == [401, 401, 429]
        assert await status_for("198.51.100.8") == 401
        assert await status_for("198.51.100.7") == 429
        assert provider.lines == []


async def test_attacks_on_a_key_do_not_lock_it_out_where_it_is_known(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER), limits={"failures_per_minute": 2}) as (gateway, _):
        for number in range(2, 4):
            assert (await ask_from(gateway, f"127.0.0.{number}", forge(tenant.token))).status == 401
        assert (await ask_from(gateway, "127.0.0.2", forge(tenant.token))).status == 429
        assert gateway.authenticator.bcrypt_runs == 2
        assert (await ask_from(gateway, "127.0.0.2", tenant.token)).status == 200


async def test_attacks_on_a_key_do_not_lock_it_out_where_it_is_new(stage: Stage, tenant: Tenant) -> None:
    """From an address of its own: whoever has sent nothing wrong may try, once."""
    async with stage(answering(ANSWER), cold=True, limits={"failures_per_minute": 2}) as (gateway, _):
        for number in range(2, 4):
            assert (await ask_from(gateway, f"127.0.0.{number}", forge(tenant.token))).status == 401
        assert (await ask_from(gateway, "127.0.0.4", forge(tenant.token))).status == 401
        assert (await ask_from(gateway, "127.0.0.4", forge(tenant.token))).status == 429
        assert gateway.authenticator.bcrypt_runs == 3
        assert (await ask_from(gateway, "127.0.0.5", tenant.token)).status == 200


async def test_one_address_does_not_fill_the_queue_with_one_key(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER), cold=True) as (gateway, _), trio.open_nursery() as nursery:
        async with gateway.authenticator._threads:
            for _ in range(2):
                nursery.start_soon(ask_from, gateway, "127.0.0.2", forge(tenant.token))
            await poll(lambda: gateway.authenticator.in_flight == 2)
            refused = await ask_from(gateway, "127.0.0.2", forge(tenant.token))
            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
            nursery.start_soon(ask_from, gateway, "127.0.0.3", tenant.token)
            await poll(lambda: gateway.authenticator.in_flight == 3)
        await poll(lambda: gateway.authenticator.verified == 1 and not gateway.authenticator.in_flight)


async def test_verifications_do_not_queue_without_end(stage: Stage, tenant: Tenant) -> None:
    async with (
        stage(silent, cold=True, limits={"bcrypt_queue_max": 1}) as (gateway, _),
        gateway.client() as first,
        gateway.authenticator._threads,
    ):
        await first.send(post(tenant.token))
        await poll(lambda: gateway.authenticator.in_flight)
        refused = await gateway.ask(post(unknown()))
        assert (refused.status, refused.headers["x-should-retry"]) == (503, "true")
        assert 0 < int(refused.headers["retry-after"]) <= 120


async def test_known_keys_are_bounded(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER), limits={"verified_keys_max": 1}) as (gateway, _):
        await gateway.trust(tenant.test_token)
        assert gateway.authenticator.verified == 1
        assert len(gateway.worker.snapshot._records) == 1
        # The first was forgotten, so it is verified anew.
        assert (await gateway.ask(post(tenant.token))).status == 200
        assert gateway.authenticator.bcrypt_runs == 1


async def test_no_token_stays_in_memory(stage: Stage, tenant: Tenant) -> None:
    wrong = forge(tenant.token)
    async with stage(answering(ANSWER), cold=True) as (gateway, _):
        assert (await gateway.ask(post(tenant.token))).status == 200
        assert (await gateway.ask(post(wrong))).status == 401
        # The requests themselves are gone with their connections.
        await poll(lambda: not gateway.worker.watchdog.watched)
        held = list(_strings(gateway.authenticator))
        assert tenant.key_id in held
        for token in (tenant.token, wrong):
            secret = token[-34:-6]
            assert not [one for one in held if secret in one]


def _strings(root: Authenticator) -> Iterator[str]:
    """Every text that can be reached from the authenticator's memory, its tasks' frames left out."""
    seen: set[int] = set()
    left: list[Any] = [root]
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, types.ModuleType | type | types.FunctionType | Limits):
            continue
        if type(one).__module__.startswith(("trio", "asyncpg", "asyncio")):
            continue
        seen.add(id(one))
        if isinstance(one, str):
            yield one
        elif isinstance(one, bytes | bytearray):
            yield one.decode("latin-1")
        left += gc.get_referents(one)


async def test_with_the_database_away_known_keys_work_and_new_ones_wait(stage: Stage, tenant: Tenant) -> None:
    async with (
        database_line(tenant.database_url) as line,
        stage(answering(ANSWER), database_url=line.url, owner_url=tenant.database_url) as (gateway, _),
    ):
        line.cut()
        await poll(lambda: not gateway.worker.snapshot.listening)
        assert (await gateway.ask(post(tenant.token))).status == 200
        for token in (tenant.test_token, unknown()):
            refused = await gateway.ask(post(token))
            assert (refused.status, refused.headers["x-should-retry"]) == (503, "true")
            assert 0 < int(refused.headers["retry-after"]) <= 120
            assert json.loads(refused.body)["error"]["type"] == "overloaded_error"
        await line.mend()
        await poll(lambda: gateway.worker.snapshot.listening)
        assert (await gateway.ask(post(unknown()))).status == 401
        assert (await gateway.ask(post(tenant.token))).status == 200


async def test_a_database_that_hangs_holds_up_new_keys_only(stage: Stage, tenant: Tenant) -> None:
    async with (
        database_line(tenant.database_url) as line,
        stage(
            answering(ANSWER), database_url=line.url, owner_url=tenant.database_url, query_seconds_max=0.2
        ) as (gateway, _),
        gateway.client() as new,
    ):
        line.hang()
        await new.send(post(unknown()))
        await poll(lambda: gateway.authenticator.in_flight)
        for _ in range(3):
            assert (await gateway.ask(post(tenant.token))).status == 200
        assert (await new.read_answer()).status == 503
        await line.mend()
        assert (await gateway.ask(post(unknown()))).status == 401


async def test_a_known_key_is_not_believed_for_ever(stage: Stage, tenant: Tenant) -> None:
    async with (
        database_line(tenant.database_url) as line,
        stage(answering(ANSWER), database_url=line.url, owner_url=tenant.database_url) as (gateway, _),
    ):
        line.cut()
        (record,) = gateway.worker.snapshot._records.values()
        record.confirmed_at -= gateway.worker.limits.key_stale_seconds
        await poll(lambda: not gateway.worker.snapshot.believed(record))
        assert (await gateway.ask(post(tenant.token))).status == 503
        await line.mend()
        await poll(lambda: gateway.worker.snapshot.believed(record))
        assert (await gateway.ask(post(tenant.token))).status == 200


async def test_a_key_is_recalled_by_its_mac_as_by_itself(stage: Stage, tenant: Tenant) -> None:
    async with (
        database_line(tenant.database_url) as line,
        stage(answering(ANSWER), database_url=line.url, owner_url=tenant.database_url) as (gateway, _),
    ):
        authenticator = gateway.authenticator
        token = tenant.token.encode()
        mac = authenticator.mac(token)
        assert token not in mac
        assert authenticator.recall_mac(mac) is authenticator.recall(token) is not None
        assert authenticator.recall_mac(authenticator.mac(token + b"x")) is None
        assert authenticator.recall_mac(token) is None
        line.cut()
        (record,) = gateway.worker.snapshot._records.values()
        record.confirmed_at -= gateway.worker.limits.key_stale_seconds
        await poll(lambda: not gateway.worker.snapshot.believed(record))
        with pytest.raises(Refusal) as caught:
            authenticator.recall_mac(mac)
        assert caught.value.kind is Kind.UNAVAILABLE
        await line.mend()


async def test_a_revocation_while_the_key_is_verified_counts(stage: Stage, own_tenant: Tenant) -> None:
    async with (
        stage(answering(ANSWER), of=own_tenant, cold=True) as (gateway, provider),
        gateway.client() as client,
    ):
        await poll(lambda: gateway.worker.snapshot.listening)
        looked_up = gateway.step("looked up")
        async with gateway.authenticator._threads:
            await client.send(post(own_tenant.token))
            await looked_up.wait()
            epoch = gateway.worker.snapshot.epoch
            await revoke_key(gateway.db, ACTOR, own_tenant.key_id)
            await poll(lambda: gateway.worker.snapshot.epoch > epoch)
        assert (await client.read_answer()).status == 401
        assert provider.received == b""


async def test_a_fault_in_verifying_is_told_and_not_remembered(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER), cold=True, faulty=True) as (gateway, _):
        threads, gateway.authenticator._threads = gateway.authenticator._threads, ()  # type: ignore[assignment]
        for _ in range(2):
            assert (await gateway.ask(post(tenant.token))).status == 500
        gateway.authenticator._threads = threads
        assert (await gateway.ask(post(tenant.token))).status == 200
