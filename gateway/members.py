"""Where the members of a JSON object lie in its bytes, so that one can be changed and no other byte is
(sans-IO).

What msgspec has accepted as an object is walked by strings and brackets; nothing is built of it. A body of
any size is walked once, from its first byte to the end of the object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

SPACE: Final = b" \t\r\n"
# Strings whole, so that what they hold is not taken for structure. Possessive: no body makes it go back.
_TOKEN: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\],:]', re.DOTALL)


def members(data: bytes, start: int) -> Iterator[tuple[str, int, int]]:
    """The members of the object that begins at `start`: each key, and where its value lies."""
    depth = 0
    key = b""
    value_at = 0
    for token in _TOKEN.finditer(data, start):
        first = data[token.start()]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
            if depth == 0:
                if key:
                    yield json.loads(key), value_at, token.start()
                return
        elif depth > 1:
            continue
        elif first in b'"':
            # Before its colon a key, behind it a value.
            key = key or token.group()
        elif first in b":":
            value_at = token.end()
        else:
            yield json.loads(key), value_at, token.start()
            key = b""


def renamed(body: bytes, model: str) -> bytes:
    """`body`, an object, with another `model`; all other bytes as they were.

    Of two members of that name both are changed: some read the first and some the last.
    """
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
    for key, begin, end in members(body, body.index(b"{")):
        if key == name and body[begin:end].strip(SPACE).startswith(b"{"):
            pieces += (body[copied:begin], renamed(body[begin:end], model))
            copied = end
    return b"".join((*pieces, body[copied:]))
