"""What was attempted, held against what the provider did and what the database says.

Jepsen's shape: clients write down each attempt and its end, a fault does what it does, and afterwards the
history is checked as a set. *Lost*: the client saw it to its end, and there is no row. *Phantom*: a row that
nobody attempted. *Doubled*: more than one row. And the sums of tokens must be the provider's, for whatever
was completed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

_SUMMED = ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")


class Attempt(msgspec.Struct):
    """One request. `model` names it alone: the simulated provider takes any name that begins with `sim:`."""

    model: str
    status: int = 0
    whole: bool = False
    """The answer came to its end."""
    body_sha256: str = ""
    left_at: float | None = None
    """When its client left it, in seconds since 1970."""
    seconds: float = 0.0
    after: int = 0
    """Its entry in the provider's ledger comes after this one."""

    def take_body(self, body: bytes) -> None:
        self.whole = True
        self.body_sha256 = hashlib.sha256(body).hexdigest()


class Findings(msgspec.Struct):
    """What is wrong; all of it empty when nothing is."""

    lost: list[str]
    phantom: list[str]
    doubled: list[str]
    altered: list[str]
    """The bytes that a client got are not those that the provider sent."""
    sums: dict[str, tuple[int, int]]
    """Of completed answers, where they differ: what the rows say, and what the provider."""

    @property
    def none(self) -> bool:
        return not (self.lost or self.phantom or self.doubled or self.altered or self.sums)


def check(
    history: Iterable[Attempt], ledger: Iterable[Mapping[str, Any]], rows: Iterable[Mapping[str, Any]]
) -> Findings:
    """Hold the three against each other. `ledger` are the provider's entries, `rows` those of `usage`."""
    attempted = {one.model: one for one in history}
    entries = {entry["model"]: entry for entry in ledger}
    counts = Counter(row["model_asked"] for row in rows)
    completed = {
        model for model, one in attempted.items() if one.whole and one.status == 200 and model in entries
    }
    told: Counter[str] = Counter()
    for row in rows:
        if row["model_asked"] in completed:
            told.update({name: row[name] for name in _SUMMED})
    true: Counter[str] = Counter()
    for model in completed:
        true.update({name: (entries[model]["tokens"] or {}).get(name, 0) for name in _SUMMED})
    return Findings(
        lost=sorted(completed - set(counts)),
        phantom=sorted(set(counts) - set(attempted)),
        doubled=sorted(model for model, count in counts.items() if count > 1),
        altered=sorted(
            model for model in completed if attempted[model].body_sha256 != entries[model]["response_sha256"]
        ),
        sums={name: (told[name], true[name]) for name in _SUMMED if told[name] != true[name]},
    )


def percentile(values: Iterable[float], share: float) -> float:
    """The value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
