"""The strategy of `bench_backtest_peers` for NautilusTrader 1.x, and one backtest of it.

    python quoting_nautilus.py EVENTS.npz      prints one JSON line

It imports nothing of Tidebook: it runs in an environment of its own. A book is one batch of level changes, kept in the engine's book;
prices are in ticks, so that both sides round alike.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
from nautilus_trader import __version__  # type: ignore[import-not-found, unused-ignore]
from nautilus_trader.backtest.config import BacktestEngineConfig  # type: ignore[import-not-found, unused-ignore]
from nautilus_trader.backtest.engine import BacktestEngine  # type: ignore[import-not-found, unused-ignore]
from nautilus_trader.backtest.models import FillModel, LatencyModel  # type: ignore[import-not-found, unused-ignore]
from nautilus_trader.config import LoggingConfig, RiskEngineConfig  # type: ignore[import-not-found, unused-ignore]
from nautilus_trader.model.currencies import USD  # type: ignore[import-not-found, unused-ignore]
from nautilus_trader.model.data import (  # type: ignore[import-not-found, unused-ignore]
    BookOrder,
    OrderBookDelta,
    OrderBookDeltas,
    TradeTick,
)
from nautilus_trader.model.enums import (  # type: ignore[import-not-found, unused-ignore]
    AccountType,
    AggressorSide,
    AssetClass,
    BookAction,
    BookType,
    OmsType,
    OrderSide,
    TimeInForce,
)
from nautilus_trader.model.identifiers import InstrumentId, Symbol, TradeId, Venue  # type: ignore[import-not-found, unused-ignore]
from nautilus_trader.model.instruments import FuturesContract  # type: ignore[import-not-found, unused-ignore]
from nautilus_trader.model.objects import Money, Price, Quantity  # type: ignore[import-not-found, unused-ignore]
from nautilus_trader.trading.strategy import Strategy  # type: ignore[import-not-found, unused-ignore]

QUOTE_NS = 100_000_000
LAST = 128  # RecordFlag.F_LAST
INSTRUMENT_ID = InstrumentId(Symbol("BENCH"), Venue("SIM"))
SIDES = {1: OrderSide.BUY, -1: OrderSide.SELL}
AGGRESSORS = {1: AggressorSide.BUYER, -1: AggressorSide.SELLER, 0: AggressorSide.NO_AGGRESSOR}


class Quoting(Strategy):  # type: ignore[misc, unused-ignore]
    """Read the touch at each event; each 100 ms take back a quote that is off it, or send the one that is missing."""

    def on_start(self) -> None:
        self.events = 0
        self.fills = 0
        self.orders = 0
        self.due_ns = 0
        self.instrument = self.cache.instrument(INSTRUMENT_ID)
        self.one = Quantity.from_int(1)
        self.quotes: dict[Any, Any] = {OrderSide.BUY: None, OrderSide.SELL: None}
        self.subscribe_order_book_deltas(INSTRUMENT_ID, BookType.L2_MBP)
        self.subscribe_trade_ticks(INSTRUMENT_ID)
        self.book = self.cache.order_book(INSTRUMENT_ID)

    def on_trade_tick(self, tick: Any) -> None:
        self.events += 1

    def on_order_book_deltas(self, deltas: Any) -> None:
        self.events += 1
        book = self.book or self.cache.order_book(INSTRUMENT_ID)
        bid, ask = book.best_bid_price(), book.best_ask_price()
        if bid is None or ask is None:
            return
        self.bid, self.ask = bid, ask
        if deltas.ts_init >= self.due_ns:
            self.due_ns = deltas.ts_init + QUOTE_NS
            self.quote(OrderSide.BUY, bid)
            self.quote(OrderSide.SELL, ask)

    def quote(self, side: Any, price: Any) -> None:
        order = self.quotes[side]
        if order is None or order.is_closed:
            order = self.order_factory.limit(INSTRUMENT_ID, side, self.one, price, time_in_force=TimeInForce.GTC, post_only=True)
            self.quotes[side] = order
            self.orders += 1
            self.submit_order(order)
        elif order.price != price and not order.is_pending_cancel and not order.is_inflight:
            self.cancel_order(order)

    def on_order_filled(self, event: Any) -> None:
        self.fills += 1


def instrument() -> Any:
    return FuturesContract(
        instrument_id=INSTRUMENT_ID,
        raw_symbol=Symbol("BENCH"),
        asset_class=AssetClass.COMMODITY,
        currency=USD,
        price_precision=0,
        price_increment=Price(1, 0),
        multiplier=Quantity.from_int(1),
        lot_size=Quantity.from_int(1),
        underlying="BENCH",
        activation_ns=0,
        expiration_ns=pd.Timestamp("2099-01-01", tz="UTC").value,
        ts_event=0,
        ts_init=0,
        maker_fee=Decimal("0.00001"),
        taker_fee=Decimal("0.00003"),
    )


def events_of(given: Any) -> list[Any]:
    """Return one object for each event: a batch of level changes, or a trade."""
    found: list[Any] = []
    batch: list[Any] = []
    columns = [given[name].tolist() for name in ("event", "ts", "kind", "side", "ticks", "size")]
    rows = list(zip(*columns, strict=True))
    for place, (event, ts, kind, side, ticks, size) in enumerate(rows):
        if kind == 1:
            trade_id = TradeId(str(event))
            found.append(TradeTick(INSTRUMENT_ID, Price(ticks, 0), Quantity(size, 0), AGGRESSORS[side], trade_id, ts, ts))
            continue
        is_last = place + 1 == len(rows) or rows[place + 1][0] != event
        action = BookAction.UPDATE if size else BookAction.DELETE
        order = BookOrder(SIDES[side], Price(ticks, 0), Quantity(size, 0), ticks)
        batch.append(OrderBookDelta(INSTRUMENT_ID, action, order, LAST if is_last else 0, event, ts, ts))
        if is_last:
            found.append(OrderBookDeltas(INSTRUMENT_ID, batch))
            batch = []
    return found


def engine_for(given: Any) -> Any:
    quiet = LoggingConfig(bypass_logging=True)
    gate = RiskEngineConfig(max_order_submit_rate="1000/00:00:01", max_order_modify_rate="1000/00:00:01")
    engine = BacktestEngine(BacktestEngineConfig(logging=quiet, risk_engine=gate, run_analysis=False))
    engine.add_venue(
        venue=Venue("SIM"),
        oms_type=OmsType.NETTING,
        account_type=AccountType.MARGIN,
        base_currency=USD,
        starting_balances=[Money(10_000_000_000, USD)],
        fill_model=FillModel(prob_fill_on_limit=0.5, random_seed=7),
        latency_model=LatencyModel(base_latency_nanos=int(given["order_latency_ns"])),
        book_type=BookType.L2_MBP,
        trade_execution=True,
    )
    engine.add_instrument(instrument())
    return engine


def run(path: Path) -> dict[str, Any]:
    begun_cpu = time.process_time()
    given = dict(np.load(path))
    engine = engine_for(given)
    engine.add_data(events_of(given), sort=False)
    strategy = Quoting()
    engine.add_strategy(strategy)
    gc.collect()
    load_cpu_s = time.process_time() - begun_cpu
    begun, begun_cpu = time.perf_counter(), time.process_time()
    engine.run()
    cpu_s, wall_s = time.process_time() - begun_cpu, time.perf_counter() - begun
    peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {
        "version": __version__,
        "events": strategy.events,
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "load_cpu_s": load_cpu_s,
        "rss_mb": peak / 1024,
        "orders": strategy.orders,
        "fills": strategy.fills,
    }


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]))))
