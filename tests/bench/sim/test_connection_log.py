"""The log of connections."""

from bench.sim.connection_log import ConnectionLog


def test_connections_come_and_go() -> None:
    log = ConnectionLog()
    first, second = log.accepted(("127.0.0.1", 5)), log.accepted(None)
    assert (first.peer, second.peer) == ("127.0.0.1:5", "")
    first.bytes_received = 7
    log.closed(first)
    log.closed(first)
    document = log.document()
    assert [one["connection_id"] for one in document["open"]] == [2]
    assert [one["bytes_received"] for one in document["closed"]] == [7]
    assert (document["accepted_total"], document["open_total"], document["open_peak"]) == (2, 1, 2)
    assert log.document(after=2)["open"] == []
    log.clear()
    assert log.document()["closed"] == []
    assert log.document()["open_peak"] == 1
