"""Where the members of a JSON object lie in its bytes, so that one can be changed and no other byte is
(sans-IO).

What msgspec has accepted as an object is walked by strings and brackets, and within its members by brackets
alone; nothing is built of it. A body of any size is walked once, from its first byte to the end of the
object.

Bound: `STEPS_MAX` steps, a fraction of a second in which nobody else is served. A conversation takes two for
each message, and as many for each part of one; only a body of nearly nothing but brackets takes more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from gateway.refusal import Kind, Refusal

STEPS_MAX: Final = 500_000
SPACE: Final = b" \t\r\n"
# Strings whole, so that what they hold is not taken for structure. Possessive: no body makes it go back.
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'
_TOKEN: Final = re.compile(_STRING + rb"|[{}\[\],:]", re.DOTALL)
_BRACKET: Final = re.compile(rb'(?:[^"{}\[\]]++|' + _STRING + rb")*+[{}\[\]]", re.DOTALL)


class TooManySteps(Exception):
    """The walk was given up: there are too many parts."""


def members(data: bytes, start: int) -> Iterator[tuple[str, int, int]]:
    """The members of the object that begins at `start`: each key, and where its value lies. Raises
    `TooManySteps`."""
    at = data.index(b"{", start) + 1
    key = b""
    value_at = 0
    steps = STEPS_MAX
    while steps > 0:
        steps -= 1
        token = _TOKEN.search(data, at)
        if token is None:
            return
        at = token.end()
        first = data[token.start()]
        if first in b"{[":
            at, steps = _end_of(data, token.start(), steps)
        elif first in b'"':
            # Before its colon a key, behind it a value.
            key = key or token.group()
        elif first in b":":
            value_at = at
        else:
            if key:
                yield _name_of(key), value_at, token.start()
            if first in b"}":
                return
            key = b""
    raise TooManySteps


def _name_of(key: bytes) -> str:
    """What msgspec passes over it does not decode, so that there may be anything."""
    try:
        return str(json.loads(key))
    except ValueError:
        return ""


def _end_of(data: bytes, start: int, steps: int) -> tuple[int, int]:
    """Where the list or object ends that begins at `start`, and how many steps are left."""
    depth = 0
    for bracket in _BRACKET.finditer(data, start):
        steps -= 1
        depth += 1 if data[bracket.end() - 1] in b"{[" else -1
        if depth == 0:
            return bracket.end(), steps
        if steps <= 0:
            break
    raise TooManySteps


def renamed(body: bytes, model: str) -> bytes:
    """`body`, an object, with another `model`; all other bytes as they were. Raises `Refusal`.

    Of two members of that name both are changed: some read the first and some the last.
    """
    try:
        return _renamed(body, model)
    except TooManySteps:
        raise _too_many() from None


def _renamed(body: bytes, model: str) -> bytes:
    name = json.dumps(model).encode()
    pieces: list[bytes] = []
    copied = 0
    for key, begin, end in members(body, body.index(b"{")):
        if key != "model":
            continue
        value = body[begin:end].strip(SPACE)
        at = body.index(value, begin)
        pieces += (body[copied:at], name)
        copied = at + len(value)
    return b"".join((*pieces, body[copied:]))


def renamed_within(body: bytes, name: str, model: str) -> bytes:
    """The same for the object that is member `name` of `body`."""
    pieces: list[bytes] = []
    copied = 0
    try:
        for key, begin, end in members(body, body.index(b"{")):
            if key == name and body[begin:end].strip(SPACE).startswith(b"{"):
                pieces += (body[copied:begin], _renamed(body[begin:end], model))
                copied = end
    except TooManySteps:
        raise _too_many() from None
    return b"".join((*pieces, body[copied:]))


def _too_many() -> Refusal:
    return Refusal(Kind.MALFORMED, "The request has too many parts for its model to be renamed by a route.")
