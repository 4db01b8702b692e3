"""Deliveries per CPU second through the event bus, beside what bounds it and what it replaces, all measured in the same run.

python tests/benchmarks/bench_event_bus.py [--bursts N] [--repeats N] [--peer]      prints one JSON line

Every contender hands the same messages, in bursts of 32, to the same handlers of 1 and of 10 actors. `direct` is a plain
loop over the handlers, the most that any design in Python can reach: it has no mailbox, no bound and no isolation. `queue` is
one bounded `asyncio.Queue` and one task per actor. `peer` (with --peer) is the synchronous message bus of NautilusTrader,
installed into a virtual environment of its own and run in its own process, turn by turn with ours.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from time import process_time_ns
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from framework.kernel.actor import Actor
from framework.kernel.bus import EventBus
from framework.messages import BookSnapshot, Message, TradeTick

BURST = 32
CONTROL_MAX = 10_000
SUBSCRIBERS = (1, 10)
TARGET_OF_DIRECT = 0.3
TARGET_OF_QUEUE = {1: 1.5, 10: 2.0}
TARGET_OF_PEER = 1.0
PEER_PACKAGE = "nautilus_trader"

Contender = Callable[[int], float]


class Counter(Actor):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.count = 0

    def handle(self, message: Message) -> None:
        self.count += 1


def control_burst() -> list[Message]:
    """Return 32 trade ticks of one instrument: the lossless lane."""
    stamps = {"ts_event": 0, "ts_recv": 0, "price_ticks": 20_000, "size": 1, "aggressor": None}
    return [TradeTick(instrument_id="BENCH.SIM", sequence=sequence, **stamps) for sequence in range(BURST)]


def data_burst() -> list[Message]:
    """Return a book of each of 32 instruments: the newest-wins lane, with nothing to replace, so that all are delivered."""
    sides = {"bid_ticks": (1,), "bid_sizes": (1,), "ask_ticks": (2,), "ask_sizes": (1,)}
    return [BookSnapshot(instrument_id=f"B{n}.SIM", ts_event=0, ts_recv=0, sequence=n, **sides) for n in range(BURST)]


def make_actors(subscribers: int) -> list[Counter]:
    return [Counter(f"actor-{number}") for number in range(subscribers)]


def rate(actors: list[Counter], spent_ns: int) -> float:
    """Return deliveries per CPU second."""
    return sum(actor.count for actor in actors) / spent_ns * 1e9


def direct(burst: list[Message], subscribers: int) -> Contender:
    def run(bursts: int) -> float:
        actors = make_actors(subscribers)
        handlers = tuple(actor.handle for actor in actors)
        begun_ns = process_time_ns()
        for _ in range(bursts):
            for message in burst:
                for handle in handlers:
                    handle(message)
        return rate(actors, process_time_ns() - begun_ns)

    return run


def bus(burst: list[Message], subscribers: int) -> Contender:
    def run(bursts: int) -> float:
        actors = make_actors(subscribers)
        event_bus = EventBus(control_max=CONTROL_MAX)
        for actor in actors:
            event_bus.register(actor)
            event_bus.subscribe(actor.name, type(burst[0]))
        publish, drain = event_bus.publish, event_bus.drain
        begun_ns = process_time_ns()
        for _ in range(bursts):
            for message in burst:
                publish(message)
            drain()
        spent_ns = process_time_ns() - begun_ns
        assert all(actor.count == bursts * BURST for actor in actors)
        return rate(actors, spent_ns)

    return run


def queue(burst: list[Message], subscribers: int) -> Contender:
    async def work(inbox: asyncio.Queue[Message], handle: Callable[[Message], None]) -> None:
        while True:
            handle(await inbox.get())

    async def main(bursts: int) -> float:
        actors = make_actors(subscribers)
        inboxes = [asyncio.Queue[Message](CONTROL_MAX) for _ in actors]
        tasks = [asyncio.ensure_future(work(inbox, actor.handle)) for inbox, actor in zip(inboxes, actors, strict=True)]
        await asyncio.sleep(0)
        puts = [inbox.put_nowait for inbox in inboxes]
        begun_ns = process_time_ns()
        for _ in range(bursts):
            for message in burst:
                for put in puts:
                    put(message)
            await asyncio.sleep(0)  # the tasks were woken before us, so each empties its queue before we go on
        spent_ns = process_time_ns() - begun_ns
        assert all(actor.count == bursts * BURST for actor in actors)
        for task in tasks:
            task.cancel()
        return rate(actors, spent_ns)

    return lambda bursts: asyncio.run(main(bursts))


PEER_SCRIPT = """
import gc, json, sys
from importlib.metadata import version
from time import process_time_ns

