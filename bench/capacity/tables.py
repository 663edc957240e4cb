"""The model's answers as text: for the terminal and, in Markdown, for docs/explanation/capacity.md."""

import math
from collections.abc import Iterator, Mapping

import msgspec

from bench.capacity.coefficients import Coefficient, values_of
from bench.capacity.model import Plan, cells_needed, plan
from bench.capacity.target import SIZES

CELLS_MAX = 200
_SHOWN_BOUNDS = 4
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def told(amount: float, unit: str = "") -> str:
    """Return an amount with three digits, and its unit."""
    if math.isinf(amount):
        return "no end"
    size, letter = next((one for one in _SCALES if amount >= one[0] * 0.9995), (1.0, ""))
    number = _three(amount / size)
    if unit.startswith("bytes"):
        return f"{number} {letter}{unit.replace('bytes', 'B')}"
    after = unit if not unit or unit.startswith("/") else f" {unit}"
    return f"{number} {letter}{after}" if letter else f"{number}{after}"


def _three(amount: float) -> str:
    if amount == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(amount)))
    text = f"{amount:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def plan_lines(found: Plan) -> Iterator[str]:
    """What a cell needs and how near its bounds are, for the terminal."""
    for need in found.needs:
        yield f"{need.name:62}  {told(need.amount, need.unit)}"
    yield ""
    for bound in found.bounds:
        mark = "BROKEN" if bound.used > 1 else ""
        share = f"{_three(bound.used)} of that"
        amounts = f"{told(bound.amount, bound.unit)}, at most {told(bound.most, bound.unit)}"
        yield f"{bound.name:62}  {amounts}: {share} {mark}".rstrip()
    yield ""
    state = "breaks first" if not found.holds else "would break first"
    yield f"{state}: {found.first.name}. What helps: {found.first.lever}."


def markdown(coefficients: Mapping[str, Coefficient]) -> Iterator[str]:
    """The tables of the documentation."""
    figures = values_of(coefficients)
    plans = {name: plan(target, figures) for name, target in SIZES.items()}
    yield from _needs(plans)
    yield from _breaks(plans)
    yield from _levers(coefficients)
    yield from _figures(coefficients)


def _needs(plans: Mapping[str, Plan]) -> Iterator[str]:
    yield "### What each size needs, in one cell"
    yield ""
    yield "| | " + " | ".join(plans) + " |"
    yield "|---|" + "---|" * len(plans)
    rows = {need.name.partition(",")[0]: need.unit for found in plans.values() for need in found.needs}
    for name, unit in rows.items():
        cells = []
        for found in plans.values():
            need = next(one for one in found.needs if one.name.partition(",")[0] == name)
            reason = need.name.partition(", for their ")[2]
            cells.append(told(need.amount, unit) + (f" ({reason})" if reason else ""))
        yield f"| {name} | " + " | ".join(cells) + " |"
    yield ""


def _breaks(plans: Mapping[str, Plan]) -> Iterator[str]:
    yield "### What breaks first"
    yield ""
    yield "How much of each bound is used, the worst first: above 1 it is broken."
    yield ""
    yield "| size | " + " | ".join(f"{place}" for place in range(1, _SHOWN_BOUNDS + 1)) + " |"
    yield "|---|" + "---|" * _SHOWN_BOUNDS
    for name, found in plans.items():
        shown = found.bounds[:_SHOWN_BOUNDS]
        yield f"| {name} | " + " | ".join(f"{one.name}: {_bold(one.used)}" for one in shown) + " |"
    yield ""
    yield "| bound | what helps |"
    yield "|---|---|"
    for bound in sorted(next(iter(plans.values())).bounds, key=lambda one: one.name):
        yield f"| {bound.name} | {bound.lever} |"
    yield ""


def _bold(used: float) -> str:
    return f"**{_three(used)}**" if used > 1 else _three(used)


def _levers(coefficients: Mapping[str, Coefficient]) -> Iterator[str]:
    figures = values_of(coefficients)
    yield "### What the levers do"
    yield ""
    yield "The least number of cells in which nothing breaks: as it is; and with a balancer that sends a key"
    yield "to one worker in fifty."
    yield ""
    yield "| size | cells | by key |"
    yield "|---|---|---|"
    for name, target in SIZES.items():
        by_key = msgspec.structs.replace(target, spread=0.02)
        counts = (cells_needed(target, figures, CELLS_MAX), cells_needed(by_key, figures, CELLS_MAX))
        yield (
            f"| {name} | " + " | ".join("more than 200" if one is None else str(one) for one in counts) + " |"
        )
    yield ""


def _figures(coefficients: Mapping[str, Coefficient]) -> Iterator[str]:
    yield "### The figures"
    yield ""
    yield "| figure | | what it is | from |"
    yield "|---|---|---|---|"
    for name, one in coefficients.items():
        yield f"| `{name}` | {one.value:,.10g} {one.unit} | {one.what} | {one.source} |"
    yield ""
