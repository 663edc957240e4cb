"""Arms are chosen by name."""

import pytest

from bench.targets.registry import TARGETS, targets_named


def test_names_keep_their_order_and_lose_repeats() -> None:
    assert [target.name for target in targets_named("relay, direct,relay")] == ["relay", "direct"]
    assert list(TARGETS) == ["direct", "relay", "nginx", "naive", "karta"]


@pytest.mark.parametrize("names", ["relay,envoy", "", ","])
def test_unknown_names_are_told_with_the_known(names: str) -> None:
    with pytest.raises(ValueError, match="known are direct, relay"):
        targets_named(names)
