"""The page in a real browser: every curve drawn, in both themes, wide and narrow, and nothing complains."""

from pathlib import Path

from selenium.webdriver.common.by import By

from bench.load.summary import Summary
from bench.report.files import write_report
from tests.admin.browser import open_browser
from tests.bench.compare.seen import comparison, idle, summary
from tests.bench.report.test_charts import spread


def test_every_curve_is_drawn_for_every_reader(tmp_path: Path) -> None:
    memory = [(0.0, 2**24), (1.0, 2**25)]
    rounds: dict[str, dict[str, list[Summary | None]]] = {
        "unary": {"direct": [spread(1)], "karta": [spread(3, memory)], "relay": [summary(rate=900)]},
        "paced": {"direct": [spread(1, events=True)], "karta": [spread(2, events=True)]},
        **{
            f"load@{rate}": {"direct": [spread(1)], "karta": [spread(2 + number)], "relay": [spread(3)]}
            for number, rate in enumerate((50, 500, 5000))
        },
    }
    seen = comparison(rounds, idle={"idle": {"karta": idle(9000)}}, broken=["relay, unary: 3 body (b'<x>')"])
    seen.unavailable = {"nginx": "not installed " + "for a long reason " * 9}
    page = write_report(seen, tmp_path)[-1]
    with open_browser() as browser:
        browser.driver.get(page.as_uri())
        browser.inspect("bench-report")
        places = browser.driver.find_elements(By.CSS_SELECTOR, ".plot")
        drawn = browser.driver.find_elements(By.CSS_SELECTOR, ".plot canvas")
        assert len(places) == len(drawn) > 6
        assert browser.complaints() == []
