"""What the fields of an answer's head mean, told by their names, and told once for all heads alike.

A provider's answers have the same fields in the same order, hour after hour: a `Layout` is such an order.
That a head has the layout of the one before is seen by comparing how its lines begin, which costs far less
than to take each line apart and look its name up.

Bounds: `LAYOUTS_MAX` layouts are kept, none of them of names longer than `NAMES_BYTES_MAX` together; the
oldest is forgotten first.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.head_template import Template

LAYOUTS_MAX: Final = 256
NAMES_BYTES_MAX: Final = 4096


class Rule(IntEnum):
    """What becomes of a field on its way to the client."""

    PASS = 0
    DROP = 1
    ACCOUNT = 2
    CONNECTION = 3
    CONTENT_TYPE = 4
    REQUEST_ID = 5
    LOCATION = 6
    CONTENT_LENGTH = 7
    TRANSFER_ENCODING = 8


_HOP_BY_HOP: Final = {
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authentication-info",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"upgrade",
}
_EDGE: Final = {
    b"set-cookie",
    b"set-cookie2",
    b"server",
    b"alt-svc",
    b"strict-transport-security",
    b"clear-site-data",
    b"x-karta-request-id",
    b"x-karta-route",
    b"x-karta-route-tried",
}
_ACCOUNT: Final = {
    b"openai-organization",
    b"openai-project",
    b"anthropic-organization-id",
    b"anthropic-workspace-id",
}
_RULES: Final[dict[bytes, Rule]] = {
    **dict.fromkeys(_HOP_BY_HOP | _EDGE, Rule.DROP),
    **dict.fromkeys(_ACCOUNT, Rule.ACCOUNT),
    **dict.fromkeys((b"request-id", b"x-request-id"), Rule.REQUEST_ID),
    b"connection": Rule.CONNECTION,
    b"content-type": Rule.CONTENT_TYPE,
    b"location": Rule.LOCATION,
    b"content-length": Rule.CONTENT_LENGTH,
    b"transfer-encoding": Rule.TRANSFER_ENCODING,
}


class Layout:
    """The fields of a head in their order."""

    __slots__ = ("_beginnings", "names", "special", "template", "times")

    def __init__(self, names: tuple[bytes, ...]) -> None:
        self.names = names
        self.times = 0
        """How many whole answers had it, until there are enough to make a template."""
        self.template: Template | None = None
        """Made of it when it is common (`head_template`)."""
        self._beginnings = [name + b":" for name in names]
        self.special: list[tuple[int, int, Rule]] = []
        """Of the fields that do not simply pass, the last first: the line's index, where its value begins,
        and the rule."""
        for index in range(len(names) - 1, -1, -1):
            rule = self.rule(index)
            if rule is not Rule.PASS:
                self.special.append((index, len(names[index]) + 1, rule))

    def rule(self, index: int) -> Rule:
        """What becomes of the line at `index`."""
        return _RULES.get(self.names[index].lower(), Rule.PASS)

    def fits(self, lines: list[bytes]) -> bool:
        """Whether these are the lines of such a head."""
        beginnings = self._beginnings
        if len(lines) != len(beginnings):
            return False
        for index, beginning in enumerate(beginnings):  # noqa: SIM110 - a generator would cost as much again
            if lines[index][: len(beginning)] != beginning:
                return False
        return True


EMPTY: Final = Layout(())

_layouts: Final[dict[tuple[bytes, ...], Layout]] = {}


def layout_of(lines: list[bytes], likely: Layout) -> Layout:
    """The layout of a head, given its lines, each with its colon; `likely` is that of the one before."""
    if likely.fits(lines):
        return likely
    names = tuple([line.partition(b":")[0] for line in lines])
    found = _layouts.get(names)
    if found is None:
        found = Layout(names)
        if sum([len(name) for name in names]) <= NAMES_BYTES_MAX:
            if len(_layouts) >= LAYOUTS_MAX:
                del _layouts[next(iter(_layouts))]
            _layouts[names] = found
    return found
