"""The OpenAI API's endpoints: (method, path) → endpoint."""

from bench.sim.openai_api import chat

ENDPOINTS = {
    ("POST", "/v1/chat/completions"): chat.create,
}
