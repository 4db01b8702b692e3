"""From the running process to what people and scripts read: the status document, a frame of the live view, the summary."""

from __future__ import annotations

import math
import os
from decimal import Decimal

from framework.logs import LogRing
from framework.messages import BookSnapshot, OrderUpdated, Prediction
from framework.model import NS_PER_S, Instrument
from framework.operations.dashboard import DashboardSnapshot, Ladder
from framework.operations.left_open import left_open
from framework.operations.options import Summary
from framework.operations.status import FeedbackStatus, LastPrediction, LoopLag, MLStatus, OpenOrder, Status, StrategyStatus
from framework.operations.strategy_host import Hosted
from framework.operations.trading_process import TradingProcess

LOG_LINES_SHOWN = 20


def status_of(process: TradingProcess) -> Status:
    """Return everything about a running process."""
    progress = process.market.feed.progress
    return Status(
        pid=os.getpid(),
        state_dir=str(process.options.state_dir),
        market=process.market.names,
        market_time_ns=process.desk.clock.now_ns(),
        uptime_s=process.uptime_s(),
        speed=process.options.speed,
        progress=None if math.isnan(progress) else min(1.0, progress),
        trading_state=process.desk.execution.state,
        trading_reason=process.desk.execution.state_reason,
        strategies=tuple(strategy_status(process, hosted) for hosted in process.host.hosted.values()),
        ml=ml_status(process),
        feedback=_feedback_status(process),
        loop_lag=LoopLag(p50_ms=process.lag.quantile_ms(0.5), p99_ms=process.lag.quantile_ms(0.99), max_ms=process.lag.max_ms),
        counters=counters(process),
    )


def strategy_status(process: TradingProcess, hosted: Hosted) -> StrategyStatus:
    """Return how one strategy is."""
    file = hosted.deployment.file
    instrument = process.market.instruments[file.instrument_id]
    position = process.desk.execution.portfolio.position(file.name, file.instrument_id)
    mark = mid_of(process.desk.execution.last_book(file.instrument_id))
    now_ns = process.desk.clock.now_ns()
    predictions = tuple(_last_prediction(one, now_ns) for one in process.tally.last_predictions.get(file.name, ()))
    return StrategyStatus(
        name=file.name,
        strategy=file.strategy,
        instrument_id=file.instrument_id,
        state=hosted.state,
        reason=hosted.reason,
        position_lots=position.quantity,
        average_price=_price(instrument, position.average_ticks) if position.quantity else None,
        realized_pnl=position.realized_pnl,
        unrealized_pnl=position.unrealized_pnl(mark) if mark is not None else Decimal(0),
        fees=position.fees,
        open_orders=tuple(_open_order(instrument, order) for order in process.desk.execution.open_orders(file.name)),
        last_prediction=predictions[0] if predictions else None,
        earlier_predictions=predictions[1:],
        counters=hosted.strategy.stats() if hosted.strategy is not None else {},
    )


def ml_status(process: TradingProcess) -> MLStatus:
    """Return how the ML process is."""
    return MLStatus(
        state=process.ml_state,
        model_version=process.model_version(),
        restarts=process.restarts(),
        training_progress=process.trainings.share,
        training_stage=process.trainings.stage,
        detail=process.ml_detail,
    )


def snapshot_of(process: TradingProcess, ring: LogRing) -> DashboardSnapshot:
    """Return one frame of the live view."""
    ladders = tuple(_ladder(process, instrument) for instrument in process.market.instruments.values())
    return DashboardSnapshot(status=status_of(process), ladders=ladders, log_tail=ring.tail(LOG_LINES_SHOWN))


