"""Usage in OpenAI's shapes: totals include their details."""

from bench.sim.behaviour import Behaviour
from bench.sim.openai_api.token_usage import completion_usage, response_usage
from bench.sim.request import Request

BEHAVIOUR = Behaviour(
    input_tokens=10, cache_read=5, cache_write_5m=2, cache_write_1h=1, raise_input=4, thinking=3
)


def test_totals_include_the_cache() -> None:
    usage = completion_usage(Request(b"/"), BEHAVIOUR, 8)
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (22, 8, 30)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 5, "cache_write_tokens": 3, "audio_tokens": 0}
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 3


def test_responses_have_other_names() -> None:
    usage = response_usage(Request(b"/"), BEHAVIOUR, 8)
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (22, 8, 30)
    assert usage["output_tokens_details"] == {"reasoning_tokens": 3}
