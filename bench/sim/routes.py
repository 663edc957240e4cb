"""Which API a request speaks, and which of its operations it calls.

The operations are data (`paths.txt`, all 650 of both SDKs). A path belongs to the API that has it; where both
have it, the header `anthropic-version` tells, as in the gateway. A first segment `/anthropic` or `/openai`
forces the API. Matching is by segments of the raw path, so `%2F` inside an id stays inside it; results are
cached by path.
"""

from functools import lru_cache
from importlib import resources
from typing import NamedTuple

ROUTES_CACHED_MAX = 4_096
DIALECTS = ("anthropic", "openai")


class Operation(NamedTuple):
    """The methods of one path in one API, with a letter for special answers (see `paths.txt`), "" for
    none."""

    template: str
    methods: dict[str, str]


class Match(NamedTuple):
    """What a path is in each API it exists in, and the values of its `{parameters}` in order."""

    operations: dict[str, Operation]
    parameters: tuple[str, ...]
    forced: str | None


class _Node:
    """A step in the tree of paths: literal segments first, then the one wildcard."""

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.wildcard: _Node | None = None
        self.operations: dict[str, Operation] = {}


def _read_tree() -> _Node:
    root = _Node()
    text = resources.files(__package__).joinpath("paths.txt").read_text()
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        dialect, methods, template = line.split()
        node = root
        for segment in template.split("/")[1:]:
            if segment.startswith("{"):
                node.wildcard = node.wildcard or _Node()
                node = node.wildcard
            else:
                node = node.literal.setdefault(segment, _Node())
        flags = {method.rstrip("ebls"): method[len(method.rstrip("ebls")) :] for method in methods.split(",")}
        node.operations[dialect] = Operation(template, flags)
    return root


_TREE = _read_tree()


def _descend(
    node: _Node, segments: list[str], parameters: tuple[str, ...]
) -> list[tuple[_Node, tuple[str, ...]]]:
    """All nodes that the segments lead to, the most literal first."""
    if not segments:
        return [(node, parameters)] if node.operations else []
    found = []
    if (literal := node.literal.get(segments[0])) is not None:
        found += _descend(literal, segments[1:], parameters)
    if node.wildcard is not None and segments[0]:
        found += _descend(node.wildcard, segments[1:], (*parameters, segments[0]))
    return found


@lru_cache(maxsize=ROUTES_CACHED_MAX)
def match(path: str) -> Match:
    """What the raw path is; `operations` is empty for an unknown one."""
    forced = None
    for dialect in DIALECTS:
        if path.startswith(f"/{dialect}/"):
            forced, path = dialect, path[len(dialect) + 1 :]
    segments = path.rstrip("/").split("/")[1:]
    operations: dict[str, Operation] = {}
    parameters: tuple[str, ...] = ()
    # Two APIs may know one path by different segments (`/v1/agents/{id}` and `/v1/agents/automations`): each
    # takes its own most literal match.
    for node, its_parameters in _descend(_TREE, segments, ()) if len(segments) <= 12 else []:
        for dialect, operation in node.operations.items():
            if dialect not in operations:
                operations[dialect] = operation
                parameters = parameters or its_parameters
    return Match(operations, parameters, forced)


def dialect_of(found: Match, *, has_version_header: bool) -> str:
    """The API a request speaks; for unknown paths and shared ones the header decides."""
    if found.forced is not None:
        return found.forced
    if len(found.operations) == 1:
        return next(iter(found.operations))
    return "anthropic" if has_version_header else "openai"
