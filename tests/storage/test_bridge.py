from __future__ import annotations

from storage.bridge import Database


async def test_runs_as_the_role(admin_db: Database, gateway_db: Database) -> None:
    assert await admin_db.fetch_value("SELECT current_user::text") == "karta_admin"
    assert await gateway_db.fetch_value("SELECT current_user::text") == "karta_gateway"
