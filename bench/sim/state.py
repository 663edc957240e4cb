"""What the endpoints share: the objects clients created, the simulator's own origin, and how often to fail.

Bounds: 5,000 objects of all kinds together and 256 MiB of kept file bytes, oldest first out; a test run
creates dozens.
"""

from collections.abc import Callable
from typing import Any

from bench.sim import text
from bench.sim.errors import Invalid

OBJECTS_MAX = 5_000
FILE_BYTES_MAX = 268_435_456
COUNTED_BEHAVIOURS_MAX = 1_024


class State:
    """Objects by kind and id; lost when the process ends, as a simulator's may be."""

    def __init__(self) -> None:
        self.origin = "http://127.0.0.1:0"
        """Scheme, address and port: where absolute URLs in answers point."""
        self._objects: dict[tuple[str, str], dict[str, Any]] = {}
        self._contents: dict[str, bytes] = {}
        self._content_bytes = 0
        self._counts: dict[str, int] = {}
        self._removed: dict[tuple[str, str], None] = {}

    def new_id(self, kind: str, prefix: str, length: int, *material: object) -> str:
        """An id derived from what is created, so that a repeated test sees it again; another one while it
        is taken."""
        attempt = 0
        while (kind, made := text.identifier(prefix, length, *material, attempt)) in self._objects:
            attempt += 1
        return made

    def put(self, kind: str, object_id: str, document: dict[str, Any]) -> None:
        """Keep an object, forgetting the oldest when there are too many."""
        if len(self._objects) >= OBJECTS_MAX:
            self._forget(*next(iter(self._objects)))
        self._objects[kind, object_id] = document
        self._removed.pop((kind, object_id), None)

    def get(self, kind: str, object_id: str, make: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
        """The object, or for an id never seen the one `make` makes up; Invalid (404) for a deleted one."""
        if (kind, object_id) in self._removed:
            raise Invalid(f"No such {kind} object: {object_id}", 404)
        found = self._objects.get((kind, object_id))
        return make(object_id) if found is None else found

    def find(self, kind: str, object_id: str) -> dict[str, Any] | None:
        """The object, None when it never was or is forgotten."""
        return self._objects.get((kind, object_id))

    def remove(self, kind: str, object_id: str) -> None:
        """Forget the object and its content, and remember that it was deleted."""
        self._forget(kind, object_id)
        if len(self._removed) >= OBJECTS_MAX:
            del self._removed[next(iter(self._removed))]
        self._removed[kind, object_id] = None

    def _forget(self, kind: str, object_id: str) -> None:
        self._content_bytes -= len(self._contents.pop(object_id, b""))
        self._objects.pop((kind, object_id), None)

    def clear(self) -> None:
        """Forget all objects, deletions and contents."""
        self._objects.clear()
        self._removed.clear()
        self._contents.clear()
        self._content_bytes = 0

    def listed(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind, newest first as both APIs list."""
        return [document for (its_kind, _), document in reversed(self._objects.items()) if its_kind == kind]

    def put_content(self, object_id: str, content: bytes) -> None:
        """Keep a file's bytes, forgetting the oldest files' when they are too many."""
        self._contents[object_id] = content
        self._content_bytes += len(content)
        while self._content_bytes > FILE_BYTES_MAX and len(self._contents) > 1:
            self._content_bytes -= len(self._contents.pop(next(iter(self._contents))))

    def content(self, object_id: str) -> bytes | None:
        """A file's bytes, None when they were too many to keep."""
        return self._contents.get(object_id)

    def count(self, name: str) -> int:
        """How often this has been called with `name`, this time included."""
        if name not in self._counts and len(self._counts) >= COUNTED_BEHAVIOURS_MAX:
            del self._counts[next(iter(self._counts))]
        self._counts[name] = self._counts.get(name, 0) + 1
        return self._counts[name]

    def forget_counts(self) -> None:
        """Start counting anew."""
        self._counts.clear()
