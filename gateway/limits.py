"""Every bound a stranger meets, in one place, each with its unit last and its reason.

Some are settings of the same names (`KARTA_BODY_BYTES_MAX` …); `docs/reference/settings.md` lists those.
"""

from __future__ import annotations

import msgspec

_MIB = 1024 * 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    body_bytes_max: int = 32 * _MIB
    """A body that is read whole. 32 MiB is Anthropic's own limit for messages; a smaller one surprises."""

    bodies_bytes_max: int = 512 * _MIB
    """All such bodies of a worker together (`bodies`). As a setting it is a share of the memory there is."""

    upload_bytes_max: int = 544 * _MIB
    """A body that streams through. The largest upload of either API is 512 MB; multipart adds a little."""

    answer_rewrite_bytes_max: int = 4 * _MIB
    """An answer Karta must change (batch objects) is held whole; a list of 1,000 is under a megabyte."""

    connections_max: int = 16_000
    """Client connections of one worker. Each needs two descriptors; the usual hard limit allows fewer."""

    upstream_connections_max: int = 16_000
    """Connections of one worker to one provider, busy and idle together."""

    upstream_queue_max: int = 1000
    """Requests that wait for one of them. More would wait in vain."""

    upstream_queue_seconds: float = 10.0
    """How long they wait: short answers are over by then, and their clients are still there."""

    upstream_idle_max: int = 512
    """Idle connections kept to one provider: more than a worker has in use at once for short requests."""

    upstream_idle_seconds: float = 55.0
    """Kept below the usual 60 s of load balancers, so that it is Karta that ends an idle connection."""

    idle_seconds: float = 75.0
    """Between requests on a client's connection (nginx's figure)."""

    handshake_seconds: float = 10.0
    """TLS and what a proxy says before it, from accepting on: some round trips for any line."""

    handshakes_max: int = 1024
    """Handshakes at once, some 20 KB each; beyond it the oldest gives way to the newest."""

    head_seconds: float = 10.0
    """From the first byte of a request to the end of its head: slow-header attacks end here."""

    body_stall_seconds: float = 30.0
    """Between two reads of a request body, and in all for one that comes slower than the next figure."""

    body_bytes_per_second_min: int = 1000
    """Slower than any line that still is one: a body that trickles would hold its connection for years."""

    connect_seconds: float = 5.0
    """Name look-up, TCP and TLS to a provider together: the SDKs' own connect timeout."""

    first_byte_seconds: float = 600.0
    """The SDKs wait 600 s for an answer; giving up earlier would break long non-streaming calls."""

    between_bytes_seconds: float = 300.0
    """A stream that stays silent longer is dead: real ones send pings."""

    socket_idle_seconds: float = 600.0
    """A WebSocket on which neither side says anything, not even a ping, for this long is forgotten."""

    write_stall_seconds: float = 60.0
    """A client that takes nothing for this long has stopped reading."""

    drain_seconds: float = 30.0
    """After SIGTERM, how long running answers may take to finish."""

    drain_idle_seconds: float = 0.5
    """After SIGTERM, how long an idle connection may bring one more request: one that was on its way."""

    retire_idle_seconds: float = 5.0
    """After a reload, how long an idle connection may bring one more request, which is told that it is the
    last. Clients under load all do; closing at once would meet some of them half way."""

    retire_seconds: float = 600.0
    """After a reload, how long the answers of the worker before may take: as long as any may to begin."""

    bcrypt_threads: int = 1
    """Key verifications at once. One leaves the other core to verified traffic."""

    bcrypt_queue_max: int = 256
    """Verifications waiting; more are refused with 503. At cost 12 that is a minute of work already."""

    verified_keys_max: int = 50_000
    """Keys remembered as verified by one worker, about 1 KB each."""

    refused_tokens_max: int = 20_000
    """Tokens remembered as wrong, 32 bytes and a time each."""

    refused_seconds: float = 10.0
    """How long a wrong token is remembered: long enough to stop a tight loop, short enough not to matter."""

    failures_per_minute: int = 20
    """Failed verifications of one address before all of its others are refused without bcrypt; and of one
    public id, before those of addresses that have failed are."""

    verifications_each_max: int = 2
    """Verifications of one public id at once, for one address: its secret, and the one before a rotation."""

    refusals_in_a_row_max: int = 10
    """Wrong keys on one connection, with no right one between them, before it is read from more slowly."""

    refusal_pause_seconds: float = 2.0
    """How much more slowly: from one refusal to the next read."""

    key_fresh_seconds: float = 60.0
    """A cached key older than this has missed its refresh: the database is away."""

    key_stale_seconds: float = 600.0
    """How long verified keys keep working while the database is away."""
