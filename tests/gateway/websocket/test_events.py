"""What is read of a socket's messages, and what a conversation grows by."""

from __future__ import annotations

import msgspec
import pytest

from gateway.websocket.events import Settings, asked_decoder, settings_of, tokens_of, told_decoder


@pytest.mark.parametrize("value", [b"", b"null", b"17", b'"gpt-test"', b"[]"])
def test_settings_that_are_no_object_tell_nothing(value: bytes) -> None:
    assert settings_of(msgspec.Raw(value)) == Settings()


def test_settings_are_the_members_that_decide() -> None:
    found = settings_of(msgspec.Raw(b'{"model":"gpt-test","max_output_tokens":"inf","voice":{}}'))
    assert found == Settings(model="gpt-test", max_output_tokens="inf")


def test_sound_adds_less_to_a_conversation_than_text_of_its_size() -> None:
    sound = asked_decoder.decode(b'{"type":"input_audio_buffer.append"}')
    text = asked_decoder.decode(b'{"type":"conversation.item.create"}')
    assert (tokens_of(sound, 5_000), tokens_of(text, 5_000)) == (10, 2_500)


def test_a_providers_event_is_read_by_what_it_belongs_to() -> None:
    event = told_decoder.decode(b'{"type":"response.created","response":{"id":"resp_1","model":"m","x":[]}}')
    assert event.type == "response.created"
    assert event.response is not None
    assert (event.response.id, event.response.model, event.response.background) == ("resp_1", "m", None)
