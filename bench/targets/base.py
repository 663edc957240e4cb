"""The vocabulary of targets."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import msgspec

# Any target that does not check keys gets this one; the simulated provider refuses only Karta's own.
PLACEHOLDER_KEY = "sk-bench-placeholder"
start_seconds_max = 30.0


class TargetUnavailable(Exception):
    """The target cannot take part; the message says why and what would mend it."""


class TargetContext(msgspec.Struct, frozen=True, kw_only=True):
    """Where a target stands: what it forwards to, and what it may use.

    `target_cpus` are for the target alone, `harness_cpus` for whatever it needs besides (a database); empty
    means unpinned.  `directory` is its own and is removed afterwards.
    """

    upstream_url: str
    directory: Path
    target_cpus: Sequence[int] = ()
    harness_cpus: Sequence[int] = ()


class RunningTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A started target: where to ask, with which keys, and the processes whose CPU and memory are its."""

    base_url: str
    keys: Sequence[str]
    pids: Sequence[int]
    notes: Mapping[str, str] = {}


class Target(Protocol):
    """One thing to compare.

    `governed` tells whether it checks keys and records usage; `optional`, that its absence is no fault.
    """

    name: str
    description: str
    governed: bool
    optional: bool

    def open(self, context: TargetContext) -> AbstractAsyncContextManager[RunningTarget]:
        """Start the target for as long as the context is open; raises TargetUnavailable."""
