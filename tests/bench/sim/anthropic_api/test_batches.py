"""Message batches through the official SDK, results included."""

from typing import Any

import anthropic
import pytest

from tests.bench.sim.process import SimProcess


def requests(*models: str) -> Any:
    said = [{"role": "user", "content": "hello"}]
    return [
        {"custom_id": f"c{index}", "params": {"model": model, "max_tokens": 64, "messages": said}}
        for index, model in enumerate(models)
    ]


async def test_a_batch_ends_and_has_results(claude: anthropic.AsyncAnthropic, sim: SimProcess) -> None:
    made = await claude.messages.batches.create(requests=requests("m", "sim:tokens=3", "sim:nonsense"))
    assert (made.processing_status, made.results_url) == ("in_progress", None)
    ended = await claude.messages.batches.retrieve(made.id)
    assert ended.processing_status == "ended"
    assert ended.results_url == f"{sim.base_url}/v1/messages/batches/{made.id}/results"
    results = [line async for line in await claude.messages.batches.results(made.id)]
    assert [line.custom_id for line in results] == ["c0", "c1", "c2"]
    first, last = results[0].result, results[2].result
    assert first.type == "succeeded"
    assert first.message.usage.service_tier == "batch"
    assert last.type == "errored"
    assert made.id in [batch.id async for batch in await claude.messages.batches.list()]
    assert (await claude.messages.batches.delete(made.id)).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.batches.retrieve(made.id)


async def test_a_batch_may_take_its_time_and_be_canceled(claude: anthropic.AsyncAnthropic) -> None:
    headers = {"x-sim-behaviour": "polls=1"}
    made = await claude.messages.batches.create(requests=requests("m2"), extra_headers=headers)
    assert (await claude.messages.batches.retrieve(made.id)).processing_status == "in_progress"
    canceled = await claude.messages.batches.cancel(made.id)
    assert canceled.processing_status == "canceling"
    assert (await claude.messages.batches.retrieve(made.id)).request_counts.canceled == 1
    results = [line.result.type async for line in await claude.messages.batches.results(made.id)]
    assert results == ["canceled"]
    await claude.messages.batches.delete(made.id)


async def test_refused_and_made_up(claude: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.BadRequestError):
        await claude.messages.batches.create(requests=[])
    with pytest.raises(anthropic.BadRequestError):
        await claude.messages.batches.create(requests=[{}])  # type: ignore[typeddict-item]
    assert (await claude.messages.batches.retrieve("msgbatch_unknown")).processing_status == "ended"
