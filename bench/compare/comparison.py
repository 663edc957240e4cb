"""All that a comparison saw: what is written as JSON, and what tables, reports and diffs are made of."""

import msgspec

from bench.compare.machine import Machine
from bench.compare.scenarios import CompareOptions, Scenario
from bench.load.summary import Summary


class IdleMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Resident memory of a target without and with idle open streams."""

    streams: int
    bytes_before: int
    bytes_with: int

    @property
    def bytes_per_stream(self) -> float:
        return (self.bytes_with - self.bytes_before) / self.streams


class Comparison(msgspec.Struct, kw_only=True):
    """All that was seen.

    `rounds[scenario][arm]` has one summary a round, None for one that has no figures: it went wrong, or the
    target could not take the load.  `idle[scenario][arm]` has the memory of idle streams.
    """

    options: CompareOptions
    machine: Machine
    target_cpus: list[int]
    harness_cpus: list[int]
    title: str = ""
    goals: bool = False
    began: str = ""
    """UTC, ISO 8601."""
    command: list[str] = []
    scenarios: list[Scenario] = []
    started: list[str] = []
    versions: dict[str, str] = {}
    commands: dict[str, list[str]] = {}
    dialects: dict[str, list[str]] = {}
    """The APIs that each arm is asked by."""
    notes: dict[str, str] = {}
    """What has to be known of an arm, by its name and variant."""
    unavailable: dict[str, str] = {}
    """By arm, with its variant, why it was not started."""
    missing: list[str] = []
    """Those of them whose absence is a fault."""
    declined: dict[str, dict[str, str]] = {}
    """By scenario and arm, why an arm takes no part in a scenario."""
    overloaded: dict[str, dict[str, float]] = {}
    """By family of scenarios and arm, the least rate that was too much for it."""
    rounds: dict[str, dict[str, list[Summary | None]]] = {}
    idle: dict[str, dict[str, IdleMemory]] = {}
    broken: list[str] = []
    """Runs that ended without a result or with wrong answers, in words."""
