"""Members and invitations of an organization. Who may change whom is decided in `storage.memberships`, in the
transaction of the change; making an owner, or unmaking one, needs fresh proof besides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from quart import Blueprint, abort, request, url_for
from quart.typing import ResponseReturnValue

from admin import authorization, inviting, password_rules, throttle, web_session
from admin.authorization import ProofNeeded
from admin.redirect import see
from admin.rendering import render_template
from admin.roles import WHAT_ROLES_DO
from admin.services import services
from storage.errors import Conflict, InvalidValue, NotFound, PlanRefused, ProofRequired
from storage.invitations import (
    Invitation,
    accept_invitation,
    select_invitation,
    select_invitations,
    sign_up_invited,
    withdraw_invitation,
)
from storage.memberships import change_role, remove_member, select_members
from storage.model import Role
from storage.sessions import Method
from storage.users import normalize_email

COOKIE = "__Host-karta-invitation"
INVITABLE = tuple(role for role in Role if role is not Role.OWNER)
LAST_OWNER = "An organization keeps an owner: make somebody else an owner first."
DONE = {
    "invited": "The invitation is on its way.",
    "withdrawn": "The invitation was taken back.",
    "changed": "The role was changed.",
    "removed": "The member was removed.",
}

blueprint = Blueprint("members", __name__, template_folder="templates")


@blueprint.get("/organizations/<uuid:org_id>/members")
async def show(org_id: UUID) -> ResponseReturnValue:
    return await _render(org_id)


@blueprint.post("/organizations/<uuid:org_id>/invitations")
async def invite_by_email(org_id: UUID) -> ResponseReturnValue:
    user = web_session.require_user()
    form = await request.form
    typed = form.get("email", "")
    try:
        email, role = normalize_email(typed), _read_role(form.get("role", ""))
    except InvalidValue:
        return await _render(org_id, {"email": "That is not an email address."}, typed), 422
    await throttle.count(throttle.INVITE_ACCOUNT, str(user.user_id))
    organization = authorization.current_membership().organization
    try:
        await inviting.send(web_session.actor(user.user_id), organization, email, role)
    except InvalidValue:
        abort(400)
    except (Conflict, PlanRefused) as error:
        return await _render(org_id, {"email": f"{str(error).capitalize()}."}, typed), 409
    return _see_members(org_id, "invited")


@blueprint.post("/organizations/<uuid:org_id>/invitations/<uuid:invitation_id>/withdraw")
async def withdraw(org_id: UUID, invitation_id: UUID) -> ResponseReturnValue:
    user = web_session.require_user()
    try:
        await withdraw_invitation(services().db, web_session.actor(user.user_id), org_id, invitation_id)
    except NotFound:
        abort(404)
    return _see_members(org_id, "withdrawn")


@blueprint.post("/organizations/<uuid:org_id>/members/<uuid:user_id>/role")
async def change(org_id: UUID, user_id: UUID) -> ResponseReturnValue:
    user = web_session.require_user()
    role = _read_role((await request.form).get("role", ""))
    actor, proved = web_session.actor(user.user_id), web_session.current_session().stepped_up
    try:
        with _refusing():
            await change_role(services().db, actor, org_id, user.user_id, user_id, role, proved=proved)
    except Conflict:
        return await _render(org_id, {"members": LAST_OWNER}), 409
    return _see_members(org_id, "changed")


@blueprint.post("/organizations/<uuid:org_id>/members/<uuid:user_id>/remove")
async def remove(org_id: UUID, user_id: UUID) -> ResponseReturnValue:
    """Somebody else, or oneself: that is leaving, and open to everybody."""
    user = web_session.require_user()
    actor, proved = web_session.actor(user.user_id), web_session.current_session().stepped_up
    try:
        with _refusing():
            await remove_member(services().db, actor, org_id, user.user_id, user_id, proved=proved)
    except Conflict:
        return await _render(org_id, {"members": LAST_OWNER}), 409
    return see(url_for("keys.show_home")) if user_id == user.user_id else _see_members(org_id, "removed")


@contextmanager
def _refusing() -> Iterator[None]:
    """What `storage.memberships` refuses, as the page for it."""
    try:
        yield
    except NotFound:
        abort(404)
    except ProofRequired:
        raise ProofNeeded from None


@blueprint.get("/invitation/<token>")
async def follow(token: str) -> ResponseReturnValue:
    """As with all links of mails (`accounts.links`): the token leaves the address, and nothing is spent."""
    await throttle.count_address(throttle.LINK_ADDRESS)
    response = see(url_for("members.show_invitation"))
    if len(token) <= web_session.TOKEN_CHARS_MAX:
        web_session.set_cookie(response, COOKIE, token)
    return response


@blueprint.get("/invitation")
async def show_invitation() -> ResponseReturnValue:
    invitation = await _find()
    if invitation is None:
        return await _render_spent()
    return await render_template("organizations/invitation.html", invitation=invitation)


@blueprint.post("/invitation/accept")
async def accept() -> ResponseReturnValue:
    user = web_session.require_user()
    try:
        org_id = await accept_invitation(services().db, web_session.actor(user.user_id), _digest(), user)
    except NotFound:
        return await _render_spent()
    except Conflict:
        return see(url_for("keys.show_home"))
    response = see(url_for("keys.show_organization", org_id=org_id))
    web_session.delete_cookie(response, COOKIE)
    return response


@blueprint.post("/invitation/sign-up")
async def sign_up() -> ResponseReturnValue:
    """The link has confirmed the address, so a password is all that is missing."""
    await throttle.count_address(throttle.LINK_ADDRESS)
    invitation = await _find()
    if invitation is None:
        return await _render_spent()
    password = (await request.form).get("password", "")
    context = (invitation.email, invitation.organization_name)
    problem = await password_rules.find_problem(services().passwords, password, context)
    if problem:
        problems = {"password": problem}
        page = render_template("organizations/invitation.html", invitation=invitation, problems=problems)
        return await page, 422
    digest = await services().passwords.digest(password)
    try:
        user, org_id = await sign_up_invited(services().db, web_session.actor(None), _digest(), digest)
    except NotFound:
        return await _render_spent()
    except Conflict:
        return see(url_for("accounts.show_sign_in", next=url_for("members.show_invitation")))
    response = see(url_for("keys.show_organization", org_id=org_id))
    web_session.delete_cookie(response, COOKIE)
    await web_session.sign_in(response, user.user_id, Method.PASSWORD)
    return response


def _digest() -> bytes:
    return web_session.digest(web_session.read_cookie(COOKIE) or "")


async def _find() -> Invitation | None:
    try:
        return await select_invitation(services().db, _digest())
    except NotFound:
        return None


def _read_role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        abort(400)


def _see_members(org_id: UUID, done: str) -> ResponseReturnValue:
    return see(url_for("members.show", org_id=org_id, done=done))


async def _render(org_id: UUID, problems: dict[str, str] | None = None, email: str = "") -> str:
    return await render_template(
        "organizations/members.html",
        members=await select_members(services().db, org_id),
        invitations=await select_invitations(services().db, org_id),
        me=web_session.require_user(),
        roles=tuple(Role),
        invitable=INVITABLE,
        what_roles_do=WHAT_ROLES_DO,
        problems=problems or {},
        email=email,
        done=DONE.get(request.args.get("done", "")),
    )


async def _render_spent() -> ResponseReturnValue:
    return await render_template("organizations/invitation_spent.html"), 410
