"""Comparisons made up for tests."""

from bench.compare.comparison import Comparison, IdleMemory
from bench.compare.machine import Machine
from bench.compare.scenarios import CompareOptions, Scenario
from bench.load.summary import Percentiles, Summary

MACHINE = Machine(processor="a processor", cpus=[0, 1], kernel="6", python="3", packages={}, load_before=2.0)


def percentiles(p50: float, p99: float) -> Percentiles:
    return Percentiles(p50=p50, p90=p50, p99=p99, p999=p99, mean=p50)


def summary(
    *,
    rate: float = 0.0,
    cpu_seconds: float | None = None,
    p50: float = 1.0,
    p99: float = 2.0,
    events: bool = False,
) -> Summary:
    """One second of load at `rate` requests (or events) a second."""
    return Summary(
        seconds=1.0,
        requests=0 if events else int(rate),
        requests_per_second=0.0 if events else rate,
        events=int(rate) if events else 0,
        events_per_second=rate if events else 0.0,
        body_bytes=0,
        answers_checked=1,
        failures={},
        examples={},
        reconnects=0,
        merged_events_share=0.0,
        waited_share=0.0,
        latency_ms=percentiles(p50, p99),
        first_ms=percentiles(p50, p99),
        gap_ms=None,
        lateness_ms=None,
        generator_cpu_share=0.5,
        target_cpu_seconds=cpu_seconds,
        target_cpu_share=cpu_seconds,
        target_resident_bytes=None,
    )


def comparison(rounds: dict[str, dict[str, list[Summary | None]]], **changes: object) -> Comparison:
    arms = list(dict.fromkeys(arm for by_arm in rounds.values() for arm in by_arm))
    seen = Comparison(
        options=CompareOptions(arms=arms),
        title="Made up",
        goals=True,
        scenarios=[scenario(name) for name in rounds],
        machine=MACHINE,
        target_cpus=[0],
        harness_cpus=[1],
        started=arms,
        rounds=rounds,
    )
    for name, value in changes.items():
        setattr(seen, name, value)
    return seen


def scenario(name: str) -> Scenario:
    """One of that name, of the kind that the name has in the headline suite."""
    stream = name in ("burst", "paced", "idle", "idle-tls")
    family, _, at = name.partition("@")
    return Scenario(
        name=name,
        stream=stream,
        pace_ms=20 if name == "paced" else 0,
        loop="open" if family == "load" else "closed",
        rate=float(at) if family == "load" else 0.0,
        connections=1 if name == "alone" else 32,
        family=family if at else "",
        axis={"load": "rate", "workers": "workers"}.get(family, "") if at else "",
        at=float(at or 0),
    )


def idle(per_stream: int) -> IdleMemory:
    return IdleMemory(streams=10, bytes_before=1000, bytes_with=1000 + 10 * per_stream)
