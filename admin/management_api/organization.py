"""The key that asks, and its organization."""

from __future__ import annotations

from admin.amount import show_dollars
from admin.management_api.call import Call
from admin.management_api.forms import BalanceAnswer, ManagementKeyAnswer, PlanAnswer, Renaming
from admin.management_api.values import require_name
from storage.ledger import select_balance
from storage.model import Organization
from storage.organizations import rename
from storage.plans import TERMS, Allowance, count_keys, count_members, limit_of


async def get_management_key(call: Call[None, None]) -> ManagementKeyAnswer:
    key = call.acting.key
    return ManagementKeyAnswer(
        key_id=key.key_id,
        org_id=key.org_id,
        name=key.name,
        scopes=sorted(key.scopes),
        role=key.role,
        current_role=call.acting.current_role,
        created_at=key.created_at,
        expires_at=key.expires_at,
    )


async def get_organization(call: Call[None, None]) -> Organization:
    return call.acting.organization


async def get_plan(call: Call[None, None]) -> PlanAnswer:
    organization = call.acting.organization
    plan = organization.plan
    numbers = {
        allowance.value: limit_of(plan, allowance, seats=organization.seats) for allowance in Allowance
    }
    return PlanAnswer(
        plan=plan,
        features=sorted(TERMS[plan].features),
        included_usd=show_dollars(TERMS[plan].included_picodollars),
        keys_used=await count_keys(call.db, call.org_id),
        seats_used=await count_members(call.db, call.org_id),
        **numbers,
    )


async def get_balance(call: Call[None, None]) -> BalanceAnswer:
    balance = await select_balance(call.db, call.org_id)
    return BalanceAnswer(
        credit_usd=_show_signed(balance.credit),
        included_usd=_show_signed(balance.included),
        balance_usd=_show_signed(balance.total),
        prepaid=call.acting.organization.prepaid,
    )


def _show_signed(picodollars: int) -> str:
    return f"{'-' if picodollars < 0 else ''}{show_dollars(abs(picodollars))}"


async def rename_organization(call: Call[Renaming, None]) -> Organization:
    return await rename(call.db, call.actor, call.org_id, require_name(call.body.name, "$.name"))
