"""The simulated provider: the Anthropic and OpenAI APIs on loopback, as the real ones behave, and as they
misbehave.

It is the gateway's default upstream in development, the upstream of every load test, and the ground truth of
the gateway's own tests: what it says repeats byte for byte, and its ledger tells what it was asked, with
which credential, what it sent and when the other side left. It needs no account, no network and no model.

Run it by `karta sim --port N [--json]` or `python -m bench.sim`. It binds 127.0.0.1 only and takes any
credential that is not one of Karta's own (`kt_…`), or only those in KARTA_SIM_KEYS (a comma list;
KARTA_SIM_KEYS_FILE: one a line). With `--certificate` it speaks TLS.

A request's way
===============

`server` (uvloop, one process) → `connection` (httptools, pipelining; writes at once what can be written at
once) → `request` (counted, hashed, bounded) → `credential` (401), `routes` (which API, which operation:
`paths.txt`) → `behaviour` (the grammar below) → an endpoint of `anthropic_api` or `openai_api`, or `generic`
for the other operations → `answer` → `shape` (pings, line ends, errors in a stream) → `prepared` (a calm
answer to a repeated request is bytes in a table) or `delivery` (paced, split, flooding, broken; `malformed`
has the wrong bytes) → the wire, and `ledger`, `connection_log`, which `inspection` shows.

An upgrade to WebSocket of `/v1/realtime` or `/v1/responses` leaves that way at `connection`: `web_socket`.

An API is told by its path where only one has it, else by the header `anthropic-version`; a leading
`/anthropic` or `/openai` forces it. Objects that clients create (files, batches, responses, vector stores …)
are kept in `state`; an id never seen gets a made-up object, a deleted one 404. A batch ends at its first
retrieval (see `polls`).

The grammar
===========

`key=value` pairs joined by commas, a key alone meaning `key=1`: in the model name after `sim:`, as in
`sim:tokens=50,pace_ms=20`, or in the header `x-sim-behaviour`, which wins pair by pair and works where there
is no model. Any other model name is a healthy provider with a short answer. A pair that cannot be read is a
400 that says so.

What is answered:

    seed=0            chooses the words and ids; equal requests get equal answers (but request id and date)
    tokens=12         output tokens; the request's own limit (`max_tokens` …) cuts them
    chunk_tokens=1    tokens per event
    thinking=0        reasoning tokens before the answer (6 when an Anthropic request enables thinking)
    tool, tool_calls=1  call the first tool offered (always done when tool_choice demands it), so many times
    web_searches=0    Anthropic server tool calls; message_delta then raises input_tokens by 700 each
    refusal           refuse; moderations flag
    stop=REASON       another stop or finish reason; for responses: completed, incomplete or failed
    bytes=N           text, file or sound of N bytes, as fast as it is read; 4 KiB events if streamed
    event_bytes=N     the same in one single event
    polls=0           looks at a batch or background response before it ends

What is reported:

    usage=full|none|twice   `none` leaves it out; `twice` sends a second message_delta
    input_tokens=N    instead of a quarter of the request's bytes; `cache_control` writes half
    raise_input=N     Anthropic: message_start reports N less than message_delta; OpenAI: simply N more
    cache_read=N cache_write_5m=N cache_write_1h=N   the cache classes
    service_tier=T

When (milliseconds, fractions allowed):

    headers_ms=0      before the head
    ttft_ms=0         before the first token, after the opening events; before the head if not streamed
    pace_ms=0         between tokens' events (against the schedule, so it does not drift), or pieces of sound
    flush             with pace_ms=0: every event in a write of its own

How an event stream is written:

    newline=lf|crlf|cr, pad=1 (Anthropic's spaces at the last brace), pings=K (a ping after every K events),
    comments, future_event (an unknown event name), no_blank_end (the last event lacks its blank line)

How HTTP is written:

    framing=auto|chunked|length|close   `close`: neither length nor chunks, the body ends with the connection
    encoding=gzip|deflate   when the client accepts it
    split=N, split_ms=0   every write cut into pieces of 1…N bytes, each sent on its own; N=1 is byte by byte
    close             `connection: close`, and closes; close_silently: closes without having said so
    interim=100|102|103   an informational response first
    cloudflare        what the edge adds: set-cookie, server, cf-ray, alt-svc, strict-transport-security …
    header_bytes=N, header_count=N   a header that long, or so many more

Errors in the dialect:

    error=STATUS      that error; 401, 404, 429, 529 … in the API's own words; redirect=30x with location=URL
    error_after=K     not at once but as an event after K events of the stream
    times=N           only the first N times this behaviour is asked for, then it succeeds
    retry_after=S retry_after_ms=N should_retry=1|0   the headers of that name
    error_type=T error_code=C error_message=M   instead of the usual ones
    status=N          another status on an otherwise normal answer

Faults:

    die=rst|fin|clean   how a death looks: reset, bare end of connection, or a body as if it were whole
    die_at=headers|request|head   on the request's head (header only), the whole request, amid the head
    die_after=K       after K events; of a body that is no stream, after K bytes
    hang=head         never answer; hang_after=K: silent after K events or bytes; hang_ms=N: not for ever
    malformed=KIND    of the head: head, version, status, header, nul, length, lengths, both;
                      of the body: chunk, chunk_size, json, utf8
    malformed_after=1   the event before which (chunks) or in which (json, utf8) it goes wrong
    extra_bytes=N     so many bytes after the answer's end, then closes
    short_bytes=N     a content-length that promises N bytes more than come
    read=stop         header only: never read the body (nor see the client leave)
    early             header only: answer on the head alone, then close

Looking at it
=============

    GET /_sim/ledger[?after=SEQ&limit=N&headers=1 | ?request_id=ID]   DELETE /_sim/ledger
    GET /_sim/connections[?after=ID]                                 DELETE /_sim/connections
    DELETE /_sim/state   (what clients created)                      GET /_sim/health
    PUT /_sim/models/NAME?behaviour=…   makes that model name mean the behaviour

No key is needed. An entry has request_id, seq, method, path (raw, with query), dialect, model, credential,
credential_header, refused (missing_key, karta_key, unknown_key or null), leaks (other places where a Karta
key stood), status, streamed, events_sent, bytes_sent, tokens_sent, usage (as reported so far), tokens (that
usage in disjoint classes), body_bytes, body_sha256, response_sha256 (of the body without chunk framing),
completed, started_at, first_byte_at, ended_at, client_closed_at (when it saw the other side close, also after
the answer), connection_id, and on demand the request's headers. The latest 20,000 are kept.
"""