def summary_of(process: TradingProcess) -> Summary:
    """Return what the run did."""
    positions = process.desk.execution.portfolio.positions()
    counts, feedback = process.tally.counts, process.desk.feedback.stats()
    return Summary(
        events=process.market_data.accepted,
        predictions=counts["predictions"],
        predictions_late=process.late_predictions(),
        predictions_failed=counts["predictions_failed"],
        decisions=counts["decisions"],
        orders=process.desk.execution.counts["orders"],
        fills=process.desk.execution.counts["fills"],
        position=sum(position.quantity for position in positions.values()),
        realized_pnl=sum((position.realized_pnl for position in positions.values()), Decimal(0)),
        unrealized_pnl=sum((_unrealized(process, key) for key in positions), Decimal(0)),
        fees=sum((position.fees for position in positions.values()), Decimal(0)),
        feedback_recorded=feedback["recorded"],
        feedback_acknowledged=feedback["acknowledged"],
        trainings=process.trainings.done,
        model_version=process.model_version(),
        loop_lag_ms_p99=round(process.lag.quantile_ms(0.99), 3),
        restarts=process.restarts(),
        exit_code=process.exit_code,
        reason=process.reason,
        market_time_s=(process.desk.clock.now_ns() - process.market.start_ns) / NS_PER_S,
        wall_time_s=process.uptime_s(),
        left_open=left_open(process.desk.execution, process.market.instruments),
        counters=counters(process),
    )


def counters(process: TradingProcess) -> dict[str, int]:
    """Return every counter of the process under one name each; zeros are left out."""
    found = {f"bus_{name}": count for name, count in process.desk.bus.stats().items()}
    found |= {f"refused_{reason.replace(' ', '_')}": count for reason, count in process.market_data.refused.items()}
    found |= {f"execution_{name}": count for name, count in process.desk.execution.counts.items()}
    found |= {f"feedback_{name}": count for name, count in process.desk.feedback.stats().items()}
    found |= {f"samples_{name}": count for name, count in process.samples.stats().items()}
    if process.client is not None:
        found |= {f"ml_{name}": round(count) for name, count in process.client.stats().items()}
    return {name: count for name, count in sorted(found.items()) if count}


def _feedback_status(process: TradingProcess) -> FeedbackStatus:
    stats = process.desk.feedback.stats()
    return FeedbackStatus(**{name: stats[name] for name in ("recorded", "acknowledged", "pending", "dropped")})


def _open_order(instrument: Instrument, order: OrderUpdated) -> OpenOrder:
    return OpenOrder(
        client_order_id=order.client_order_id,
        side=order.side,
        quantity=order.quantity,
        filled_quantity=order.filled_quantity,
        limit_ticks=order.limit_ticks,
        limit_price=None if order.limit_ticks is None else instrument.price(order.limit_ticks),
        status=order.status,
    )


def _last_prediction(prediction: Prediction, now_ns: int) -> LastPrediction:
    return LastPrediction(
        flow_type=prediction.flow_type,
        confidence=prediction.confidence,
        age_s=prediction.age_s(now_ns),
        model_version=prediction.model_version,
        is_calibrated=prediction.is_calibrated,
        round_trip_ms=prediction.round_trip_us / 1e3,
        horizons=prediction.horizons,
    )


def _ladder(process: TradingProcess, instrument: Instrument) -> Ladder:
    book = process.desk.execution.last_book(instrument.instrument_id)
    if book is None:
        return Ladder.empty(instrument)
    return Ladder(
        instrument_id=instrument.instrument_id,
        tick_size=instrument.tick_size,
        bid_ticks=book.bid_ticks,
        bid_sizes=book.bid_sizes,
        ask_ticks=book.ask_ticks,
        ask_sizes=book.ask_sizes,
        last_trade_ticks=process.tally.last_trades.get(instrument.instrument_id),
        is_sound=process.market_data.is_sound(instrument.instrument_id),
    )


def _unrealized(process: TradingProcess, key: tuple[str, str]) -> Decimal:
    mark = mid_of(process.desk.execution.last_book(key[1]))
    return process.desk.execution.portfolio.position(*key).unrealized_pnl(mark) if mark is not None else Decimal(0)


def mid_of(book: BookSnapshot | None) -> float | None:
    """Return the mid of a book in ticks, None without one or where a side is empty."""
    if book is None or not (book.bid_ticks and book.ask_ticks):
        return None
    return (book.bid_ticks[0] + book.ask_ticks[0]) / 2


def _price(instrument: Instrument, ticks: float) -> Decimal:
    return (instrument.tick_size * Decimal(repr(ticks))).normalize()
