"""Templates are rendered at once, escape what they are given, and none of them waits."""

from __future__ import annotations

import re
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from quart import Quart

from admin.rendering import Environment, _remember, fragment, render_template, url_for

ADMIN = Path(__file__).parent.parent.parent / "admin"


class App(Quart):
    jinja_environment = Environment  # type: ignore[assignment]


async def test_a_page_is_escaped_and_knows_the_request(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    page = "{{ request.path }} {{ told }} {{ url_for('page') }}"
    (tmp_path / "templates" / "page.html").write_text(page)
    app = App("test", root_path=str(tmp_path))
    app.add_url_rule("/there", "page")
    async with app.test_request_context("/here"):
        assert await render_template("page.html", told="<b>") == "/here &lt;b&gt; /there"


async def test_a_static_file_of_another_release_has_another_address(tmp_path: Path) -> None:
    seen = set()
    for content in ("old", "new", "new"):
        _remember.cache_clear()  # as a start does
        (tmp_path / "static").mkdir(exist_ok=True)
        (tmp_path / "static" / "x.css").write_text(content)
        app = App("test", root_path=str(tmp_path))
        async with app.test_request_context("/"):
            seen.add(url_for("static", filename="x.css"))
    _remember.cache_clear()
    assert len(seen) == 2
    assert all(re.fullmatch(r"/static/x\.css\?v=[0-9a-f]{12}", one) for one in seen)


async def test_paths_are_those_of_quart(tmp_path: Path) -> None:
    app = App("test", root_path=str(tmp_path))

    @app.get("/of/<org_id>")
    async def page(org_id: str) -> str:
        return org_id

    async with app.test_request_context("/"):
        # Asked twice: the second is remembered, and is not that of another organization.
        for given in ({"org_id": "a"}, {"org_id": "b"}, {"org_id": "a"}, {"org_id": "b", "days": 7}):
            assert url_for("page", **given) == app.url_for("page", **given)


async def test_a_fragment_is_rendered_once_for_its_values_and_escaped(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "piece.html").write_text("<i>{{ told }}{{ asked() }}</i>")
    (tmp_path / "templates" / "page.html").write_text("{{ fragment('piece.html', told=told) }}")
    app = App("test", root_path=str(tmp_path))
    app.jinja_env.globals.update(fragment=fragment, asked=partial(next, count(1)))
    async with app.test_request_context("/"):
        pages = [await render_template("page.html", told=told) for told in ("<b>", "<b>", "c")]
    assert pages == ["<i>&lt;b&gt;1</i>", "<i>&lt;b&gt;1</i>", "<i>c2</i>"]


@pytest.mark.parametrize("path", sorted(ADMIN.rglob("*.html")), ids=lambda path: path.name)
def test_no_template_turns_escaping_off_or_holds_a_script_or_style(path: Path) -> None:
    # A letter is no page: it brings its style sheet, a file of ours, along, as mail readers fetch none.
    text = path.read_text().replace("<style>{{ style | safe }}</style>", "")
    assert not re.search(r"\|\s*safe\b|autoescape|Markup", text)
    assert not re.search(r"style=|\son[a-z]+=|javascript:", text)
    for script in re.findall(r"<script[^>]*>", text):
        assert 'nonce="{{ nonce() }}"' in script
