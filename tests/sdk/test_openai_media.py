"""OpenAI's endpoints that are not JSON both ways: images, sound, files, uploads, batches, vector stores,
video, calls."""

from __future__ import annotations

import io
import json
import time
from datetime import UTC, datetime
from typing import Any

import openai
import pytest

from storage.bridge import open_database
from tests.sdk.clients import gpt, with_async_gpt
from tests.sdk.compare import Side, Sides
from tests.sdk.plain import plain, plain_async
from tests.sdk.servers import Tenant
from tests.support.postgres import run_in_own_trio

# Parts of the API are on their way out; they still have to work.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BINARY = bytes(range(256)) * 700
"""More than one read of either side, and every byte value."""
LARGE = bytes(range(251)) * 20_000
LINE = {
    "custom_id": "1",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "sim:tokens=3", "messages": []},
}
JSONL = b"".join(json.dumps(LINE | {"custom_id": str(number)}).encode() + b"\n" for number in range(20))


def file(content: bytes = BINARY, name: str = "bild ä.png") -> Any:
    return (name, content, "image/png")


CALLS: dict[str, Any] = {
    "images": lambda client: client.images.generate(model="sim:seed=2", prompt="a cat"),
    "images, large": lambda client: client.images.generate(model="sim:bytes=300000", prompt="a cat", n=2),
    "images stream": lambda client: client.images.generate(
        model="sim:seed=3", prompt="a cat", stream=True, partial_images=2
    ),
    "image edit": lambda client: client.images.edit(image=[file(), file(b"x")], prompt="ä", mask=file(b"m")),
    "image variation": lambda client: client.images.create_variation(image=file()),
    "speech": lambda client: client.audio.speech.create(model="sim:bytes=200000", voice="alloy", input="ü"),
    "speech, paced": lambda client: client.audio.speech.create(
        model="sim:tokens=8,pace_ms=1", voice="alloy", input="ü"
    ),
    "speech, events": lambda client: client.audio.speech.create(
        model="sim:tokens=4", voice="alloy", input="ü", stream_format="sse"
    ),
    "transcription": lambda client: client.audio.transcriptions.create(model="sim:tokens=5", file=file()),
    "transcription, text": lambda client: client.audio.transcriptions.create(
        model="whisper-1", file=file(), response_format="vtt"
    ),
    "transcription stream": lambda client: client.audio.transcriptions.create(
        model="sim:tokens=5", file=file(), stream=True
    ),
    "translation": lambda client: client.audio.translations.create(model="whisper-1", file=file()),
    "file": lambda client: client.files.create(file=file(), purpose="user_data"),
    "file of five megabytes": lambda client: client.files.create(file=file(LARGE), purpose="user_data"),
    "file, unknown length": lambda client: client.files.create(
        file=("s", io.BytesIO(LARGE)), purpose="user_data", extra_headers={"X-Mine": "1"}
    ),
    "file content": lambda client: client.files.content("file-nobody/made"),
    "file content, large": lambda client: client.files.content(
        "file-1", extra_headers={"x-sim-behaviour": "bytes=3000000"}
    ),
    "video": lambda client: client.videos.create(prompt="a cat", input_reference=file(), seconds="4"),
    "video content": lambda client: client.videos.download_content("v/1", variant="thumbnail"),
    "container file": lambda client: client.containers.files.create("c 1", file=file()),
    "container content": lambda client: client.containers.files.content.retrieve("f", container_id="c/1"),
    "skill": lambda client: client.skills.create(files=[file(name="a/SKILL.md"), file(b"", "a/empty")]),
    "skill content": lambda client: client.skills.content.retrieve("s-1"),
    "voice consent": lambda client: client.audio.voice_consents.create(
        language="en", name="n", recording=file()
    ),
    "call": lambda client: client.realtime.calls.create(sdp="v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n"),
    "call, hung up": lambda client: client.realtime.calls.hangup("call-1"),
}
calls = pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in CALLS.items()])


@calls
def test_a_call(sides: Sides, call: Any) -> None:
    assert sides.same(lambda side: call(gpt(side))).answers[0].status < 300


@calls
def test_a_call_of_the_asynchronous_client(sides: Sides, call: Any) -> None:
    async def use(client: openai.AsyncOpenAI) -> Any:
        return await plain_async(await call(client))

    sides.same(lambda side: with_async_gpt(side, use))


def test_a_transcription_is_priced_by_its_model(sides: Sides, tenant_database: tuple[str, Tenant]) -> None:
    began = datetime.now(UTC)
    # Of a size that is not there at once with its head.
    gpt(sides.karta).audio.transcriptions.create(model="whisper-1", file=file(LARGE))

    async def rows() -> list[Any]:
        async with open_database(tenant_database[0], role=None) as db:
            return await db.fetch(
                "SELECT * FROM usage WHERE model_asked = 'whisper-1' AND started_at >= $1 "
                "AND endpoint = '/v1/audio/transcriptions'",
                began,
            )

    deadline = time.monotonic() + 20
    while not (found := run_in_own_trio(rows)):
        assert time.monotonic() < deadline
    (row,) = found
    # Four seconds at 0.6 cents a minute.
    assert row["cost_picodollars"] == row["charged_picodollars"] == 400_000_000


def test_binary_content_comes_as_it_was_uploaded(sides: Sides) -> None:
    def use(side: Side) -> Any:
        files = gpt(side).files
        made = files.create(file=file(LARGE), purpose="user_data")
        with files.with_streaming_response.content(made.id) as response:
            content = b"".join(response.iter_bytes(chunk_size=1000))
        return [plain(made), content == LARGE, response.headers["content-type"], plain(files.delete(made.id))]

    assert sides.same(use, requests=3).result[1] is True


def test_an_upload_in_parts(sides: Sides) -> None:
    def use(side: Side) -> Any:
        uploads = gpt(side).uploads
        made = uploads.upload_file_chunked(
            file=LARGE,
            filename="large.bin",
            bytes=len(LARGE),
            mime_type="application/octet-stream",
            purpose="user_data",
            part_size=2_000_000,
        )
        assert made.file is not None
        return [plain(made), gpt(side).files.content(made.file.id).content == LARGE]

    assert sides.same(use, requests=6).result[1] is True


def test_a_batch_from_its_file_to_its_results(sides: Sides) -> None:
    def use(side: Side) -> Any:
        client = gpt(side)
        source = client.files.create(file=("in.jsonl", JSONL), purpose="batch")
        batch = client.batches.create(
            input_file_id=source.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        ended = client.batches.retrieve(batch.id)
        assert ended.output_file_id is not None
        results = client.files.content(ended.output_file_id).text
        return [plain(batch), plain(ended), results, plain(client.batches.list(limit=1))]

    assert sides.same(use, requests=None).result[2].count("\n") == 20


def test_a_vector_store(sides: Sides) -> None:
    def use(side: Side) -> Any:
        client = gpt(side)
        store = client.vector_stores.create(name="s")
        added = client.vector_stores.files.upload(
            vector_store_id=store.id, file=("notes.txt", b"the cat sat on the mat")
        )
        return [
            plain(store),
            plain(added),
            plain(client.vector_stores.files.retrieve(added.id, vector_store_id=store.id)),
            plain(client.vector_stores.files.content(added.id, vector_store_id=store.id)),
            plain(
                client.vector_stores.search(
                    store.id, query="cat", filters={"type": "eq", "key": "k", "value": 1}
                )
            ),
            plain(client.vector_stores.file_batches.create(store.id, file_ids=[added.id])),
            plain(client.vector_stores.delete(store.id)),
        ]

    sides.same(use, requests=None)
