"""Images through the official SDK."""

import base64

import openai

PNG = b"\x89PNG\r\n\x1a\n"


async def test_images_made_and_edited(gpt: openai.AsyncOpenAI) -> None:
    made = await gpt.images.generate(prompt="a pixel", model="gpt-image-1", n=2)
    assert made.data is not None
    assert len(made.data) == 2
    assert base64.b64decode(made.data[0].b64_json or "").startswith(PNG)
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens
    edited = await gpt.images.edit(image=("a.png", PNG), prompt="again", model="gpt-image-1")
    assert edited.data is not None
    old = await gpt.images.generate(prompt="a pixel", model="dall-e-3")
    assert old.data is not None
    assert old.data[0].url is not None
    assert old.usage is None


async def test_partial_images_are_long_lines(gpt: openai.AsyncOpenAI) -> None:
    headers = {"x-sim-behaviour": "event_bytes=3000000"}
    stream = await gpt.images.generate(
        prompt="big", model="gpt-image-1", stream=True, partial_images=2, extra_headers=headers
    )
    events = [event async for event in stream]
    assert [event.type for event in events] == [
        *["image_generation.partial_image"] * 2,
        "image_generation.completed",
    ]
    assert len(events[0].b64_json) == 3_000_000
    whole = await gpt.images.generate(prompt="big", model="gpt-image-1", extra_headers=headers)
    assert whole.data is not None
    assert len(whole.data[0].b64_json or "") == 3_000_000
