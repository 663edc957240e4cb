"""Answers held against the SDKs' own types, strictly: the SDKs themselves never validate what they are
sent."""

import json
from typing import Any

import anthropic.types as a
import httpx
import openai.types as o
import pytest
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse
from openai.types.audio import Transcription, TranscriptionVerbose
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import CompactedResponse, Response, ResponseItemList, ResponseStreamEvent
from openai.types.uploads import UploadPart
from openai.types.vector_stores import VectorStoreFile, VectorStoreFileBatch
from pydantic import TypeAdapter

ASK = [{"role": "user", "content": "Say something."}]
TOOL = {"name": "t", "input_schema": {"type": "object", "properties": {"x": {"type": "string"}}}}
FUNCTION = {"name": "t", "parameters": TOOL["input_schema"]}
VERSION = {"anthropic-version": "2026-10-21"}
BEHAVIOURS = ["tokens=3", "thinking=2", "refusal", "web_searches=1", "tool", "usage=twice", "tokens=50"]


def valid(kind: Any, reply: httpx.Response) -> Any:
    """The answer as the SDK's type; a pydantic error when it does not fit."""
    assert reply.status_code == 200, reply.text
    return TypeAdapter(kind).validate_json(reply.content)


def valid_events(kind: Any, reply: httpx.Response, *, but: tuple[str, ...] = ("[DONE]",)) -> list[Any]:
    """All events of a stream as the SDK's types."""
    adapter = TypeAdapter(kind)
    lines = [line[6:] for line in reply.text.split("\n") if line.startswith("data: ")]
    return [adapter.validate_json(line) for line in lines if line not in but]


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_messages(http: httpx.AsyncClient, behaviour: str) -> None:
    body = {"model": f"sim:{behaviour}", "max_tokens": 20, "messages": ASK, "tools": [TOOL]}
    valid(a.Message, await http.post("/v1/messages", json=body))
    streamed = await http.post("/v1/messages", json=body | {"stream": True})
    valid_events(a.RawMessageStreamEvent, streamed, but=('{"type": "ping"}',))


async def test_other_anthropic_types(http: httpx.AsyncClient) -> None:
    valid(
        a.MessageTokensCount,
        await http.post("/v1/messages/count_tokens", json={"model": "m", "messages": ASK}),
    )
    valid(a.ModelInfo, await http.get("/v1/models/m", headers=VERSION))
    request = {"custom_id": "c", "params": {"model": "m", "max_tokens": 5, "messages": ASK}}
    made = valid(MessageBatch, await http.post("/v1/messages/batches", json={"requests": [request]}))
    valid(MessageBatch, await http.get(f"/v1/messages/batches/{made.id}"))
    results = await http.get(f"/v1/messages/batches/{made.id}/results")
    assert results.headers["content-type"] == "application/x-jsonl"
    valid(MessageBatchIndividualResponse, results)
    valid(a.FileMetadata, await http.post("/v1/files", files={"file": b"x"}, headers=VERSION))


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_chat(http: httpx.AsyncClient, behaviour: str) -> None:
    tools = [{"type": "function", "function": FUNCTION}]
    body = {"model": f"sim:{behaviour}", "max_tokens": 20, "messages": ASK, "tools": tools, "n": 2}
    valid(ChatCompletion, await http.post("/v1/chat/completions", json=body))
    more = {"stream": True, "stream_options": {"include_usage": True}}
    valid_events(ChatCompletionChunk, await http.post("/v1/chat/completions", json=body | more))


@pytest.mark.parametrize("behaviour", [*BEHAVIOURS, "stop=failed"])
async def test_responses(http: httpx.AsyncClient, behaviour: str) -> None:
    tools = [{"type": "function", **FUNCTION, "strict": True}]
    body = {"model": f"sim:{behaviour}", "max_output_tokens": 20, "input": "x", "tools": tools}
    made = valid(Response, await http.post("/v1/responses", json=body))
    valid(Response, await http.get(f"/v1/responses/{made.id}"))
    valid(ResponseItemList, await http.get(f"/v1/responses/{made.id}/input_items"))
    valid_events(ResponseStreamEvent, await http.post("/v1/responses", json=body | {"stream": True}))


async def test_background_and_compact(http: httpx.AsyncClient) -> None:
    body = {"model": "m", "input": "x", "background": True}
    valid(Response, await http.post("/v1/responses", json=body))
    valid_events(ResponseStreamEvent, await http.post("/v1/responses", json=body | {"stream": True}))
    valid(CompactedResponse, await http.post("/v1/responses/compact", json={"model": "m"}))


async def test_other_openai_types(http: httpx.AsyncClient) -> None:
    completion = {"model": "m", "prompt": "x"}
    valid(o.Completion, await http.post("/v1/completions", json=completion))
    valid(o.CreateEmbeddingResponse, await http.post("/v1/embeddings", json={"model": "m", "input": "x"}))
    valid(o.ModerationCreateResponse, await http.post("/v1/moderations", json={"input": "x"}))
    valid(o.ImagesResponse, await http.post("/v1/images/generations", json={"prompt": "x"}))
    streamed = await http.post("/v1/images/generations", json={"prompt": "x", "stream": True})
    valid_events(o.ImageGenStreamEvent, streamed)
    valid(o.Model, await http.get("/v1/models/m"))
    sound = {"file": ("a.wav", b"RIFF")}
    valid(Transcription, await http.post("/v1/audio/transcriptions", data={"model": "m"}, files=sound))
    form = {"model": "whisper-1", "response_format": "verbose_json"}
    valid(TranscriptionVerbose, await http.post("/v1/audio/transcriptions", data=form, files=sound))


async def test_openai_objects(http: httpx.AsyncClient) -> None:
    file = valid(o.FileObject, await http.post("/v1/files", data={"purpose": "batch"}, files={"file": b"x"}))
    batch = valid(o.Batch, await http.post("/v1/batches", json={"input_file_id": file.id}))
    valid(o.Batch, await http.get(f"/v1/batches/{batch.id}"))
    upload = valid(
        o.Upload, await http.post("/v1/uploads", json={"bytes": 1, "purpose": "batch", "filename": "f"})
    )
    valid(UploadPart, await http.post(f"/v1/uploads/{upload.id}/parts", files={"data": b"x"}))
    store = valid(o.VectorStore, await http.post("/v1/vector_stores", json={"name": "s"}))
    path = f"/v1/vector_stores/{store.id}"
    valid(VectorStoreFile, await http.post(f"{path}/files", json={"file_id": file.id}))
    valid(VectorStoreFileBatch, await http.post(f"{path}/file_batches", json={"file_ids": [file.id]}))
    found = json.loads((await http.post(f"{path}/search", json={"query": "x"})).content)["data"][0]
    o.VectorStoreSearchResponse.model_validate(found)
