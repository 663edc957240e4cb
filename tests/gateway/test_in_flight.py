"""Requests in flight leave their mark until their row is on file, whatever becomes of their worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import in_flight
from gateway.in_flight import ENTRY_BYTES_MAX, NO_SLOT, SLOTS, open_register
from gateway.spool import Spool
from storage.model import Outcome
from tests.gateway.conftest import Stage, Tenant
from tests.gateway.journals import everything
from tests.support.gateway import poll
from tests.support.gateway_process import gateway_process
from tests.support.raw_client import RawClient
from tests.support.requests import BODY, post
from tests.support.scripted_provider import scripted_provider, silent
from tests.support.streams import STREAM_BODY


def test_what_was_begun_and_not_ended_is_left(tmp_path: Path) -> None:
    register = open_register(tmp_path / "in_flight")
    assert list(register.left()) == []
    slots = [register.begin(b"entry %d" % number) for number in range(5)]
    assert len(register) == 5
    for slot in slots[1:4]:
        register.end(slot)
    # As after a kill: nobody closes anything.
    again = open_register(tmp_path / "in_flight")
    assert sorted(again.left()) == [(slots[0], b"entry 0"), (slots[4], b"entry 4")]
    # Nobody else gets a slot that is not dealt with.
    assert again.begin(b"new") not in (slots[0], slots[4])
    assert len(again) == 3
    again.end(slots[0])
    third = open_register(tmp_path / "in_flight")
    assert sorted(entry for _, entry in third.left()) == [b"entry 4", b"new"]
    for slot, _ in list(third.left()):
        third.end(slot)
    assert len(third) == 0
    third.close()
    assert list(open_register(tmp_path / "in_flight").left()) == []
    again.close()
    register.close()


def test_slots_are_used_again_and_bounded(tmp_path: Path) -> None:
    register = open_register(tmp_path / "in_flight")
    for _ in range(3):
        slots = [register.begin(b"x") for _ in range(SLOTS)]
        assert len(set(slots)) == SLOTS
        assert register.begin(b"one too many") == NO_SLOT
        for slot in slots:
            register.end(slot)
    register.end(NO_SLOT)
    assert len(register) == 0
    assert register.begin(bytes(ENTRY_BYTES_MAX + 1)) == NO_SLOT
    assert register.begin(bytes(ENTRY_BYTES_MAX)) != NO_SLOT
    register.close()


def test_without_room_requests_go_without_a_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.posix_fallocate", refuse)
    register = open_register(tmp_path / "in_flight")
    assert register.begin(b"x") == NO_SLOT
    register.end(NO_SLOT)
    assert (list(register.left()), len(register)) == ([], 0)
    register.close()
    assert not (tmp_path / "in_flight").exists()


def test_a_register_of_another_size_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "in_flight").write_bytes(b"\1" * 100)
    register = open_register(tmp_path / "in_flight")
    assert list(register.left()) == []
    assert register.begin(b"x") != NO_SLOT
    register.close()
    assert (tmp_path / "in_flight").stat().st_size == SLOTS * in_flight.SLOT_BYTES


async def test_each_end_frees_the_slot(stage: Stage, tenant: Tenant) -> None:
    async with stage(silent) as (gateway, _):
        async with gateway.client() as client:
            await client.send(post(tenant.token))
            await poll(lambda: len(gateway.worker.meter.spool.in_flight) == 1)
        await gateway.only_row()
        assert len(gateway.worker.meter.spool.in_flight) == 0


async def test_a_worker_that_is_killed_leaves_a_row_for_each_request(own_tenant: Tenant) -> None:
    async with (
        scripted_provider(silent) as upstream,
        gateway_process(
            own_tenant.database_url,
            own_tenant.spool_dir,
            provider_url=upstream.base_url,
            master_keys=own_tenant.master_keys,
        ) as gateway,
    ):
        clients = [RawClient(await gateway.connect()) for _ in range(3)]
        for client, body in zip(clients, (BODY, BODY, STREAM_BODY), strict=True):
            await client.send(post(own_tenant.token, body))
        await poll(lambda: sum(line.received.count(b"HTTP/1.1") for line in upstream.lines) == 3)
        await gateway.kill()
        for client in clients:
            await client.close()
    for _ in range(2):
        # Opened once more, nothing is written again.
        Spool(own_tenant.spool_dir).close()
    rows = everything(own_tenant.spool_dir)
    assert [row.outcome for row in rows] == [Outcome.INTERRUPTED] * 3
    assert {row.model_asked for row in rows} == {"claude-test"}
    assert sorted(row.streamed for row in rows) == [False, False, True]
    for row in rows:
        assert (row.usage_complete, row.cost_picodollars, row.endpoint) == (False, None, "/v1/messages")
        assert row.input_tokens == row.request_bytes // 4 > 0
        assert row.org_id == own_tenant.org_id
