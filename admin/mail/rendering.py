"""Letters as text and HTML.

Both parts are made of the same content. All of it is escaped in HTML; a link is the configured origin and a
path of ours. The HTML has one style sheet and no inline style, no image, no script and nothing from
elsewhere: reading it tells nobody anything."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from admin.mail import account_letters, organization_letters, public_letters
from admin.mail.content import Details, Link, Paragraph, Quote, unlinked
from storage.outbox import Letter

LETTERS = {**account_letters.LETTERS, **organization_letters.LETTERS, **public_letters.LETTERS}
"""What each kind says, made of its facts."""
_TEMPLATES = Path(__file__).parent / "templates"
_PATH = re.compile(r"/[A-Za-z0-9_~][A-Za-z0-9_~/.-]*")


class NotALetter(Exception):
    """A letter that cannot be written: its facts are not those of its kind."""


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """A letter as it is sent. Its repr shows nothing of it."""

    recipient: str
    subject: str
    text: str
    html: str

    def __repr__(self) -> str:
        return "<Mail>"


def render(letter: Letter, origin: str) -> Mail:
    """Raises NotALetter."""
    try:
        content = LETTERS[letter.kind](letter.facts)
        shown: dict[str, object] = {"content": content, "heading": unlinked(content.subject)}
        shown["blocks"] = [_show(block, origin) for block in content.blocks]
        shown["end"] = None if content.end is None else _show(content.end, origin)
        return Mail(
            recipient=letter.recipient,
            subject=content.subject,
            text=_environment().get_template("mail/letter.txt").render(shown),
            html=_environment().get_template("mail/letter.html").render(shown, style=style()),
        )
    except (LookupError, ValueError, TypeError, AssertionError) as error:
        raise NotALetter(f"a letter of the kind {letter.kind.value}: {type(error).__name__}") from None


def link(origin: str, path: str) -> str:
    """Raises ValueError for what is no path of ours."""
    if _PATH.fullmatch(path) is None:
        raise ValueError("not a path")
    return origin + path


@cache
def style() -> str:
    """The style sheet, which is the same in every letter."""
    return (_TEMPLATES / "mail" / "letter.css").read_text()


def content_security_policy() -> str:
    """For showing a letter's HTML to a browser: its own style sheet, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; sandbox"
    )


def _show(block: Paragraph | Link | Quote | Details, origin: str) -> dict[str, object]:
    shown: dict[str, object] = {"is": type(block).__name__.lower()} | msgspec.structs.asdict(block)
    if isinstance(block, Link):
        shown["url"] = link(origin, block.path)
    return shown


@cache
def _environment() -> Environment:
    # Of its own: the pages' has what only a request has.
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(("html",), default=True, disabled_extensions=("txt",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
