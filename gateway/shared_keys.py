"""What the workers of a host have verified, kept by their supervisor: each key is verified by one of them.

A worker that has to verify a token *claims* it first. It is told to go if nobody else is at it and fewer of
its verifications run than it has threads; otherwise it waits, and is told to go later, or that another has
done it. So however many workers meet the same keys at the same time, each key costs one bcrypt, and the
bcrypts that are needed are spread over the workers. A worker that starts is told everything, so a reload
costs no bcrypt at all.

Sans-IO: a worker is a number, and every call returns what is to be said to whom. What is kept of a key is the
MAC of its token and the mark of its digest, both made with a key of this process, its id, and nothing else.
Nothing of it is ever written down. docs/decisions/0050 says what a reader of the memory would gain.

Bounds: `entries_max` keys, the oldest forgotten first; as many claims as the workers have flights.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable

from gateway.control import Entry, Go, Known, ToWorker, Wrong

Told = list[tuple[int, ToWorker]]
_Claim = tuple[bytes, bytes]


class SharedKeys:
    """The keys verified on this host, and the verifications under way."""

    def __init__(self, threads: int, entries_max: int) -> None:
        """`threads` is how many verifications one worker may run at once."""
        self.secret = secrets.token_bytes(32)
        self._threads = threads
        self._entries_max = entries_max
        self._entries: dict[bytes, Entry] = {}
        self._workers: set[int] = set()
        self._waiting: dict[_Claim, list[int]] = {}
        """Claims nobody is at, oldest first, and who made them."""
        self._running: dict[_Claim, tuple[int, list[int]]] = {}
        """Claims somebody is at, and who else made them."""
        self._load: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def claims(self) -> int:
        """Verifications under way and waiting."""
        return len(self._waiting) + len(self._running)

    def join(self, worker: int) -> list[Entry]:
        """A new worker; what it is to know."""
        self._workers.add(worker)
        return list(self._entries.values())

    def leave(self, worker: int) -> Told:
        """It has ended: what it was at is another's to do."""
        self._workers.discard(worker)
        for waiting in [*self._waiting.values(), *(others for _, others in self._running.values())]:
            while worker in waiting:
                waiting.remove(worker)
        self._waiting = {claim: waiting for claim, waiting in self._waiting.items() if waiting}
        self._load.pop(worker, None)
        concerned: set[int] = set()
        for claim in [claim for claim, (at_it, _) in self._running.items() if at_it == worker]:
            concerned.update(self._give_up(claim))
        return self._start(concerned)

    def claim(self, worker: int, mac: bytes, mark: bytes) -> Told:
        claim = mac, mark
        entry = self._entries.get(mac)
        if entry is not None and entry.mark == mark:
            return [(worker, Known([entry]))]
        if claim in self._running:
            self._running[claim][1].append(worker)
            return []
        self._waiting.setdefault(claim, []).append(worker)
        return self._start([worker])

    def verified(self, worker: int, entry: Entry) -> Told:
        """Good: all the others learn of it."""
        if len(self._entries) >= self._entries_max:
            del self._entries[next(iter(self._entries))]
        self._entries[entry.mac] = entry
        self._end(worker, (entry.mac, entry.mark))
        told: Told = [(one, Known([entry])) for one in self._workers if one != worker]
        return told + self._start([worker])

    def failed(self, worker: int, mac: bytes, mark: bytes, *, wrong: bool) -> Told:
        """It was not verified: by its own fault, which those who wait are told; or else one of them tries."""
        claim = mac, mark
        if wrong:
            told: Told = [(one, Wrong(mac, mark)) for one in self._end(worker, claim)]
            return told + self._start([worker])
        running = self._running.get(claim)
        if running is None or running[0] != worker:
            return []
        self._load[worker] -= 1
        return self._start([worker, *self._give_up(claim)])

    def forget(self, key_ids: Iterable[str]) -> None:
        """These keys have ended; what was verified of them is of no use to anybody."""
        ended = set(key_ids)
        for mac in [mac for mac, entry in self._entries.items() if entry.key_id in ended]:
            del self._entries[mac]

    def _end(self, worker: int, claim: _Claim) -> list[int]:
        """It is decided; returns who else waited for it."""
        others = self._waiting.pop(claim, [])
        if claim in self._running:
            at_it, more = self._running.pop(claim)
            self._load[at_it] -= 1
            others += more
        # Not the one who tells it: it may have waited too long for its turn, and gone without.
        return [one for one in others if one != worker]

    def _give_up(self, claim: _Claim) -> list[int]:
        """Nobody is at it any more; returns who still wants it."""
        _, others = self._running.pop(claim)
        if others:
            # Those who wait have waited longest.
            self._waiting = {claim: others, **self._waiting}
        return others

    def _start(self, workers: Iterable[int]) -> Told:
        """What these can do of what waits."""
        told: Told = []
        for worker in workers:
            for claim in [claim for claim, waiting in self._waiting.items() if worker in waiting]:
                if self._load[worker] >= self._threads:
                    break
                others = self._waiting.pop(claim)
                others.remove(worker)
                self._running[claim] = worker, others
                self._load[worker] += 1
                told.append((worker, Go(*claim)))
        return told
