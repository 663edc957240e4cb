"""Every method of both SDKs that makes a request, found by looking, and arguments for it, made from its type
hints.

The SDKs do not check bodies, so any value of about the right shape will do: what is tested is that both sides
get the same request and give the same answer. Depth, breadth and recursion are bounded by `_DEPTH_MAX`.
"""

from __future__ import annotations

import collections.abc
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import typing_extensions

# Sessions of their own (WebSocket), loops that poll, and those that only work on what is here already.
SKIPPED = re.compile(
    r"(^|\.)(connect|poll|tool_runner|thread|unwrap|parse_unverified|verify_signature|wait_for_processing"
    r"|for_result|prepare|prepare_directory|upload_file_chunked|parse|stream)$|_and_poll$|_poll$|_stream$"
    r"|environments\.files\.upload$|vector_stores\.files\.upload$|_and_stream$"
)
_KEPT = re.compile(r"(events\.stream|environments\.work\.poll)$")
_NEVER = {"self", "extra_headers", "extra_query", "extra_body", "timeout", "stream"}
"""What changes the call itself, or is tested elsewhere."""
_LOCAL = {"output_type", "output_format", "text_format", "tool_handlers"}
"""Python classes and functions, which do not travel."""
_DEPTH_MAX = 4
_FILE = ("näme 1.bin", bytes(range(256)) * 5, "application/octet-stream")


def methods(client: Any) -> Iterator[tuple[str, str]]:
    """The dotted paths of `client`'s methods that call an operation, with each one's last name."""
    yield from _walk(client, ())


def _walk(resource: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    own = type(resource)
    for name in sorted(dir(own)):
        if name.startswith(("_", "with_")):
            continue
        attribute = inspect.getattr_static(own, name)
        if isinstance(attribute, cached_property | property):
            found = getattr(resource, name)
            if ".resources." in type(found).__module__:
                yield from _walk(found, (*path, name))
        elif inspect.isfunction(attribute) and ".resources." in own.__module__:
            dotted = ".".join((*path, name))
            if not SKIPPED.search(dotted) or _KEPT.search(dotted):
                yield dotted, name


def find(client: Any, dotted: str) -> Callable[..., Any]:
    """The bound method."""
    found = client
    for name in dotted.split("."):
        found = getattr(found, name)
    method: Callable[..., Any] = found
    return method


def arguments(method: Callable[..., Any], *, everything: bool, text: str) -> dict[str, Any]:
    """Keyword arguments for `method`: the required ones, or all but those that change what kind of call it
    is. `text` is every string."""
    function = inspect.unwrap(method)
    hints = _hints(function)
    required = _required_by_overloads(function)
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in _NEVER | _LOCAL or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        if everything or parameter.default is inspect.Parameter.empty or name in required:
            given[name] = _value(hints.get(name, str), name, text, 0)
    return given


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    module = inspect.getmodule(function)
    hints = {}
    for name, hint in function.__annotations__.items():
        try:
            hints[name] = eval(hint, vars(module)) if isinstance(hint, str) else hint
        except NameError:
            hints[name] = str
    return hints


def _required_by_overloads(function: Callable[..., Any]) -> set[str]:
    """What the first overload demands (the implementation itself has a default for it)."""
    overloads = typing_extensions.get_overloads(function) or typing.get_overloads(function)
    parameters = inspect.signature(overloads[0]).parameters if overloads else {}
    return {name for name, one in parameters.items() if one.default is inspect.Parameter.empty}


def _value(hint: Any, name: str, text: str, depth: int) -> Any:
    """Some value of type `hint`."""
    simple = {str: text, int: 3, float: 1.5, bool: True, bytes: b"\x00\xff", object: {"any": [1, None, "ü"]}}
    if isinstance(hint, type) and hint in simple:
        return simple[hint]
    origin = typing_extensions.get_origin(hint)
    inner = typing_extensions.get_args(hint)
    if origin in (typing_extensions.Annotated, typing.Annotated, typing_extensions.Required):
        return _value(inner[0], name, text, depth)
    if origin in (typing.Literal, typing_extensions.Literal):
        return inner[0]
    if origin in (typing.Union, types.UnionType):
        return _of_union(inner, name, text, depth)
    if typing_extensions.is_typeddict(hint):
        return _of_typed_dict(hint, text, depth)
    if origin in (dict, collections.abc.Mapping):
        return {"key-1": _value(inner[1], name, text, depth + 1)}
    if origin is not None and inner:
        return [_value(inner[0], name, text, depth + 1), _value(inner[0], name, text, depth + 1)]
    if isinstance(hint, type) and issubclass(hint, os.PathLike):
        return _FILE
    return text


def _of_union(members: tuple[Any, ...], name: str, text: str, depth: int) -> Any:
    """The first member that is a value and no marker; a file where one may stand."""
    if any(member is bytes or "IO" in repr(member) for member in members):
        return _FILE
    for member in members:
        if member is not type(None) and getattr(member, "__name__", "") not in {"Omit", "NotGiven"}:
            return _value(member, name, text, depth)
    return None


def _of_typed_dict(hint: Any, text: str, depth: int) -> dict[str, Any]:
    if depth >= _DEPTH_MAX:
        return {}
    hints = typing_extensions.get_type_hints(hint, include_extras=True)
    return {name: _value(hints[name], name, text, depth + 1) for name in sorted(hint.__required_keys__)}
