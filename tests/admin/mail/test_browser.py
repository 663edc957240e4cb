"""Letters as a browser draws them: light and dark, wide and narrow, and readable for everybody."""

from __future__ import annotations

from pathlib import Path

from admin.mail.rendering import render
from storage.letter_kinds import LetterKind
from tests.admin.browser import Browser
from tests.admin.mail.examples import LETTERS, ORIGIN


def test_letters_fit_and_are_accessible(browser: Browser, tmp_path: Path) -> None:
    shown = {LetterKind.RESET_PASSWORD, LetterKind.BUDGET_REACHED, LetterKind.INCIDENT}
    for letter in LETTERS:
        if letter.kind in shown:
            page = tmp_path / f"{letter.kind.value}.html"
            page.write_text(render(letter, ORIGIN).html)
            browser.driver.get(page.as_uri())
            browser.inspect(f"letter-{letter.kind.value}")
