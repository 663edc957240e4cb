"""What is asked of every target, as data: scenarios, and the suites they come in.

A suite is a TOML file (`bench.compare.suite` reads it, `bench/scenarios/` has the ready-made ones).  A
scenario with a `sweep` stands for several, one for each value, which make a curve in the report.
"""

from typing import Any, Literal

import msgspec

from bench.load.plan import Dialect, Question
from bench.sim.behaviour import parse

Loop = Literal["closed", "open", "hold"]
BesideKind = Literal["load", "slow readers", "leavers", "wrong keys"]

# A stream that comes in less than this share of its provider's time was collected and sent at once.
# Low, so that a busy machine which holds up the first event is not taken for it.
_SPAN_SHARE_MIN = 0.1
# A provider never answers before its time, whatever the machine does; only clocks need some play.
_SECONDS_SHARE_MIN = 0.9
# What a token of English takes in a request.
bytes_per_token = 4
_MILLISECONDS = 1000
SWEEPABLE = (
    *("connections", "rate", "keys", "tenants", "workers", "prompt_tokens", "prompt_bytes", "answer_bytes"),
    *("pace_ms", "request_ids"),
)


class Beside(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Load that goes on at the same time, and is no part of the figures.

    slow readers take `read_bytes_per_second`, leavers close after `leave_after_events`, wrong keys are all
    different and well-formed or nearly so.  A `rate` above 0 makes it an open loop.
    """

    kind: BesideKind
    connections: int = 8
    rate: float = 0.0
    stream: bool = False
    behaviour: str = "tokens=60"
    read_bytes_per_second: float = 2_000.0
    leave_after_events: int = 5


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of load.

    `loop` closed: `connections` ask again as soon as they are answered; open: `rate` questions a second,
    whatever the answers do, on at most `connections`; hold: `connections` streams are opened and left open,
    for their memory.  `keys` are used in turn, of `tenants` organizations; `cold` uses each key once.
    `request_ids` above 0 gives each request one of that many ids in its head.
    `prompt_bytes` (or `prompt_tokens`) is the size of the question, `answer_bytes` above 0 that of the
    answer.  `failover` asks for a model whose first provider is dead, of targets that have such.
    `only` names the arms that take part, empty for all.  `once` is measured in the last round alone: what
    takes long, and is about its own course.
    """

    name: str
    title: str = ""
    loop: Loop = "closed"
    dialect: Dialect = "anthropic"
    stream: bool = False
    behaviour: str = "tokens=60"
    pace_ms: float = 0.0
    prompt_bytes: int = 64
    prompt_tokens: int = 0
    answer_bytes: int = 0
    connections: int = 1
    rate: float = 0.0
    keys: int = 1
    request_ids: int = 0
    tenants: int = 1
    cold: bool = False
    workers: int = 1
    tls: bool = False
    failover: bool = False
    seconds: float | None = None
    beside: list[Beside] = []
    only: list[str] = []
    once: bool = False
    sweep: dict[str, list[float]] = {}
    family: str = ""
    """The scenario that this one is a point of, `axis` what differs, `at` its value; empty for none."""
    axis: str = ""
    at: float = 0.0

    def __post_init__(self) -> None:
        if self.connections < 1 or self.keys < 1 or self.tenants < 1 or self.workers < 1:
            raise ValueError(f"{self.name}: connections, keys, tenants and workers must be 1 or more")
        if self.loop == "open" and self.rate <= 0 and "rate" not in self.sweep:
            raise ValueError(f"{self.name}: an open loop needs a rate above 0")
        if self.cold and self.loop != "open":
            raise ValueError(f'{self.name}: cold keys come at a rate: loop = "open"')
        if len(self.sweep) > 1 or not set(self.sweep) <= set(SWEEPABLE):
            raise ValueError(f"{self.name}: sweep one of {', '.join(SWEEPABLE)}")
        if not self.idle:
            parse(self.full_behaviour)

    @property
    def idle(self) -> bool:
        return self.loop == "hold"

    @property
    def full_behaviour(self) -> str:
        """The provider's behaviour, with what the scenario's own fields say of it."""
        parts = [self.behaviour] if self.behaviour else []
        if self.answer_bytes:
            parts.append(f"bytes={self.answer_bytes}")
        if self.pace_ms:
            parts.append(f"pace_ms={self.pace_ms:g}")
        return ",".join(parts)

    def question(self, model: str | None = None) -> Question:
        return Question(
            dialect=self.dialect,
            stream=self.stream,
            model=model,
            behaviour=self.full_behaviour,
            prompt_bytes=self.prompt_tokens * bytes_per_token or self.prompt_bytes,
        )

    @property
    def paced_seconds(self) -> float:
        """How long the provider takes from the first event of a stream to the last; 0 if it does not wait."""
        steps = parse(self.full_behaviour)
        return (steps.tokens - 1) * steps.pace_ms / _MILLISECONDS if self.stream else 0.0

    @property
    def ramp_seconds(self) -> float:
        return self.paced_seconds if self.loop == "closed" else 0.0

    @property
    def span_seconds_min(self) -> float:
        return self.paced_seconds * _SPAN_SHARE_MIN

    @property
    def seconds_min(self) -> float:
        """The least time in which the provider can have answered."""
        steps = parse(self.full_behaviour)
        waits = (steps.headers_ms + steps.ttft_ms) / _MILLISECONDS
        return (waits + self.paced_seconds) * _SECONDS_SHARE_MIN

    def points(self) -> list["Scenario"]:
        """Return the scenarios that this one stands for: itself, or one for each value of its sweep."""
        if not self.sweep:
            return [self]
        [(axis, values)] = self.sweep.items()
        return [self._point(axis, value) for value in values]

    def _point(self, axis: str, value: float) -> "Scenario":
        # Whole numbers in full: "1e+07 bytes" is nobody's way to say it.
        short, told = (f"{value:.0f}", f"{value:,.0f}") if value == int(value) else (f"{value:g}",) * 2
        changes: dict[str, Any] = {
            axis: value if axis in ("rate", "pace_ms") else int(value),
            "name": f"{self.name}@{short}",
            "title": f"{self.title or self.name}, {axis.replace('_', ' ')} {told}",
            "family": self.name,
            "axis": axis,
            "at": float(value),
            "sweep": {},
        }
        return msgspec.structs.replace(self, **changes)


class Suite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scenarios that belong together.

    `goals` tells whether the figures are to be set against what Karta promises; `options` are the numbers
    that the command line may change, which scenarios name as `"$option"`.
    """

    title: str
    scenario: list[Scenario]
    rounds: int = 3
    seconds: float = 3.0
    warmup_seconds: float = 0.5
    goals: bool = False
    arms: list[str] = []
    options: dict[str, float] = {}

    def scenarios(self) -> list[Scenario]:
        """Return every scenario in the order in which a round goes through them, sweeps spread out."""
        return [point for scenario in self.scenario for point in scenario.points()]


class CompareOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `karta bench compare` was asked for.

    `smoke` proves that all targets answer right and says nothing about speed.  `keep_awake` keeps the
    harness's cores from sleeping.  `provider_url` is a simulated provider that runs already; None starts one.
    """

    arms: list[str]
    suite: str = "headline"
    rounds: int = 3
    seconds: float = 3.0
    warmup_seconds: float = 0.5
    seed: int = 0
    smoke: bool = False
    keep_awake: bool = False
    provider_url: str | None = None

    def __post_init__(self) -> None:
        if self.rounds < 0:
            raise ValueError("rounds must not be below 0")
        if self.seconds <= 0 or self.warmup_seconds < 0:
            raise ValueError("seconds must be above 0, the warm-up not below")
