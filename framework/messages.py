"""Every message on the bus: frozen values with one lane each.

Events say what happened, to any number of subscribers; commands ask one actor to do something. `lane` is declared by
the type: CONTROL messages are lossless and handled first, of DATA messages a mailbox keeps the newest per instrument.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, Final

import msgspec

from framework.model import (
    FlowType,
    Liquidity,
    OrderStatus,
    OrderType,
    Side,
    TimeInForce,
    TradeOutcome,
    TradingState,
    TriggerPrice,
)
from framework.window import DomView


class Lane(StrEnum):
    """How a mailbox treats a message type."""

    CONTROL = "control"
    DATA = "data"


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of every event and command."""

    lane: ClassVar[Lane] = Lane.CONTROL


# --- market data -------------------------------------------------------------------------------------------------


class BookSnapshot(Message, frozen=True, kw_only=True, gc=False):
    """Best levels of a book at one instant, best first, at most 10 a side; a side may be empty.

    `sequence` rises by at least one per book of an instrument. `ts_event` is the venue's time, `ts_recv` ours, ns UTC.
    """

    lane: ClassVar[Lane] = Lane.DATA
    instrument_id: str
    ts_event: int
    ts_recv: int
    sequence: int
    bid_ticks: tuple[int, ...]
    bid_sizes: tuple[int, ...]
    ask_ticks: tuple[int, ...]
    ask_sizes: tuple[int, ...]


class TradeTick(Message, frozen=True, kw_only=True, gc=False):
    """Somebody's public print. `aggressor` is None where the venue does not say."""

    instrument_id: str
    ts_event: int
    ts_recv: int
    sequence: int
    price_ticks: int
    size: int
    aggressor: Side | None


class Bar(Message, frozen=True, kw_only=True, gc=False):
    """Open, high, low, close (ticks) and volume (lots) over `interval_s`, ending at `ts_event`."""

    instrument_id: str
    ts_event: int
    interval_s: float
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int
    volume: int
    buy_volume: int
    sell_volume: int


class SessionChanged(Message, frozen=True, kw_only=True, gc=False):
    """Trading in an instrument opened or closed (session break, halt, gap in the feed).

    A closing with `is_halt` interrupts the session: DAY orders stay. Auctions are left out: an opening is continuous trading.
    """

    instrument_id: str
    ts_event: int
    is_open: bool
    reason: str
    is_halt: bool = False


class BookInvalid(Message, frozen=True, kw_only=True, gc=False):
    """A book was refused (crossed, NaN, backwards, stale, gap); the instrument takes no new risk until `BookRecovered`."""

    instrument_id: str
    ts_event: int
    reason: str


class BookRecovered(Message, frozen=True, kw_only=True, gc=False):
    """Books of the instrument are sound again."""

    instrument_id: str
    ts_event: int


MarketEvent = BookSnapshot | TradeTick | Bar | SessionChanged


class DomUpdated(Message, frozen=True, kw_only=True, gc=False):
    """The DOM buffer of an instrument has a new row. `dom` is a read-only view that is always current."""

    lane: ClassVar[Lane] = Lane.DATA
    instrument_id: str
    ts_event: int
    sequence: int
    book: BookSnapshot
    dom: DomView


# --- predictions and decisions ---------------------------------------------------------------------------------------


class FailureReason(StrEnum):
    """Why a prediction request ended without a prediction."""

    TIMEOUT = "TIMEOUT"
    ML_DOWN = "ML_DOWN"
    NO_MODEL = "NO_MODEL"
    OVERLOADED = "OVERLOADED"
    EXPIRED = "EXPIRED"
    SCHEMA_MISMATCH = "SCHEMA_MISMATCH"
    BAD_REPLY = "BAD_REPLY"
    REFUSED = "REFUSED"


