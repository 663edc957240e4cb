"""Stripe for tests: `localstripe`, a stateful stand-in from PyPI, as a process; and before it a small server
of ours that answers what localstripe lacks.

What localstripe has, and is asked of it: customers, tax ids, subscriptions, invoices, payment methods, and
signed webhooks. What it lacks, and `Desk` answers in the documented shapes: Checkout's sessions, the
customer portal, prices (it has the older plans), refunds and disputes by payment, credit notes, the payments
of invoices, and billing meters. Each start of either is empty.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import stripe

from tests.support.http_server import QuietHandler, serving
from tests.support.ports import free_port

# By its own command it would listen on every interface, and keep its state in one file for all runs.
_PROGRAM = """
import sys
from aiohttp import web
from localstripe import resources, server
resources.Store.dump_to_disk = lambda self: None
web.run_app(server.app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""
START_SECONDS_MAX = 60
API_KEY = "sk_test_12345"
SECRET = "whsec_localstripe_secret"
METER = "mtr_test_1"
PRICE = "price_pro"
_numbers = itertools.count(1)
Answer = tuple[int, dict[str, Any]]


@contextmanager
def running_localstripe(folder: Path) -> Iterator[str]:
    """Yields the origin of one that is empty but for the plan `PRICE`."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM, str(port)]
    with (folder / "localstripe.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        _wait(port, process)
        origin = f"http://127.0.0.1:{port}"
        plan = {"id": PRICE, "amount": 2500, "currency": "usd", "interval": "month", "name": "Pro"}
        assert call(origin, "POST", "/v1/plans", plan)[0] == 200
        yield origin
    finally:
        process.terminate()
        process.wait(10)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        assert process.poll() is None, "localstripe did not start"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            threading.Event().wait(0.05)
        else:
            return
    raise AssertionError("localstripe did not begin to listen")


def call(origin: str, method: str, path: str, form: dict[str, Any] | None = None) -> Answer:
    """One request as Stripe's API takes it; nested values are written `a[b]`."""
    data = None if form is None else urllib.parse.urlencode(_flat(form)).encode()
    request = urllib.request.Request(origin + path, data, method=method)
    request.add_header("Authorization", f"Bearer {API_KEY}")
    return _open(request)


def _open(request: urllib.request.Request) -> Answer:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return response.status, json.loads(response.read() or b"{}")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"{}")


