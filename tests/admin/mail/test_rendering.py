"""Every letter, looked at by its structure: as a mail program parses it."""

from __future__ import annotations

import re
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

import html5lib
import pytest

from admin.app import create_app
from admin.mail.rendering import LETTERS as WRITERS
from admin.mail.rendering import Mail, NotALetter, content_security_policy, link, render, style
from admin.services import Services
from admin.settings import AdminSettings
from storage.letter_kinds import BROADCASTS, SECRETS, TOPICS, LetterKind
from storage.outbox import Letter
from tests.admin.conftest import MASTER_KEYS
from tests.admin.mail.examples import FACTS, LETTERS, ORIGIN, SECRET

every_letter = pytest.mark.parametrize("letter", LETTERS, ids=lambda letter: letter.kind.value)
ALLOWED = {
    *("html", "head", "body", "meta", "title", "style", "main", "h1", "p", "a", "br"),
    *("blockquote", "table", "tbody", "tr", "th", "td"),
}
ATTRIBUTES = {"lang", "charset", "name", "content", "class", "href", "rel", "scope"}


def parse(mail: Mail) -> Element:
    parser = html5lib.HTMLParser(namespaceHTMLElements=False, strict=True)
    document: Element = parser.parse(mail.html)
    return document


def links(document: Element) -> list[str]:
    return [str(element.get("href")) for element in document.iter("a")]


def text_of(document: Element) -> str:
    body = document.find("body")
    assert body is not None
    return " ".join("".join(body.itertext()).split())


def test_each_kind_can_be_written() -> None:
    assert set(WRITERS) == set(FACTS) == set(LetterKind)


@every_letter
def test_the_html_is_plain_and_holds_nothing_from_elsewhere(letter: Letter) -> None:
    document = parse(render(letter, ORIGIN))
    assert {element.tag for element in document.iter()} <= ALLOWED
    assert {name for element in document.iter() for name in element.attrib} <= ATTRIBUTES
    assert document.get("lang") == "en"
    assert len(list(document.iter("h1"))) == 1
    assert "url(" not in style()
    assert "@import" not in style()
    (sheet,) = document.iter("style")
    assert sheet.text == style(), "what the policy of the page that shows it has the digest of"


@every_letter
def test_each_link_is_ours_and_leads_somewhere(letter: Letter) -> None:
    mail = render(letter, ORIGIN)
    paths = _routes()
    found = links(parse(mail))
    assert found or letter.kind in {
        LetterKind.EMAIL_TAKEN,
        LetterKind.EMAIL_CHANGED,
        LetterKind.ACCOUNT_DELETED,
    }
    for url in found:
        assert url.startswith(f"{ORIGIN}/")
        assert paths.match(urlsplit(url).path, method="GET")
    assert all(url in mail.text for url in found), "the text has each link as well"


@every_letter
def test_text_and_html_say_the_same(letter: Letter) -> None:
    mail = render(letter, ORIGIN)
    html = text_of(parse(mail))
    for said in mail.text.partition("\n-- \n")[0].splitlines():
        words = " ".join(said.removeprefix("> ").split())
        if not words or words.startswith(ORIGIN):
            continue
        for part in words.split(": ", 1) if words not in html else [words]:
            assert part.rstrip(":") in html, part


@every_letter
def test_what_strangers_wrote_is_neither_header_nor_link(letter: Letter) -> None:
    mail = render(letter, ORIGIN)
    assert mail.subject.isprintable()
    assert 10 < len(mail.subject) <= 150
    assert "\r" not in mail.text
    assert "\u202e" not in mail.text + mail.html
    assert "{{ 7*7 }}" in mail.text or "49" not in mail.text.replace("$49.00", "")
    if letter.kind not in {LetterKind.ABUSE_REPORTED, LetterKind.INCIDENT}:
        body = text_of(parse(mail))
        assert "http://evil" not in mail.text + body, "no mail program makes a link of it"
    assert not re.search(r"^Bcc", mail.text, re.MULTILINE)
    assert not re.search(r"^From: boss", mail.text, re.MULTILINE), "each quoted line says that it is one"


@every_letter
def test_secrets_are_in_the_link_and_nowhere_else(letter: Letter) -> None:
    mail = render(letter, ORIGIN)
    times = 1 if letter.kind in SECRETS else 0
    assert (mail.text.count(SECRET), mail.html.count(SECRET)) == (times, times)
    assert SECRET not in mail.subject + repr(mail) + repr(letter)


@every_letter
def test_what_can_be_ended_says_where(letter: Letter) -> None:
    foot = render(letter, ORIGIN).text.partition("\n-- \n")[2]
    assert "You get this because" in foot
    ends = letter.kind in TOPICS or letter.kind in BROADCASTS
    assert (ORIGIN in foot) is ends
    if letter.kind in BROADCASTS:
        assert "/end" in foot


def test_facts_of_another_kind_are_no_letter() -> None:
    for facts in ({}, {"path": "https://evil.example/"}, {"path": "//evil.example/x"}, {"path": "/a b"}):
        with pytest.raises(NotALetter):
            render(Letter(kind=LetterKind.SIGN_UP, recipient="a@b.example", facts=facts), ORIGIN)
    with pytest.raises(ValueError, match="path"):
        link(ORIGIN, "@evil.example/")


def test_the_policy_lets_nothing_but_the_style_sheet() -> None:
    policy = content_security_policy()
    assert "default-src 'none'" in policy
    assert policy.endswith("sandbox")
    assert "unsafe" not in policy


@cache
def _routes() -> Any:
    nobody: Any = None
    settings = AdminSettings.load(database_url="postgresql://x/y")
    app = create_app(Services(nobody, settings, nobody, ORIGIN, MASTER_KEYS))
    return app.url_map.bind("admin.example.com", url_scheme="https")
