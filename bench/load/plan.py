"""What one run of load is to do, as data: it travels to the worker processes as JSON on their stdin.

Keys are part of it, which is why stdin it is: an argument list or an environment can be read by others.
"""

from typing import Literal

import msgspec

from bench.sim.behaviour import parse

Dialect = Literal["anthropic", "openai"]
Driver = Literal["closed", "open", "hold"]

# One generator process handles this many connections well; more belong into further `processes`.
connections_max = 10_000


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """What a right answer looks like; None means that it is not checked.

    `body_crc32` is over the body without its transfer coding.  `span_seconds_min` is the least time between
    the first and the last event of a paced stream: a target that collects a stream and sends it at once is
    caught by it.  `seconds_min` is the least time that the provider itself takes for the whole answer: one
    that comes sooner was made up.  `text_crc32` and `deltas` are for targets that write answers anew: the
    text that the answer says, and in how many events of a stream it comes.
    """

    status: int | None = 200
    events: int | None = None
    body_bytes: int | None = None
    body_crc32: int | None = None
    span_seconds_min: float = 0.0
    seconds_min: float = 0.0
    text_crc32: int | None = None
    deltas: int | None = None


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of request: where it goes and what it says.

    `behaviour` steers the simulated provider by the model name (``sim:tokens=50``) if `model` is None.
    """

    dialect: Dialect = "anthropic"
    stream: bool = False
    model: str | None = None
    behaviour: str = ""
    prompt_bytes: int = 64
    tokens_max: int = 1024

    @property
    def model_name(self) -> str:
        return self.model if self.model is not None else f"sim:{self.behaviour}"

    @property
    def pace_ms(self) -> float:
        """How long the simulated provider waits between two events; 0 where nobody knows. Raises
        BehaviourError."""
        return parse(self.behaviour).pace_ms if self.stream and self.model is None else 0.0


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One run of load, by so many worker processes side by side, each with its share.

    closed: `connections` ask again as soon as they are answered.  open: `rate_per_second` questions arrive
    whatever the answers do, on at most `connections`.  hold: `connections` streams are opened and kept open
    until told to end.  The first `warmup_seconds` are checked but not counted.  Over `ramp_seconds` a
    closed loop starts its connections one by one, so that streams do not all begin at the same moment for
    ever.

    A window without anything in it tells nothing: that of a closed loop stays open until `answers_min`
    questions were answered (or failed, or were left), and rates are over the time that it was really open.
    What is due in that of an open loop is waited for anyway.

    `read_bytes_per_second` above 0 makes slow readers, `leave_after_events` above 0 clients that close in
    the middle of a stream, as they please: both on purpose, so neither is a failure.  `headers` are sent
    besides the usual ones; with `request_ids` above 0 each request carries one of that many ids, as a
    balancer gives each its own.  `ca_file` is the only authority that an https target's certificate may be
    of.
    """

    base_url: str
    keys: list[str]
    processes: int = 1
    question: Question = msgspec.field(default_factory=Question)
    expectation: Expectation = msgspec.field(default_factory=Expectation)
    driver: Driver = "closed"
    connections: int = 1
    rate_per_second: float = 0.0
    ramp_seconds: float = 0.0
    warmup_seconds: float = 0.5
    seconds: float = 5.0
    answers_min: int = 1
    answer_seconds_max: float = 30.0
    read_bytes_per_second: float = 0.0
    leave_after_events: int = 0
    headers: dict[str, str] = {}
    request_ids: int = 0
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("a plan needs at least one key; pass any string for targets that check none")
        if self.processes < 1:
            raise ValueError(f"processes must be 1 or more, not {self.processes}")
        if not 1 <= self.connections <= connections_max * self.processes:
            each = f" in {self.processes} processes" if self.processes > 1 else " in one process"
            raise ValueError(
                f"connections must be 1 to {connections_max * self.processes}{each}, not {self.connections}"
            )
        if self.driver == "open" and self.rate_per_second <= 0:
            raise ValueError("an open loop needs a rate of requests per second above 0")
        if self.seconds <= 0 or self.answer_seconds_max <= 0:
            raise ValueError("seconds and answer_seconds_max must be above 0")
        if self.warmup_seconds < 0 or self.ramp_seconds < 0:
            raise ValueError("warmup_seconds and ramp_seconds must not be below 0")
