"""Where nobody watches there is nobody to tell; a fault of who watches costs no request."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.ended import Ended
from gateway.request_log import RequestLog
from tests.gateway.conftest import Stage, Tenant
from tests.support.requests import ANSWER, post
from tests.support.scripted_provider import answering


async def test_by_default_nobody_watches(stage: Stage, tenant: Tenant) -> None:
    async with stage(answering(ANSWER)) as (gateway, _):
        assert gateway.worker.watch is None
        assert gateway.worker.meter.on_settled is None
        assert (await gateway.ask(post(tenant.token))).status == 200
        assert (await gateway.ask(post("nobody"))).status == 401


async def test_a_fault_of_who_watches_costs_no_request(
    stage: Stage, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_log: RequestLog, _ended: Ended) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(RequestLog, "take", fail)
    async with stage(answering(ANSWER), faulty=True, request_log=str(tmp_path / "log")) as (gateway, _):
        answer = await gateway.ask(post(tenant.token))
        assert (answer.status, answer.body) == (200, ANSWER)
        assert (await gateway.only_row())["outcome"] == "completed"
        assert (await gateway.ask(post("nobody"))).status == 401
