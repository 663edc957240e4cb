"""The Anthropic API's endpoints: (method, path) → endpoint."""

from bench.sim.anthropic_api import messages

ENDPOINTS = {
    ("POST", "/v1/messages"): messages.create,
    ("POST", "/v1/messages/count_tokens"): messages.count_tokens,
}
