"""Which operations exist: the tables in `operation_tables/`, read once, matched per request.

Order: `load()` at start, `Operations.match(path)` for each request. A path both APIs have gives two answers,
and `api_request` chooses. Static paths are one dict look-up; templates walk a tree by segment, a literal
segment winning over a parameter. A parameter may hold anything percent-encoded, but the path must mean one
thing only: what a lenient upstream could take for a way to another path (empty or dot segments, encoded once
more) or for another operation (an encoded slash or letter, `;`) is simply unknown, since it would go up under
the wrong rules.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote_to_bytes

import msgspec

from gateway.refusal import Dialect

# What a path with a second reading has somewhere.
_DISGUISE = re.compile(rb"[%;\\]|/\.")
# Free, and yet for a model: they count what a request would come to.
_COUNTING = ("/v1/messages/count_tokens", "/v1/responses/input_tokens")
# Billed elsewhere, but for storage or machines, whatever model uses them later.
_WITHOUT_MODELS = (
    "/v1/agents/environments",
    "/v1/audio/voice_consents",
    "/v1/containers",
    "/v1/content_provenance_checks",
    "/v1/environments",
    "/v1/vector_stores",
)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
# As it is written, decoded, and decoded once more, as chains of servers do.
_READINGS = 3


class OperationKind(StrEnum):
    METERED = "metered"
    FREE = "free"
    ELSEWHERE = "elsewhere"


class Operation(msgspec.Struct, frozen=True, gc=False):
    """One method on one path of one API. `path` is the template, which also names the endpoint in usage."""

    dialect: Dialect
    kind: OperationKind
    stateless: bool
    method: str
    path: str
    metered: bool
    names_model: bool = False
    """Its body says for which model it is, and is read for that."""
    runs_unnamed: bool = False
    """It has models run that Karta does not read of it: a batch's, an agent's, a session's."""


class PathOperations:
    """What may be done on one path: by dialect, then by method."""

    __slots__ = ("by_dialect",)

    def __init__(self) -> None:
        self.by_dialect: dict[Dialect, dict[bytes, Operation]] = {}

    def add(self, operation: Operation) -> None:
        methods = self.by_dialect.setdefault(operation.dialect, {})
        methods[operation.method.encode()] = operation
        if operation.method == "GET":
            methods.setdefault(b"HEAD", operation)


class _Node:
    __slots__ = ("here", "literal", "parameter")

    def __init__(self) -> None:
        self.literal: dict[bytes, _Node] = {}
        self.parameter: _Node | None = None
        self.here: PathOperations | None = None


class Operations:
    """The table of all operations, matched by raw path."""

    def __init__(self, operations: list[Operation]) -> None:
        self.all = tuple(operations)
        self.static: dict[bytes, PathOperations] = {}
        """The paths without parameters."""
        self._root = _Node()
        for operation in operations:
            self._add(operation)

    def _add(self, operation: Operation) -> None:
        node = self._root
        for segment in operation.path.encode().split(b"/")[1:]:
            if segment.startswith(b"{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literal.setdefault(segment, _Node())
        if node.here is None:
            node.here = PathOperations()
        node.here.add(operation)
        if b"{" not in operation.path.encode():
            self.static[operation.path.encode()] = node.here

    def match(self, path: bytes) -> PathOperations | None:
        """The operations on a raw path (still percent-encoded, without query), or None."""
        found = self.static.get(path)
        if found is not None:
            return found
        segments = path.split(b"/")
        if segments[0] or b"" in segments[1:]:
            return None
        found = _walk(self._root, segments, 1)
        if found is not None and _DISGUISE.search(path) and not self._means_only(found, path):
            return None
        return found

    def _means_only(self, found: PathOperations, path: bytes) -> bool:
        """True when each reading of `path`, also the most lenient, leads to the same operations or none."""
        for _ in range(_READINGS):
            segments = [segment.partition(b";")[0] for segment in path.replace(b"\\", b"/").split(b"/")]
            if b"." in segments or b".." in segments or _CONTROL.search(path):
                return False
            other = _walk(self._root, [b"", *filter(None, segments)], 1)
            if other is not None and other is not found:
                return False
            path = unquote_to_bytes(path)
        return True


def _walk(node: _Node, segments: list[bytes], index: int) -> PathOperations | None:
    """Depth-first with the literal branch first; depth is bounded by the templates' own (≤ 10)."""
    if index == len(segments):
        return node.here
    literal = node.literal.get(segments[index])
    if literal is not None and (found := _walk(literal, segments, index + 1)) is not None:
        return found
    if node.parameter is not None:
        return _walk(node.parameter, segments, index + 1)
    return None


def load() -> Operations:
    """Read both tables. A line that does not parse stops the start: the tables are part of the code."""
    found: list[Operation] = []
    for dialect in (Dialect.ANTHROPIC, Dialect.OPENAI):
        text = (Path(__file__).parent / "operation_tables" / f"{dialect}.txt").read_text()
        for line in text.splitlines():
            if line and not line.startswith("#"):
                kind, reach, method, path = line.split()
                found.append(
                    Operation(
                        dialect=dialect,
                        kind=OperationKind(kind),
                        metered=kind == OperationKind.METERED,
                        names_model=kind == OperationKind.METERED or path in _COUNTING,
                        runs_unnamed=kind == OperationKind.ELSEWHERE and not path.startswith(_WITHOUT_MODELS),
                        stateless={"stateless": True, "account": False}[reach],
                        method=method,
                        path=path,
                    )
                )
    return Operations(found)
