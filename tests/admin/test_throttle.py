"""What is counted together; that it is counted is tested where it is."""

from __future__ import annotations

import pytest

from admin import throttle
from admin.throttle import bucket
from storage.throttles import Rule


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unknown"),
        ("unix:", "unknown"),
    ],
)
def test_what_is_counted_together_with_an_address(address: str | None, counted: str) -> None:
    assert bucket(address) == counted


def test_each_rule_has_a_name_of_its_own() -> None:
    rules = [value for value in vars(throttle).values() if isinstance(value, Rule)]
    assert len(rules) >= 10
    assert len({rule.name for rule in rules}) == len(rules)
