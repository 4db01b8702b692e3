"""What the estimates of queue position are worth: the same orders with each model, and with the exact queues of a market by order.

    python -m tests.benchmarks.queue_models_against_fifo FILE.mbo.dbn.zst [--seed N] [--orders N]

Prints one JSON object a model: how many orders filled, and how many have another fate than with exact queues.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from framework.config import PaperConfig
from framework.market.formats.databento_orders import order_logs
from framework.market.order_log import OrderChange
from tests.benchmarks.agree_hftbacktest import MODELS, Outcome, Story, draw_commands, recorded, run_ours


def fates(path: Path, *, seed: int, orders: int) -> dict[str, dict[int, Outcome]]:
    """Return what became of each order, by model."""
    instrument, events = recorded([path])
    commands = draw_commands(events, seed=seed, orders=orders, feed_latency_ns=0)

    def run(model: str, logs: dict[str, Iterator[OrderChange]]) -> dict[int, Outcome]:
        settings = PaperConfig.model_validate({"queue_model": model, "response_latency_ms": 4.0})
        return run_ours(Story(instrument, events, commands, settings), order_logs=logs)

    return {"fifo": run("fifo", order_logs(path)), **{model: run(model, {}) for model in MODELS}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--orders", type=int, default=1_000)
    chosen = parser.parse_args()
    found = fates(chosen.recording, seed=chosen.seed, orders=chosen.orders)
    exact = found["fifo"]
    for model, outcomes in found.items():
        more = sum(1 for number in exact if outcomes[number].filled and not exact[number].filled)
        less = sum(1 for number in exact if exact[number].filled and not outcomes[number].filled)
        filled = sum(1 for outcome in outcomes.values() if outcome.filled)
        print(json.dumps({"model": model, "orders": len(exact), "filled": filled, "filled_here_only": more, "filled_exactly_only": less}))


if __name__ == "__main__":
    main()
