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
    # Where the model that writes down what a client says is named, now and before the API was settled.
    audio: msgspec.Raw = msgspec.Raw()
    input_audio_transcription: msgspec.Raw = msgspec.Raw()


class _Transcription(msgspec.Struct, gc=False):
    model: str | None = None


class _AudioInput(msgspec.Struct, gc=False):
    transcription: _Transcription | None = None


class _Audio(msgspec.Struct, gc=False):
    input: _AudioInput | None = None


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
_audio_decoder = msgspec.json.Decoder(_Audio)
_transcription_decoder = msgspec.json.Decoder(_Transcription)


def settings_of(value: msgspec.Raw) -> Settings:
    """None told where there are none, and where they are no object."""
    try:
        return _settings_decoder.decode(bytes(value))
    except msgspec.DecodeError:
        return Settings()


def transcriber_of(session: Session) -> str | None:
    """The model that writes down what a client says; None where none is told, and where that is no object."""
    try:
        if len(session.audio):
            given = _audio_decoder.decode(session.audio).input
            if given is not None and given.transcription is not None:
                return given.transcription.model
        if len(session.input_audio_transcription):
            return _transcription_decoder.decode(session.input_audio_transcription).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # What the rest of the event says holds all the same.
        pass
    return None


def tokens_of(asked: Asked, size: int) -> int:
    """What a client's event adds to the conversation, at most."""
    if asked.type == "input_audio_buffer.append":
        return size // _SOUND_BYTES_PER_TOKEN
    return size // TEXT_BYTES_PER_TOKEN
