"""What is asked for: so much traffic, of so many, on such machines."""

import math

import msgspec

_NEEDED = (
    *("host_cores", "host_bytes", "provider_addresses", "database_cores", "database_bytes"),
    *("database_sessions", "database_disk_bytes", "database_log_bytes_per_second"),
)
"""What is divided by."""


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An installation, divided evenly by `cells`: groups of hosts with a database of their own."""

    streams: float = 10_000
    """Open at once; the connections of who waits for a whole answer count as well."""
    requests_per_second: float = 1000
    events_per_second: float = 20
    """Of each open stream."""
    orgs: float = 1000
    keys_each: float = 2
    """Of an organization, that are used within a minute of the busiest hour."""
    limits_each: float = 3
    """On each of those keys, two of them by the minute."""
    models_each: float = 2
    """That a key uses within an hour."""
    changes_per_second: float = 1
    """Of keys, limits, routes and credentials: what workers are notified of."""
    pages_per_second: float = 5
    tls: bool = True
    """To the providers."""
    provider_addresses: float = 4
    """That the providers' names stand for, as one host sees them."""
    spread: float = 1
    """The part of its host's busy keys that one worker meets: 1 where the balancer does not look at keys."""
    cells: int = 1
    host_cores: float = 16
    host_bytes: float = 64e9
    database_cores: float = 64
    database_bytes: float = 256e9
    database_sessions: float = 2000
    database_disk_bytes: float = 16e12
    database_log_bytes_per_second: float = 200e6
    retention_days: float = 90
    busy_share: float = 0.7
    """Of a worker's core, and of the database's cores, that may be planned with."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not isinstance(value, bool) and not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value:g}, must be a number that is not below 0")
        if self.cells < 1 or not 0 < self.busy_share <= 1 or not 0 < self.spread <= 1:
            raise ValueError("cells must be 1 at least, busy_share and spread above 0 and 1 at most")
        needed = [getattr(self, name) for name in _NEEDED]
        if min(needed) <= 0:
            raise ValueError(f"there must be machines, and providers: {', '.join(_NEEDED)} are above 0")


# A stream of thirty seconds: a thousand open ones are some 33 requests a second.
SECONDS_OF_A_STREAM = 30

SIZES = {
    f"{streams_name} streams, {orgs_name} organizations": Target(
        streams=streams, requests_per_second=round(streams / SECONDS_OF_A_STREAM), orgs=orgs
    )
    for streams_name, streams, orgs_name, orgs in (
        ("10 k", 10_000, "1 k", 1_000),
        ("100 k", 100_000, "1 k", 1_000),
        ("1 M", 1_000_000, "1 k", 1_000),
        ("10 k", 10_000, "10 k", 10_000),
        ("10 k", 10_000, "100 k", 100_000),
        ("1 M", 1_000_000, "100 k", 100_000),
    )
}