class HorizonPrediction(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Calibrated probabilities of the mid `horizon_rows` rows later, and what they claim with which confidence."""

    horizon_rows: int
    p_down: float
    p_flat: float
    p_up: float
    flow_type: FlowType
    confidence: float


class Prediction(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the model says about one window, and how old that is.

    `as_of_ns`, `as_of_sequence` and `as_of_total_rows` are the market time, the book sequence and the `DomView.total_rows`
    of the window's last row; `received_ns` is the market time of arrival. Probabilities are calibrated when
    `is_calibrated`; `confidence` is the one of `flow_type`. All of these are about `horizon_rows`, the horizon that is traded;
    `horizons` are the further ones of the version (`training.further_horizons_rows`), the nearest first.
    """

    prediction_id: str
    strategy_id: str
    instrument_id: str
    flow_type: FlowType
    confidence: float
    p_down: float
    p_flat: float
    p_up: float
    model_version: str
    is_calibrated: bool
    horizon_rows: int
    as_of_ns: int
    as_of_sequence: int
    received_ns: int
    regime: int = -1
    shock_score: float = 0.0
    round_trip_us: float = 0.0
    as_of_total_rows: int = 0
    horizons: tuple[HorizonPrediction, ...] = ()

    def over(self, horizon_rows: int) -> HorizonPrediction | None:
        """Return what it says about that many rows, the traded horizon or a further one; None for one that the version does not know."""
        if horizon_rows == self.horizon_rows:
            return HorizonPrediction(horizon_rows, self.p_down, self.p_flat, self.p_up, self.flow_type, self.confidence)
        return next((one for one in self.horizons if one.horizon_rows == horizon_rows), None)

    def age_s(self, now_ns: int) -> float:
        """Return the age at `now_ns` in seconds, from the last row that the model saw."""
        return (now_ns - self.as_of_ns) / 1e9


class PredictionReceived(Message, frozen=True, kw_only=True, gc=False):
    """A prediction arrived before its deadline."""

    strategy_id: str
    prediction: Prediction


class PredictionFailed(Message, frozen=True, kw_only=True, gc=False):
    """A prediction request ended without one. Exactly one of this and `PredictionReceived` follows each request."""

    prediction_id: str
    strategy_id: str
    instrument_id: str
    ts_event: int
    reason: FailureReason
    detail: str = ""


class Action(StrEnum):
    """What a strategy does about a prediction."""

    BUY = "BUY"
    SELL = "SELL"
    CLOSE = "CLOSE"
    ABSTAIN = "ABSTAIN"
    DEFAULT = "DEFAULT"


class DecisionMade(Message, frozen=True, kw_only=True, gc=False):
    """A strategy decided, whether it acts or not. `reason` names the cell of the decision table.

    `book` is the book that the strategy decided on, `as_of_sequence` the last one that the model saw; `client_order_ids` are
    empty when it did not trade.
    """

    decision_id: str
    strategy_id: str
    instrument_id: str
    ts_event: int
    action: Action
    reason: str
    prediction_id: str | None
    flow_type: FlowType | None
    confidence: float | None
    model_version: str | None
    position_lots: int
    book: BookSnapshot
    client_order_ids: tuple[str, ...] = ()
    as_of_sequence: int = 0


class DecisionClosed(Message, frozen=True, kw_only=True, gc=False):
    """What came of a decision is known and written down. `pnl` is net of fees, None if it closed nothing.

    `markouts_ticks` as in `Feedback`; None in journals from before it was recorded.
    """

    decision_id: str
    strategy_id: str
    instrument_id: str
    ts_event: int
    trade_outcome: TradeOutcome | None
    pnl: Decimal | None
    markouts_ticks: dict[str, float] | None = None


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """A decision and what came of it. Markouts are mid-price moves after the decision, in ticks, signed by the market.

    `markouts_ticks` maps seconds to ticks; a horizon that was cut by a session break is absent.
    """

    feedback_id: str
    decision: DecisionMade
    trade_executed: bool
    trade_outcome: TradeOutcome | None
    pnl: Decimal | None
    markouts_ticks: dict[str, float]
    last_bar: Bar | None
    closed_ns: int


class MLStateChanged(Message, frozen=True, kw_only=True, gc=False):
    """The ML process or its model changed state: `UP`, `DOWN`, `NO_MODEL`, `MODEL` (with its version), `TRAINING`."""

    ts_event: int
    state: str
    detail: str = ""


class TrainingWanted(Message, frozen=True, kw_only=True, gc=False):
    """Command to the sample recorder: the ML process would like to be trained (drift); it decides whether it is time."""

    ts_event: int
    reason: str


# --- orders ------------------------------------------------------------------------------------------------------


class Seen(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the gate saw when it let an order out: the best quotes, which book that was, and lots of the strategy.

    `position_lots` is signed; `open_lots` is what its other open orders of that side may still fill. Without a book, 0 and None.
    """

    bid_ticks: int | None
    bid_lots: int
    ask_ticks: int | None
    ask_lots: int
    book_ns: int
    book_sequence: int
    position_lots: int
    open_lots: int


class SubmitOrder(Message, frozen=True, kw_only=True, gc=False):
    """Command to Execution: run the risk gate on this order and send it.

    `limit_ticks` is None for MARKET, STOP and TRAILING_STOP. `stop_ticks` is the price that sets off a stop (of a TRAILING_STOP: its
    first one, None: `trail_ticks` from the quote at the time). `expire_ns` goes with GTD. `post_only`: rejected rather than take.

    Execution holds what it can do for any venue (`framework.trading.contingent`): stops; an order with a `parent_id` until that
    order fills, and then for as many lots; of the orders with one `oco_id` only one may fill. `as_of_ns`: market time of
    the last row that the prediction behind it saw, None without one. `seen` is written by the gate, whatever stands there before.
    """

    client_order_id: str
    strategy_id: str
    instrument_id: str
    side: Side
    quantity: int
    order_type: OrderType
    limit_ticks: int | None
    time_in_force: TimeInForce
    ts_event: int
    reduce_only: bool = False
    decision_id: str | None = None
    stop_ticks: int | None = None
    trail_ticks: int | None = None
    trigger: TriggerPrice = TriggerPrice.QUOTE
    post_only: bool = False
    expire_ns: int | None = None
    parent_id: str = ""
    oco_id: str = ""
    as_of_ns: int | None = None
    seen: Seen | None = None


class SubmitList(Message, frozen=True, kw_only=True, gc=False):
    """Command to Execution: send these orders (a bracket, an OCO pair), or deny all of them if one is denied."""

    strategy_id: str
    ts_event: int
    orders: tuple[SubmitOrder, ...]


class ReplaceOrder(Message, frozen=True, kw_only=True, gc=False):
    """Command to Execution: change an open order; None leaves a field as it is. `quantity` is the new total, fills included.

    Execution numbers the changes of an order by `revision`, from 1, and lets one be under way at a time.
    """

    client_order_id: str
    strategy_id: str
    ts_event: int
    quantity: int | None = None
    limit_ticks: int | None = None
    stop_ticks: int | None = None
    revision: int = 0


class CancelOrder(Message, frozen=True, kw_only=True, gc=False):
    """Command to Execution: ask the venue to cancel this order."""

    client_order_id: str
    strategy_id: str
    ts_event: int


class ReportKind(StrEnum):
    """What a venue says about an order; of an order that is held here, Execution says it.

    RESTATED: it changed unasked (a trailing stop moved). TRIGGERED: a stop was set off. RELEASED: what was held here goes to the venue.
    """

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    CANCEL_REJECTED = "CANCEL_REJECTED"
    REPLACED = "REPLACED"
    REPLACE_REJECTED = "REPLACE_REJECTED"
    TRIGGERED = "TRIGGERED"
    RELEASED = "RELEASED"
    RESTATED = "RESTATED"
    LOST = "LOST"


class ExecutionReport(Message, frozen=True, kw_only=True, gc=False):
    """Any venue message about an order. The `last_*` fields, `trade_id`, `fee` and `liquidity` are those of a FILLED.

    LOST says that the answer to a request did not come (the order becomes UNKNOWN). `quantity`, `limit_ticks` and `stop_ticks`
    are the order's present ones where a report tells them (REPLACED, RESTATED, RELEASED, ACCEPTED); `revision` is that of the change
    which a REPLACED or REPLACE_REJECTED answers. `instrument_id` and `side`
    tell what an order is that we did not send. `cum_quantity`: what it had filled
    when this was said, where the venue tells: an end that knows of more than we do is not believed before those fills are said.
    `queue_ahead`: lots that stand before it where it would rest, where the venue tells. `seen` goes with RELEASED.
    """

    client_order_id: str
    kind: ReportKind
    ts_event: int
    venue_order_id: str = ""
    trade_id: str = ""
    last_quantity: int = 0
    last_ticks: int = 0
    fee: Decimal = Decimal(0)
    liquidity: Liquidity | None = None
    reason: str = ""
    quantity: int | None = None
    limit_ticks: int | None = None
    stop_ticks: int | None = None
    revision: int = 0
    instrument_id: str = ""
    side: Side | None = None
    cum_quantity: int | None = None
    queue_ahead: float | None = None
    seen: Seen | None = None


class OrderUpdated(Message, frozen=True, kw_only=True, gc=False):
    """An order changed. `reason` carries the code and numbers of a denial, rejection or cancel."""

    client_order_id: str
    strategy_id: str
    instrument_id: str
    ts_event: int
    side: Side
    quantity: int
    filled_quantity: int
    average_ticks: float | None
    limit_ticks: int | None
    status: OrderStatus
    reason: str = ""
    decision_id: str | None = None
    order_type: OrderType = OrderType.LIMIT
    stop_ticks: int | None = None
    time_in_force: TimeInForce = TimeInForce.DAY


class Filled(Message, frozen=True, kw_only=True, gc=False):
    """One execution of ours."""

    client_order_id: str
    trade_id: str
    strategy_id: str
    instrument_id: str
    ts_event: int
    side: Side
    quantity: int
    price_ticks: int
    fee: Decimal
    liquidity: Liquidity
    decision_id: str | None = None


class PositionChanged(Message, frozen=True, kw_only=True, gc=False):
    """Net position of a strategy in an instrument after a fill. `realized_pnl` is net of nothing; fees stand beside it."""

    strategy_id: str
    instrument_id: str
    ts_event: int
    quantity: int
    average_ticks: float
    realized_pnl: Decimal
    fees: Decimal


class TradingStateChanged(Message, frozen=True, kw_only=True, gc=False):
    """The risk gate was opened, put to reduce-only or closed, by whom and why."""

    ts_event: int
    state: TradingState
    reason: str


class StrategyQuarantined(Message, frozen=True, kw_only=True, gc=False):
    """A strategy raised; it no longer runs, and its orders are dealt with as `risk.on_quarantine` says."""

    strategy_id: str
    ts_event: int
    reason: str


MARKOUT_HORIZONS_S: Final = (1, 5, 30)
