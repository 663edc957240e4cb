"""Batches through the official SDK: the output file answers the input file."""

import json
from collections.abc import Mapping

import openai


def line(custom_id: str, url: str, body: Mapping[str, object]) -> bytes:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body}).encode() + b"\n"


async def test_a_batch_answers_its_file(gpt: openai.AsyncOpenAI) -> None:
    chat = {"model": "gpt-5", "messages": [{"role": "user", "content": "x"}]}
    lines = [
        line("c0", "/v1/chat/completions", chat),
        line("c1", "/v1/embeddings", {"model": "m", "input": "x"}),
        line("c2", "/v1/chat/completions", {"messages": []}),
        line("c3", "/v1/nowhere", {}),
        b"not json\n",
    ]
    file = await gpt.files.create(file=("in.jsonl", b"".join(lines)), purpose="batch")
    made = await gpt.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"k": "v"}
    )
    assert (made.status, made.metadata) == ("validating", {"k": "v"})
    done = await gpt.batches.retrieve(made.id)
    assert done.status == "completed"
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.failed) == (5, 3)
    assert done.output_file_id is not None
    output = (await gpt.files.content(done.output_file_id)).text.splitlines()
    answers = [json.loads(one) for one in output]
    assert [one["custom_id"] for one in answers] == ["c0", "c1", "c2", "c3", None]
    assert answers[0]["response"]["body"]["object"] == "chat.completion"
    assert made.id in [batch.id async for batch in await gpt.batches.list()]


async def test_a_batch_is_cancelled_while_it_runs(gpt: openai.AsyncOpenAI) -> None:
    headers = {"x-sim-behaviour": "polls=5"}
    made = await gpt.batches.create(
        input_file_id="file-x", endpoint="/v1/responses", completion_window="24h", extra_headers=headers
    )
    assert (await gpt.batches.retrieve(made.id)).status == "in_progress"
    assert (await gpt.batches.cancel(made.id)).status == "cancelled"
    assert (await gpt.batches.retrieve("batch_unknown")).status == "completed"
