"""What is told twice, in whatever spelling and place, and that nothing else is taken for it."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest

from gateway.named_once import READ_BYTES_MAX, refuse_second, refuse_second_model
from gateway.refusal import Kind, Refusal

TWICE = {
    "type": b'{"type":"x","type":"response.create"}',
    "type in disguise": rb'{"ty\u0070e":{"a":[1]},"n":null,"type":"x"}',
    "model": b'{"model":"a","type":"x","model":"a"}',
    "type as no text": b'{"type":[],"type":"x"}',
    "model as an object": b'{"model":{"model":"a"},"model":"a"}',
    "session as objects": b'{"session":{},"session":{"model":"a"}}',
    "session": b'{"type":"session.start","session":{"model":"a"},"session":null}',
    "model in its session": b'{"type":"session.start","session":{"model":"a","x":{},"model":"b"}}',
}
ONCE = {
    "each once": b'{"type":"session.update","model":"a","session":{"model":"b","type":"realtime"}}',
    "elsewhere": b'{"type":"x","item":{"type":"a","content":[{"type":"b"},{"type":"c"}],"model":"m"}}',
    "as values": b'{"type":"type","note":"\\"type\\":\\"x\\"","session":"model"}',
    "none": b"{}",
    "no object": b"[1]",
}


@pytest.mark.parametrize("name", TWICE)
def test_what_is_told_twice_is_refused(name: str) -> None:
    with pytest.raises(Refusal) as found:
        refuse_second(TWICE[name])
    assert found.value.kind is Kind.MALFORMED
    assert f"names its {name.partition(' ')[0]} twice" in found.value.message


@pytest.mark.parametrize("name", ONCE)
def test_what_is_told_once_passes(name: str) -> None:
    refuse_second(ONCE[name])
    refuse_second_model(ONCE[name])
    # And after one that did not.
    with pytest.raises(Refusal):
        refuse_second_model(TWICE["model"])
    refuse_second_model(ONCE[name])


@pytest.mark.parametrize("broken", [b"", b'{"type":"x"', b'{"a":\xff}', b'{"a":' + b"[" * 100_000])
def test_what_is_no_json_is_refused(broken: bytes) -> None:
    with pytest.raises(Refusal, match="not a JSON object"):
        refuse_second(broken)
    with pytest.raises(Refusal, match="not valid JSON"):
        refuse_second_model(broken)


@pytest.mark.parametrize("name", TWICE)
def test_a_long_one_is_as_a_short_one(name: str) -> None:
    long = b'{"note":"' + b"x" * READ_BYTES_MAX + b'",'
    with pytest.raises(Refusal, match=f"names its {name.partition(' ')[0]} twice"):
        refuse_second(long + TWICE[name][1:])
    for once in ("each once", "elsewhere"):
        refuse_second(long + ONCE[once][1:])


BRACKETS = b"[" + b"[]," * 300_000 + b"[]]"


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":%s}',
        b'{"type":{"a":%s}}',
        b'{"model":"a","model":%s}',
        b'{"session":%s}',
        b'{"session":{"model":%s}}',
        b'{"session":{"a":%s},"model":"m"}',
        b'{"a":%s}',
    ],
)
def test_nothing_is_made_of_brackets(data: bytes) -> None:
    tracemalloc.start()
    with contextlib.suppress(Refusal):
        refuse_second(data % BRACKETS)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2 * len(BRACKETS)
