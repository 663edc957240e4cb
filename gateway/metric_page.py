"""Figures as Prometheus reads them, of one worker or of several together.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text, version 0.0.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec

from gateway.connection import Connection
from gateway.request_reader import Inbound
from gateway.stages import BOUNDS_US, Histogram

PREFIX = "karta_gateway_"
Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "min", "max", "each"]


class Family(msgspec.Struct, frozen=True, array_like=True):
    """One name and its values by their labels (as they are written, without braces; empty: none).

    `merge` is what becomes of a gauge over several workers; `each` keeps them apart by a label, `worker`.
    """

    name: str
    kind: Kind
    help: str
    merge: Merge
    samples: dict[str, float]
    counts: dict[str, list[float]] = {}
    """Of a histogram, by labels: how many fell into each bucket of `BOUNDS_US`, and last their sum in
    seconds."""


_BOUNDS = (*(f"{bound / 1_000_000:g}" for bound in BOUNDS_US), "+Inf")
_MERGES: dict[Merge, Callable[[Iterable[float]], float]] = {"sum": sum, "min": min, "max": max, "each": sum}


def render(families: Iterable[Family]) -> bytes:
    """The page."""
    lines = []
    for family in families:
        name = PREFIX + family.name
        lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
        lines += [_line(name, labels, value) for labels, value in family.samples.items()]
        for labels, numbers in family.counts.items():
            lines += _histogram_lines(name, labels, numbers)
    return "\n".join([*lines, ""]).encode()


def _line(name: str, labels: str, value: float) -> str:
    return f"{name}{{{labels}}} {value:.17g}" if labels else f"{name} {value:.17g}"


def _histogram_lines(name: str, labels: str, numbers: list[float]) -> Iterator[str]:
    *counts, total = numbers
    below = 0.0
    for bound, count in zip(_BOUNDS, counts, strict=True):
        below += count
        yield _line(f"{name}_bucket", ",".join(filter(None, (labels, f'le="{bound}"'))), below)
    yield _line(f"{name}_sum", labels, total)
    yield _line(f"{name}_count", labels, below)


def numbers_of(histogram: Histogram) -> list[float]:
    """As `Family.counts` takes them."""
    return [*histogram.counts, histogram.sum_us / 1_000_000]


def merge(by_worker: Iterable[tuple[str, Iterable[Family]]]) -> list[Family]:
    """The families of several workers (each with its name) as one, each by its own rule."""
    found: dict[str, tuple[Family, dict[str, list[float]]]] = {}
    counts: dict[str, dict[str, list[float]]] = {}
    for worker, families in by_worker:
        for family in families:
            _, samples = found.setdefault(family.name, (family, {}))
            sums = counts.setdefault(family.name, {})
            for labels, numbers in family.counts.items():
                before = sums.get(labels)
                sums[labels] = (
                    numbers if before is None else [a + b for a, b in zip(before, numbers, strict=True)]
                )
            for labels, value in family.samples.items():
                if family.merge == "each":
                    labels = ",".join(filter(None, (labels, f'worker="{worker}"')))
                samples.setdefault(labels, []).append(value)
    return [
        msgspec.structs.replace(
            family,
            samples={labels: _MERGES[family.merge](values) for labels, values in samples.items()},
            counts=counts[family.name],
        )
        for family, samples in found.values()
    ]


def counters(families: Iterable[Family]) -> list[Family]:
    """Those that only grow: what a worker that ended has counted goes on counting."""
    return [family for family in families if family.kind != "gauge"]


async def answer(connection: Connection, inbound: Inbound, page: bytes) -> None:
    """One scrape."""
    found = inbound.target == b"/metrics" and inbound.method in (b"GET", b"HEAD")
    body = page if found else b"only GET /metrics is here\n"
    connection.keep_alive = connection.keep_alive and inbound.complete
    head = b"HTTP/1.1 %s\r\n" % (b"200 OK" if found else b"404 Not Found")
    head += b"content-type: text/plain; version=0.0.4; charset=utf-8\r\ncontent-length: %d\r\n" % len(body)
    end = b"\r\n" if connection.keep_alive else b"connection: close\r\n\r\n"
    await connection.send(head + end + (b"" if inbound.method == b"HEAD" else body))
