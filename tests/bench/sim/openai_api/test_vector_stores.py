"""Vector stores through the official SDK."""

import openai
import pytest


async def test_a_stores_life(gpt: openai.AsyncOpenAI) -> None:
    store = await gpt.vector_stores.create(name="s", file_ids=["file-1"], metadata={"a": "b"})
    assert (store.name, store.file_counts.total) == ("s", 1)
    assert (await gpt.vector_stores.update(store.id, name="t")).name == "t"
    assert (await gpt.vector_stores.retrieve(store.id)).name == "t"
    assert store.id in [one.id async for one in await gpt.vector_stores.list()]
    found = [one async for one in await gpt.vector_stores.search(store.id, query="x")]
    assert found[0].file_id == "file-1"
    assert (await gpt.vector_stores.delete(store.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await gpt.vector_stores.retrieve(store.id)


async def test_files_of_a_store(gpt: openai.AsyncOpenAI) -> None:
    store = await gpt.vector_stores.create(name="files")
    files = gpt.vector_stores.files
    made = await files.create(store.id, file_id="file-2", attributes={"k": 1.0})
    assert (made.status, made.attributes) == ("completed", {"k": 1.0})
    changed = await files.update("file-2", vector_store_id=store.id, attributes={"k": 2.0})
    assert changed.attributes == {"k": 2.0}
    assert (await files.retrieve("file-2", vector_store_id=store.id)).attributes == {"k": 2.0}
    parts = [part.text async for part in await files.content("file-2", vector_store_id=store.id)]
    assert len(parts) == 1
    batch = await gpt.vector_stores.file_batches.create(store.id, file_ids=["file-3", "file-4"])
    assert batch.file_counts.completed == 2
    assert (await gpt.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store.id)) == batch
    assert (await gpt.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)) == batch
    listed = [one.id async for one in await files.list(store.id)]
    assert listed == ["file-4", "file-3", "file-2"]
    page = await gpt.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id)
    assert [one.id async for one in page] == listed
    assert (await files.delete("file-2", vector_store_id=store.id)).deleted
    assert (await gpt.vector_stores.retrieve(store.id)).usage_bytes == 2_468
