"""Anthropic's files through the official SDK."""

import anthropic
import pytest


async def test_a_files_life(claude: anthropic.AsyncAnthropic) -> None:
    content = bytes(range(256)) * 10
    made = await claude.files.upload(file=("a.bin", content, "application/x-thing"))
    assert (made.filename, made.mime_type, made.size_bytes) == ("a.bin", "application/x-thing", 2_560)
    assert made.id in [file.id async for file in await claude.files.list()]
    assert await claude.files.retrieve_metadata(made.id) == made
    assert await (await claude.files.download(made.id)).read() == content
    gone = await claude.files.delete(made.id)
    assert (gone.id, gone.type) == (made.id, "file_deleted")
    with pytest.raises(anthropic.NotFoundError):
        await claude.files.retrieve_metadata(made.id)


async def test_a_file_too_long_to_keep_has_its_length(claude: anthropic.AsyncAnthropic) -> None:
    size = 9 * 1024 * 1024
    made = await claude.files.upload(file=("big.bin", b"z" * size, "x/y"))
    assert made.size_bytes == size
    assert len(await (await claude.files.download(made.id)).read()) == size
    await claude.files.delete(made.id)


async def test_an_unknown_file_is_made_up(claude: anthropic.AsyncAnthropic) -> None:
    assert (await claude.files.retrieve_metadata("file_unknown")).id == "file_unknown"
    assert len(await (await claude.files.download("file_unknown")).read()) == 2_048
    with pytest.raises(anthropic.BadRequestError):
        await claude.post("/v1/files", cast_to=object, body={})
