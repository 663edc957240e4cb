"""The data plane: SDK traffic in, provider traffic out, every token on the way.

Read this, then `pipeline`, then the stages in the order a request passes them::

    accept        a connection, and the requests on it            → Inbound
    api_request   what is asked, of which API, with which key      → APIRequest
    authenticate  who asks                                         → Caller
    authorize     may they, and with whose provider key            → Grant
    decrypt       that key in clear, for this request only         → OpenedCredential
    dial          a connection to the provider                     → Upstream
    forward       the answer, byte for byte                        → UpstreamResponse …
    meter         what it used, whatever its end                   → UsageRecord

Each stage takes what the one before it made, so a stage cannot be left out without a type error. `pipeline`
owns all control flow: the order, what runs at the same time, the retry, and which exception becomes which
answer. A stage that says no raises `refusal.Refusal`.

Around the stages: `request_reader`, `response_reader`, `sse` and `tally` are sans-IO (bytes in, facts out);
`wire` is the two sockets; `hangup` notices clients that left and `watchdog` every over-long wait;
`request_head` and `response_head` decide what becomes of each header; `operations` and `provider` are tables,
as data; `snapshot` keeps keys and organizations in memory and true; `spool` and `ship` bring usage to
Postgres; `worker` puts one process together.

What was used and what it costs: `usage_figures` are the classes of tokens and how figures merge, `tally`
reads them from an answer and `late_usage` from one about earlier work; `include_usage` and `usage_stripper`
make a stream tell them; `price_library` compiles prices into a `price_table`, `prices` finds the one that
holds, and `worst_case` says beforehand what it may come to.

In the steady state a request costs no database query, no task, no thread, and four system calls of its own
besides Trio's: receive, send, receive, send, and one write to the journal.

Imports `storage` only; never `admin` (they meet as rows and NOTIFY) and never `bench` or `karta`.
"""
