"""The grammar: pairs, types, bounds, and who wins."""

import pytest

from bench.sim.behaviour import PLAIN, Behaviour, BehaviourError, of_request, parse


def test_a_model_without_the_prefix_is_healthy() -> None:
    assert of_request("claude-sonnet-4-5", None) is PLAIN
    assert of_request(None, None) is PLAIN


def test_pairs_get_their_types() -> None:
    found = of_request("sim:tokens=50,pace_ms=2.5,refusal,error_type=x,should_retry=0", None)
    assert found == Behaviour(tokens=50, pace_ms=2.5, refusal=True, error_type="x", should_retry=False)


def test_the_header_wins_pair_by_pair() -> None:
    found = of_request("sim:tokens=50,seed=7", b"tokens=3,die=fin")
    assert found == Behaviour(tokens=3, seed=7, die="fin")


def test_a_header_steers_any_model() -> None:
    assert of_request("gpt-5", b"error=529").error == 529


@pytest.mark.parametrize(
    "text",
    [
        "tokens=many",
        "colour=red",
        "tokens=-1",
        "=5",
        "malformed=nicely",
        "x" * 5000,
        "tokens=99999999999",
        "error=200",
    ],
)
def test_what_cannot_be_read_is_said(text: str) -> None:
    with pytest.raises(BehaviourError):
        parse(text)


def test_the_message_names_the_key_and_the_keys_there_are() -> None:
    with pytest.raises(BehaviourError, match=r"colour.*Keys: .*tokens"):
        parse("colour=red")
