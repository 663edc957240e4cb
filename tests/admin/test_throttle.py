"""What is counted together; that each thing is counted is tested where it is."""

from __future__ import annotations

import pytest

from admin import csrf, throttle
from admin.throttle import bucket, site
from storage.throttles import Rule
from tests.admin.browsing import Visitor
from tests.admin.conftest import Person, running_admin


@pytest.mark.parametrize(
    ("address", "counted", "around"),
    [
        ("192.0.2.7", "192.0.2.7", None),
        ("::ffff:192.0.2.7", "192.0.2.7", None),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("2001:db8:1:ffff::1", "2001:db8:1:ffff::/64", "2001:db8:1::/48"),
        ("2001:db8:2:2::1", "2001:db8:2:2::/64", "2001:db8:2::/48"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/48"),
        (None, "unknown", None),
        ("unix:", "unknown", None),
    ],
)
def test_what_is_counted_together_with_an_address(
    address: str | None, counted: str, around: str | None
) -> None:
    assert (bucket(address), site(address)) == (counted, around)


async def test_who_changes_networks_within_a_site_is_kept_out_at_last(
    database_url: str, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "SIGN_IN_ADDRESS", Rule("sign_in:address", 1, 3600))
    monkeypatch.setattr(throttle, "SITE_CUSTOMERS", 2)

    async def attempt(visitor: Visitor, address: str) -> int:
        form = {csrf.FIELD: await visitor.token(), "email": person.email, "password": "wrong"}
        answer = await visitor.post("/sign-in", form, headers={"X-Forwarded-For": address})
        return answer.status_code

    async with running_admin(database_url, trusted_proxies="127.0.0.1/32") as url, Visitor(url) as visitor:
        # Of one network once; that it asks again takes nothing from the others.
        assert [await attempt(visitor, "2001:db8:1:1::1") for _ in range(4)] == [422, 429, 429, 429]
        told = [await attempt(visitor, f"2001:db8:1:{number}::1") for number in (2, 3, 4)]
        assert told == [422, 429, 429]
        assert await attempt(visitor, "2001:db8:2:1::1") == 422
        assert await attempt(visitor, "192.0.2.7") == 422


def test_each_rule_has_a_name_of_its_own() -> None:
    rules = [value for value in vars(throttle).values() if isinstance(value, Rule)]
    assert len(rules) >= 10
    assert len({rule.name for rule in rules}) == len(rules)
