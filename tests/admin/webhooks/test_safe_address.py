"""Where webhooks may go. The lists are in `hostile_urls`; that none of them connects is in `test_dialing`."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin.webhooks.safe_address import (
    Rules,
    Target,
    UnsafeAddress,
    UnsafeURL,
    check_answer,
    is_safe,
    parse,
)
from tests.admin.webhooks.hostile_urls import ANSWERS, PUBLIC, URLS

STRICT = Rules()


def test_every_hostile_url_is_refused() -> None:
    assert len(set(URLS)) >= 200
    taken = []
    for url in URLS:
        try:
            taken.append(parse(url.replace("{port}", "443"), STRICT))
        except UnsafeURL:
            continue
    assert taken == []


def test_every_hostile_answer_is_refused() -> None:
    for name, answer in ANSWERS.items():
        parse(f"https://{name}/", STRICT)
        with pytest.raises(UnsafeAddress):
            check_answer(answer, STRICT)


def test_what_is_public_is_taken() -> None:
    assert [address for address in PUBLIC if not is_safe(address, STRICT)] == []
    assert check_answer(["8.8.8.8", "2606:4700:4700::1111", "8.8.8.8"], STRICT) == [
        ipaddress.ip_address("8.8.8.8"),
        ipaddress.ip_address("2606:4700:4700::1111"),
    ]


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hooks.example.com", Target("hooks.example.com", 443, "/")),
        ("https://hooks.example.com/a/b?c=d&e=%20", Target("hooks.example.com", 443, "/a/b?c=d&e=%20")),
        ("https://hooks.example.com?x", Target("hooks.example.com", 443, "/?x")),
        ("https://xn--bcher-kva.example.com:8443/", Target("xn--bcher-kva.example.com", 8443, "/")),
        ("https://a.xn--p1ai/", Target("a.xn--p1ai", 443, "/")),
        ("https://a1.b-c.example.co.uk/~x/", Target("a1.b-c.example.co.uk", 443, "/~x/")),
    ],
)
def test_what_a_url_is_taken_for(url: str, target: Target) -> None:
    assert parse(url, STRICT) == target


def test_the_host_header_names_a_port_that_is_not_the_usual_one() -> None:
    assert parse("https://a.example.com:8443/", STRICT).authority == "a.example.com:8443"
    assert parse("https://a.example.com:443/", STRICT).authority == "a.example.com"


def test_a_private_network_can_be_opened_and_nothing_else_with_it() -> None:
    rules = Rules(allowed_networks=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("fd00::/8")))
    assert parse("https://localhost:9999/hook", rules) == Target("localhost", 9999, "/hook")
    assert parse("https://db.internal/", rules).host == "db.internal"
    assert check_answer(["127.0.0.1"], rules)
    assert check_answer(["fd00::1"], rules)
    for refused in ("10.0.0.1", "::1", "169.254.169.254", "fd00::1%lo", "::ffff:127.0.0.1"):
        with pytest.raises(UnsafeAddress):
            check_answer([refused], rules)
    for url in (
        "http://localhost/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://u@localhost/",
        "https://2130706433/",
    ):
        with pytest.raises(UnsafeURL):
            parse(url, rules)


def test_we_are_no_receiver_of_our_own() -> None:
    with pytest.raises(UnsafeURL, match="Karta itself"):
        parse("https://admin.karta.example.com/x", Rules(own_hosts=frozenset({"admin.karta.example.com"})))


@given(st.integers(0, 2**32 - 1))
def test_no_form_that_embeds_an_address_is_taken(number: int) -> None:
    for v6 in (
        number,
        0xFFFF << 32 | number,
        0xFFFF << 48 | number,
        0x64_FF9B << 96 | number,
        0x64_FF9B_0001 << 80 | number,
        0x2002 << 112 | number << 80,
        0x2001_0000 << 96 | number,
        0x2A00 << 112 | 0x5EFE << 32 | number,
    ):
        assert not is_safe(ipaddress.IPv6Address(v6), STRICT)


@given(st.integers(0, 2**128 - 1))
def test_what_python_knows_as_private_is_never_taken(number: int) -> None:
    for address in (ipaddress.IPv6Address(number), ipaddress.IPv4Address(number & 0xFFFFFFFF)):
        if is_safe(address, STRICT):
            assert address.is_global
            assert not address.is_multicast


@given(st.text(max_size=60))
def test_any_text_is_refused_or_read_as_it_is_written(text: str) -> None:
    try:
        target = parse("https://" + text, STRICT)
    except UnsafeURL:
        return
    assert ("https://" + text).startswith(f"https://{target.host}")
    assert target.port in (443, 8443)
