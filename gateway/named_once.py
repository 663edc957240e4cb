"""Whether JSON tells twice what Karta decides by: its type, its model, or the session that names one.

Of two members of a name Karta reads the last. A server that reads the first would be a way round a key's
scope, or round being counted at all.

Nothing but these members becomes a Python object: of a body's 32 MiB of brackets that would keep a worker's
other connections waiting for seconds.
"""

from __future__ import annotations

import msgspec

from gateway.refusal import Kind, Refusal


class _Any:
    """Whatever a member holds."""


_ANY = _Any()


class _Type(msgspec.Struct, gc=False):
    type: _Any = _ANY


class _Model(msgspec.Struct, gc=False):
    model: _Any = _ANY


class _Session(msgspec.Struct, gc=False):
    session: _Any = _ANY


class _SessionModel(msgspec.Struct, gc=False):
    session: _Model | None = None


class _Told:
    """How often the one member of a struct was told, in one document at a time."""

    def __init__(self, member: str, kind: type[msgspec.Struct]) -> None:
        self.member = member
        self._times = 0
        # Called for each member of that name, where a struct keeps the last.
        self._decoder = msgspec.json.Decoder(kind, dec_hook=self._count)

    def _count(self, _kind: type, _value: object) -> _Any:
        self._times += 1
        return _ANY

    def twice(self, data: bytes) -> bool:
        """Raises `msgspec.DecodeError` for what is no JSON object."""
        self._times = 0
        self._decoder.decode(data)
        return self._times > 1


_TYPE = _Told("type", _Type)
_MODEL = _Told("model", _Model)
_SESSION = _Told("session", _Session)
_SESSION_MODEL = _Told("model", _SessionModel)


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
