from __future__ import annotations

import asyncio

import pytest

from framework.kernel.loop_lag import LoopLagMonitor
from framework.kernel.simulation import SimulatedLoop, run_simulated


def test_an_idle_loop_has_no_lag() -> None:
    async def main() -> LoopLagMonitor:
        monitor = LoopLagMonitor(interval_s=0.01)
        monitor.start()
        await asyncio.sleep(1.005)
        monitor.stop()
        return monitor

    monitor = run_simulated(main, seed=0)

    assert monitor.samples == 100
    assert monitor.quantile_ms(0.99) < 0.001


def test_a_block_counts_for_all_the_samples_that_it_prevented() -> None:
    async def main() -> LoopLagMonitor:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        monitor = LoopLagMonitor(interval_s=0.01)
        monitor.start()
        await asyncio.sleep(0.805)
        loop.stall(0.2)
        await asyncio.sleep(0.001)
        monitor.stop()
        return monitor

    monitor = run_simulated(main, seed=0)

    assert monitor.samples == 100
    assert monitor.max_ms == pytest.approx(195.0)
    assert monitor.quantile_ms(0.5) <= 0.05
    assert 90 <= monitor.quantile_ms(0.9) <= 130
    assert 180 <= monitor.quantile_ms(0.999) <= 195.1


def test_without_a_sample_there_is_no_lag() -> None:
    assert LoopLagMonitor().quantile_ms(0.99) == 0.0
