"""The vocabulary of targets."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal

import msgspec

from bench.load.plan import Dialect

# Any target that does not check keys gets this one; the simulated provider refuses only Karta's own.
PLACEHOLDER_KEY = "sk-bench-placeholder"
start_seconds_max = 30.0

Check = Literal["bytes", "text", "status"]
"""How much of an answer must be the provider's own: every byte, its text and the number of its pieces, or
(for providers that never say the same twice) that it is a whole answer."""


class TargetUnavailable(Exception):
    """The target cannot take part; the message says why and what would mend it."""


class NotOffered(TargetUnavailable):
    """The target is never started so, which is no fault."""


class TargetContext(msgspec.Struct, frozen=True, kw_only=True):
    """Where a target stands: what it forwards to, and what it may use.

    `target_cpus` are for the target alone, `harness_cpus` for whatever it needs besides (a database); empty
    means unpinned.  `directory` is its own and is removed afterwards.  `ca_file` is the authority of an https
    upstream.  `keys` and `tenants` are how many it shall give; one that checks no keys need not.
    `quick_digests` allows digests of keys that are worth nothing, since there are so many keys.
    `workers` are its processes for requests.  `dead_url` is an origin where nobody answers, for targets that
    can fall back from one provider to another; they shall then ask the other for `fallback_behaviour`.
    """

    upstream_url: str
    directory: Path
    target_cpus: Sequence[int] = ()
    harness_cpus: Sequence[int] = ()
    ca_file: str | None = None
    workers: int = 1
    keys: int = 1
    tenants: int = 1
    quick_digests: bool = False
    dead_url: str | None = None
    fallback_behaviour: str = ""


class RunningTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A started target: where to ask, with which keys, and the processes whose CPU and memory are its.

    `command` is what started it, for the report: nothing secret may stand in it.
    """

    base_url: str
    keys: Sequence[str]
    pids: Sequence[int]
    notes: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    ca_file: str | None = None
    command: Sequence[str] = ()


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a target can be started here; `mend` says what to do if not."""

    ready: bool
    version: str = ""
    mend: str = ""


class Target:
    """One thing to compare.

    `governed` tells whether it checks keys and records usage; `optional`, that its absence is no fault.
    `dialects` are the APIs it speaks, `check` how much of its answers must be the provider's own.  `model` is
    the name to ask for where a target takes only those it knows; None asks by behaviour.  `fallback_model` is
    the name whose first provider is dead, of targets that can be set up so.
    """

    name: str
    description: str
    governed: bool = False
    optional: bool = False
    dialects: Sequence[Dialect] = ("anthropic", "openai")
    check: Check = "bytes"
    model: str | None = None
    fallback_model: str | None = None

    def installation(self) -> Installation:
        """Say whether the target is there, without starting it."""
        raise NotImplementedError

    def open(self, context: TargetContext) -> AbstractAsyncContextManager[RunningTarget]:
        """Start the target for as long as the context is open; raises TargetUnavailable."""
        raise NotImplementedError


def require(context: TargetContext, *, name: str, workers_max: int = 1, tls: bool = True) -> None:
    """Raise NotOffered for what a target is not started with here: more workers, a TLS upstream."""
    if context.workers > workers_max:
        raise NotOffered(f"{name} is started here with {workers_max} worker(s) only")
    if context.ca_file is not None and not tls:
        raise NotOffered(f"{name} speaks plain http to its upstream only")
