"""Arms are chosen by name."""

import pytest

from bench.targets.registry import INSTALLABLE, TARGETS, targets_named
from bench.targets.url import URLTarget


def test_names_keep_their_order_and_lose_repeats() -> None:
    assert [target.name for target in targets_named("relay, direct,relay")] == ["relay", "direct"]
    assert list(TARGETS) == [
        *("direct", "relay", "nginx", "naive", "ferrogw", "respan-gateway", "portkey", "litellm", "karta")
    ]
    assert set(INSTALLABLE) == {"ferrogw", "respan-gateway", "portkey", "litellm"}


@pytest.mark.parametrize("names", ["relay,envoy", "", ","])
def test_unknown_names_are_told_with_the_known(names: str) -> None:
    with pytest.raises(ValueError, match="known are direct, relay"):
        targets_named(names)


def test_a_runs_own_targets_are_known_too() -> None:
    own = URLTarget("mine", "http://h", keys=["k"])
    assert targets_named("mine,relay", [own])[0] is own
