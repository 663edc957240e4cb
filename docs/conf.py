"""How the documentation is built: Sphinx reads the same Markdown that is read in the repository.

`tox -e docs-build` makes every warning an error: a link that leads nowhere, a page that is in no list. What
stands at the side of each page is said here, so that there is nothing in the pages that only Sphinx reads.
"""

from __future__ import annotations

from typing import Any

project = "Karta"
author = "The Karta authors"
extensions = ["myst_parser"]
exclude_patterns = ["_build", "requirements.*"]
root_doc = "index"
html_theme = "furo"
html_title = "Karta"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
# Fragments of settings, shell and SQL stand indented; nothing is to be guessed of their language.
highlight_language = "none"
nitpicky = True

CONTENTS = {
    "index": {
        "Tutorials": ["tutorial/first-request", "tutorial/to-production"],
        "How-to": ["how-to/*", "how-to/runbooks/index"],
        "Reference": ["reference/*"],
        "Benchmarks": ["benchmarks/README", "benchmarks/2*"],
        "Explanation": ["explanation/architecture", "explanation/*", "decisions/README"],
    },
    "decisions/README": {"": ["0*"]},
    "how-to/runbooks/index": {"": ["*"]},
}
"""By page and caption, what is below it."""


def _add_contents(_app: object, page: str, source: list[str]) -> None:
    for caption, pages in CONTENTS.get(page, {}).items():
        options = [":hidden:", ":glob:", *([f":caption: {caption}"] if caption else [])]
        source[0] += "\n".join(["", "", ":::{toctree}", *options, *pages, ":::", ""])


def setup(app: Any) -> None:
    app.connect("source-read", _add_contents)
