"""Wrong keys on a connection that has sent one: the answers are those of the pipeline, without its task."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import trio.testing

from gateway.refusal import Refusal
from gateway.watch import Watch
from tests.gateway.conftest import Stage, Tenant
from tests.support.gateway import RunningGateway, poll
from tests.support.raw_client import Answer, RawClient
from tests.support.requests import ANSWER, BODY, chat, get, post
from tests.support.scripted_provider import answering, silent
from tests.support.tokens import GARBAGE, forge, unknown


def told(answer: Answer) -> tuple[int, dict[str, str], object]:
    """All but what is each answer's own."""
    own = ("request-id", "x-request-id", "x-karta-request-id")
    headers = {name: value for name, value in answer.headers.items() if name not in own}
    body = json.loads(answer.body)
    body.pop("request_id", None)
    return answer.status, headers, body


async def ask(client: RawClient, request: bytes) -> Answer:
    await client.send(request)
    return await client.read_answer()


def dismissed(gateway: RunningGateway) -> int:
    return gateway.worker.pipeline.dismissal.refused


@pytest.mark.parametrize("token", [GARBAGE[0], GARBAGE[-3], unknown()], ids=["none", "misspelt", "unknown"])
@pytest.mark.parametrize("make", [post, chat])
async def test_it_is_refused_as_before(token: str, make: object, stage: Stage, tenant: Tenant) -> None:
    assert callable(make)
    async with stage(answering(ANSWER)) as (gateway, provider), gateway.client() as client:
        first = await ask(client, make(token))
        assert dismissed(gateway) == 0
        again = await ask(client, make(token))
        assert dismissed(gateway) == 1
        assert (told(again), again.status) == (told(first), 401)
        assert again.headers["x-karta-request-id"] != first.headers["x-karta-request-id"]
        # The connection is as good as any other.
        assert (await ask(client, post(tenant.token))).body == ANSWER
        assert (await ask(client, make(token))).status == 401
        assert provider.received.count(b"POST") == 1
        assert gateway.worker.metrics.render().count(b"karta_gateway_refusals_total 3") == 1


async def test_budgets_are_told_as_before(stage: Stage, tenant: Tenant) -> None:
    async with (
        stage(silent, limits={"failures_per_minute": 2}) as (gateway, _),
        gateway.client() as client,
        gateway.client() as other,
    ):
        statuses = [(await ask(client, post(unknown()))).status for _ in range(4)]
        assert statuses == [401, 401, 429, 429]
        assert dismissed(gateway) == 2
        # By the task, as nobody has been refused there: the same.
        assert told(await ask(other, post(unknown()))) == told(await ask(client, post(unknown())))


async def test_each_is_told_of_as_any_request(
    stage: Stage, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_of: list[tuple[str, int]] = []

    def hear(_: Watch, request_id: str, _request: object, _grant: object, refusal: Refusal, _us: int) -> None:
        told_of.append((request_id, refusal.status))

    monkeypatch.setattr(Watch, "refused", hear)
    log = str(tmp_path / "log")
    async with stage(answering(ANSWER), request_log=log) as (gateway, _), gateway.client() as client:
        answers = [await ask(client, post(GARBAGE[0])) for _ in range(3)]
        assert dismissed(gateway) == 2
        assert told_of == [(one.headers["x-karta-request-id"], 401) for one in answers]


async def test_a_new_key_is_verified_where_wrong_ones_were_sent(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER), cold=True) as (gateway, _), gateway.client() as client:
        for _ in range(2):
            assert (await ask(client, post(GARBAGE[0]))).status == 401
        assert (await ask(client, post(tenant.token))).body == ANSWER
        assert (await ask(client, post(forge(tenant.token)))).status == 401
        assert (gateway.authenticator.bcrypt_runs, dismissed(gateway)) == (2, 1)


async def test_what_is_not_one_whole_request_is_left_to_the_task(stage: Stage, tenant: Tenant) -> None:
    wrong = post(GARBAGE[0])
    closing = post(GARBAGE[0], close=True)
    async with stage(answering(ANSWER)) as (gateway, _):
        for request, statuses in (
            (wrong + wrong, [401, 401]),
            (wrong + post(tenant.token), [401, 200]),
            (wrong[: -len(BODY)] + b"NOT HTTP", [401]),
            (wrong.replace(b"host: karta", b"host: karta\r\nhost: other"), [400]),
            (get(GARBAGE[0], "/v1/nowhere"), [404]),
            (closing, [401]),
        ):
            async with gateway.client() as client:
                assert (await ask(client, wrong)).status == 401
                await client.send(request)
                assert [(await client.read_answer()).status for _ in statuses] == statuses
        assert dismissed(gateway) == 0


async def test_a_body_may_come_later(stage: Stage, tenant: Tenant) -> None:
    wrong = post(GARBAGE[0])
    async with stage(answering(ANSWER)) as (gateway, _), gateway.client() as client:
        assert (await ask(client, wrong)).status == 401
        await client.send(wrong[:-5])
        assert (await client.read_answer()).status == 401
        assert (dismissed(gateway), await client.read_to_end()) == (0, b"")


async def test_who_goes_on_and_on_is_not_read_from_for_a_while(stage: Stage, tenant: Tenant) -> None:
    limits = {"refusals_in_a_row_max": 2, "refusal_pause_seconds": 3600.0}
    async with stage(answering(ANSWER), limits=limits) as (gateway, _), gateway.client() as client:
        for _ in range(3):
            assert (await ask(client, post(GARBAGE[0]))).status == 401
        # A right key in between is a new beginning.
        assert (await ask(client, post(tenant.token))).status == 200
        assert (await ask(client, post(tenant.token))).status == 200
        for _ in range(3):
            assert (await ask(client, post(GARBAGE[0]))).status == 401
        await client.send(post(GARBAGE[0]))
        paused = gateway.worker.pipeline.dismissal._paused
        await poll(lambda: len(paused) == 1)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert dismissed(gateway) == 5
        (until, transport, listener) = paused.pop()
        paused.append((until - 3600, transport, listener))
        assert (await client.read_answer()).status == 401
        await poll(lambda: len(paused) == 1)
        # It may leave, whatever it waits for.
        await client.close()
        await poll(lambda: not gateway.worker.acceptor.connections)


async def test_trusted_proxies_are_read_from_as_ever(stage: Stage, tenant: Tenant) -> None:
    limits = {"refusals_in_a_row_max": 2, "refusal_pause_seconds": 3600.0}
    async with (
        stage(answering(ANSWER), limits=limits, trusted_proxies="127.0.0.0/8") as (gateway, _),
        gateway.client() as client,
    ):
        for _ in range(10):
            assert (await ask(client, post(GARBAGE[0]))).status == 401
        assert dismissed(gateway) == 9


async def test_who_does_not_read_is_cut(stage: Stage, tenant: Tenant) -> None:
    async with (
        stage(silent, limits={"refusals_in_a_row_max": 10**6}) as (gateway, _),
        gateway.client(receive_buffer=2048) as client,
    ):
        assert (await ask(client, post(GARBAGE[0]))).status == 401
        connection = await gateway.only_connection()
        connection.transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        sent = 0
        while gateway.worker.acceptor.connections:
            sent += 1
            await client.send(post(GARBAGE[0]))
            # One at a time, or it would be no single request.
            await poll(lambda sent=sent: dismissed(gateway) == sent)
            await trio.testing.wait_all_tasks_blocked(0.01)
