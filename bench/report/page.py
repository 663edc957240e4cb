"""One HTML file with everything a comparison showed: tables, curves, what it ran on.  No network needed.

Whatever was measured is data in the page, drawn by `report.js` with uPlot; text that came from outside
(names, reasons, versions) is escaped.
"""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from bench.compare.comparison import Comparison
from bench.compare.figures import (
    added,
    figures_of,
    first_p50,
    first_p99,
    harness_bound,
    latency_p50,
    latency_p99,
    metric_median,
    rate_within,
)
from bench.compare.goals import ratios
from bench.compare.machine import idle_load_max
from bench.compare.scenarios import Scenario
from bench.compare.table import arms_of, outsiders
from bench.report.charts import (
    Chart,
    distribution_charts,
    families,
    family_charts,
    frontier,
    memory_charts,
)

_HERE = Path(__file__).parent
_P99_BOUNDS_MS = (5.0, 20.0, 100.0)
_KIBIBYTE = 1024
_REASON_CHARACTERS = 240


def _number(value: float, digits: int = 0) -> str:
    return "-" if math.isnan(value) else f"{value:,.{digits}f}"


def _cut(reason: str) -> str:
    """Return the beginning of a reason; the rest of it is in the JSON document."""
    return reason if len(reason) <= _REASON_CHARACTERS else reason[:_REASON_CHARACTERS] + " ..."


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", words: Sequence[str] = ()
) -> str:
    """Cells are HTML already; the first of a row is its heading. Columns of `words` are not numbers."""
    kinds = [" class=words" if cell in words else "" for cell in head]
    top = "".join(
        f'<th scope="col"{kind}>{escape(cell)}</th>' for cell, kind in zip(head, kinds, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    table = f"<table>{told}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    # Whoever has no mouse scrolls a wide one by the keyboard, which must be able to get there.
    return f'<div class="wide" tabindex=0>{table}</div>'


class Page:
    """Puts the page together; charts are numbered as they come."""

    def __init__(self, seen: Comparison) -> None:
        self.seen = seen
        self.arms = arms_of(seen)
        self._charts: list[Chart] = []

    def html(self) -> str:
        seen = self.seen
        body = "\n".join(
            part
            for part in (
                self._head(),
                self._verdict(),
                self._goals(),
                self._overview(),
                *(self._family(name, points) for name, points in families(seen).items()),
                *(self._scenario(one) for one in seen.scenarios if not one.family),
                self._idle(),
                self._machine(),
            )
            if part
        )
        data = msgspec.json.encode({"arms": self.arms, "charts": self._charts}).decode()
        # Whatever a name or a reason holds, it cannot end the script it stands in.
        data = data.replace("</", "<\\/")
        title = escape(f"{seen.title or 'Comparison'} · karta bench")
        return (
            "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
            '<meta name=viewport content="width=device-width, initial-scale=1">'
            '<meta name=color-scheme content="light dark">'
            f"<title>{title}</title><style>{_asset('vendor/uPlot.min.css')}{_asset('report.css')}</style></head>"
            f"<body><main>{body}</main>"
            f'<script type="application/json" id=data>{data}</script>'
            f"<script>{_asset('vendor/uPlot.iife.min.js')}</script><script>{_asset('report.js')}</script>"
            "</body></html>\n"
        )

    def _plots(self, charts: Sequence[Chart]) -> str:
        out = []
        for chart in charts:
            note = f"<p>{escape(chart.note)}</p>" if chart.note else ""
            out.append(
                f"<figure><figcaption>{escape(chart.title)}</figcaption>{note}"
                f'<div class=plot data-chart="{len(self._charts)}" role=figure '
                f'aria-label="{escape(chart.title)}: {escape(chart.y.label)} by {escape(chart.x.label)}">'
                "</div></figure>"
            )
            self._charts.append(chart)
        return f"<div class=plots>{''.join(out)}</div>" if out else ""

    def _head(self) -> str:
        seen = self.seen
        return (
            f"<header><h1>{escape(seen.title or 'Comparison')}</h1>"
            f"<p>{escape(seen.began)} · {seen.options.rounds} round(s) of {seen.options.seconds:g} s, "
            f"medians · {escape(seen.machine.processor)}</p></header>"
        )

    def _verdict(self) -> str:
        seen = self.seen
        answers = sum(
            summary.answers_checked
            for by_arm in seen.rounds.values()
            for summaries in by_arm.values()
            for summary in summaries
            if summary
        )
        parts = []
        if seen.broken:
            items = "".join(f"<li>{escape(wrong)}</li>" for wrong in seen.broken)
            parts.append(f"<div class=wrong><h2>Wrong</h2><ul>{items}</ul></div>")
        besides = "; runs with wrong ones are told above and have no figures" if seen.broken else ""
        parts.append(f"<p>{answers:,} answers checked and found whole{besides}.</p>")
        told = outsiders(seen)
        told += [f"{arm} took no part: {why}" for arm, why in seen.unavailable.items()]
        told += [
            f"{arm} is out of {name}: {_cut(why)}"
            for name, by_arm in seen.declined.items()
            for arm, why in by_arm.items()
        ]
        told += [
            f"{name}: {rate:,g} requests/s are too many for {arm}"
            for name, rates in seen.overloaded.items()
            for arm, rate in rates.items()
        ]
        if seen.machine.load_before > idle_load_max and not seen.options.smoke:
            load = seen.machine.load_before
            told.append(
                f"Others were at work before the run (load {load:.1f}): repeat it on an idle machine."
            )
        if seen.options.keep_awake:
            told.append("The harness's cores were kept awake, which favours targets over the direct run.")
        if told:
            parts.append(f"<ul class=told>{''.join(f'<li>{escape(line)}</li>' for line in told)}</ul>")
        return f"<section>{''.join(parts)}</section>"

    def _goals(self) -> str:
        rows = []
        for row in ratios(self.seen) if self.seen.goals else []:
            met = {None: "", True: "<span class=yes>yes</span>", False: "<span class=no>no</span>"}[row.met]
            had = not math.isnan(row.value)
            rows.append(
                (
                    escape(row.figure),
                    f"{row.value:,.2f} {row.unit}" if had else "-",
                    f"{row.low:,.2f} to {row.high:,.2f}" if had else "-",
                    escape(row.goal),
                    met if had or not row.goal else "?",
                    escape(row.note),
                )
            )
        if not rows:
            return ""
        head = ("figure", "median", "range over rounds", "goal", "met", "note")
        return f"<section><h2>Goals</h2>{_table(head, rows, words=('note',))}</section>"

    def _overview(self) -> str:
        plots = self._plots(frontier(self.seen))
        return f"<section><h2>Rate and latency</h2>{plots}</section>" if plots else ""

    def _family(self, name: str, points: Sequence[Scenario]) -> str:
        plots = self._plots(family_charts(self.seen, points))
        rows = []
        arms = [arm for arm in self.arms if arm in self.seen.rounds.get(points[0].name, {})]
        if points[0].axis == "rate":
            for bound in _P99_BOUNDS_MS:
                cells = [_number(rate_within(self.seen, name, arm, bound)) for arm in arms]
                rows.append((f"greatest rate with p99 ≤ {bound:g} ms", *cells))
        table = _table(("requests/s", *arms), rows) if rows else ""
        title = points[0].title.rpartition(", ")[0] or name
        return f"<section><h2>{escape(title)}</h2>{table}{plots}{self._figures(points)}</section>"

    def _scenario(self, scenario: Scenario) -> str:
        if scenario.name not in self.seen.rounds:
            return ""
        charts = [*distribution_charts(self.seen, scenario), *memory_charts(self.seen, scenario)]
        return (
            f"<section><h2>{escape(scenario.title or scenario.name)}</h2>"
            f"{self._figures([scenario])}{self._plots(charts)}</section>"
        )

    def _figures(self, scenarios: Sequence[Scenario]) -> str:
        rows = []
        arms = [
            arm for arm in self.arms if any(arm in self.seen.rounds.get(one.name, {}) for one in scenarios)
        ]
        for scenario in scenarios:
            prefix = f"{scenario.at:,.12g}: " if scenario.family else ""
            for figure in figures_of(scenario):
                cells = []
                for arm in arms:
                    value = metric_median(self.seen, scenario.name, arm, figure.metric)
                    bound = figure.limited and harness_bound(self.seen, scenario.name, arm, figure.metric)
                    mark = '<abbr title="the harness is the limit">†</abbr>' if bound else ""
                    cells.append(_number(value, figure.digits) + mark)
                rows.append((prefix + escape(figure.label), *cells))
            rows += self._added(scenario, prefix, arms)
        if not rows:
            return ""
        table = _table(("median", *arms), rows)
        if "†" in table:
            table += "<p class=told>† the harness is the limit, and not the arm.</p>"
        return f"<details><summary>all figures</summary>{table}</details>" if len(scenarios) > 1 else table

    def _added(self, scenario: Scenario, prefix: str, arms: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the rows of how much more an arm has than the direct run."""
        metrics = (
            (("added first event p50 ms", first_p50), ("added first event p99 ms", first_p99))
            if scenario.stream
            else (("added p50 ms", latency_p50), ("added p99 ms", latency_p99))
        )
        rows = []
        for label, metric in metrics:
            values = [added(self.seen, scenario.name, arm, metric) for arm in arms]
            if not all(map(math.isnan, values)):
                rows.append((prefix + label, *(_number(value, 3) for value in values)))
        return rows

    def _idle(self) -> str:
        rows = []
        for name, by_arm in self.seen.idle.items():
            held = [by_arm.get(arm) for arm in self.arms]
            streams = next(iter(by_arm.values())).streams
            each = [memory.bytes_per_stream / _KIBIBYTE if memory else math.nan for memory in held]
            rows.append((escape(f"{name} ({streams:,} streams)"), *(_number(value, 1) for value in each)))
        if not rows:
            return ""
        return f"<section><h2>Idle streams</h2>{_table(('KiB a stream', *self.arms), rows)}</section>"

    def _machine(self) -> str:
        seen, machine = self.seen, self.seen.machine
        facts: dict[str, Any] = {
            "processor": machine.processor,
            "cores": f"{len(machine.cpus)}; targets on {seen.target_cpus or 'any'}, harness on "
            f"{seen.harness_cpus or 'any'}",
            "kernel": machine.kernel,
            "Python": machine.python,
            "packages": ", ".join(f"{name} {version}" for name, version in machine.packages.items()),
            "Karta's hot path": "compiled" if machine.compiled else "interpreted",
            "load before": f"{machine.load_before:.2f}",
            "seed": seen.options.seed,
            "command": " ".join(seen.command) or "-",
        }
        rows = [(escape(name), escape(str(value))) for name, value in facts.items()]
        arms = [
            (
                escape(arm),
                escape(seen.versions.get(arm.partition(" (")[0], "") or "-"),
                f"<code>{escape(' '.join(command))}</code>",
            )
            for arm, command in seen.commands.items()
        ]
        started = _table(("arm", "version", "started by"), arms) if arms else ""
        told = _table(("fact", "value"), rows) + started
        return f"<section class=machine><h2>Machine and versions</h2>{told}</section>"


def _asset(name: str) -> str:
    return (_HERE / name).read_text()


def report_html(seen: Comparison) -> str:
    """Return the whole page."""
    return Page(seen).html()
