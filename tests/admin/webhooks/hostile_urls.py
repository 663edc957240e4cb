"""URLs that no webhook may reach a private listener by: one list for all tests. `{port}` is the listener's.

Those of `NAMES` are well written; what their name stands for (a resolver's answer) is what is hostile.
"""

# ruff: noqa: RUF001 - letters that look like others are what is tested

from __future__ import annotations

import ipaddress

_V4_SPELLINGS = (
    *("127.0.0.1", "127.1", "127.0.1", "127.000.000.001", "0177.0.0.1", "0177.0.0.01", "0177.00.00.01"),
    *("0x7f.0.0.1", "0x7f.1", "0x7f000001", "0x7F000001", "0X7f.0x0.0x0.0x1", "2130706433", "017700000001"),
    *("127.0.0.1.", "127.0.0.1..", "0", "0.0.0.0", "00000000.0", "127.255.255.254", "127.127", "1", "0x1"),
    *("①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.０.０.１", "127．0．0．1", "127.0.0.0x1", "4294967297"),
    *("127.0.0.1%2e", "%31%32%37.0.0.1", "127%2E0%2E0%2E1", "127.0.0.1%00", "127.0.0.1%09.example.com"),
    *("10.0.0.1", "10.1", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.1", "169.254.169.254"),
    *(
        "169.254.43518",
        "0xa9fea9fe",
        "2852039166",
        "025177524776",
        "0251.0376.0251.0376",
        "0xA9.0xFE.0xA9.0xFE",
    ),
    *("100.64.0.1", "100.100.100.200", "192.0.0.192", "198.18.0.1", "224.0.0.1", "255.255.255.255"),
    *("168.63.129.16", "192.0.2.1", "198.51.100.1", "203.0.113.1", "240.0.0.1", "8.8.8.8"),
)
_V6_SPELLINGS = (
    *("::1", "::", "0:0:0:0:0:0:0:1", "0000:0000:0000:0000:0000:0000:0000:0001", "::0001", "::127.0.0.1"),
    *(
        "::ffff:127.0.0.1",
        "::ffff:7f00:1",
        "::FFFF:7F00:0001",
        "0:0:0:0:0:ffff:127.0.0.1",
        "::ffff:0:127.0.0.1",
    ),
    *("64:ff9b::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:7f00:1::1"),
    *(
        "2002:a00:1::",
        "2002:a9fe:a9fe::",
        "2001:0:7f00:1::",
        "2001::1",
        "2001:db8::1",
        "2001:10::1",
        "3fff::1",
    ),
    *(
        "fe80::1",
        "fe80::1%lo",
        "fe80::1%25lo",
        "fe80::1%25eth0",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
    ),
    *(
        "ff01::1",
        "100::1",
        "5f00::1",
        "2001:4860:4860::5efe:127.0.0.1",
        "::1%25lo",
        "::1%lo",
        "2606:4700::1111",
    ),
)
_MALFORMED = (
    # Not https, or not quite.
    *(
        "http://hooks.example.com:{port}/",
        "HTTPS://127.0.0.1:{port}/",
        "https:/127.0.0.1:{port}/",
        "https:127.0.0.1",
    ),
    *("//127.0.0.1:{port}/", "ftp://127.0.0.1:{port}/", "file:///etc/passwd", "gopher://127.0.0.1:{port}/_x"),
    *("ws://127.0.0.1:{port}/", "wss://127.0.0.1:{port}/", "unix:///run/postgresql", "data:text/plain,x", ""),
    *(
        "javascript:alert(1)",
        "https+unix://x/",
        "jar:https://127.0.0.1!/",
        " https://127.0.0.1:{port}/",
        "https://",
    ),
    *(
        "ldap://127.0.0.1:{port}/",
        "dict://127.0.0.1:{port}/x",
        "https:///127.0.0.1:{port}/",
        "https:\\\\127.0.0.1",
    ),
    # Who reads them otherwise than we do.
    *("https://hooks.example.com@127.0.0.1:{port}/", "https://127.0.0.1:{port}@hooks.example.com/"),
    *(
        "https://user:pass@hooks.example.com/",
        "https://@127.0.0.1:{port}/",
        "https://hooks.example.com:@127.0.0.1/",
    ),
    *("https://hooks.example.com\\@127.0.0.1:{port}/", "https://127.0.0.1:{port}\\@hooks.example.com/"),
    *("https://127.0.0.1:{port}#@hooks.example.com/", "https://hooks.example.com#@127.0.0.1:{port}/"),
    *("https://127.0.0.1:{port}?@hooks.example.com/", "https://127.0.0.1:{port}\\.example.com/"),
    *(
        "https://127.0.0.1\t:{port}/",
        "https://127.0.0.1\n:{port}/",
        "https://127.0.0.1\r\n:{port}/",
        "https://\t127.0.0.1",
    ),
    *(
        "https://127.0.0.1 .example.com/",
        "https://127.0.0.1\x00.example.com/",
        "https://hooks.example.com/\r\nHost: a",
    ),
    *(
        "https://hooks.example.com/ HTTP/1.1\r\nX: y",
        "https://hooks.example.com:{port}:443/",
        "https://a.example:443:80",
    ),
    *("https://hooks.example.com:0/", "https://hooks.example.com:00443/", "https://hooks.example.com:65536/"),
    *("https://hooks.example.com:99999/", "https://hooks.example.com:-1/", "https://hooks.example.com:+443/"),
    *(
        "https://hooks.example.com:４４３/",
        "https://hooks.example.com:443 /",
        "https://hooks.example.com:0x1bb/",
    ),
    *("https://hooks.example.com:/", "https://hooks.example.com:22/", "https://hooks.example.com:25/"),
    *(
        "https://hooks.example.com:5432/",
        "https://hooks.example.com:6379/",
        "https://hooks.example.com:8080/",
    ),
    # Names that are only ours.
    *(
        "https://localhost:{port}/",
        "https://LOCALHOST/",
        "https://localhost./",
        "https://LocalHost.localdomain/",
    ),
    *(
        "https://a.localhost/",
        "https://db.internal/",
        "https://printer.local/",
        "https://metadata/",
        "https://a/",
    ),
    *("https://metadata.google.internal/", "https://router.home.arpa/", "https://a.corp/", "https://a.lan/"),
    *("https://x.onion/", "https://1.0.0.127.in-addr.arpa/", "https://a.test/", "https://a.invalid/"),
    *("https://kubernetes.default.svc/", "https://localhost.localdomain/", "https://a.intranet/"),
    # Tricks of international names and of labels.
    *(
        "https://ⓛocalhost/",
        "https://ｌｏｃａｌｈｏｓｔ/",
        "https://loc\u00adalhost/",
        "https://hooks.example.com\u3002evil/",
    ),
    *("https://hooks\u2024example.com/", "https://hooks.еxample.com/", "https://hooks.example.com\u2044x/"),
    *(
        "https://hooks.example.com\uff0f.evil.com/",
        "https://ﬁle.example.com/",
        "https://hooks.example.com\uff1a22/",
    ),
    *(
        "https://-a.example.com/",
        "https://a-.example.com/",
        "https://a..example.com/",
        "https://.example.com/",
    ),
    *(
        "https://a_b.example.com/",
        "https://*.example.com/",
        "https://hooks.example.com./",
        "https://example.com../",
    ),
    *("https://" + "a" * 64 + ".example.com/", "https://" + "a." * 130 + "com/", "https://a.example.c0m%/"),
    *("https://hooks.example.com/\u202e", "https://hooks.example.com/é", "https://hooks.example.com/<x>"),
    *('https://hooks.example.com/"', "https://hooks.example.com/{{}}", "https://hooks.example.com/a|b"),
    *(
        "https://hooks.example.com/" + "a" * 2048,
        "https://[hooks.example.com]/",
        "https://[127.0.0.1]:{port}/",
    ),
    *("https://[::1/", "https://::1]/", "https://[v1.fe80::a]/", "https://[::1]{port}/", "https://[]/"),
)
URLS = (
    *(f"https://{spelling}:{{port}}/" for spelling in _V4_SPELLINGS),
    *(f"https://{spelling}/" for spelling in _V4_SPELLINGS),
    *(f"https://[{spelling}]:{{port}}/" for spelling in _V6_SPELLINGS),
    *(f"https://[{spelling}]/hook" for spelling in _V6_SPELLINGS),
    *_MALFORMED,
)
"""None of these is taken, whatever a resolver would say."""

ANSWERS: dict[str, tuple[str, ...]] = {
    f"n{number}.hooks.example.com": answer
    for number, answer in enumerate(
        (
            *(
                (text,)
                for text in (
                    *(
                        "127.0.0.1",
                        "127.8.8.8",
                        "0.0.0.0",
                        "10.0.0.1",
                        "10.255.255.255",
                        "172.16.0.1",
                        "172.31.0.1",
                    ),
                    *(
                        "192.168.0.1",
                        "169.254.169.254",
                        "169.254.0.1",
                        "100.64.0.1",
                        "100.127.255.255",
                        "192.0.0.8",
                    ),
                    *(
                        "192.0.0.192",
                        "192.0.2.1",
                        "192.31.196.1",
                        "192.52.193.1",
                        "192.88.99.1",
                        "192.175.48.1",
                    ),
                    *(
                        "198.18.0.1",
                        "198.19.255.255",
                        "198.51.100.1",
                        "203.0.113.255",
                        "224.0.0.1",
                        "239.1.2.3",
                    ),
                    *("240.0.0.1", "255.255.255.255", "168.63.129.16", "100.100.100.200", "0.1.2.3"),
                    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8"),
                    *(
                        "::ffff:0:127.0.0.1",
                        "64:ff9b::7f00:1",
                        "64:ff9b:1::a00:1",
                        "64:ff9b::808:808",
                        "100::1",
                    ),
                    *("2001::1", "2001:0:7f00:1::", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1"),
                    *(
                        "2001:1ff::1",
                        "2002:7f00:1::",
                        "2002:a00:1::1",
                        "2620:4f:8000::1",
                        "3fff::1",
                        "3fff:fff::1",
                    ),
                    *(
                        "fc00::1",
                        "fd00:ec2::254",
                        "fe80::1",
                        "fe80::1%lo",
                        "fe80::1%1",
                        "fec0::1",
                        "ff02::1",
                        "ff0e::1",
                    ),
                    *(
                        "5f00::1",
                        "4000::1",
                        "8000::1",
                        "2a00:1450::5efe:7f00:1",
                        "2a00:1450::200:5efe:7f00:1",
                    ),
                    "2606:4700::1111%lo",
                )
            ),
            # Mixed: some of it is good.
            ("8.8.8.8", "127.0.0.1"),
            ("127.0.0.1", "8.8.8.8"),
            ("8.8.8.8", "1.1.1.1", "10.0.0.1"),
            ("2606:4700:4700::1111", "::1"),
            ("8.8.8.8", "::ffff:127.0.0.1"),
            ("not an address",),
            (),
        )
    )
}
"""What names stand for that are well written; each is refused."""

PUBLIC = tuple(
    ipaddress.ip_address(text)
    for text in (
        *("8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "192.0.1.1"),
        *("198.17.255.255", "198.20.0.0", "223.255.255.255", "169.253.1.1", "2606:4700:4700::1111"),
        *("2a00:1450:4001::200e", "2620:fe::fe", "2001:4860:4860::8888", "2400:cb00::1"),
    )
)
"""Neighbours of what is refused, which are not."""
