"""Agreement with an outside judge: the same recording, commands, queue model and latencies through the paper venue and hftbacktest.

    python -m tests.benchmarks.agree_hftbacktest RECORDING... [--seed N] [--orders N] [--model NAME] [--judge PYTHON]

Prints one JSON object a model: the share of orders whose fills agree (lots and price; and to the event, by the exchange's time), and
each difference with its reason, which is found by experiment: the order is sent again alone, to us and, if need be, to the judge.
Orders are of one lot: the judge is run with its exchange without partial fills (the one with them stops with an error in 2.4.4).
hftbacktest is looked for in the environment of PYTHON (default: this one).
Without a RECORDING it takes an hour of the simulated market.
"""

from __future__ import annotations

import argparse
import heapq
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np

from framework.clock import EventClock
from framework.config import PaperConfig, SimulatedMarketConfig
from framework.market.formats import open_feed
from framework.market.order_log import OrderChange
from framework.messages import BookSnapshot, ExecutionReport, MarketEvent, ReportKind, SubmitOrder, TradeTick
from framework.model import NS_PER_MS, NS_PER_S, Instrument, OrderType, Side, TimeInForce
from framework.venues.paper import PaperVenue
from framework.venues.simulated import generate_history
from framework.venues.simulated_tape import INSTRUMENT

JUDGE = Path(__file__).with_name("judge_hftbacktest.py")
MODELS = ("risk_averse", "power", "power_2", "power_3", "log", "log_2")
CANCEL, REST, TAKE = 0, 1, 2


@dataclass(frozen=True)
class Command:
    """Send an order (REST: post-only, TAKE: immediate or cancel), or cancel it.

    What rests is post-only, so that an order that the market overtook is over in both and takes in neither.
    """

    when_ns: int
    order_id: int
    action: int
    side: Side = Side.BUY
    ticks: int = 0
    size: int = 1


@dataclass
class Outcome:
    """What became of an order: lots, last price in ticks, exchange time of the last fill."""

    filled: int = 0
    ticks: int = 0
    ts: int = 0

    def agrees(self, other: Outcome) -> bool:
        return (self.filled, self.ticks) == (other.filled, other.ticks)


@dataclass
class Story:
    """Everything that one run needs."""

    instrument: Instrument
    events: list[BookSnapshot | TradeTick]
    commands: list[Command]
    settings: PaperConfig
    outcomes: dict[int, Outcome] = field(default_factory=dict)


# --- the recording -----------------------------------------------------------------------------------------------------------


def recorded(paths: Sequence[Path]) -> tuple[Instrument, list[BookSnapshot | TradeTick]]:
    """Return the events of the first instrument of a recording, on strictly usable exchange times."""
    if not paths:
        events: Iterable[MarketEvent] = generate_history(SimulatedMarketConfig(), seed=11, duration_s=3_600.0)
        return INSTRUMENT, in_order(events, INSTRUMENT.instrument_id)
    feed = open_feed(paths)
    return feed.instruments[0], in_order(feed._events, feed.instruments[0].instrument_id)


def in_order(events: Iterable[MarketEvent], instrument_id: str) -> list[BookSnapshot | TradeTick]:
    """Return books and trades with the receive time as the exchange's: both sides need one clock that never goes back."""
    kept: list[BookSnapshot | TradeTick] = []
    last = 0
    for event in events:
        if isinstance(event, BookSnapshot | TradeTick) and event.instrument_id == instrument_id:
            last = max(last, event.ts_recv)
            kept.append(msgspec.structs.replace(event, ts_event=last, ts_recv=last))
    return kept


# --- commands ----------------------------------------------------------------------------------------------------------------


def draw_commands(events: Sequence[BookSnapshot | TradeTick], *, seed: int, orders: int, feed_latency_ns: int) -> list[Command]:
    """Draw orders of one lot around the book as we see it: some take, most rest and are canceled after a while."""
    rng = Random(seed)
    begin, end = events[0].ts_event + NS_PER_S, events[-1].ts_event - 5 * NS_PER_S
    times = sorted(rng.randrange(begin, end) for _ in range(orders))
    commands, place, book = [], 0, None
    for number, when_ns in enumerate(times, 1):
        while place < len(events) and events[place].ts_event + feed_latency_ns <= when_ns:
            event = events[place]
            book = event if isinstance(event, BookSnapshot) else book
            place += 1
        if book is None or not (book.bid_ticks and book.ask_ticks):
            continue
        commands += _order(rng, book, number, when_ns, end)
    return sorted(commands, key=lambda command: command.when_ns)


