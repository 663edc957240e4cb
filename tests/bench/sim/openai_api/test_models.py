"""Models through the official SDK."""

import openai


async def test_models(gpt: openai.AsyncOpenAI) -> None:
    assert "gpt-5" in [model.id async for model in await gpt.models.list()]
    assert (await gpt.models.retrieve("ft:gpt-4o/x")).id == "ft:gpt-4o/x"
    assert (await gpt.models.delete("ft:gpt-4o")).deleted
