"""Tell where HTTP/1.1 messages end, and nothing else about them.

The relay forwards bytes verbatim, so llhttp is asked for one fact: is this message complete?  Only the
message-complete callback is registered; every other callback would cost a Python call per header or chunk.
The parsers are reused for all messages of a connection.
"""

import re

from httptools import HttpRequestParser, HttpResponseParser

END_OF_HEAD = b"\r\n\r\n"
# A head larger than this is refused; real SDK heads are around one kilobyte.
head_bytes_max = 65_536

_HOST_LINE = re.compile(rb"\r\nhost:[^\r\n]*", re.IGNORECASE)
_FINAL_STATUS_MIN = 200


class RequestFraming:
    """Framing of the requests of one client connection.

    Set `complete` to False before feeding a new request; it turns True when the request's last byte was fed,
    and then `keeps_alive` tells whether another may follow (llhttp forgets it once the message is over).
    """

    __slots__ = ("complete", "keeps_alive", "parser")

    def __init__(self) -> None:
        self.complete = False
        self.keeps_alive = False
        self.parser = HttpRequestParser(self)

    def on_message_complete(self) -> None:
        self.complete = True
        self.keeps_alive = self.parser.should_keep_alive()


class ResponseFraming:
    """Framing of the responses of one upstream connection, as `RequestFraming`.

    Informational answers (1xx) do not complete it.
    """

    __slots__ = ("complete", "keeps_alive", "parser")

    def __init__(self) -> None:
        self.complete = False
        self.keeps_alive = False
        self.parser = HttpResponseParser(self)

    def on_message_complete(self) -> None:
        if self.parser.get_status_code() >= _FINAL_STATUS_MIN:
            self.complete = True
            self.keeps_alive = self.parser.should_keep_alive()


def with_host(request: bytes, head_end: int, host_line: bytes) -> bytes:
    """Return the request with its Host line replaced by `host_line` (``b"\\r\\nhost: name:port"``).

    `head_end` is the offset of the blank line, so that a "host:" inside the body is left alone.
    """
    found = _HOST_LINE.search(request, 0, head_end)
    if found is None:
        return request[:head_end] + host_line + request[head_end:]
    return request[: found.start()] + host_line + request[found.end() :]
