"""Usage as OpenAI reports it: totals that include their details."""

from typing import Any

from bench.sim import text
from bench.sim.behaviour import Behaviour
from bench.sim.request import Request


def _input_tokens(request: Request, behaviour: Behaviour) -> tuple[int, int, int]:
    """(all input, of it read from cache, of it written to cache)."""
    counted = behaviour.input_tokens
    plain = text.estimate_tokens(request.size_bytes) if counted is None else counted
    written = behaviour.cache_write_5m + behaviour.cache_write_1h
    return plain + behaviour.raise_input + behaviour.cache_read + written, behaviour.cache_read, written


def completion_usage(request: Request, behaviour: Behaviour, output_tokens: int) -> dict[str, Any]:
    """For chat and legacy completions; `output_tokens` includes the reasoning."""
    given, read, written = _input_tokens(request, behaviour)
    return {
        "prompt_tokens": given,
        "completion_tokens": output_tokens,
        "total_tokens": given + output_tokens,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": behaviour.thinking,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def response_usage(request: Request, behaviour: Behaviour, output_tokens: int) -> dict[str, Any]:
    """For responses; `output_tokens` includes the reasoning."""
    given, read, written = _input_tokens(request, behaviour)
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": behaviour.thinking},
        "total_tokens": given + output_tokens,
    }
