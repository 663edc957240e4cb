"""What either side's messages say, as far as Karta looks: what begins and ends, and by which model."""

from __future__ import annotations

import msgspec

from gateway.body_fields import BodyFields, Lenient, Other

# The least that sound of any of the formats takes: a token is a tenth of a second, of 8 kHz in base64.
_SOUND_BYTES_PER_TOKEN = 500
TEXT_BYTES_PER_TOKEN = 2


class Settings(msgspec.Struct, gc=False):
    """`session` or `response` of a realtime client's event."""

    model: str | Other | None = None
    max_output_tokens: int | float | str | Other | None = None
    max_response_output_tokens: int | float | str | Other | None = None


class Asked(BodyFields, gc=False):
    """A client's event: of the Responses API, the whole request stands beside its type."""

    type: str | Other | None = None
    event_id: str | Other | None = None
    session: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()


class Response(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    background: bool | None = None


class Error(msgspec.Struct, gc=False):
    event_id: str | None = None


class Session(msgspec.Struct, gc=False):
    model: str | None = None


class Told(msgspec.Struct, gc=False):
    """A provider's event."""

    type: str | None = None
    session: Session | None = None
    response_id: str | None = None
    response: Response | None = None
    error: Error | None = None
    status: int | None = None


asked_decoder = Lenient(Asked)
_settings_decoder = Lenient(Settings)
told_decoder = msgspec.json.Decoder(Told)


def settings_of(value: msgspec.Raw) -> Settings:
    """None told where there are none, and where they are no object."""
    try:
        return _settings_decoder.decode(bytes(value))
    except msgspec.DecodeError:
        return Settings()


def tokens_of(asked: Asked, size: int) -> int:
    """What a client's event adds to the conversation, at most."""
    if asked.type == "input_audio_buffer.append":
        return size // _SOUND_BYTES_PER_TOKEN
    return size // TEXT_BYTES_PER_TOKEN
