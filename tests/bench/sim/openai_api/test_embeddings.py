"""Embeddings and moderations through the official SDK."""

import openai
import pytest


async def test_embeddings_in_either_encoding(gpt: openai.AsyncOpenAI) -> None:
    packed = await gpt.embeddings.create(model="text-embedding-3-small", input=["a", "b"], dimensions=8)
    plain = await gpt.embeddings.create(
        model="text-embedding-3-small", input=["a", "b"], dimensions=8, encoding_format="float"
    )
    assert len(packed.data) == 2
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert packed.data[0].embedding != packed.data[1].embedding
    assert packed.usage.total_tokens > 0


async def test_inputs_may_be_tokens(gpt: openai.AsyncOpenAI) -> None:
    assert len((await gpt.embeddings.create(model="m", input=[1, 2, 3])).data) == 1
    assert len((await gpt.embeddings.create(model="m", input=[[1, 2], [3]])).data) == 2
    with pytest.raises(openai.BadRequestError):
        await gpt.embeddings.create(model="m", input=["x"] * 3_000)
    with pytest.raises(openai.BadRequestError):
        await gpt.post("/embeddings", cast_to=object, body={"model": "m"})


async def test_moderations(gpt: openai.AsyncOpenAI) -> None:
    fine = await gpt.moderations.create(input=["a", "b"])
    assert [one.flagged for one in fine.results] == [False, False]
    flagged = await gpt.moderations.create(model="sim:refusal", input="a")
    assert flagged.results[0].categories.self_harm_intent
