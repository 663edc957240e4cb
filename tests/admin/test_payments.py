"""Where Stripe is not set up, every verb says so."""

from __future__ import annotations

import pytest

from admin.payments import NotSetUp, no_payments


async def test_nobody_takes_payments() -> None:
    payments = no_payments()
    assert not payments.is_set_up
    assert not payments.sells_pro
    with pytest.raises(NotSetUp, match="KARTA_STRIPE_API_KEY"):
        await payments.read_invoice("in_1")
    with pytest.raises(NotSetUp):
        await payments.open_portal("cus_1", "https://karta.example")
