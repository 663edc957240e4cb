"""The page holds everything, needs nothing from outside, and keeps foreign text apart."""

import json
import re

from bench.load.summary import Summary
from bench.report.page import report_html
from tests.bench.compare.seen import comparison, idle, summary
from tests.bench.report.test_charts import seen_load


def page(**changes: object) -> str:
    rounds: dict[str, dict[str, list[Summary | None]]] = {
        "unary": {
            "direct": [summary(rate=1000, p50=1.0)],
            "relay": [summary(rate=950, p50=1.5, cpu_seconds=1.0)],
            "karta": [summary(rate=600, p50=2.0, cpu_seconds=1.0)],
        }
    }
    return report_html(comparison(rounds, idle={"idle": {"karta": idle(10 * 1024)}}, **changes))


def test_figures_goals_and_versions_are_told() -> None:
    text = page(
        versions={"relay": "1.2.3"}, commands={"relay": ["relay", "--port"]}, command=["karta", "bench"]
    )
    assert "requests/s, karta / relay" in text
    assert "<span class=yes>yes</span>" in text
    assert "†" in text
    assert "added p50 ms" in text
    assert ">10.0<" in text
    assert "1.2.3" in text
    assert "relay --port" in text
    assert "3 answers checked" in text
    assert "a processor" in text


def test_a_variant_has_its_arms_version_and_notes_are_words() -> None:
    text = page(versions={"karta": "1.2.3"}, commands={"karta (TLS)": ["karta", "up"]})
    assert '<th scope="row">karta (TLS)</th><td>1.2.3</td>' in text
    assert '<th scope="col" class=words>note</th>' in text
    assert "harness is the limit, and not the arm" in text


def test_what_was_wrong_comes_first() -> None:
    text = page(broken=["naive, unary: 3 events"], unavailable={"nginx": "not installed"})
    assert text.index("<h2>Wrong</h2>") < text.index("<h2>Goals</h2>")
    assert "nginx took no part: not installed" in text
    assert "runs with wrong ones are told above" in text
    assert "<h2>Wrong</h2>" not in page()


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = re.sub(r"/\*!.*?\*/", "", page(), flags=re.DOTALL)
    assert not re.search(r"(?:src|href)\s*=|url\(|@import|https?://", text)


def test_foreign_text_stays_text() -> None:
    seen = seen_load()
    seen.broken = ["x: </script><script>alert(1)</script>"]
    seen.commands = {"<b>": ["<i>"]}
    seen.options.arms[1] = seen.options.arms[1]
    text = report_html(seen)
    assert "<script>alert" not in text
    assert "<b>" not in text
    assert text.count("</script>") == 3


def test_the_data_of_the_curves_is_json() -> None:
    found = re.search(r"id=data>(.*?)</script>", report_html(seen_load()), re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert data["arms"] == ["direct", "karta"]
    assert len(data["charts"]) == report_html(seen_load()).count("data-chart=")
    assert all(len(line["x"]) == len(line["y"]) for chart in data["charts"] for line in chart["lines"])
