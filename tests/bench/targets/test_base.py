"""Every target says what the harness needs to know of it."""

from bench.targets.base import PLACEHOLDER_KEY, RunningTarget
from bench.targets.registry import TARGETS


def test_targets_describe_themselves() -> None:
    for name, target in TARGETS.items():
        assert target.name == name
        assert target.description
        assert isinstance(target.governed, bool)
        assert isinstance(target.optional, bool)


def test_the_placeholder_is_no_karta_key() -> None:
    assert not PLACEHOLDER_KEY.startswith("kt_")
    assert RunningTarget(base_url="http://h", keys=[PLACEHOLDER_KEY], pids=[]).notes == {}