def _order(rng: Random, book: BookSnapshot, number: int, when_ns: int, end_ns: int) -> list[Command]:
    side = rng.choice(tuple(Side))
    own, other = (book.bid_ticks, book.ask_ticks) if side is Side.BUY else (book.ask_ticks, book.bid_ticks)
    if rng.random() < 0.2:
        return [Command(when_ns, number, TAKE, side, other[0] + side.sign * rng.choice((0, 1)))]
    depth = min(len(own) - 1, rng.choice((0, 0, 0, 1, 1, 2, 3)))
    sent = Command(when_ns, number, REST, side, own[depth])
    gone_ns = when_ns + round(rng.expovariate(1 / 20) * NS_PER_S) + 50 * NS_PER_MS  # not before the answer
    return [sent, Command(gone_ns, number, CANCEL)] if gone_ns < end_ns else [sent]


# --- ours --------------------------------------------------------------------------------------------------------------------


def run_ours(story: Story, *, order_logs: Mapping[str, Iterator[OrderChange]] | None = None) -> dict[int, Outcome]:
    """Run the commands against the paper venue; `order_logs` go with the model `fifo`."""
    feed_latency_ns = round(story.settings.feed_latency_ms * NS_PER_MS)
    clock, outcomes = EventClock(story.events[0].ts_event), dict[int, Outcome]()
    venue = PaperVenue(story.settings, (story.instrument,), order_logs=order_logs)
    venue.start(clock, lambda report: _note(outcomes, report))
    arrivals = ((event.ts_event + feed_latency_ns, 0, place) for place, event in enumerate(story.events))
    sendings = ((command.when_ns, 1, place) for place, command in enumerate(story.commands))
    for when_ns, what, place in heapq.merge(arrivals, sendings):
        clock.advance_to(when_ns)
        if what == 0:
            event = story.events[place]
            venue.on_market(msgspec.structs.replace(event, ts_recv=when_ns))
        else:
            _send(venue, story, story.commands[place], outcomes)
    clock.advance_to(clock.now_ns() + 10 * NS_PER_S)
    return outcomes


def _send(venue: PaperVenue, story: Story, command: Command, outcomes: dict[int, Outcome]) -> None:
    if command.action == CANCEL:
        venue.cancel(str(command.order_id))
        return
    outcomes[command.order_id] = Outcome()
    venue.submit(
        SubmitOrder(
            client_order_id=str(command.order_id),
            strategy_id="s",
            instrument_id=story.instrument.instrument_id,
            side=command.side,
            quantity=command.size,
            order_type=OrderType.LIMIT,
            limit_ticks=command.ticks,
            time_in_force=TimeInForce.GTC if command.action == REST else TimeInForce.IOC,
            ts_event=command.when_ns,
            post_only=command.action == REST,
        )
    )


def _note(outcomes: dict[int, Outcome], report: ExecutionReport) -> None:
    if report.kind is ReportKind.FILLED:
        outcome = outcomes[int(report.client_order_id)]
        outcome.filled += report.last_quantity
        outcome.ticks, outcome.ts = report.last_ticks, report.ts_event


# --- the judge's ---------------------------------------------------------------------------------------------------------------


