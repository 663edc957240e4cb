"""OpenAI's files and uploads through the official SDK."""

import openai
import pytest


async def test_a_files_life(gpt: openai.AsyncOpenAI) -> None:
    content = bytes(range(256))
    made = await gpt.files.create(file=("a.bin", content), purpose="user_data")
    assert (made.bytes, made.filename, made.purpose) == (256, "a.bin", "user_data")
    assert made.id in [file.id async for file in await gpt.files.list(purpose="user_data")]
    assert made.id not in [file.id async for file in await gpt.files.list(purpose="batch")]
    assert (await gpt.files.retrieve(made.id)) == made
    assert (await gpt.files.content(made.id)).content == content
    assert (await gpt.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await gpt.files.content(made.id)
    with pytest.raises(openai.BadRequestError):
        await gpt.post("/files", cast_to=object, body={})


async def test_an_upload_in_parts(gpt: openai.AsyncOpenAI) -> None:
    upload = await gpt.uploads.create(bytes=6, filename="b.txt", mime_type="text/plain", purpose="batch")
    first = await gpt.uploads.parts.create(upload.id, data=b"abc")
    second = await gpt.uploads.parts.create(upload.id, data=b"def")
    done = await gpt.uploads.complete(upload.id, part_ids=[second.id, first.id])
    assert done.status == "completed"
    assert done.file is not None
    assert (await gpt.files.content(done.file.id)).content == b"defabc"
    other = await gpt.uploads.create(bytes=6, filename="c.txt", mime_type="text/plain", purpose="batch")
    assert (await gpt.uploads.cancel(other.id)).status == "cancelled"


async def test_an_unknown_file_is_made_up(gpt: openai.AsyncOpenAI) -> None:
    assert (await gpt.files.retrieve("file-unknown")).bytes == 2_048
    assert len((await gpt.files.content("file-unknown")).content) == 2_048
    assert (await gpt.uploads.cancel("upload_unknown")).id == "upload_unknown"
