"""Costs worked out by hand, from the prices per million tokens as the price library states them.

`$4` a million tokens is 4_000_000 picodollars a token; `$10` a thousand searches is 10_000_000_000 each.
Every row says the prices in words and multiplies them out, so that a reader can check it against a price
page.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

# Prices of this day, unless a case says another.
DAY = datetime(2026, 11, 25, 12, tzinfo=UTC)


class Case(NamedTuple):
    provider: str
    model: str
    used: dict[str, int]
    """Token classes as Karta counts them: disjoint, parts (sound, images, reasoning) within their whole."""
    picodollars: int | None
    tier: str | None = None
    speed: str | None = None
    at: datetime = DAY


def used(
    input: int = 0,  # noqa: A002
    output: int = 0,
    read: int = 0,
    write_5m: int = 0,
    write_1h: int = 0,
    **parts: int,
) -> dict[str, int]:
    return {
        "input_tokens": input,
        "output_tokens": output,
        "cache_read_tokens": read,
        "cache_write_5m_tokens": write_5m,
        "cache_write_1h_tokens": write_1h,
        **parts,
    }


ANTHROPIC = [
    # Opus 5.5: $4 in, $20 out, $0.20 read, $5 write, $8 write for an hour, $10 per 1000 searches. In dollars
    # 0.004 + 0.01 + 0.0004 + 0.005 + 0.016 + 0.02 = 0.0554.
    Case(
        "anthropic",
        "claude-opus-5-5",
        used(1000, 500, 2000, 1000, 2000, web_searches=2),
        55_400_000_000,
    ),
    # Sonnet 5.5: $2 in, $10 out.
    Case("anthropic", "claude-sonnet-5-5", used(1, 1), 2_000_000 + 10_000_000),
    # Sonnet 5.5: $0.10 read, $2.50 write, $4 write for an hour.
    Case("anthropic", "claude-sonnet-5-5", used(0, 0, 3, 5, 7), 3 * 100_000 + 5 * 2_500_000 + 7 * 4_000_000),
    # The same in a batch: $0.05, $1.25, $2; $1 in, $5 out.
    Case(
        "anthropic",
        "claude-sonnet-5-5",
        used(11, 13, 3, 5, 7),
        11 * 1_000_000 + 13 * 5_000_000 + 3 * 50_000 + 5 * 1_250_000 + 7 * 2_000_000,
        "batch",
    ),
    # Opus 5.5 in fast mode: $8 in, $40 out, $0.40 read, $10 write, $16 write for an hour.
    Case(
        "anthropic",
        "claude-opus-5-5",
        used(100, 10, 20, 30, 40),
        100 * 8_000_000 + 10 * 40_000_000 + 20 * 400_000 + 30 * 10_000_000 + 40 * 16_000_000,
        "standard",
        "fast",
    ),
    # Sonnet 5.5 has no fast mode: no price, rather than the standard one.
    Case("anthropic", "claude-sonnet-5-5", used(100, 10), None, None, "fast"),
    # Anthropic's priority tier is capacity under contract, at list price: $4 in, $20 out.
    Case("anthropic", "claude-opus-5-5", used(100, 10), 100 * 4_000_000 + 10 * 20_000_000, "priority"),
    # Haiku 5.5 to 100,000 input tokens: $0.10 in, $0.50 out.
    Case("anthropic", "claude-haiku-5-5", used(100_000, 10), 100_000 * 100_000 + 10 * 500_000),
    # One more, and every token costs five times that: $0.50 in, $2.50 out.
    Case("anthropic", "claude-haiku-5-5", used(100_001, 10), 100_001 * 500_000 + 10 * 2_500_000),
    # Cached input counts towards the step: $0.05 read, $0.625 write, $1 write for an hour above it.
    Case(
        "anthropic",
        "claude-haiku-5-5",
        used(1, 0, 50_000, 30_000, 20_000),
        1 * 500_000 + 50_000 * 50_000 + 30_000 * 625_000 + 20_000 * 1_000_000,
    ),
    # Output does not: $0.10 in, $0.50 out.
    Case("anthropic", "claude-haiku-5-5", used(1, 200_000), 100_000 + 200_000 * 500_000),
    # Haiku 5.5 in a batch, below the step and above: $0.05 and $0.25 in.
    Case("anthropic", "claude-haiku-5-5", used(100_000), 100_000 * 50_000, "batch"),
    Case("anthropic", "claude-haiku-5-5", used(100_001), 100_001 * 250_000, "batch"),
    # Sonnet 4.5 to 200,000 input tokens: $3 in, $15 out; above: $6 in, $22.50 out, $0.60 read.
    Case("anthropic", "claude-sonnet-4-5-20250929", used(200_000, 4), 200_000 * 3_000_000 + 4 * 15_000_000),
    Case(
        "anthropic",
        "claude-sonnet-4-5-20250929",
        used(100_000, 4, 100_001),
        100_000 * 6_000_000 + 4 * 22_500_000 + 100_001 * 600_000,
    ),
    # Sonnet 4.6 had steps until 2026-03-13 ($6 in, $22.50 out above 200,000); none since: $3 in, $15 out.
    Case(
        "anthropic",
        "claude-sonnet-4-6",
        used(300_000, 2),
        300_000 * 6_000_000 + 2 * 22_500_000,
        at=datetime(2026, 3, 12, 23, 59, tzinfo=UTC),
    ),
    Case(
        "anthropic",
        "claude-sonnet-4-6",
        used(300_000, 2),
        300_000 * 3_000_000 + 2 * 15_000_000,
        at=datetime(2026, 3, 13, tzinfo=UTC),
    ),
    # Haiku 4.5: $1 in, $5 out, $0.10 read, $1.25 write, $2 write for an hour.
    Case(
        "anthropic",
        "claude-haiku-4-5-20251001",
        used(7, 6, 5, 4, 3),
        7 * 1_000_000 + 6 * 5_000_000 + 5 * 100_000 + 4 * 1_250_000 + 3 * 2_000_000,
    ),
    # Opus 4.1: $15 in, $75 out; thinking is billed as output.
    Case(
        "anthropic",
        "claude-opus-4-1",
        used(2, 10, reasoning_tokens=9),
        2 * 15_000_000 + 10 * 75_000_000,
    ),
    # Opus 4.1 has no batch price in the library: the standard one, which is never too little.
    Case("anthropic", "claude-opus-4-1", used(2, 10), 2 * 15_000_000 + 10 * 75_000_000, "batch"),
    # Fable 5.2: $8 in, $40 out, and reads at $0.20, a fortieth of input.
    Case(
        "anthropic", "claude-fable-5-2", used(1, 1, 1_000_000), 8_000_000 + 40_000_000 + 1_000_000 * 200_000
    ),
    # Claude 3 Haiku: reads at $0.03, writes at $0.30, half a dollar for an hour.
    Case("anthropic", "claude-3-haiku-20240307", used(0, 0, 9, 8, 7), 9 * 30_000 + 8 * 300_000 + 7 * 500_000),
    # Claude 3 Haiku has no price for searches: unknown, not free.
    Case("anthropic", "claude-3-haiku-20240307", used(5, 5, web_searches=1), None),
    # Fetches cost nothing of their own. Sonnet 5: $2 in.
    Case("anthropic", "claude-sonnet-5", used(5, web_fetches=3), 5 * 2_000_000),
    Case("anthropic", "claude-tomorrow-9", used(5, 5), None),
    Case("anthropic", "claude-sonnet-5", used(5, 5), None, "a tier of tomorrow"),
]

OPENAI = [
    # GPT-4o: $2.50 in, $10 out, $1.25 read; by any of its names.
    Case("openai", "gpt-4o", used(10, 3, 4), 10 * 2_500_000 + 3 * 10_000_000 + 4 * 1_250_000),
    Case("openai", "gpt-4o-2024-08-06", used(10, 3, 4), 10 * 2_500_000 + 3 * 10_000_000 + 4 * 1_250_000),
    # GPT-4o as it first was: $5 in, $15 out.
    Case("openai", "gpt-4o-2024-05-13", used(10, 3), 10 * 5_000_000 + 3 * 15_000_000),
    # GPT-4o at priority: $4.25 in, $17 out, $2.125 read.
    Case("openai", "gpt-4o", used(10, 3, 4), 10 * 4_250_000 + 3 * 17_000_000 + 4 * 2_125_000, "priority"),
    # GPT-4o in a batch: $1.25 in, $5 out; reads have no price of their own there, so $1.25.
    Case("openai", "gpt-4o", used(10, 3, 4), 10 * 1_250_000 + 3 * 5_000_000 + 4 * 1_250_000, "batch"),
    # Before 2026-10-14 the library knew no batch prices.
    Case("openai", "gpt-4o", used(10), 10 * 2_500_000, "batch", at=datetime(2026, 10, 13, tzinfo=UTC)),
    # GPT-5 mini: $0.25 in, $2 out, $0.025 read; reasoning is within output.
    Case(
        "openai",
        "gpt-5-mini",
        used(1000, 200, 50, reasoning_tokens=128),
        1000 * 250_000 + 200 * 2_000_000 + 50 * 25_000,
    ),
    # GPT-5 mini, flex: $0.125 in, $1 out, $0.0125 read.
    Case("openai", "gpt-5-mini", used(8, 4, 2), 8 * 125_000 + 4 * 1_000_000 + 2 * 12_500, "flex"),
    # GPT-5 nano reads at half a cent: $0.005, and at flex at $0.0025.
    Case("openai", "gpt-5-nano", used(0, 0, 3), 3 * 5_000),
    Case("openai", "gpt-5-nano", used(0, 0, 3), 3 * 2_500, "flex"),
    # GPT-5 nano is not sold at priority.
    Case("openai", "gpt-5-nano", used(3), None, "priority"),
    # GPT-5: $1.25 in, $10 out; $10 per 1000 web searches, $2.50 per 1000 file searches.
    Case(
        "openai",
        "gpt-5",
        used(10, 10, web_searches=3, file_searches=2),
        10 * 1_250_000 + 10 * 10_000_000 + 3 * 10_000_000_000 + 2 * 2_500_000_000,
    ),
    # GPT-6 sol to 272,000 input tokens: $2 in, $10 out, $0.20 read, $2.50 write.
    Case(
        "openai",
        "gpt-6-sol",
        used(271_000, 10, 600, 400),
        271_000 * 2_000_000 + 10 * 10_000_000 + 600 * 200_000 + 400 * 2_500_000,
    ),
    # Above: $4 in, $15 out, $0.40 read, $5 write.
    Case(
        "openai",
        "gpt-6-sol",
        used(271_000, 10, 600, 401),
        271_000 * 4_000_000 + 10 * 15_000_000 + 600 * 400_000 + 401 * 5_000_000,
    ),
    # What is kept for half a day has no other price: $2.50 write.
    Case("openai", "gpt-6-sol", used(0, 0, 0, 0, 8), 8 * 2_500_000),
    # GPT-6 sol, flex above the step: $2 in, $7.50 out.
    Case("openai", "gpt-6-sol", used(272_001, 2), 272_001 * 2_000_000 + 2 * 7_500_000, "flex"),
    # GPT-6 sol, fast: $4 in, $20 out; the same as priority.
    Case("openai", "gpt-6-sol", used(5, 2), 5 * 4_000_000 + 2 * 20_000_000, "fast"),
    Case("openai", "gpt-6-sol", used(5, 2), 5 * 4_000_000 + 2 * 20_000_000, "priority"),
    # GPT-5.4 in a batch reads at $0.13, as rounded on the price page.
    Case("openai", "gpt-5.4", used(0, 0, 7), 7 * 130_000, "batch"),
    # GPT-5.4 at priority knows no step: $5 in.
    Case("openai", "gpt-5.4", used(300_000), 300_000 * 5_000_000, "priority"),
    # o3 cost $10 in, $40 out until 2025-06-10, and $2 in, $8 out since.
    Case("openai", "o3", used(2, 1), 2 * 10_000_000 + 40_000_000, at=datetime(2025, 6, 9, tzinfo=UTC)),
    Case("openai", "o3", used(2, 1), 2 * 2_000_000 + 8_000_000),
    # o1-pro, the dearest: $150 in, $600 out.
    Case("openai", "o1-pro", used(3, 2), 3 * 150_000_000 + 2 * 600_000_000),
    # Embeddings: $0.13, $0.02 in; nothing comes out.
    Case("openai", "text-embedding-3-large", used(12_345), 12_345 * 130_000),
    Case("openai", "text-embedding-3-small", used(12_345), 12_345 * 20_000),
    # Should something come out nevertheless, its price is not known.
    Case("openai", "text-embedding-3-small", used(1, 1), None),
    # GPT audio: $2.50 in, $10 out, of it sound at $32 in and $64 out.
    Case(
        "openai",
        "gpt-audio",
        used(100, 50, input_audio_tokens=80, output_audio_tokens=40),
        20 * 2_500_000 + 80 * 32_000_000 + 10 * 10_000_000 + 40 * 64_000_000,
    ),
    # GPT realtime: $4 in, $16 out, $0.40 read; sound $32 in, $64 out, $0.40 read; images $5 in, $0.50 read.
    Case(
        "openai",
        "gpt-realtime",
        used(
            60,
            50,
            40,
            input_audio_tokens=30,
            input_image_tokens=20,
            cache_read_audio_tokens=25,
            cache_read_image_tokens=5,
            output_audio_tokens=45,
        ),
        (10 * 4_000_000 + 30 * 32_000_000 + 20 * 5_000_000)
        + (10 * 400_000 + 25 * 400_000 + 5 * 500_000)
        + (5 * 16_000_000 + 45 * 64_000_000),
    ),
    # GPT-4o transcribe: $2.50 in, $10 out, of it sound at $6.
    Case(
        "openai",
        "gpt-4o-transcribe",
        used(14, 9, input_audio_tokens=14),
        14 * 6_000_000 + 9 * 10_000_000,
    ),
    # Whisper by the hour, $0.36: 9.25 seconds are 9.25 / 3600 of it.
    Case("openai", "whisper-1", used(audio_ms=9250), 925_000_000),
    # $0.27 the hour: 1 ms is 75,000 picodollars.
    Case("openai", "gpt-transcribe", used(audio_ms=1), 75_000),
    # $1.02 the hour: 1 ms is 283,333.3 picodollars, and a part of one counts as one.
    Case("openai", "gpt-live-transcribe", used(audio_ms=1), 283_334),
    # GPT image 1.5: $5 in, images $8; $10 out, images $32; text read at $1.25, images at $2.
    Case(
        "openai",
        "gpt-image-1.5",
        used(50, 1060, 12, input_image_tokens=40, cache_read_image_tokens=10, output_image_tokens=1056),
        10 * 5_000_000 + 40 * 8_000_000 + 2 * 1_250_000 + 10 * 2_000_000 + 4 * 10_000_000 + 1056 * 32_000_000,
    ),
    # GPT image 1 bills everything that comes out as images: $40.
    Case(
        "openai", "gpt-image-1", used(10, 1056, output_image_tokens=1056), 10 * 5_000_000 + 1056 * 40_000_000
    ),
    # Speech is billed by characters, which no answer counts.
    Case("openai", "tts-1", used(), None),
    # The library knows this model's price of text only.
    Case("openai", "gpt-4o-audio-preview", used(10, 5), 10 * 2_500_000 + 5 * 10_000_000),
    Case("openai", "gpt-4o-audio-preview", used(10, 5, input_audio_tokens=4), None),
    # Fine-tuned GPT-4o mini: $0.30 in, $1.20 out.
    Case("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc", used(10, 5), 10 * 300_000 + 5 * 1_200_000),
    Case("openai", "dall-e-9", used(), None),
]

OTHERS = [
    # Gemini 2.5 pro to 200,000 input tokens: $1.25 in, $10 out; above: $2.50 in, $15 out, $0.25 read.
    Case("google", "gemini-2.5-pro", used(200_000, 3), 200_000 * 1_250_000 + 3 * 10_000_000),
    Case(
        "google",
        "gemini-2.5-pro",
        used(150_000, 3, 60_000),
        150_000 * 2_500_000 + 3 * 15_000_000 + 60_000 * 250_000,
    ),
    # Gemini 2.5 flash: $0.30 in, of it sound at $1; $0.03 read, sound at $0.10; $35 per 1000 searches.
    Case(
        "google",
        "gemini-2.5-flash",
        used(10, 0, 10, input_audio_tokens=4, cache_read_audio_tokens=5, web_searches=1),
        6 * 300_000 + 4 * 1_000_000 + 5 * 30_000 + 5 * 100_000 + 35_000_000_000,
    ),
    # Gemini 2.5 flash in a batch: $0.15 in, $1.25 out.
    Case("google", "gemini-2.5-flash", used(10, 4), 10 * 150_000 + 4 * 1_250_000, "batch"),
    # DeepSeek flash at noon: $0.15 in, $0.60 out; between one and four o'clock (UTC) twice that.
    Case("deepseek", "deepseek-flash", used(100, 10, 50), 100 * 150_000 + 10 * 600_000 + 50 * 3_000),
    Case(
        "deepseek",
        "deepseek-flash",
        used(100, 10, 50),
        100 * 300_000 + 10 * 1_200_000 + 50 * 6_000,
        at=DAY.replace(hour=1),
    ),
    # Groq's whisper: $0.111 the hour, ten seconds at least.
    Case("groq", "whisper-large-v3", used(audio_ms=36_000), 1_110_000_000),
    Case("groq", "whisper-large-v3", used(audio_ms=1), 308_333_334),
    # Perplexity sonar: $1 in, $1 out, and $12 per 1000 requests.
    Case("perplexity", "sonar", used(10, 5), 15 * 1_000_000 + 12_000_000_000),
    # Perplexity's deep research: $2 in, $8 out, but reasoning at $3.
    Case(
        "perplexity",
        "sonar-deep-research",
        used(10, 100, reasoning_tokens=60),
        10 * 2_000_000 + 40 * 8_000_000 + 60 * 3_000_000,
    ),
    # DeepSeek V4 pro on 2026-08-16, before its price rose: $0.435 in, $0.003625 read.
    Case(
        "deepseek",
        "deepseek-v4-pro",
        used(2, 0, 1),
        2 * 435_000 + 3_625,
        at=datetime(2026, 8, 16, 12, tzinfo=UTC),
    ),
    Case("nobody", "gpt-4o", used(1), None),
]

CASES = ANTHROPIC + OPENAI + OTHERS
