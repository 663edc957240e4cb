"""What was used, as figures: the usage objects of both APIs, and the rules by which newer ones are laid over
older ones (sans-IO).

`Figures` is what `tally`, `late_usage` and `prices` have in common. Rules, from both APIs' own behaviour:

- Anthropic's figures are running totals: each that is present overwrites, the rest stay. Input excludes the
  cache.
- OpenAI's input includes cached tokens; they are taken out here, so that token classes are disjoint for both.
- Details (reasoning, audio, images) are parts of input or output and are never added to it. Audio and images
  read from the cache are parts of `cache_read_tokens`.
- Anthropic's `iterations` tell what each sampling run used, and of which model. Those of a compaction or an
  advisor are not in the totals, so they are added, once, by `fold`.
- A figure that cannot be true (negative, not a number) is ignored, and the figures are no longer right.

Bounds: a figure is below a billion; an answer is told apart into `RUNS_MAX` models.
"""

from __future__ import annotations

from typing import Final

from gateway.usage_objects import AnthropicUsage, CachedDetails, Details, Iteration, OpenAIUsage

# Figures above this are a fault: no request uses a billion tokens.
TOKENS_MAX: Final = 1_000_000_000
# Eleven days of sound in one request.
_SECONDS_MAX: Final = 1_000_000.0
# Different models in one answer: the one asked, its fallbacks, an advisor. More are counted as the first.
RUNS_MAX: Final = 8
# Of names a provider chose: a model, a tier.
_NAME_CHARACTERS_MAX: Final = 200

_NO_DETAILS: Final = Details()


