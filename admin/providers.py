"""The providers whose keys an organization may bring."""

from __future__ import annotations

PROVIDERS = {
    "anthropic": "Anthropic",
    "openai": "OpenAI",
    "gemini": "Gemini",
    "mistral": "Mistral",
    "groq": "Groq",
    "xai": "xAI",
    "deepseek": "DeepSeek",
    "deepseek_anthropic": "DeepSeek, Anthropic API",
    "openrouter": "OpenRouter",
    "azure_openai": "Azure OpenAI",
    "bedrock_openai": "Bedrock, OpenAI API",
    "vllm": "vLLM",
    "vllm_anthropic": "vLLM, Anthropic API",
    "ollama": "Ollama",
    "ollama_anthropic": "Ollama, Anthropic API",
    "openai_compatible": "Another with the OpenAI API",
    "anthropic_compatible": "Another with the Anthropic API",
}
"""How people call those of `config/providers.toml`; a test compares the two."""