def run_judge(story: Story, python: str) -> dict[int, Outcome]:
    """Run the commands in hftbacktest, in the environment of `python`."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
        np.savez(given, **as_arrays(story))
        subprocess.run([python, str(JUDGE), str(given), str(found)], check=True)
        columns = dict(np.load(found))
    rows = zip(*(columns[name].tolist() for name in ("order_id", "filled", "ticks", "ts")), strict=True)
    return {order_id: Outcome(filled, ticks, ts) for order_id, filled, ticks, ts in rows}


def as_arrays(story: Story) -> dict[str, Any]:
    """Return a story as arrays: changes of levels (kind 0) and trades (kind 1)."""
    rows = []
    known: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
    for event in story.events:
        if isinstance(event, TradeTick):
            rows.append((event.ts_event, 1, event.aggressor.sign if event.aggressor else 0, event.price_ticks, event.size))
        else:
            rows += [(event.ts_event, 0, *change) for change in level_changes(known, event)]
    ts, kind, side, ticks, size = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    commands = [(c.when_ns, c.order_id, c.action, c.side.sign, c.ticks, c.size) for c in story.commands]
    settings = story.settings
    return {
        "ts": ts,
        "kind": kind,
        "side": side,
        "ticks": ticks,
        "size": size,
        "commands": np.array(commands, dtype=np.int64),
        "order_latency_ns": round(settings.order_latency_ms * NS_PER_MS),
        "response_latency_ns": round(settings.response_latency_ms * NS_PER_MS),
        "feed_latency_ns": round(settings.feed_latency_ms * NS_PER_MS),
        "queue_model": settings.queue_model,
        "queue_power": settings.queue_power,
    }


def level_changes(known: dict[Side, dict[int, int]], book: BookSnapshot) -> list[tuple[int, int, int]]:
    """Return (side, ticks, size) of each level that changed, what is gone first. Levels out of view are left as they were."""
    gone, new = [], []
    for side, ticks, sizes in ((Side.BUY, book.bid_ticks, book.bid_sizes), (Side.SELL, book.ask_ticks, book.ask_sizes)):
        shown, levels = dict(zip(ticks, sizes, strict=True)), known[side]
        in_view = [price for price in levels if not ticks or (price - ticks[-1]) * side.sign >= 0]
        gone += [(side.sign, price, 0) for price in in_view if price not in shown]
        new += [(side.sign, price, size) for price, size in shown.items() if levels.get(price) != size]
        for price in in_view:
            del levels[price]
        levels |= shown
    return gone + new


# --- the comparison ------------------------------------------------------------------------------------------------------------

SHARED = "alone it agrees: our orders share the lots of a trade or a level, the judge gives them to each order anew"
BOTH_ALONE = "alone in both it agrees: in the run, another order of ours changed it here or there"
UNEXPLAINED = "not explained"


def compare(story: Story, ours: dict[int, Outcome], theirs: dict[int, Outcome], python: str) -> dict[str, Any]:
    """Return the shares that agree, and every difference with its reason."""
    numbers = sorted(ours)
    nothing = Outcome()
    differing = [number for number in numbers if not ours[number].agrees(theirs.get(number, nothing))]
    other_event = [n for n in numbers if n not in differing and ours[n].filled and ours[n].ts != theirs[n].ts]
    reasons = {number: explain(story, number, theirs.get(number, nothing), python) for number in differing + other_event}
    total = max(1, len(numbers))
    return {
        "instrument": story.instrument.instrument_id,
        "events": len(story.events),
        "queue_model": story.settings.queue_model,
        "feed_latency_ms": story.settings.feed_latency_ms,
        "orders": len(numbers),
        "filled_ours": sum(1 for number in numbers if ours[number].filled),
        "filled_theirs": sum(1 for number in numbers if number in theirs and theirs[number].filled),
        "agree": round(1 - len(differing) / total, 5),
        "agree_to_the_event": round(1 - (len(differing) + len(other_event)) / total, 5),
        "reasons_other_fill": dict(Counter(reasons[number] for number in differing)),
        "reasons_other_event": dict(Counter(reasons[number] for number in other_event)),
        "differences": [
            {"order": n, "reason": reasons[n], "ours": vars(ours[n]), "theirs": vars(theirs.get(n, nothing))}
            for n in differing + other_event
        ],
    }


def explain(story: Story, number: int, theirs: Outcome, python: str) -> str:
    """Return why an order differs, found by experiment: it is sent alone, to us and then to the judge as well."""
    own = [command for command in story.commands if command.order_id == number]
    begin_ns, end_ns = own[0].when_ns - 30 * NS_PER_S, own[-1].when_ns + 30 * NS_PER_S if len(own) > 1 else story.events[-1].ts_event
    events = [event for event in story.events if begin_ns <= event.ts_event <= end_ns]
    alone = Story(story.instrument, events, own, story.settings)
    ours_alone = run_ours(alone)[number]
    if ours_alone == theirs:
        return SHARED
    return BOTH_ALONE if ours_alone == run_judge(alone, python).get(number, Outcome()) else UNEXPLAINED


def agree(
    paths: Sequence[Path], *, seed: int, orders: int, models: Sequence[str], judge: str, feed_latency_ms: float
) -> list[dict[str, Any]]:
    """Run all models and return their comparisons."""
    instrument, events = recorded(paths)
    commands = draw_commands(events, seed=seed, orders=orders, feed_latency_ns=round(feed_latency_ms * NS_PER_MS))
    found = []
    for model in models:
        settings = PaperConfig.model_validate(
            {"queue_model": model, "queue_power": 3.0, "feed_latency_ms": feed_latency_ms, "response_latency_ms": 4.0}
        )
        story = Story(instrument, events, commands, settings)
        found.append(compare(story, run_ours(story), run_judge(story, judge), judge))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--orders", type=int, default=2_000)
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--feed-latency-ms", type=float, default=3.0)
    parser.add_argument("--judge", default=sys.executable, help="the Python of the environment that has hftbacktest")
    chosen = parser.parse_args()
    for result in agree(
        chosen.recordings,
        seed=chosen.seed,
        orders=chosen.orders,
        models=chosen.model or MODELS,
        judge=chosen.judge,
        feed_latency_ms=chosen.feed_latency_ms,
    ):
        print(json.dumps(result))


if __name__ == "__main__":
    main()
