"""What was seen survives being written and read."""

import msgspec

from bench.compare.comparison import Comparison
from tests.bench.compare.seen import comparison, idle, summary


def test_a_comparison_is_read_back_as_it_was_written() -> None:
    seen = comparison(
        {"unary": {"relay": [summary(rate=5), None]}}, idle={"idle": {"relay": idle(2048)}}, broken=["x"]
    )
    assert msgspec.json.decode(msgspec.json.encode(seen), type=Comparison) == seen
    assert seen.idle["idle"]["relay"].bytes_per_stream == 2048
