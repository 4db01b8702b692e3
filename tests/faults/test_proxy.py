"""A slice of lines that fail: bytes and messages, each fault twice."""

from __future__ import annotations

import random

import pytest

from tests.faults.proxies import BytesProxy, MessagesProxy, spoiled
from tests.faults.proxy import run


@pytest.mark.timeout(240)
def test_a_line_that_fails_in_any_way_leaves_one_outcome_each_and_the_market_flowing() -> None:
    found = run(14, seed=1)

    assert [text for one in found.values() for text in one.violations] == []
    assert {name: one.strikes for name, one in found.items()} == {"bytes": 14, "messages": 14}
    # Harm was done, in every way, and what came of it was counted.
    assert set(found["messages"].struck) >= set(MessagesProxy.faults)
    assert sum(found["bytes"].struck[name] > 0 for name in BytesProxy.faults) >= 4
    assert found["messages"].dropped["duplicate"] > 0
    assert all(one.outcomes["answered"] > 0 and one.market > 100 for one in found.values())


def test_spoiled_bytes_differ() -> None:
    rng = random.Random(1)

    assert sum(spoiled(b"twenty bytes of data", rng) != b"twenty bytes of data" for _ in range(100)) > 90
