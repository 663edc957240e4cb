"""What msgspec takes of answers, and what it passes over."""

from __future__ import annotations

import msgspec
import pytest

from gateway.usage_objects import NO_OUTPUT, AnthropicAnswer, AnthropicUsage, OpenAIAnswer, OpenAIUsage


def test_of_an_answer_only_what_tells_of_usage_is_read() -> None:
    body = b'{"type":"message","content":[{"type":"text","text":"x"}],"usage":{"output_tokens":3,"new":{}}}'
    answer = msgspec.json.decode(body, type=AnthropicAnswer)
    assert answer == AnthropicAnswer(type="message", usage=AnthropicUsage(output_tokens=3))


def test_the_output_of_a_response_stays_as_it_came() -> None:
    body = b'{"model":"m","response":{"output":[ {"type":"x"} ],"usage":{"input_tokens":1}}}'
    response = msgspec.json.decode(body, type=OpenAIAnswer).response
    assert response is not None
    assert bytes(response.output) == b'[ {"type":"x"} ]'
    assert response.usage == OpenAIUsage(input_tokens=1)
    assert msgspec.json.decode(b"{}", type=OpenAIAnswer).output is NO_OUTPUT


@pytest.mark.parametrize("usage", ['{"output_tokens":"3"}', '{"output_tokens":1.5}', "[]"])
def test_a_figure_that_is_no_number_is_an_error(usage: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(f'{{"usage":{usage}}}'.encode(), type=AnthropicAnswer)
