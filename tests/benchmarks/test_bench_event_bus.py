"""The benchmark itself: it delivers everything it counts, and says which goals were met. Numbers of so short a run mean nothing."""

from __future__ import annotations

import pytest

from framework.messages import BookSnapshot, Message, TradeTick
from tests.benchmarks import bench_event_bus as bench


def test_a_small_slice_measures_every_case_against_every_limit() -> None:
    report = bench.measure(bursts=10, repeats=2)

    assert set(report["cases"]) == {"control_1", "control_10", "data_1", "data_10"}
    for case in report["cases"].values():
        assert set(case["deliveries_per_s"]) == {"direct", "bus", "queue"}
        assert all(rate > 0 for rate in case["deliveries_per_s"].values())
        assert set(case["bus_of"]) == {"direct", "queue"}
    assert report["is_met"] == all(case["is_met"] for case in report["cases"].values())


@pytest.mark.parametrize(("burst", "kind"), [(bench.control_burst(), TradeTick), (bench.data_burst(), BookSnapshot)])
def test_no_message_of_a_burst_replaces_another(burst: list[Message], kind: type[Message]) -> None:
    assert len(burst) == bench.BURST
    assert {type(message) for message in burst} == {kind}
    if kind is BookSnapshot:
        assert len({message.instrument_id for message in burst}) == bench.BURST  # type: ignore[attr-defined]
