"""The data plane: SDK traffic in, provider traffic out, every token on the way.

Read this, then `pipeline`, then the stages in the order a request passes them::

    accept        a connection, and the requests on it            → Inbound
    api_request   what is asked, of which API, with which key      → APIRequest
    authenticate  who asks                                         → Caller
    authorize     may they, and with whose provider key            → Grant
    decrypt       that key in clear, for this request only         → OpenedCredential
    dial          a connection to the provider                     → Upstream
    forward       the answer, byte for byte                        → UpstreamResponse
    meter         what it used, whatever its end                   → a usage row

Each stage takes what the one before it made, so a stage cannot be left out without a type error. `pipeline`
owns the control flow: the order, what runs at the same time, and which exception becomes which answer; what
is tried again, and where, is `tries`'. A stage that says no raises `refusal.Refusal`.

The same stages, where none of them has to wait or to refuse, are gone through by `lane`: a request whose head
is among `known_heads`, or has the shape of one (`request_layout`), whose key is verified and whose provider
has an idle connection is seen to within the event that brought it, and everything else is left to the
connection's task and the pipeline. Read it after `pipeline`; docs/decisions/0002 says why there are two ways,
and what the second costs.

Around the stages:

- The sockets: `wire` is the two of a request, `tls_transport` the same with TLS, `readiness` the one set that
  tells of all of them, `socket_state` what the kernel tells of one; `connection` is a client's with all its
  limits, and `watchdog` ends every over-long `wait`.
- Before a connection's first request: `entrance`, with `certificates` for TLS and `proxy_protocol`. Who has
  sent wrong keys, by `guessing`, is told no by `dismissal` before there is a task for the connection.
- Sans-IO (bytes in, facts out): `request_reader` and `response_reader`, helped by `whole_message`; `sse`.
- Heads: `request_head` and `response_head` decide what becomes of each field; `upstream_response` is an
  answer whose head is complete; `client_address` tells who a proxy speaks for, `scope` whether a key may
  be used there. What fields mean is found once for all answers alike (`head_layout`), which are told by one
  comparison (`head_template`).
- The way up: `send_request` for a body that is whole, `upload` for one that streams; `bodies` bounds how much
  of the former a worker holds.
- The way down: `exchange` moves an answer by events; `left_alone` ends one that no task waits for; `rewrite`
  changes the few that must be changed (`body_fields` are what is read of a request's body, `named_once`
  refuses what tells them twice, `other_models` finds the models that stand elsewhere in it, and `form` the
  one that a form names); `ending` says what each failure means to the client and to the record, and `refusal`
  how it is told.
- WebSockets, which leave the pipeline after `api_request`: `websocket`.
- What is tried again: `tries` goes from a grant to an answer's head, over its `targets`, by the rules of
  `retry`, past whom a `breaker` leaves alone; `members` changes the model's name in a body where a route says
  so.
- Tables, as data: `operations`, `provider`, `limits`, `settings`.
- Memory: `snapshot` keeps keys and organizations, and keeps them true; `cutting` ends what still runs for a
  key that ended.
- What may be used: `admission` sets apart what a request may use at most (`worst_case`), out of what `quota`
  has been lent; `reservation` is the numbers of it, and `refill` borrows more.
- What was used: `usage_figures` are the classes of tokens and how figures merge, `tally` reads them from an
  answer (of which `usage_objects` are all that is read) and `late_usage` from one about earlier work;
  `include_usage` and `usage_stripper` make a stream tell them.
- What it costs: `price_library` compiles prices into a `price_table`, and `prices` finds the one that holds.
- What is kept of it: `usage_writer` makes a row as the database takes it, `spool` has it on file before the
  answer ends, `ship` brings it to Postgres; `in_flight` tells of requests that a killed worker never ended,
  and `journals` settles what nobody serves any more.
- The process: `worker` puts it together; `probes`, `metrics` and `metric_page` tell of it, with `stages` (how
  long requests take) and `loop_lag`; `fault` tells of Karta's own, in the log and to Sentry.
- Who watches requests end: `watch` makes each an `ended`, for the `request_log` and the `traces` (`batches`
  keeps writing from holding up anybody, `otlp` is OpenTelemetry's form, `trace_context` a client's trace, and
  `transactions` are Sentry's).
- The processes: `supervisor` runs several workers, each in its `slot`; `control` is what they say to each
  other, `supervised` the worker's side of it. `shared_keys` and `peers` have a key verified once.

In the steady state a request costs no database query, no task, no thread, and four system calls of its own
besides the set's: receive, send, receive, send, and one write to the journal.

Imports `storage` only; never `admin` (they meet as rows and NOTIFY) and never `bench` or `karta`.
"""
