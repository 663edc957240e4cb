"""Legacy completions through the official SDK."""

import openai
import pytest

# The SDK leaves its own inner generator at `[DONE]`; trio would have it closed in order.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator '(openai|httpx):ResourceWarning")


async def test_whole_and_streamed_agree(gpt: openai.AsyncOpenAI) -> None:
    whole = await gpt.completions.create(model="sim:tokens=4", prompt=["a", "b"], n=2)
    assert len(whole.choices) == 4
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 16
    said = [""] * 4
    usage = None
    stream = await gpt.completions.create(
        model="sim:tokens=4", prompt=["a", "b"], n=2, stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            said[choice.index] += choice.text
    assert said == [choice.text for choice in whole.choices]
    assert usage is not None
    assert usage.completion_tokens == 16


async def test_limits_and_refusals(gpt: openai.AsyncOpenAI) -> None:
    cut = await gpt.completions.create(model="m", prompt="a", max_tokens=3)
    assert cut.choices[0].finish_reason == "length"
    with pytest.raises(openai.BadRequestError):
        await gpt.post("/completions", cast_to=object, body={})
