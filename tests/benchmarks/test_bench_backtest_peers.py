"""The benchmark itself: everybody gets the same events. Numbers of so short a run mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework.market.catalogue.reading import open_market
from tests.benchmarks import bench_backtest_peers as bench
from tests.benchmarks import quoting_ours
from tests.flows.harness import record_market


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_market(tmp_path_factory.mktemp("recorded") / "market", duration_s=20.0)


def test_peers_get_as_many_events_as_our_strategy_is_handed(recording: Path) -> None:
    rows = bench.as_rows([recording])
    found, lean = (run([recording], quoting_ours.settings(2.0, 1.0)) for run in (quoting_ours.measure, quoting_ours.measure_lean))

    assert found["events"] == rows["event"][-1] + 1 == sum(1 for _ in open_market([str(recording)]).read())
    assert found["orders"] > 10
    assert found["fills"] > 0
    assert [lean[name] for name in ("events", "orders", "fills")] == [found[name] for name in ("events", "orders", "fills")]


def test_ratios_are_taken_within_each_round(recording: Path) -> None:
    runs = {
        "tidebook": [{"events": 100, "cpu_s": 1.0, "rss_mb": 50.0}, {"events": 100, "cpu_s": 2.0, "rss_mb": 50.0}],
        "tidebook_lean": [{"events": 100, "cpu_s": 0.5, "rss_mb": 50.0}, {"events": 100, "cpu_s": 0.5, "rss_mb": 50.0}],
        "nautilus": [{"events": 100, "cpu_s": 2.0, "rss_mb": 200.0}, {"events": 100, "cpu_s": 4.0, "rss_mb": 200.0}],
    }

    assert bench.ratios_of(runs, "tidebook") == {"nautilus": {"speed": 2.0, "speed_range": [2.0, 2.0], "memory": 0.25}}
    assert bench.ratios_of(runs, "tidebook_lean")["nautilus"]["speed"] == 6.0
