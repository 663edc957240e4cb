"""The fields of a JSON body that Karta reads.

Apart from `api_request`, because msgspec's classes are not for mypyc (see docs/decisions/0003).

Judging types is the provider's business, so a field may hold anything. But nothing is made of a list or an
object where a text or a number belongs: 32 MiB of brackets in place of a model's name would be ten million
objects and a gigabyte, and keep a worker's other connections waiting for seconds. Order: decode with the
types that the APIs name, which nearly always fit; where they do not, field by field (`Lenient`).
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec


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
