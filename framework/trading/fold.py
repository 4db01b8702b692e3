"""The fold: all that a start needs to know of the runs before, from one pass over the journal, or from a snapshot and what follows it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec

from framework.messages import (
    DecisionClosed,
    DecisionMade,
    ExecutionReport,
    Message,
    OrderUpdated,
    ReplaceOrder,
    ReportKind,
    SubmitOrder,
)
from framework.model import Instrument, OrderStatus, TradingState
from framework.trading.blotter import Blotter
from framework.trading.journal import Journal, Record
from framework.trading.known_ids import parts_of
from framework.trading.orders import Order
from framework.trading.portfolio import Portfolio, Position
from framework.trading.records import LimitTightened, OrderAdopted, RiskMarked

FORMAT: Final = 3
"""Raised when the same records add up to something else: a snapshot of another format is left aside, and all records are read."""
FILLED_KEPT: Final = 10_000


class OrderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An open order, as a snapshot holds it."""

    intent: SubmitOrder
    status: OrderStatus
    filled_quantity: int
    filled_notional_ticks: int
    fees: Decimal
    venue_order_id: str
    reason: str
    ts_event: int
    is_acknowledged: bool
    is_triggered: bool
    trade_ids: list[str]
    quantity: int
    wanted: int
    limit_ticks: int | None
    stop_ticks: int | None
    revision: int
    answered_revision: int
    terms_revision: int
    changing: ReplaceOrder | None


class PositionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A position, as a snapshot holds it: integers beyond 64 bits are texts."""

    strategy_id: str
    instrument: Instrument
    quantity: int
    open_cost: str
    realized: str
    fees: Decimal
    trade_base: Decimal | None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the fold knows: what a snapshot holds, what `state export` shows, what two states are compared by."""

    format: int
    state: TradingState
    state_reason: str
    orders: tuple[OrderFacts, ...]
    kin: tuple[OrderFacts, ...]
    positions: tuple[PositionFacts, ...]
    losses: dict[str, int]
    fills: dict[str, int]
    marks: RiskMarked
    sent: tuple[SubmitOrder, ...]
    tightened: tuple[LimitTightened, ...]
    limits_digest: str
    adopted: tuple[OrderAdopted, ...]
    unconfirmed: tuple[str, ...] = ()
    ids: dict[str, int]
    last_order_ns: dict[str, int]
    open_decisions: tuple[DecisionMade, ...]
    filled_orders: tuple[str, ...]


class Replayed(NamedTuple):
    """How a fold came to be: from which snapshot (0: none), over how many records."""

    snapshot_seq: int
    last_seq: int


