"""Every model that a body names beside its first is found, told once or twice, in whatever spelling."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest

from gateway.other_models import ENTRIES_MAX, Unreadable, other_models, refuse_other_models
from gateway.refusal import Kind, Refusal

NAMED = {
    b"{}": [],
    b'{"model":"a"}': [],
    b'{"fallbacks":[{"model":"a"},{"model":"b","max_tokens":7}]}': ["a", "b"],
    b'{"fallbacks":[{"model":"a"}],"fallbacks":[{"model":"b"}]}': ["a", "b"],
    b'{"fallbacks":[{"model":"a","model":"b"}],"fallbacks":null}': ["a", "b"],
    rb'{"f\u0061llbacks":[{"\u006dodel":"\u0061"}]}': ["a"],
    b'{"models":["a","b","a"]}': ["a", "b"],
    b'{"tools":[{"type":"advisor_20260301","model":"a"},{"name":"x","input_schema":{"model":"b"}}]}': ["a"],
    b'{"tools":[{"type":"image_generation","model":"a","svg":{"model":"b"}}]}': ["a", "b"],
    b'{"tools":null,"models":null}': [],
    b'{"metadata":{"fallbacks":[{"model":"a"}]}}': [],
}


@pytest.mark.parametrize("body", NAMED)
def test_all_are_found(body: bytes) -> None:
    found = other_models(body)
    assert list(found.names) == NAMED[body]
    assert not found.by_default
    refuse_other_models(body, {"a", "b"})
    if found.names:
        with pytest.raises(Refusal) as refused:
            refuse_other_models(body, {"other"})
        assert refused.value.kind is Kind.MODEL_FORBIDDEN


def test_what_is_told_of_the_length_of_answers() -> None:
    assert (
        other_models(b'{"fallbacks":[{"max_tokens":5}],"tools":[{"max_tokens":7.5},{}]}').output_tokens_max
        == 7.5
    )
    assert other_models(b'{"max_tokens":9,"fallbacks":[{"model":"a"}]}').output_tokens_max == -1


def test_the_provider_s_own_choice_is_nobody_s() -> None:
    body = b'{"fallbacks":"default"}'
    assert other_models(body).by_default
    with pytest.raises(Refusal, match="name them") as refused:
        refuse_other_models(body, {"a"})
    assert refused.value.kind is Kind.MODEL_FORBIDDEN
    # And nothing of it is left for the next.
    assert not other_models(b"{}").by_default


@pytest.mark.parametrize(
    "body",
    [
        b'{"fallbacks":["a"]}',
        b'{"fallbacks":[{"model":["a"]}]}',
        b'{"fallbacks":{"model":"a"}}',
        b'{"models":[{"id":"a"}]}',
        b'{"tools":[[]]}',
        b'{"tools":' + b"[{}" + b",{}" * ENTRIES_MAX + b"]}",
        b'{"models":' + b'[""' + b',""' * ENTRIES_MAX + b"]}",
        b'{"a":' + b"[" * 100_000,
        b"[]",
        b"{",
        b'{"a":\xff}',
    ],
    ids=range(11),
)
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable):
        other_models(body)
    with pytest.raises(Refusal, match="cannot be read") as refused:
        refuse_other_models(body, {"a"})
    assert refused.value.kind is Kind.MALFORMED


BRACKETS = b"[" + b"[]," * 300_000 + b"[]]"


@pytest.mark.parametrize("data", [b'{"fallbacks":%s}', b'{"tools":[{"model":%s}]}', b'{"tools":[{"a":%s}]}'])
def test_nothing_is_made_of_brackets(data: bytes) -> None:
    body = data % BRACKETS
    tracemalloc.start()
    with contextlib.suppress(Unreadable):
        other_models(body)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < len(BRACKETS)
