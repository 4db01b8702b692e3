"""What must hold, looked at where it can be seen: at the line, at each update, after each step, after a crash and in the end."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from typing import Final

from framework.errors import TidebookError
from framework.messages import ExecutionReport, OrderUpdated, ReportKind, SubmitOrder
from framework.model import NS_PER_S, OrderStatus, Side, TradingState
from framework.trading.blotter import Blotter
from framework.trading.fold import replay
from framework.trading.orders import Order
from framework.trading.portfolio import MICRO, Portfolio
from tests.faults.core import INSTRUMENTS, LIMITS, START_NS, STRATEGIES, Core

LOOKED_UP: Final = 500
"""So many orders, the last that left, are looked up in the journal at the end."""


class Violation(AssertionError):
    """An invariant does not hold."""


class Checker:
    """Ask both sides and believe neither. `checks` counts what was asked; the first answer that is wrong raises `Violation`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._statuses: dict[str, OrderStatus] = {}
        self._is_evidence = False
        self.checks = 0

    def holds(self, is_true: bool, what: str) -> None:
        """Count a check. Raises `Violation` if it failed."""
        self.checks += 1
        if not is_true:
            core = self._core
            raise Violation(f"seed {core.seed}, {(core.clock.now_ns() - START_NS) / NS_PER_S:.3f} s, life {core.lives}: {what}")

    # --- as it happens -------------------------------------------------------------------------------------------------------

    def on_submit(self, order: SubmitOrder) -> None:
        """I-5, I-6, I-9 at the only place where an order leaves."""
        core, name = self._core, order.client_order_id
        core.sent.setdefault(name, order)
        is_flattening = name.startswith("flatten-")
        self.holds(core.line.submitted[name] == 1, f"order {name} left twice")
        self.holds(not core.journal._db.in_transaction and core.journal.has_order(name), f"order {name} left without a durable intent")
        self.holds(core.journal.is_healthy, f"order {name} left while the journal is broken")
        self.holds(is_flattening or core.execution.state is not TradingState.HALTED, f"order {name} left while halted")
        self.holds(order.instrument_id not in core.bad_books, f"order {name} left on a bad book")
        self.holds(is_flattening or not core.execution.sight.unready, f"order {name} left before reconciliation")

    def on_report(self, _: ExecutionReport) -> None:
        """Note that the venue has said something."""
        self._is_evidence = True

    def on_update(self, update: OrderUpdated) -> None:
        """I-1, I-2, I-8 as strategies see it."""
        name = update.client_order_id
        before = self._statuses.get(name)
        self.holds(0 <= update.filled_quantity <= max(update.quantity, update.filled_quantity), f"{name}: filled beyond the order")
        if before is OrderStatus.UNKNOWN and update.status is not OrderStatus.UNKNOWN:
            self.holds(self._is_evidence, f"order {name} left UNKNOWN without the venue's word")
        self._statuses[update.client_order_id] = update.status

    def on_boot(self) -> None:
        """I-7: what left is known to the next life; nothing else is."""
        core = self._core
        for name in core.line.submitted:
            self.holds(core.execution.blotter.is_known(name), f"order {name} left and is not known after a crash")
        for order in core.execution.open_orders():
            self.holds(order.client_order_id in core.sent, f"order {order.client_order_id} was never asked for")
        self._statuses = {order.client_order_id: order.status for order in core.execution.open_orders()}

    # --- after every step ----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """I-2, I-10, I-11, and now and then I-22."""
        self._is_evidence = False
        for strategy_id in STRATEGIES:
            for name in self._core.mids:
                self._look_at_worst(strategy_id, name)
        for name in self._core.mids:
            self._look_at_account(name)
        self._look_at_margin()
        if self._core.rng.random() < 0.02:
            self._look_at_journal()

    def _look_at_worst(self, strategy_id: str, name: str) -> None:
        execution, most = self._core.execution, LIMITS.max_position
        lots = execution.position(strategy_id, name)
        own = [one for one in execution.blotter.open.values() if one.intent.strategy_id == strategy_id and one.intent.instrument_id == name]
        for side in Side:
            waiting = sum(one.open_quantity for one in own if one.intent.side is side)
            self.holds(waiting == execution.open_quantity(strategy_id, name, side), "the sum over open orders is off")
            worst = lots + side.sign * waiting
            self.holds(abs(worst) <= most or abs(worst) <= abs(lots), f"{strategy_id} {name}: worst {worst}, limit {most}")

    def _look_at_account(self, name: str) -> None:
        execution = self._core.execution
        net = sum(execution.position(one, name) for one in STRATEGIES)
        self.holds(execution.portfolio.net(name) == net, f"{name}: the account is not the sum over strategies")
        resting = self._core.line.venue._desk.of(name)
        bids = [one.limit_ticks for one in resting if one.side is Side.BUY and one.rests and one.limit_ticks is not None]
        asks = [one.limit_ticks for one in resting if one.side is Side.SELL and one.rests and one.limit_ticks is not None]
        self.holds(not bids or not asks or max(bids) < min(asks), f"{name}: own orders cross: {bids} {asks}")

    def _look_at_journal(self) -> None:
        core = self._core
        try:
            core.journal.flush()
        except TidebookError:
            self.holds(not core.journal.is_healthy, "the disk failed and nobody noted it")
        core.keeper.keep_up(core.clock.now_ns())
        self.holds(not core.keeper.divergence, f"state is not what the journal adds up to: {core.keeper.divergence}")

    # --- in the end ----------------------------------------------------------------------------------------------------------

    def agree(self) -> None:
        """I-2 to I-4 and I-22 against what the venue knows, after everything came to rest (I-30)."""
        core = self._core
        unknown = [order.client_order_id for order in core.execution.open_orders() if order.status is OrderStatus.UNKNOWN]
        self.holds(not unknown, f"still UNKNOWN long after the last fault: {unknown}")
        self.holds(not core.execution.sight.unready, f"the gate is still closed: {core.execution.sight.unready}")
        self._agree_on_trades()
        self._agree_on_ended_orders()
        for name in core.mids:
            ours = {order.intent.client_order_id for order in core.execution.blotter.open.values() if _is_there(order, name)}
            theirs = {order.client_order_id for order in core.line.venue._desk.of(name)}
            self.holds(ours == theirs, f"{name}: open here {sorted(ours - theirs)}, open at the venue {sorted(theirs - ours)}")
        self._agree_on_margin()
        differences = core.keeper.differences()
        self.holds(not differences, f"the journal adds up to something else: {differences}")
        self.holds(replay(core.journal).digest() == replay(core.journal, uses_snapshots=False).digest(), "snapshot and records differ")

    def _agree_on_ended_orders(self) -> None:
        """I-7: an order that is no longer in memory comes back from the journal with all its fills."""
        core, filled = self._core, Counter[str]()
        for one in {one.trade_id: one for one in self._core.line.truth if one.kind is ReportKind.FILLED}.values():
            filled[one.client_order_id] += one.last_quantity
        anew = Blotter(core.journal, Portfolio({one.instrument_id: one for one in INSTRUMENTS}))
        for name in list(core.line.submitted)[-LOOKED_UP:]:
            order = anew.find_ever(name)
            found = None if order is None else order.filled_quantity
            self.holds(found == filled[name], f"order {name} comes back with {found} lots filled, {filled[name]} at the venue")

    def _agree_on_margin(self) -> None:
        """The account at the venue is the one that our own fills add up to."""
        margin = self._core.line.venue._desk.margin
        if margin is None:
            return
        portfolio = self._core.execution.portfolio
        for name in self._core.mids:
            theirs, ours = margin._portfolio.position("", name), portfolio.account(name)
            self.holds(theirs.quantity == ours.quantity, f"{name}: the margin account holds {theirs.quantity}, we {ours.quantity}")
            worth = (theirs.realized - theirs.open_cost, theirs.fees)
            self.holds(worth == (ours.realized - ours.open_cost, ours.fees), f"{name}: the margin account is worth something else")

    def _look_at_margin(self) -> None:
        """Whatever is open was covered when it was taken: what is not has been called, or was enlarged by a loss since."""
        margin = self._core.line.venue._desk.margin
        if margin is not None and not margin.is_called:
            self.holds(margin.maintenance() <= margin.equity(), "the account is short and nobody was called")

    def _agree_on_trades(self) -> None:
        lots: dict[tuple[str, str], int] = defaultdict(int)
        cash: dict[tuple[str, str], int] = defaultdict(int)
        fees: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for one in {one.trade_id: one for one in self._core.line.truth if one.kind is ReportKind.FILLED}.values():
            order = self._core.sent[one.client_order_id]
            key = (order.strategy_id, order.instrument_id)
            lots[key] += order.side.sign * one.last_quantity
            cash[key] -= order.side.sign * one.last_quantity * one.last_ticks * MICRO
            fees[key] += one.fee
        for key, position in self._core.execution.portfolio.positions().items():
            self.holds(position.quantity == lots[key], f"{key}: {position.quantity} lots here, {lots[key]} at the venue")
            self.holds(position.realized - position.open_cost == cash[key], f"{key}: cash differs")
            self.holds(position.fees == fees[key], f"{key}: fees {position.fees} here, {fees[key]} at the venue")


def _is_there(order: Order, name: str) -> bool:
    return order.intent.instrument_id == name and order.status is not OrderStatus.SUSPENDED