def _flat(form: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in form.items():
        field = f"{prefix}[{name}]" if prefix else name
        if isinstance(value, dict):
            pairs += _flat(value, field)
        elif isinstance(value, list):
            pairs += _flat({str(index): one for index, one in enumerate(value)}, field)
        else:
            pairs.append((field, str(value).lower() if isinstance(value, bool) else str(value)))
    return pairs


class Desk:
    """Answers what localstripe lacks; sends everything else on to it. Its state is for tests to change."""

    def __init__(self, behind: str) -> None:
        self.behind = behind
        self.sessions: dict[str, dict[str, Any]] = {}
        self.refunds: list[dict[str, Any]] = []
        self.disputes: list[dict[str, Any]] = []
        self.invoices: dict[str, dict[str, Any]] = {}
        """With metered usage, which localstripe's have not."""
        self.invoice_payments: list[dict[str, Any]] = []
        self.notes: list[dict[str, Any]] = []
        self.meter_events: dict[str, dict[str, str]] = {}
        """By identifier: each is counted once."""
        self.seen: list[tuple[str, str]] = []
        self.keys: dict[str, tuple[dict[str, str], Answer]] = {}
        """What was asked with each idempotency key, and answered."""
        self.failing: list[int] = []
        """Statuses to answer next, instead of doing anything."""
        self.origin = ""
        self.lock = threading.Lock()

    def answer(
        self, method: str, path: str, query: dict[str, str], form: dict[str, str], key: str
    ) -> Answer | None:
        """None: localstripe is asked."""
        self.seen.append((method, path))
        if self.failing:
            return self.failing.pop(0), {"error": {"type": "api_error", "message": "as the test wishes"}}
        if key and key in self.keys:
            asked, found = self.keys[key]
            if asked != form:
                return 400, {"error": {"type": "idempotency_error", "message": "with other parameters"}}
            return found
        made = self._answer(method, path, query, form)
        if made is not None and key and made[0] < 500:
            # As it was then: what became of the object since is not told again.
            self.keys[key] = (form, copy.deepcopy(made))
        return made

    def _answer(self, method: str, path: str, query: dict[str, str], form: dict[str, str]) -> Answer | None:
        if path == "/v1/checkout/sessions":
            return self._make_session(form) if method == "POST" else self._list_sessions(query)
        if match := re.fullmatch(r"/v1/checkout/sessions/(\w+)", path):
            session = self.sessions.get(match[1])
            return (200, session) if session else (404, {"error": {"code": "resource_missing"}})
        if path == "/v1/billing_portal/sessions":
            return 200, {
                "id": "bps_1",
                "object": "billing_portal.session",
                "url": f"{self.origin}/p/session/test",
            }
        if path in ("/v1/refunds", "/v1/disputes") and method == "GET":
            found = self.refunds if path == "/v1/refunds" else self.disputes
            data = [one for one in found if one["payment_intent"] == query.get("payment_intent")]
            return 200, {"object": "list", "data": data, "has_more": False, "url": path}
        if path in ("/v1/credit_notes", "/v1/invoice_payments"):
            return 200, self._list_of_invoice(path, query)
        if (match := re.fullmatch(r"/v1/invoices/(\w+)(/lines)?", path)) and match[1] in self.invoices:
            invoice = self.invoices[match[1]]
            if match[2]:
                return 200, invoice["lines"]
            first = {"data": invoice["lines"]["data"][:10], "has_more": len(invoice["lines"]["data"]) > 10}
            return 200, {**invoice, "lines": {**invoice["lines"], **first}}
        if match := re.fullmatch(r"/v1/(refunds|disputes)/(\w+)", path):
            listed = self.refunds if match[1] == "refunds" else self.disputes
            one = next((one for one in listed if one["id"] == match[2]), None)
            return (200, one) if one else (404, {"error": {"code": "resource_missing"}})
        if path == "/v1/billing/meter_events":
            return self._meter(form)
        if path == f"/v1/billing/meters/{METER}/event_summaries":
            return 200, self._sum(query)
        return None

    def _make_session(self, form: dict[str, str]) -> Answer:
        number = len(self.sessions) + 1
        amount = int(form.get("line_items[0][price_data][unit_amount]", 0))
        session = {
            "id": f"cs_test_{number}",
            "object": "checkout.session",
            "mode": form["mode"],
            "status": "open",
            "payment_status": "unpaid",
            "customer": form["customer"],
            "client_reference_id": form["client_reference_id"],
            "amount_subtotal": amount,
            "amount_total": amount,
            "currency": "usd",
            "payment_intent": None,
            "subscription": None,
            "success_url": form["success_url"],
            "quantity": form.get("line_items[0][quantity]"),
            "expires_at": int(form["expires_at"]) if "expires_at" in form else None,
            "url": f"{self.origin}/c/pay/cs_test_{number}",
        }
        self.sessions[str(session["id"])] = session
        return 200, session

    def _list_sessions(self, query: dict[str, str]) -> Answer:
        wanted = query.get("payment_intent")
        data = [one for one in self.sessions.values() if one["payment_intent"] == wanted]
        return 200, {"object": "list", "data": data, "has_more": False, "url": "/v1/checkout/sessions"}

    def _list_of_invoice(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        listed = self.notes if path == "/v1/credit_notes" else self.invoice_payments
        intent = query.get("payment[payment_intent]")
        data = [
            one
            for one in listed
            if query.get("invoice", one["invoice"]) == one["invoice"]
            and intent in (None, one.get("payment", {}).get("payment_intent"))
        ]
        return {"object": "list", "data": data, "has_more": False, "url": path}

    def _meter(self, form: dict[str, str]) -> Answer:
        identifier = form["identifier"]
        if identifier in self.meter_events:
            message = f"An event already exists with identifier {identifier}."
            error = {"type": "invalid_request_error", "param": "identifier", "message": message}
            return 400, {"error": error}
        self.meter_events[identifier] = form
        return 200, {
            "object": "billing.meter_event",
            "identifier": identifier,
            "event_name": form["event_name"],
        }

    def _sum(self, query: dict[str, str]) -> dict[str, Any]:
        total = sum(
            int(form["payload[value]"])
            for form in self.meter_events.values()
            if form["payload[stripe_customer_id]"] == query["customer"]
            and int(query["start_time"]) <= int(form["timestamp"]) < int(query["end_time"])
        )
        summary = {"id": "mtrusg_1", "object": "billing.meter_event_summary", "aggregated_value": total}
        return {"object": "list", "data": [summary], "has_more": False, "url": "/v1/billing/meters"}


@contextmanager
def running_desk(behind: str) -> Iterator[Desk]:
    """A desk on a port of its own; `desk.origin` is what KARTA_STRIPE_API_BASE would be."""
    desk = Desk(behind)

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            parts = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(parts.query))
            form = dict(urllib.parse.parse_qsl(body.decode()))
            with desk.lock:
                key = self.headers.get("Idempotency-Key") or ""
                found = desk.answer(self.command, parts.path, query, form, key)
            if parts.path.startswith(("/c/pay/", "/p/session/")):
                self._send(
                    200,
                    b"<!doctype html><link rel=icon href=data:,><title>Stripe</title><h1>Pay here</h1>",
                    "text/html",
                )
                return
            if found is None:
                request = urllib.request.Request(desk.behind + self.path, body or None, method=self.command)
                request.add_header("Authorization", self.headers.get("Authorization") or "")
                found = _open(request)
            self._send(found[0], json.dumps(found[1]).encode(), "application/json")

        def _send(self, status: int, content: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _do  # noqa: N815 - the names that http.server calls

    with serving(Handler) as desk.origin:
        yield desk


def buy(desk: Desk, session_id: str, hook: str | None = None) -> str:
    """What a person does on Checkout's page: gives a card and subscribes. Returns the subscription's id. Both
    localstripe and the desk tell `hook` of it, signed."""
    session = desk.sessions[session_id]
    customer = session["customer"]
    card = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2040, "cvc": 123}
    made = call(desk.behind, "POST", "/v1/payment_methods", {"type": "card", "card": card})[1]
    call(desk.behind, "POST", f"/v1/payment_methods/{made['id']}/attach", {"customer": customer})
    default = {"invoice_settings": {"default_payment_method": made["id"]}}
    call(desk.behind, "POST", f"/v1/customers/{customer}", default)
    item = {"plan": PRICE, "quantity": session["quantity"]}
    status, bought = call(desk.behind, "POST", "/v1/subscriptions", {"customer": customer, "items": [item]})
    assert status == 200, bought
    session |= {"status": "complete", "payment_status": "paid", "subscription": bought["id"]}
    if hook is not None:
        tell(hook, "checkout.session.completed", session)
    return str(bought["id"])


def pay(desk: Desk, session_id: str, hook: str) -> None:
    """The same for a payment in advance."""
    session = desk.sessions[session_id]
    session |= {"status": "complete", "payment_status": "paid", "payment_intent": f"pi_{session_id}"}
    tell(hook, "checkout.session.completed", session)


def tell(hook: str, kind: str, found: dict[str, Any]) -> None:
    """Sends one signed event."""
    event = {
        "id": f"evt_{next(_numbers)}",
        "object": "event",
        "type": kind,
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": found},
    }
    body = json.dumps(event).encode()
    request = urllib.request.Request(hook, body, method="POST")
    header = stripe.WebhookSignature.generate_signature_header(body.decode(), SECRET)
    request.add_header("Stripe-Signature", header)
    request.add_header("Content-Type", "application/json")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        assert response.status == 200


def hook_up(localstripe: str, hook: str) -> None:
    """Has localstripe send its own events there."""
    request = urllib.request.Request(
        f"{localstripe}/_config/webhooks/karta",
        json.dumps({"url": hook, "secret": SECRET}).encode(),
        method="POST",
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as response:
        assert response.status == 200
