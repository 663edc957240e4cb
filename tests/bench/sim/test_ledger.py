"""The ring of entries, and usage turned into classes."""

from bench.sim.ledger import ENTRIES_WITH_HEADERS_MAX, Ledger, token_classes


def test_entries_are_numbered_and_found() -> None:
    ledger = Ledger()
    first, second = ledger.open("anthropic"), ledger.open("openai")
    assert first.request_id.startswith("req_011C")
    assert len(second.request_id) == len("req_") + 32
    document = ledger.document(after=1)
    assert [entry["seq"] for entry in document["entries"]] == [2]
    assert document["last_seq"] == 2
    found = ledger.document(request_id=first.request_id)["entries"]
    assert [entry["seq"] for entry in found] == [1]


def test_the_ring_forgets_the_oldest() -> None:
    ledger = Ledger(entries_max=3)
    for _ in range(5):
        ledger.open("openai")
    assert [entry["seq"] for entry in ledger.document()["entries"]] == [3, 4, 5]
    assert len(ledger.document(limit=2)["entries"]) == 2
    ledger.clear()
    assert ledger.document()["entries"] == []
    assert ledger.open("openai").seq == 6


def test_headers_are_kept_for_the_latest() -> None:
    ledger = Ledger()
    entries = [ledger.open("openai") for _ in range(ENTRIES_WITH_HEADERS_MAX + 1)]
    for entry in entries:
        ledger.keep_headers(entry, [(b"accept", b"*/*")])
    assert entries[0].headers is None
    assert entries[1].document(with_headers=True)["headers"] == [["accept", "*/*"]]


def test_a_ledger_may_be_off() -> None:
    ledger = Ledger(enabled=False)
    assert ledger.open("openai").request_id != ledger.open("openai").request_id
    assert ledger.document()["entries"] == []


def test_anthropic_usage_in_classes() -> None:
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 7,
        "cache_read_input_tokens": 5,
        "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4},
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 2},
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
    }
    assert token_classes(usage) == {
        "input_tokens": 10,
        "output_tokens": 9,
        "cache_read_tokens": 5,
        "cache_write_5m_tokens": 3,
        "cache_write_1h_tokens": 4,
        "reasoning_tokens": 2,
        "server_tool_calls": 1,
    }


def test_openai_usage_in_classes() -> None:
    usage = {
        "prompt_tokens": 20,
        "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    found = token_classes(usage)
    assert found is not None
    assert (found["input_tokens"], found["cache_read_tokens"], found["cache_write_5m_tokens"]) == (11, 5, 4)
    assert (found["output_tokens"], found["reasoning_tokens"]) == (9, 3)
    assert token_classes(None) is None
