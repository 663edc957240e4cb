"""What is asked of every target, as data."""

import msgspec

from bench.load.plan import Question

# Rich enough to be an answer, about 500 bytes as JSON.
_UNARY_TOKENS = 60
_BURST_TOKENS = 200
_PACED_TOKENS = 100
_PACED_MILLISECONDS = 20
# A stream that comes in less than this share of its provider's time was collected and sent at once.
# Low, so that a busy machine which holds up the first event is not taken for it.
_SPAN_SHARE_MIN = 0.1


class CompareOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `karta bench compare` was asked for.

    `smoke` makes everything tiny: it proves that all targets answer right and says nothing about speed.
    `idle_streams` 0 leaves memory unmeasured, `rounds` 0 everything else.
    """

    arms: list[str]
    rounds: int = 3
    seconds: float = 3.0
    warmup_seconds: float = 0.5
    connections: int = 32
    streams: int = 200
    idle_streams: int = 1000
    seed: int = 0
    smoke: bool = False

    def __post_init__(self) -> None:
        if min(self.connections, self.streams) < 1 or min(self.rounds, self.idle_streams) < 0:
            raise ValueError("connections and streams must be 1 or more, rounds and idle streams not below 0")
        if self.seconds <= 0 or self.warmup_seconds < 0:
            raise ValueError("seconds must be above 0, the warm-up not below")


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of load, driven in a closed loop."""

    name: str
    title: str
    question: Question
    connections: int
    ramp_seconds: float = 0.0
    span_seconds_min: float = 0.0


def smoke_options(arms: list[str]) -> CompareOptions:
    """Return options that exercise everything in a few seconds."""
    return CompareOptions(
        arms=arms,
        rounds=1,
        seconds=0.2,
        warmup_seconds=0.5,
        connections=4,
        streams=8,
        idle_streams=0,
        smoke=True,
    )


def scenarios(options: CompareOptions) -> list[Scenario]:
    """Return the scenarios in the order in which a round goes through them."""
    unary = Question(behaviour=f"tokens={_UNARY_TOKENS}")
    burst_tokens = 20 if options.smoke else _BURST_TOKENS
    paced_tokens = 10 if options.smoke else _PACED_TOKENS
    paced_seconds = (paced_tokens - 1) * _PACED_MILLISECONDS / 1000
    return [
        Scenario(
            name="unary",
            title=f"unary, {options.connections} connections",
            question=unary,
            connections=options.connections,
        ),
        Scenario(name="alone", title="unary, one connection", question=unary, connections=1),
        Scenario(
            name="burst",
            title=f"event streams as fast as they go, {options.connections} at a time",
            # Every event in a write of its own, so that it is events that are relayed and not blocks of them.
            question=Question(stream=True, behaviour=f"tokens={burst_tokens},flush=1"),
            connections=options.connections,
        ),
        Scenario(
            name="paced",
            title=f"{options.streams} event streams, {1000 // _PACED_MILLISECONDS} events/s each",
            question=Question(stream=True, behaviour=f"tokens={paced_tokens},pace_ms={_PACED_MILLISECONDS}"),
            connections=options.streams,
            ramp_seconds=paced_seconds,
            span_seconds_min=paced_seconds * _SPAN_SHARE_MIN,
        ),
    ]


def idle_question() -> Question:
    """Return the question whose stream begins and then says nothing more for an hour."""
    return Question(stream=True, behaviour="tokens=10,pace_ms=3600000")
