"""Models through the official SDK."""

import anthropic


async def test_models(claude: anthropic.AsyncAnthropic) -> None:
    first = await claude.models.list(limit=2)
    assert len(first.data) == 2
    assert first.has_more
    listed = [model.id async for model in await claude.models.list(limit=1)]
    assert len(listed) == 3
    one = await claude.models.retrieve("any/model")
    assert (one.id, one.type, one.lifecycle) == ("any/model", "model", "active")
