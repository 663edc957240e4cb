"""The curves of a report, as data.  Pure.

Every value is the median over the rounds.  A curve has one line an arm; arms without figures have none.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Literal

import msgspec

from bench.compare.comparison import Comparison
from bench.compare.figures import figures_of, latency_p99, metric_median, requests_rate
from bench.compare.scenarios import Scenario
from bench.compare.table import arms_of
from bench.load.summary import Percentiles, Summary, spectrum_percents

Scale = Literal["linear", "log", "percent"]
# A sweep that spans more than this is read better on a logarithmic axis.
_LOG_SPAN = 30
_MEBIBYTE = 1024**2
_CEILING_ARM = "direct"
Spectrum = Callable[[Summary], Percentiles | None]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    arm: str
    x: list[float]
    y: list[float | None]


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    label: str
    scale: Scale = "linear"


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """`x` of a percent scale are percentiles, drawn so that each further nine is as wide as the last.
    `points` are not joined: they are of different loads, and nothing lies between them."""

    title: str
    note: str = ""
    x: Axis
    y: Axis
    lines: list[Line]
    points: bool = False


def _line(arm: str, points: Sequence[tuple[float, float]]) -> Line | None:
    kept = [(x, y) for x, y in points if not math.isnan(x) and not math.isnan(y)]
    return Line(arm=arm, x=[x for x, _ in kept], y=[y for _, y in kept]) if kept else None


def _chart(
    title: str,
    x: Axis,
    y: Axis,
    lines: Sequence[Line | None],
    *,
    points_min: int = 2,
    note: str = "",
    points: bool = False,
) -> Iterator[Chart]:
    drawn = [line for line in lines if line is not None]
    if any(len(line.x) >= points_min for line in drawn):
        yield Chart(title=title, note=note, x=x, y=y, lines=drawn, points=points)


def families(seen: Comparison) -> dict[str, list[Scenario]]:
    """Return the sweeps with their points in order."""
    found: dict[str, list[Scenario]] = {}
    for scenario in seen.scenarios:
        if scenario.family:
            found.setdefault(scenario.family, []).append(scenario)
    return {name: sorted(points, key=lambda one: one.at) for name, points in found.items()}


def family_charts(seen: Comparison, points: Sequence[Scenario]) -> list[Chart]:
    """Return the curves of one sweep: its rate and its latencies, or memory by stream, over what is swept."""
    first = points[0]
    spread = points[-1].at / points[0].at if points[0].at else math.inf
    axis = Axis(label=first.axis.replace("_", " "), scale="log" if spread > _LOG_SPAN else "linear")
    if first.idle:
        return list(_idle_chart(seen, points, axis))
    charts: list[Chart] = []
    for figure in figures_of(first):
        if figure.label == "stalls":
            continue
        lines = [
            _line(arm, [(one.at, metric_median(seen, one.name, arm, figure.metric)) for one in points])
            for arm in arms_of(seen)
        ]
        scale: Scale = "log" if figure.label.endswith(" ms") else "linear"
        charts += _chart(figure.label, axis, Axis(label=figure.label, scale=scale), lines)
    return charts


def _idle_chart(seen: Comparison, points: Sequence[Scenario], axis: Axis) -> Iterator[Chart]:
    lines = []
    for arm in arms_of(seen):
        held = [(one.at, seen.idle.get(one.name, {}).get(arm)) for one in points]
        lines.append(_line(arm, [(at, memory.bytes_with / _MEBIBYTE) for at, memory in held if memory]))
    return _chart("memory with streams open", axis, Axis(label="MiB"), lines)


def frontier(seen: Comparison) -> list[Chart]:
    """Return what each arm's p99 is at the rates it was driven to, over the unary scenarios."""
    scenarios = [
        one
        for one in seen.scenarios
        if not one.stream and not one.beside and one.axis in ("", "rate") and one.dialect == "anthropic"
    ]
    lines = []
    for arm in arms_of(seen):
        points = [
            (
                metric_median(seen, one.name, arm, requests_rate),
                metric_median(seen, one.name, arm, latency_p99),
            )
            for one in scenarios
        ]
        lines.append(_line(arm, sorted(points)))
    return list(
        _chart(
            "frontier: p99 latency at the rate that was reached",
            Axis(label="requests/s", scale="log"),
            Axis(label="p99 ms", scale="log"),
            lines,
            note="A point is one kind of load. Further right and further down is better.",
            points=True,
        )
    )


def _spectrum(seen: Comparison, scenario: Scenario, arm: str, of: Spectrum) -> list[float]:
    """Return the median over the rounds at each of `spectrum_percents`; empty without figures."""
    found = [of(summary) for summary in seen.rounds.get(scenario.name, {}).get(arm, []) if summary]
    rows = [one.spectrum for one in found if one is not None and one.spectrum]
    return [median(column) for column in zip(*rows, strict=True)] if rows else []


def distribution_charts(seen: Comparison, scenario: Scenario) -> list[Chart]:
    """Return what each arm adds to the direct run at every percentile, and the gaps between events."""
    of: Spectrum = (lambda one: one.first_ms) if scenario.stream else (lambda one: one.latency_ms)
    what = "first event" if scenario.stream else "latency"
    percents = [percent for percent in spectrum_percents if percent < 100.0]
    axis = Axis(label="percentile", scale="percent")
    direct = _spectrum(seen, scenario, _CEILING_ARM, of)
    charts: list[Chart] = []
    if direct:
        lines = [
            _line(arm, list(zip(percents, (a - b for a, b in zip(own, direct, strict=True)), strict=False)))
            for arm in arms_of(seen)
            if arm != _CEILING_ARM and (own := _spectrum(seen, scenario, arm, of))
        ]
        charts += _added_chart(f"added {what}", axis, lines)
    else:
        lines = [
            _line(arm, list(zip(percents, _spectrum(seen, scenario, arm, of), strict=False)))
            for arm in arms_of(seen)
        ]
        charts += _chart(what, axis, Axis(label="ms", scale="log"), lines)
    if scenario.stream:
        gaps = [
            _line(
                arm, list(zip(percents, _spectrum(seen, scenario, arm, lambda one: one.gap_ms), strict=False))
            )
            for arm in arms_of(seen)
        ]
        charts += _chart("between events", axis, Axis(label="ms"), gaps)
    return charts


def _added_chart(title: str, axis: Axis, lines: Sequence[Line | None]) -> Iterator[Chart]:
    """Beside an arm that adds far more than another, the other's line would be the axis: then by decades."""
    middles = [median(value for value in line.y if value is not None) for line in lines if line is not None]
    above = [middle for middle in middles if middle > 0]
    if above and max(above) > _LOG_SPAN * min(above):
        note = "By decades: what is not above 0 is not drawn."
        yield from _chart(title, axis, Axis(label="ms more than direct", scale="log"), lines, note=note)
    else:
        yield from _chart(title, axis, Axis(label="ms more than direct"), lines)


def memory_charts(seen: Comparison, scenario: Scenario) -> list[Chart]:
    """Return the resident memory over the window of the last round."""
    lines = []
    for arm in arms_of(seen):
        last = next((one for one in reversed(seen.rounds.get(scenario.name, {}).get(arm, [])) if one), None)
        samples = last.memory if last is not None else []
        lines.append(_line(arm, [(second, size / _MEBIBYTE) for second, size in samples]))
    return list(_chart("memory over time", Axis(label="seconds"), Axis(label="resident MiB"), lines))
