"""The fields of a JSON body that Karta reads.

Apart from `api_request`, because msgspec's classes are not for mypyc (see docs/decisions/0003).

Judging types is the provider's business, so a field may hold anything. But nothing is made of a list or an
object where a text or a number belongs: 32 MiB of brackets in place of a model's name would be ten million
objects and a gigabyte, and keep a worker's other connections waiting for seconds. Order: decode with the
types that the APIs name, which nearly always fit; where they do not, field by field (`Lenient`).
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

import msgspec

from gateway.refusal import Kind, Refusal


class Other(msgspec.Struct, gc=False):
    """What is there has another type than is looked for; nothing of it is kept."""


class BodyFields(msgspec.Struct, gc=False):
    """What Karta reads of a JSON body."""

    model: str | Other | None = None
    stream: bool | Other | None = None
    max_tokens: int | float | Other | None = None
    max_completion_tokens: int | float | Other | None = None
    max_output_tokens: int | float | str | Other | None = None
    n: int | float | Other | None = None
    service_tier: str | Other | None = None
    previous_response_id: str | Other | None = None
    conversation: str | Other | None = None
    container: str | Other | None = None
    thread: str | Other | None = None
    background: bool | Other | None = None
    fallbacks: str | Other | None = None
    """Their models, if somebody has to know them, `other_models` finds."""


Fields = TypeVar("Fields", bound=msgspec.Struct)


class Lenient(Generic[Fields]):
    """Decodes a struct of such fields, each of which may be an `Other` or is a `msgspec.Raw`."""

    def __init__(self, kind: type[Fields]) -> None:
        self._kind = kind
        self._types = {field.name: field.type for field in msgspec.structs.fields(kind)}
        fields = [(name, msgspec.Raw, msgspec.Raw()) for name in kind.__struct_fields__]
        self._usual = msgspec.json.Decoder(kind)
        self._unusual: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
            msgspec.defstruct(kind.__name__, fields, gc=False)
        )

    def decode(self, data: bytes) -> Fields:
        """Raises `msgspec.ValidationError` for what is no object, or for a number beyond all bounds; other
        errors as msgspec does."""
        try:
            return self._usual.decode(data)
        except msgspec.ValidationError:
            return self.decode_unusual(data)

    def decode_unusual(self, data: bytes) -> Fields:
        """The same for what is known not to have the usual types."""
        told = self._unusual.decode(data)
        found = self._kind()
        for name, kind in self._types.items():
            value = getattr(told, name)
            if len(value):
                setattr(found, name, value if kind is msgspec.Raw else _of_type(value, kind))
        return found


def _of_type(value: msgspec.Raw, kind: Any) -> object:
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.ValidationError:
        if bytes(memoryview(value)[:1]) not in (b"[", b"{"):
            # Or it is a number that nothing can hold.
            msgspec.json.decode(value)
        return Other()


NO_FIELDS: Final = BodyFields()
_lenient: Final = Lenient(BodyFields)


def read_unusual(body: bytes, *, json: bool) -> BodyFields:
    """What has other types than the APIs name, or cannot be read at all. Raises `Refusal` where it should be
    JSON (`json`)."""
    try:
        return _lenient.decode_unusual(body)
    except msgspec.ValidationError:
        if body.lstrip()[:1] == b"{":
            # Nothing is demanded of the fields' types, so this is a number beyond all bounds: what it was
            # meant to be nobody can tell, and two readers would tell it differently.
            raise Refusal(Kind.MALFORMED, "A number in the request body is out of range.") from None
        # JSON, but not an object: the provider has its own words for that.
        return NO_FIELDS
    except (msgspec.DecodeError, UnicodeDecodeError):
        if not json:
            return NO_FIELDS
        raise Refusal(Kind.MALFORMED, "The request body is not valid JSON.") from None
    except RecursionError:
        raise Refusal(Kind.MALFORMED, "The request body is nested too deeply.") from None
