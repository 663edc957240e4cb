"""What views share is attached once."""

from __future__ import annotations

import pytest
from quart_trio import QuartTrio

from admin.services import services


async def test_it_must_be_attached_first() -> None:
    app = QuartTrio(__name__)
    app.extensions["karta"] = "something else"
    async with app.app_context():
        with pytest.raises(TypeError, match=r"Services\.attach"):
            services()
