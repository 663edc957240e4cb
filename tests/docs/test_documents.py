"""What the documents point to is there. (`tox -e docs-build` checks anchors and lists besides, by Sphinx.)"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.licences import licence_of, licences, locked

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
LICENCES = {
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "PSF-2.0",
    "ISC",
    "Unlicense",
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(
        r"```.*?```|^(?: {4}|\t).*$|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL | re.MULTILINE
    )
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", sorted((DOCS / "explanation").glob("*.md")), ids=name)
def test_an_explanation_points_to_code_that_is_there(page: Path) -> None:
    named = re.findall(r"`((?:admin|gateway|storage|karta|bench|tests)/[\w./-]+)`", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_page_is_in_a_list() -> None:
    lists = (DOCS / "index.md").read_text() + (DOCS / "how-to" / "runbooks" / "index.md").read_text()
    lists += "runbooks/index.md"
    shown = [page for page in DOCS.rglob("*.md") if page.parent.name not in ("decisions", "docs")]
    assert [name(page) for page in shown if page.name not in lists] == []


def commands_of(text: str) -> Iterator[list[str]]:
    """The words after `karta` of each call in a page, up to what is the shell's: in spans of code, and in
    lines of blocks of it."""
    text = re.sub(r"\\\n\s*", " ", text).replace("docker compose run --rm admin ", "karta ")
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    fenced = "\n".join(re.findall(r"^ *```(?:sh)?\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE))
    lines = [*re.findall(r"^ {4,}(.*)$", text, re.MULTILINE), *fenced.splitlines()]
    for code in [*spans, *(line for line in lines if "`" not in line)]:
        for call in re.findall(r"(?:^|[\s/])karta ([a-z-].*)", code):
            yield re.split(r"\s(?=[#|<>;&(]|$)|$", call, maxsplit=1)[0].split()


def test_commands_that_documents_name_exist() -> None:
    from bench.command import parser as bench_parser
    from karta.cli import build_parser

    for page in PAGES:
        for words in commands_of(page.read_text()):
            parser = build_parser()
            for word in words:
                if parser._subparsers is not None and not word.startswith("-") and word.islower():
                    known = parser._subparsers._group_actions[0].choices
                    assert word in known, f"{name(page)}: karta {' '.join(words)}"  # type: ignore[operator]
                    parser = bench_parser() if word == "bench" else known[word]  # type: ignore[index, assignment]
                elif word.startswith("--"):
                    option = word.partition("=")[0]
                    assert option in parser._option_string_actions, f"{name(page)}: karta {' '.join(words)}"


def test_what_is_asked_by_curl_can_be_answered() -> None:
    """Of `/v1/messages` Anthropic wants its version, and a stream is to be seen as it comes."""
    text = "\n".join(re.sub(r"\\\n\s*", " ", page.read_text()) for page in PAGES)
    calls = re.findall(r"^ *curl .*/v1/messages .*$", text, re.MULTILINE)
    assert calls
    for call in calls:
        assert re.search("anthropic-version: [0-9-]{10}", call), call
        assert '"stream":true' not in call or "curl -N " in call, call


def test_environments_of_tox_that_documents_name_exist() -> None:
    environments = (ROOT / "tox.ini").read_text()
    for page in PAGES:
        for environment in re.findall(r"tox -e ([a-z-]+)", page.read_text()):
            assert re.search(rf"^\[testenv:.*\b{environment}\b", environments, re.MULTILINE), name(page)


def test_each_licence_is_known_and_listed() -> None:
    for package, _ in locked():
        found = re.split(r" (?:OR|AND) |[()]", licence_of(package))
        assert {one for one in found if one} <= LICENCES, f"{package}: {found}"
    page = (DOCS / "reference" / "licences.md").read_text()
    assert "\n".join(licences()) == page, "run `tox -e docs` (or `python -m tests.reference`)"
