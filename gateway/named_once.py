"""Whether JSON tells twice what Karta decides by: its type, its model, or the session that names one.

Of two members of a name Karta reads the last. A server that reads the first would be a way round a key's
scope, or round being counted at all.

Nothing becomes a Python object on the way: of a body's 32 MiB of brackets that would keep a worker's other
connections waiting for seconds. A member that is a text or an object is counted where it is met. Of what is
neither nothing would tell, so that a short document is read once more, with an object made of each such
member, and a long one is taken for one that names it twice.

Bound: `READ_BYTES_MAX` of such a document.
"""

from __future__ import annotations

import secrets
from enum import StrEnum

import msgspec

from gateway.refusal import Kind, Refusal

# Some thousand objects: milliseconds.
READ_BYTES_MAX = 16 * 1024


class _Times:
    """How often the member looked for was told, in one document at a time."""

    told = 0


class _Text(StrEnum):
    """Any text. It has no member that somebody could name, so each is counted."""

    ABSENT = secrets.token_hex(16)

    @classmethod
    def _missing_(cls, _value: object) -> _Text:
        _Times.told += 1
        return cls.ABSENT


class _Object(msgspec.Struct, gc=False):
    """Any object."""

    def __post_init__(self) -> None:
        _Times.told += 1


class _Any:
    """Whatever a member holds."""


_ANY = _Any()


class _Type(msgspec.Struct, gc=False):
    type: _Text | _Object = _Text.ABSENT


class _Model(msgspec.Struct, gc=False):
    model: _Text | _Object = _Text.ABSENT


class _Session(msgspec.Struct, gc=False):
    session: _Text | _Object = _Text.ABSENT


class _SessionModel(msgspec.Struct, gc=False):
    session: _Model | None = None


class _AnyType(msgspec.Struct, gc=False):
    type: _Any = _ANY


class _AnyModel(msgspec.Struct, gc=False):
    model: _Any = _ANY


class _AnySession(msgspec.Struct, gc=False):
    session: _Any = _ANY


class _AnySessionModel(msgspec.Struct, gc=False):
    session: _AnyModel | None = None


def _count(_kind: type, _value: object) -> _Any:
    _Times.told += 1
    return _ANY


class _Told:
    """How often the one member of a struct was told."""

    def __init__(self, member: str, kind: type[msgspec.Struct], any_kind: type[msgspec.Struct]) -> None:
        self.member = member
        self._decoder = msgspec.json.Decoder(kind)
        # Called for each member of that name, where a struct keeps the last.
        self._any_decoder = msgspec.json.Decoder(any_kind, dec_hook=_count)

    def twice(self, data: bytes) -> bool:
        """Raises `msgspec.DecodeError` for what is no JSON object."""
        _Times.told = 0
        try:
            self._decoder.decode(data)
        except msgspec.ValidationError:
            if len(data) > READ_BYTES_MAX:
                return True
            _Times.told = 0
            self._any_decoder.decode(data)
        return _Times.told > 1


_TYPE = _Told("type", _Type, _AnyType)
_MODEL = _Told("model", _Model, _AnyModel)
_SESSION = _Told("session", _Session, _AnySession)
_SESSION_MODEL = _Told("model", _SessionModel, _AnySessionModel)


def refuse_second_model(body: bytes) -> None:
    """Of a request. Raises `Refusal`."""
    _refuse(body, (_MODEL,), "The request body names its {} twice.", "The request body is not valid JSON.")


def refuse_second(message: bytes) -> None:
    """Of a client's message on a socket. Raises `Refusal`."""
    members = (_TYPE, _MODEL, _SESSION, _SESSION_MODEL)
    _refuse(message, members, "A message names its {} twice.", "A message that is not a JSON object.")


def _refuse(data: bytes, members: tuple[_Told, ...], twice: str, broken: str) -> None:
    for told in members:
        try:
            found = told.twice(data)
        except msgspec.ValidationError:
            # No object, or in a place that Karta does not read either.
            continue
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Refusal(Kind.MALFORMED, broken) from None
        if found:
            raise Refusal(Kind.MALFORMED, twice.format(told.member))