from nautilus_trader.common.component import MessageBus, TestClock
from nautilus_trader.model.identifiers import TraderId
from nautilus_trader.test_kit.stubs.data import TestDataStubs


class Counter:
    def __init__(self):
        self.count = 0

    def handle(self, message):
        self.count += 1


def run(message, subscribers, bursts, burst):
    bus = MessageBus(trader_id=TraderId("BENCH-001"), clock=TestClock())
    actors = [Counter() for _ in range(subscribers)]
    for actor in actors:
        bus.subscribe("data.quotes.SIM", actor.handle)
    publish = bus.publish
    begun_ns = process_time_ns()
    for _ in range(bursts * burst):
        publish("data.quotes.SIM", message)
    spent_ns = process_time_ns() - begun_ns
    assert all(actor.count == bursts * burst for actor in actors)
    return subscribers * bursts * burst / spent_ns * 1e9


gc.disable()
quote = TestDataStubs.quote_tick()
print(json.dumps({"version": version("nautilus_trader")}), flush=True)
for line in sys.stdin:
    subscribers, bursts, burst = json.loads(line)
    print(json.dumps(run(quote, subscribers, bursts, burst)), flush=True)
"""


class Peer:
    """NautilusTrader's bus in a process of its own: one request line, one measured repeat."""

    def __init__(self, home: Path) -> None:
        python = home / "bin" / "python"
        if not python.exists():
            venv.create(home, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", PEER_PACKAGE], check=True, stdout=sys.stderr)
        self._child = subprocess.Popen([python, "-c", PEER_SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = self._read()["version"]

    def contender(self, subscribers: int) -> Contender:
        return lambda bursts: self._measure([subscribers, bursts, BURST])

    def close(self) -> None:
        self._child.communicate()

    def _measure(self, request: list[int]) -> float:
        assert self._child.stdin is not None
        print(json.dumps(request), file=self._child.stdin, flush=True)
        return float(self._read())

    def _read(self) -> Any:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise SystemExit(f"the peer's process ended (exit code {self._child.wait()}); its message is above")
        return json.loads(line)


def medians(contenders: dict[str, Contender], bursts: int, repeats: int) -> dict[str, float]:
    """Return the median rate of each; contenders take turns, so that a slow minute of the machine hits all of them."""
    for run in contenders.values():
        run(bursts // 10 + 1)
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeats):
            for name, run in contenders.items():
                rates[name].append(run(bursts))
    finally:
        gc.enable()
    return {name: statistics.median(found) for name, found in rates.items()}


def measure_case(burst: list[Message], subscribers: int, bursts: int, repeats: int, peer: Peer | None) -> dict[str, Any]:
    contenders: dict[str, Contender] = {"direct": direct(burst, subscribers)}
    contenders |= {"bus": bus(burst, subscribers), "queue": queue(burst, subscribers)}
    targets = {"direct": TARGET_OF_DIRECT, "queue": TARGET_OF_QUEUE[subscribers]}
    if peer is not None:
        contenders["peer"] = peer.contender(subscribers)
        targets |= {"peer": TARGET_OF_PEER} if subscribers == max(SUBSCRIBERS) else {}
    found = medians(contenders, bursts, repeats)
    ratios = {name: round(found["bus"] / found[name], 2) for name in found if name != "bus"}
    return {
        "deliveries_per_s": {name: round(value) for name, value in found.items()},
        "bus_of": ratios,
        "targets": targets,
        "is_met": all(ratios[name] >= target for name, target in targets.items()),
    }


def measure(bursts: int, repeats: int, peer: Peer | None = None) -> dict[str, Any]:
    cases = {
        f"{lane}_{subscribers}": measure_case(burst, subscribers, max(1, bursts // subscribers), repeats, peer)
        for lane, burst in (("control", control_burst()), ("data", data_burst()))
        for subscribers in SUBSCRIBERS
    }
    return {
        "benchmark": "event_bus",
        "burst": BURST,
        "bursts": bursts,
        "repeats": repeats,
        "peer": f"{PEER_PACKAGE} {peer.version}" if peer is not None else None,
        "cases": cases,
        "is_met": all(case["is_met"] for case in cases.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bursts", type=int, default=5_000, help="bursts of one repeat at one subscriber")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--peer", action="store_true", help="compare with NautilusTrader, installed into an environment of its own")
    parser.add_argument("--peer-home", type=Path, default=Path(tempfile.gettempdir()) / "tidebook-bench-nautilus")
    chosen = parser.parse_args()
    peer = Peer(chosen.peer_home) if chosen.peer else None
    try:
        print(json.dumps(measure(chosen.bursts, chosen.repeats, peer)))
    finally:
        if peer is not None:
            peer.close()


if __name__ == "__main__":
    main()