class JournalFold:
    """The state that the records of a journal add up to. `take` goes one record on; it does no I/O but to look an old order up."""

    KINDS: Final = frozenset((*Blotter.KINDS, "OrderUpdated", "DecisionMade", "DecisionClosed"))

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.blotter = Blotter(journal, Portfolio({}))
        self.ids: dict[str, int] = {}
        self.last_order_ns: dict[str, int] = {}
        self.open_decisions: OrderedDict[str, DecisionMade] = OrderedDict()
        self.filled_orders: OrderedDict[str, None] = OrderedDict()
        self.replayed = Replayed(0, 0)
        self._more: dict[type[Message], Callable[[Any], None]] = {
            SubmitOrder: self._on_intent,
            OrderUpdated: lambda update: self._use(update.client_order_id),
            DecisionMade: self._on_decision,
            DecisionClosed: self._on_closed,
            ExecutionReport: self._on_report,
        }

    def take(self, record: Record) -> None:
        """Take one record of a kind in `KINDS`."""
        if record.kind in Blotter.KINDS:
            self.blotter.take(record)
        more = self._more.get(type(record.message))
        if more is not None:
            more(record.message)

    def _on_intent(self, order: SubmitOrder) -> None:
        self._use(order.client_order_id)
        self.last_order_ns[order.instrument_id] = max(self.last_order_ns.get(order.instrument_id, 0), order.ts_event)

    def _on_decision(self, decision: DecisionMade) -> None:
        self._use(decision.decision_id)
        self.open_decisions[decision.decision_id] = decision

    def _on_closed(self, closed: DecisionClosed) -> None:
        self.open_decisions.pop(closed.decision_id, None)

    def _on_report(self, report: ExecutionReport) -> None:
        if report.kind is ReportKind.FILLED and report.last_quantity > 0:
            self.filled_orders[report.client_order_id] = None
            if len(self.filled_orders) > FILLED_KEPT:
                self.filled_orders.popitem(last=False)

    def _use(self, used_id: str) -> None:
        kind, number = parts_of(used_id)
        if number > self.ids.get(kind, 0):
            self.ids[kind] = number

    # --- snapshots -----------------------------------------------------------------------------------------------------------

    def facts(self) -> Facts:
        """Return everything, in an order that depends on nothing but the records."""
        blotter, losses = self.blotter, self.blotter.losses
        wanted = {name for decision in self.open_decisions.values() for name in decision.client_order_ids}
        return Facts(
            format=FORMAT,
            state=blotter.state,
            state_reason=blotter.state_reason,
            orders=tuple(order_facts(order) for order in blotter.open.values()),
            kin=tuple(order_facts(order) for order in blotter.kin()),
            positions=tuple(
                _position_facts(strategy_id, position, losses.bases().get((strategy_id, instrument_id)))
                for (strategy_id, instrument_id), position in sorted(blotter.portfolio.everything().items(), key=lambda item: item[0])
            ),
            losses=losses.counted(losses.losses),
            fills=losses.counted(losses.fills),
            marks=losses.record(0),
            sent=tuple(blotter.sent),
            tightened=tuple(blotter.tightened),
            limits_digest=blotter.limits_digest,
            adopted=tuple(blotter.adopted.values()),
            unconfirmed=tuple(blotter.unconfirmed),
            ids=dict(sorted(self.ids.items())),
            last_order_ns=dict(sorted(self.last_order_ns.items())),
            open_decisions=tuple(self.open_decisions.values()),
            filled_orders=tuple(name for name in self.filled_orders if name in wanted),
        )

    def to_bytes(self) -> bytes:
        """Return everything as bytes: equal states give equal bytes."""
        return _ENCODER.encode(self.facts())

    def digest(self) -> str:
        """Return the SHA-256 of those bytes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def restore(self, body: bytes) -> None:
        """Take the state of a snapshot. Raises `msgspec.ValidationError` for one of another format."""
        facts = _DECODER.decode(body)
        if facts.format != FORMAT:
            raise msgspec.ValidationError(f"snapshot of format {facts.format}, this Tidebook reads {FORMAT}")
        restore_blotter(self.blotter, facts)
        self.ids, self.last_order_ns = dict(facts.ids), dict(facts.last_order_ns)
        self.open_decisions = OrderedDict((one.decision_id, one) for one in facts.open_decisions)
        self.filled_orders = OrderedDict.fromkeys(facts.filled_orders)


def restore_blotter(blotter: Blotter, facts: Facts) -> None:
    """Bring a fresh blotter to the state that facts describe."""
    blotter.state, blotter.state_reason = facts.state, facts.state_reason
    blotter.portfolio.learn(position.instrument for position in facts.positions)
    blotter.portfolio.restore(
        {
            (one.strategy_id, one.instrument.instrument_id): _position(one, blotter.portfolio.instrument(one.instrument.instrument_id))
            for one in facts.positions
        }
    )
    blotter.losses.restore(facts.losses, facts.fills, facts.marks)
    blotter.losses.restore_bases(
        {(one.strategy_id, one.instrument.instrument_id): one.trade_base for one in facts.positions if one.trade_base is not None}
    )
    blotter.ids.take(facts.ids)
    blotter.sent = deque(facts.sent)
    blotter.tightened, blotter.limits_digest = list(facts.tightened), facts.limits_digest
    blotter.adopted = {one.client_order_id: one for one in facts.adopted}
    blotter.unconfirmed = OrderedDict.fromkeys(facts.unconfirmed)
    for one in facts.kin:
        blotter.put_kin(_order(one))
    for one in facts.orders:
        blotter.put(_order(one))


def replay(journal: Journal, *, until: int | None = None, uses_snapshots: bool = True) -> JournalFold:
    """Check the hash chain and fold the journal in one pass: from the newest sound snapshot, or from the first record.

    Records before a snapshot are not read: `state verify` does that. Raises `IntegrityError` naming the first record that fails.
    """
    fold, after, chain = JournalFold(journal), 0, b""
    for snapshot in journal.snapshots(until=until) if uses_snapshots else ():
        try:
            fold.restore(snapshot.body)
        except (msgspec.DecodeError, ValueError, RecursionError):
            fold = JournalFold(journal)  # of another version: an older one may do, else all of the records
            continue
        after, chain = snapshot.seq, snapshot.chain
        break
    with fold.blotter.folding():
        for record in journal.checked(JournalFold.KINDS, after=after, chain=chain, until=until):
            fold.take(record)
    fold.replayed = Replayed(after, journal.last_seq if until is None else min(until, journal.last_seq))
    return fold


def is_readable(body: bytes) -> bool:
    """Return whether a snapshot is of this format."""
    try:
        return _DECODER.decode(body).format == FORMAT
    except (msgspec.DecodeError, ValueError, RecursionError):
        return False


def order_facts(order: Order) -> OrderFacts:
    """Return an order as a snapshot holds it."""
    values = {name: getattr(order, name) for name in OrderFacts.__struct_fields__ if name != "trade_ids"}
    return OrderFacts(**values, trade_ids=sorted(order.trade_ids))


def _order(facts: OrderFacts) -> Order:
    order = Order(facts.intent)
    for name in OrderFacts.__struct_fields__:
        if name not in ("intent", "trade_ids"):
            setattr(order, name, getattr(facts, name))
    order.trade_ids = set(facts.trade_ids)
    return order


def _position_facts(strategy_id: str, position: Position, base: Decimal | None) -> PositionFacts:
    return PositionFacts(
        strategy_id=strategy_id,
        instrument=position.instrument,
        quantity=position.quantity,
        open_cost=str(position.open_cost),
        realized=str(position.realized),
        fees=position.fees,
        trade_base=base,
    )


def _position(facts: PositionFacts, instrument: Instrument) -> Position:
    return Position(instrument, facts.quantity, int(facts.open_cost), int(facts.realized), facts.fees)


_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")
_DECODER: Final = msgspec.msgpack.Decoder(Facts)
