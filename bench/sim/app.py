"""From a request to its answer: credential, route, behaviour, then the endpoint.

Order of refusal, as with the real ones: the credential first (401), then the path (404) and method (405),
then the body (400). The endpoints are pure functions of (state, request, behaviour), registered by API,
method and path.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import unquote

import msgspec

from bench.sim import behaviour as grammar
from bench.sim import errors, generic, inspection, multipart, routes, shape
from bench.sim.answer import Answer
from bench.sim.anthropic_api import ENDPOINTS as ANTHROPIC_ENDPOINTS
from bench.sim.behaviour import PLAIN, Behaviour, BehaviourError
from bench.sim.connection_log import ConnectionLog, ConnectionRecord
from bench.sim.credential import KeyRule
from bench.sim.ledger import Entry, Ledger
from bench.sim.malformed import spoil_payload
from bench.sim.openai_api import ENDPOINTS as OPENAI_ENDPOINTS
from bench.sim.prepared import PreparedAnswers
from bench.sim.request import Request
from bench.sim.state import State

log = logging.getLogger(__name__)

Endpoint = Callable[[State, Request, Behaviour], Answer]
ENDPOINTS: dict[str, Mapping[tuple[str, str], Endpoint]] = {
    "anthropic": ANTHROPIC_ENDPOINTS,
    "openai": OPENAI_ENDPOINTS,
}
INSPECTION_PREFIX = "/_sim/"


class Simulator:
    """The whole provider but its sockets."""

    def __init__(self, keys: Sequence[str] | None = None, *, ledger_enabled: bool = True) -> None:
        self.state = State()
        self.ledger = Ledger(enabled=ledger_enabled)
        self.connections = ConnectionLog()
        self.prepared = PreparedAnswers()
        self._key_rule = KeyRule(keys)
        self.named: dict[str, str] = {}
        self.failures = 0

    # ---- at the head

    def receive_head(self, request: Request, record: ConnectionRecord) -> None:
        """Settle API, route and credential of a request whose head is complete, and open its ledger entry."""
        if request.path.startswith(INSPECTION_PREFIX):
            record.inspection = True
            request.dialect = ""
            request.entry = Entry("sim", 0, "", 0.0)
            return
        found = routes.match(request.path)
        version = b"anthropic-version" in request.header_map
        dialect = routes.dialect_of(found, has_version_header=version)
        request.dialect = dialect
        request.parameters = found.parameters
        if (operation := found.operations.get(dialect)) is not None:
            request.template = operation.template
        entry = request.entry = self.ledger.open(dialect)
        entry.method = request.method
        entry.path = request.target.decode("latin-1")
        entry.connection_id = record.connection_id
        credential = self._key_rule.judge(request.header_map, request.target)
        entry.credential, entry.credential_header, entry.refused, entry.leaks = credential
        self.ledger.keep_headers(entry, request.headers)

    @staticmethod
    def head_behaviour(request: Request) -> Behaviour:
        """What the header alone asks for; a header that cannot be read is complained of later, in the
        answer."""
        try:
            return grammar.of_request(None, request.header_map.get(b"x-sim-behaviour"))
        except BehaviourError:
            return PLAIN

    # ---- at the end of the body

    def answer(self, request: Request) -> Answer:
        """The answer to a request received whole (or refused, or to be answered early)."""
        if request.dialect == "":
            return inspection.answer(self, request)
        entry = request.entry
        entry.body_sha256 = request.sha256()
        answer = self._refusal(request)
        if answer is None:
            answer = self._endpoint_answer(request)
        if answer.model is not None:
            entry.model = answer.model
        if answer.events is not None:
            flat = request.template.startswith("/v1/responses")
            shape.shape(answer, request.dialect, entry.request_id, flat_errors=flat)
        elif answer.behaviour.malformed in ("json", "utf8"):
            answer.body = spoil_payload(answer.behaviour.malformed, answer.body)
        return answer

    def _refusal(self, request: Request) -> Answer | None:
        """The 401, 404 or 405 a request gets whatever its body says."""
        status, message = 0, None
        if request.entry.refused is not None:
            status = 401
        elif not request.template:
            status, message = 404, f"Invalid URL ({request.method} {request.path})"
        elif _flag(request) is None:
            status, message = 405, f"Not allowed to {request.method} on {request.path}"
        if not status:
            return None
        answer = errors.error_answer(request.dialect, status, request.entry.request_id, PLAIN, message)
        if status == 405:
            answer.headers = [(b"allow", b", ".join(m.encode() for m in _methods(request)))]
        return answer

    def _endpoint_answer(self, request: Request) -> Answer:
        request_id = request.entry.request_id
        try:
            model = _read_body(request)
            request.entry.model = model
            steered = self.named.get(model, model) if model is not None else None
            behaviour = grammar.of_request(steered, request.header_map.get(b"x-sim-behaviour"))
        except (BehaviourError, TypeError, msgspec.DecodeError, UnicodeDecodeError) as error:
            return errors.error_answer(request.dialect, 400, request_id, PLAIN, str(error))
        if (planned := self._planned_error(request, behaviour)) is not None:
            return planned
        method = "GET" if request.method == "HEAD" else request.method
        endpoint = ENDPOINTS[request.dialect].get((method, request.template))
        try:
            if endpoint is None:
                answer = generic.answer(self.state, request, behaviour, _flag(request) or "")
            else:
                answer = endpoint(self.state, request, behaviour)
        except errors.Invalid as refused:
            answer = errors.error_answer(request.dialect, refused.status, request_id, behaviour, str(refused))
        answer.behaviour = behaviour
        if answer.model is None:
            answer.model = model
        return answer

    def _planned_error(self, request: Request, behaviour: Behaviour) -> Answer | None:
        """The error or redirect a behaviour asks for, the first `times` times when it says so."""
        wanted = behaviour.redirect or (behaviour.error if behaviour.error_after is None else None)
        if not wanted:
            return None
        if behaviour.times:
            name = f"{request.entry.model} {request.header(b'x-sim-behaviour')}"
            if self.state.count(name) > behaviour.times:
                return None
        if behaviour.redirect:
            location = (b"location", behaviour.location.encode())
            return Answer(status=behaviour.redirect, headers=[location], behaviour=behaviour)
        return errors.error_answer(request.dialect, wanted, request.entry.request_id, behaviour)

    def log_failure(self) -> None:
        """Tell of a bug in the simulator itself, from within an exception handler; `/_sim/health` counts
        them."""
        self.failures += 1
        log.exception("the simulated provider failed to write an answer; this is a defect of bench.sim")


def _methods(request: Request) -> dict[str, str]:
    operation = routes.match(request.path).operations.get(request.dialect)
    return operation.methods if operation is not None else {}


def _flag(request: Request) -> str | None:
    """The special-answer letter of the called operation ("" for none), None when there is no such
    operation."""
    methods = _methods(request)
    return methods.get("GET" if request.method == "HEAD" else request.method)


def _read_body(request: Request) -> str | None:
    """Decode the body where it is JSON or a form, and find the model it (or the path) names."""
    content_type = request.header(b"content-type")
    model: object = None
    if request.method in ("POST", "PUT", "PATCH"):
        if content_type.startswith("multipart/form-data"):
            request.form = multipart.parse(request, content_type)
            model = request.form.fields.get("model")
        elif not content_type or "json" in content_type:
            request.document = request.json()
            model = request.document.get("model")
    if model is None and request.template.startswith("/v1/models/"):
        model = unquote(request.parameters[0])
    return model if isinstance(model, str) else None