class Figures:
    """What one answer used. All counts are whole numbers; `audio_ms` is milliseconds of sound."""

    __slots__ = (
        "audio_ms",
        "cache_read_audio_tokens",
        "cache_read_image_tokens",
        "cache_read_tokens",
        "cache_write_1h_tokens",
        "cache_write_5m_tokens",
        "code_runs",
        "file_searches",
        "input_audio_tokens",
        "input_image_tokens",
        "input_tokens",
        "iterations",
        "model",
        "output_audio_tokens",
        "output_image_tokens",
        "output_tokens",
        "parted",
        "reasoning_tokens",
        "runs",
        "service_tier",
        "speed",
        "web_fetches",
        "web_searches",
        "wrong",
    )

    def __init__(self, model: str | None = None) -> None:
        self.model = model
        self.service_tier: str | None = None
        """The tier the provider says it served from, in its own word."""
        self.speed: str | None = None
        self.wrong = False
        """Something was said that cannot be."""
        self.parted = False
        """Sound, images or searches were told: priced apart, so `prices` must look closer."""
        self.input_tokens = self.output_tokens = self.reasoning_tokens = 0
        self.cache_read_tokens = self.cache_write_5m_tokens = self.cache_write_1h_tokens = 0
        self.input_audio_tokens = self.output_audio_tokens = 0
        self.input_image_tokens = self.output_image_tokens = 0
        self.cache_read_audio_tokens = self.cache_read_image_tokens = self.audio_ms = 0
        self.web_searches = self.web_fetches = self.file_searches = self.code_runs = 0
        self.iterations: list[Iteration] | None = None
        """As they were last told, until `fold`."""
        self.runs: tuple[Figures, ...] = ()
        """When several models had a part in the answer: what each used. Their tokens are the totals."""

    @property
    def server_tool_calls(self) -> int:
        return self.web_searches + self.web_fetches + self.file_searches + self.code_runs

    @property
    def tokens(self) -> int:
        """All tokens, as a limit on tokens counts them."""
        return (
            self.input_tokens
            + self.output_tokens
            + self.cache_read_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_1h_tokens
        )

    def merge_anthropic(self, usage: AnthropicUsage) -> None:
        """Lay newer figures over older ones."""
        # One look before each call: most fields are absent most of the time, and this runs for every answer.
        if usage.input_tokens is not None:
            self.input_tokens = self._figure(usage.input_tokens, self.input_tokens)
        if usage.output_tokens is not None:
            self.output_tokens = self._figure(usage.output_tokens, self.output_tokens)
        if usage.cache_read_input_tokens is not None:
            self.cache_read_tokens = self._figure(usage.cache_read_input_tokens, self.cache_read_tokens)
        split = usage.cache_creation
        if split is not None:
            self.cache_write_1h_tokens = self._figure(
                split.ephemeral_1h_input_tokens, self.cache_write_1h_tokens
            )
            self.cache_write_5m_tokens = self._figure(
                split.ephemeral_5m_input_tokens, self.cache_write_5m_tokens
            )
        if usage.cache_creation_input_tokens is not None:
            total = self._figure(usage.cache_creation_input_tokens, -1)
            if total >= 0:
                # It may grow after the split was told (only message_start has it): the growth is the cheaper
                # class.
                self.cache_write_5m_tokens = max(0, total - self.cache_write_1h_tokens)
        if usage.output_tokens_details is not None:
            self.reasoning_tokens = self._figure(
                usage.output_tokens_details.thinking_tokens, self.reasoning_tokens
            )
        if (tools := usage.server_tool_use) is not None:
            self.web_searches = self._figure(tools.web_search_requests, self.web_searches)
            self.web_fetches = self._figure(tools.web_fetch_requests, self.web_fetches)
            self.parted = self.parted or self.web_searches > 0
        if usage.service_tier is not None:
            self.service_tier = usage.service_tier[:_NAME_CHARACTERS_MAX]
        if usage.speed is not None:
            self.speed = usage.speed[:_NAME_CHARACTERS_MAX]
        if usage.iterations:
            self.iterations = usage.iterations

    def merge_openai(self, usage: OpenAIUsage) -> None:
        """Lay newer figures over older ones."""
        inputs = usage.input_tokens_details or usage.prompt_tokens_details or usage.input_token_details
        outputs = usage.output_tokens_details or usage.completion_tokens_details or usage.output_token_details
        asked = usage.prompt_tokens if usage.prompt_tokens is not None else usage.input_tokens
        answered = usage.completion_tokens if usage.completion_tokens is not None else usage.output_tokens
        total = self._figure(asked, -1)
        if total >= 0:
            self._merge_openai_input(total, inputs or _NO_DETAILS)
        self.output_tokens = self._figure(answered, self.output_tokens)
        if outputs is not None:
            self.reasoning_tokens = self._figure(outputs.reasoning_tokens, self.reasoning_tokens)
            self.output_audio_tokens = self._figure(outputs.audio_tokens, self.output_audio_tokens)
            self.output_image_tokens = self._figure(outputs.image_tokens, self.output_image_tokens)
            self.parted = self.parted or self.output_audio_tokens + self.output_image_tokens > 0
        if usage.seconds is not None:
            self._merge_seconds(usage.seconds)

    def _merge_openai_input(self, total: int, details: Details) -> None:
        figure = self._figure
        self.cache_read_tokens = min(total, figure(details.cached_tokens, 0))
        total -= self.cache_read_tokens
        written = min(total, figure(details.cache_write_tokens, 0))
        self.input_tokens = total = total - written
        # Kept for half a day at most or for half an hour: the columns' longer and shorter class.
        kept_long = details.cache_write_tokens_details
        self.cache_write_1h_tokens = (
            0 if kept_long is None else min(written, figure(kept_long.ttl_12h_tokens, 0))
        )
        self.cache_write_5m_tokens = written - self.cache_write_1h_tokens
        sound, images = figure(details.audio_tokens, 0), figure(details.image_tokens, 0)
        if sound or images or self.parted:
            cached = details.cached_tokens_details or CachedDetails()
            self.cache_read_audio_tokens = min(self.cache_read_tokens, sound, figure(cached.audio_tokens, 0))
            self.cache_read_image_tokens = min(
                self.cache_read_tokens - self.cache_read_audio_tokens, images, figure(cached.image_tokens, 0)
            )
            self.input_audio_tokens = min(total, sound - self.cache_read_audio_tokens)
            self.input_image_tokens = min(
                total - self.input_audio_tokens, images - self.cache_read_image_tokens
            )
            self.parted = True

    def _merge_seconds(self, seconds: float) -> None:
        if 0 <= seconds <= _SECONDS_MAX:
            self.audio_ms = round(seconds * 1000)
            self.parted = True
        else:
            self.wrong = True

    def _figure(self, value: int | None, otherwise: int) -> int:
        if value is None:
            return otherwise
        if not 0 <= value <= TOKENS_MAX:
            self.wrong = True
            return otherwise
        return value

    def fold(self) -> None:
        """The last word has been said: take in what the totals leave out, and tell models apart."""
        iterations, self.iterations = self.iterations, None
        if iterations is None:
            return
        asked = self.model
        inside: Runs = {}
        compacted: Runs = {}
        advised: Runs = {}
        apart = {"compaction": compacted, "advisor_message": advised}
        for iteration in iterations:
            one = Figures(None if iteration.model is None else iteration.model[:_NAME_CHARACTERS_MAX])
            one.merge_anthropic(iteration)
            self.wrong = self.wrong or one.wrong
            if iteration.type == "fallback_message" and one.model is not None:
                self.model = one.model
            runs = apart.get(iteration.type or "", inside)
            name = one.model or asked
            if name not in runs and len(runs) >= RUNS_MAX:
                name = next(iter(runs))
            runs.setdefault(name, Figures(name)).add(one)
        told = sum(run.tokens for run in inside.values())
        if advised and told + sum(run.tokens for run in advised.values()) == self.tokens:
            # The documentation leaves open whether an advisor's tokens are in the totals: here they are.
            _add_runs(inside, advised)
            advised = {}
        elif told != self.tokens:
            # The provider's totals are what it bills; a breakdown that does not add up to them is none.
            inside = {self.model: self._alone()}
        for run in (*compacted.values(), *advised.values()):
            self.add(run)
        _add_runs(inside, compacted)
        _add_runs(inside, advised)
        if len(inside) > 1 or self.model not in inside:
            self.runs = tuple(inside.values())

    def _alone(self) -> Figures:
        """A copy of the token classes that every sampling run has."""
        copy = Figures(self.model)
        copy.add(self)
        return copy

    def add(self, other: Figures) -> None:
        """Add what another run used; for what a sampling run tells, and no more."""
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cache_read_tokens += other.cache_read_tokens
        self.cache_write_5m_tokens += other.cache_write_5m_tokens
        self.cache_write_1h_tokens += other.cache_write_1h_tokens


Runs = dict[str | None, Figures]
"""What each model used."""


def _add_runs(runs: Runs, others: Runs) -> None:
    for name, run in others.items():
        runs.setdefault(name, Figures(name)).add(run)
