"""Which model a form names: `multipart/form-data`, as recordings and pictures are sent (sans-IO).

Order: `boundary_of` the content type when the head is here, `model_of` the body once all of it is.

A key's scope and the price hold for what is found here, so it has to be what the provider finds, by whatever
parser. Strategy: a form is read only where it is written as every client writes it. What two parsers may
take differently (bare line feeds, the boundary anywhere but where a part ends, names in codings, a field that
some framework may take for `model` too) makes the whole form one without a model, as is one that names two.

Bounds: `PARTS_MAX` parts with heads of `HEAD_BYTES_MAX`. Contents are passed over by a search for the
boundary, at the speed of memory; nothing is built of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# OpenAI takes sixteen pictures to be edited at once, and has a dozen fields besides.
PARTS_MAX: Final = 128
HEAD_BYTES_MAX: Final = 2048

_CONTENT_TYPE: Final = re.compile(
    rb"multipart/form-data[ \t]*+;[ \t]*+boundary="
    rb'(?:"(?P<quoted>[\w\'()+,./:=?-]{1,70})"|(?P<plain>[\w+.-]{1,70}))',
    re.IGNORECASE,
)
_FIELD: Final = re.compile(rb"([\w-]++):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)")
_NAME: Final = rb"[A-Za-z_][\w.\[\]-]{0,99}"
# Nothing is escaped in it, and a name in its place does not fit.
_DISPOSITION: Final = re.compile(
    rb'form-data; ?name=(?:"(?P<quoted>' + _NAME + rb')"|(?P<plain>' + _NAME + rb"))"
    rb'(?P<file>(?:; ?filename=(?:"[^"\\;]*+"|[\w.-]++))?(?:; ?filename\*=[\w.%\'!#$&+^`|~-]++)?)',
    re.IGNORECASE,
)
_PLAIN: Final = re.compile(rb'text/plain(?:; ?charset="?(?:utf-8|us-ascii)"?)?', re.IGNORECASE)
# A part of several parts, or a whole message in one.
_NESTED: Final = (b"multipart", b"message")
# What a name is of, where frameworks make a list or an object of several: `model[]`, `model.name`.
_BASE: Final = re.compile(rb"[^.\[]*+")
_MODEL: Final = re.compile(rb"[!-~]{1,200}")


class _Unclear(Exception):
    """Another parser may find something else."""


def boundary_of(content_type: bytes, lines: list[bytes]) -> bytes:
    """What stands between the parts of a form; empty for what is no form, or is not plainly told. `lines` are
    those of the head that go up."""
    found = _CONTENT_TYPE.fullmatch(content_type)
    # In a coding it may be a form of another kind.
    if found is None or any(line[:17].lower() == b"content-encoding:" for line in lines):
        return b""
    boundary: bytes = found["quoted"] or found["plain"]
    return boundary


def model_of(body: bytes, boundary: bytes) -> str | None:
    """The one field `model` of a form; None where it has none, or not one for certain."""
    model: str | None = None
    try:
        for head, begin, end in _parts(body, boundary):
            name, plain = _read_head(head, end - begin)
            if name == b"_charset_":
                raise _Unclear
            base = _BASE.match(name)
            if base is None or base.group().lower() != b"model":
                continue
            if name != b"model" or not plain or model is not None:
                raise _Unclear
            if _MODEL.fullmatch(body, begin, end) is None:
                raise _Unclear
            model = body[begin:end].decode("ascii")
    except _Unclear:
        return None
    return model


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Each part's head, and where its content lies. Raises `_Unclear`."""
    delimiter = b"--" + boundary
    if not body.startswith(delimiter):
        raise _Unclear
    at = len(delimiter)
    for parts in range(PARTS_MAX + 1):
        if body.startswith(b"--", at):
            rest = len(body) - at - 2
            if rest and not (rest == 2 and body.endswith(b"\r\n")):
                raise _Unclear
            # Nowhere else: not behind a bare line feed, nor within something longer.
            if body.count(boundary) != parts + 1:
                raise _Unclear
            return
        if not body.startswith(b"\r\n", at):
            raise _Unclear
        begin = at + 2
        end = body.find(b"\r\n\r\n", begin, begin + HEAD_BYTES_MAX)
        after = -1 if end < 0 else body.find(b"\r\n" + delimiter, end + 4)
        if after < 0:
            raise _Unclear
        yield body[begin:end], end + 4, after
        at = after + 2 + len(delimiter)
    raise _Unclear


def _read_head(head: bytes, content_bytes: int) -> tuple[bytes, bool]:
    """A part's name, and whether its content is a text just as it stands there. Raises `_Unclear`."""
    name = b""
    plain = True
    for line in head.split(b"\r\n"):
        field = _FIELD.fullmatch(line)
        if field is None:
            raise _Unclear
        title, value = field[1].lower(), field[2]
        if title == b"content-disposition":
            told = _DISPOSITION.fullmatch(value)
            if told is None or name:
                raise _Unclear
            name = told["quoted"] or told["plain"]
            plain = plain and not told["file"]
        elif title == b"content-length":
            # There are parsers that go by it.
            if value != b"%d" % content_bytes:
                raise _Unclear
        elif title == b"content-type":
            if value.lower().startswith(_NESTED):
                raise _Unclear
            plain = plain and _PLAIN.fullmatch(value) is not None
        else:
            # As a coding, or a language.
            plain = False
    if not name:
        raise _Unclear
    return name, plain
