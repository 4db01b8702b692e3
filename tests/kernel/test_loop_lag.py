from __future__ import annotations

import asyncio

from framework.kernel.loop_lag import LoopLagMonitor
from framework.kernel.simulation import run_simulated


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
