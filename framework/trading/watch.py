"""What has to happen without anybody asking: answers that do not come, cancels that are not confirmed, losses, the end of the session."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Final, Protocol

from framework.clock import Clock, Timer
from framework.messages import ExecutionReport, ReportKind, SubmitOrder
from framework.model import IN_FLIGHT, NS_PER_S, OrderStatus, OrderType, Side, TimeInForce, TradingState
from framework.trading.blotter import Blotter
from framework.trading.losses import Scope
from framework.trading.orders import Order
from framework.trading.outgoing import Outgoing
from framework.trading.records import TimerFired
from framework.trading.risk import LimitBook
from framework.trading.risk.amounts import seconds_to_session_end
from framework.trading.sight import Sight
from framework.venues.port import Holder

FLATTEN: Final = "flatten-"
LONGEST_WAIT_S: Final = 30
log = logging.getLogger("Execution")


class Desk(Protocol):
    """What the watch may do: verbs of Execution."""

    def set_state(self, state: TradingState, reason: str) -> None:
        """Set the trading state."""

    def ask(self, client_order_ids: tuple[str, ...]) -> None:
        """Ask the venue what became of orders."""

    def mine(self) -> list[Order]:
        """Return the open orders of this market."""


class Watch:
    """Look at whole seconds of market time since there is something to look after. Nothing here ends an UNKNOWN order: it only asks.

    It sleeps through the seconds in which nothing is due: until the next sweep, or the first answer that is overdue. While orders are
    UNKNOWN, trading is halted or a position is being closed it looks every second.

    - An order, a change or a cancel without an answer for `answer_timeout_s` makes its order UNKNOWN (journalled as LOST), and the
      venue is asked again and again, more and more slowly.
    - Each `sweep_ns` the venue is asked about every open order, and once more about each that ended short of its quantity.
    - While halted, every open order is cancelled again until the venue confirms that it ended.
    - `flatten` closes what is held with reduce-only orders, again until it is flat.
    - A loss limit of the account makes the trading state REDUCE_ONLY. Before the end of the session, positions are closed if asked for.
    """

    def __init__(
        self, clock: Clock, *, desk: Desk, blotter: Blotter, sight: Sight, out: Outgoing, limits: LimitBook, sweep_ns: int
    ) -> None:
        self._clock = clock
        self._sweep_ns = sweep_ns
        self._desk = desk
        self._blotter = blotter
        self._sight = sight
        self._out = out
        self._limits = limits
        self._timeout_ns = round(float(limits.get("answer_timeout_s")) * NS_PER_S)
        self._timer: Timer | None = None
        self._timer_ns = 0
        self._began_ns: int | None = None
        self._idle_ns: int | None = None
        self._waits: dict[str, tuple[int, int]] = {}
        self._next_look_ns = 0
        self._next_sweep_ns = clock.now_ns() + sweep_ns
        self._number = 0
        self._session_day = -1
        self.flattening = ""
        self._flattened: set[str] | None = None
        """Whose positions are being closed; None: everybody's."""

    def number_from(self, last: int) -> None:
        """Number flattening orders behind the last one that was ever used."""
        self._number = max(self._number, last)

    def arm(self) -> None:
        """Look again when something is due. Call it after whatever may have changed what there is to look after."""
        if self._sleeps_on():
            return
        now_ns = self._clock.now_ns()
        if not (self._out.asked or self.flattening or self._blotter.open or self._blotter.unconfirmed):
            self._idle_ns = now_ns if self._idle_ns is None else self._idle_ns
            return
        if self._began_ns is None or self._has_ended(now_ns):
            self._disarm()
            self._began_ns = now_ns
        self._idle_ns = None
        due_ns = self._due_ns(now_ns)
        if self._timer is None or due_ns < self._timer_ns:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_ns = self._clock.call_at(due_ns, self._tick), due_ns

    def _sleeps_on(self) -> bool:
        """Return whether it sleeps until the next sweep and nothing is there that could be due before: after most events it is so."""
        blotter = self._blotter
        is_set = self._timer is not None and self._idle_ns is None and bool(blotter.open or blotter.unconfirmed)
        return is_set and not (self._out.asked or self.flattening or blotter.state is TradingState.HALTED)

    def _due_ns(self, now_ns: int) -> int:
        """Return the first whole second at which there may be something to do."""
        asked_ns = next(iter(self._out.asked.values()), None)
        due_ns = self._next_sweep_ns if asked_ns is None else min(self._next_sweep_ns, asked_ns + self._timeout_ns)
        is_urgent = self.flattening or self._blotter.state is TradingState.HALTED or self._is_any_unknown()
        return self._second(now_ns + 1 if is_urgent else max(due_ns, now_ns + 1))

    def _is_any_unknown(self) -> bool:
        orders = (self._blotter.open.get(name) for name in self._out.asked)
        return any(order is not None and order.status is OrderStatus.UNKNOWN for order in orders)

    def _second(self, from_ns: int) -> int:
        """Return the first whole second since it began that is not before a time."""
        began_ns = self._began_ns or 0
        return began_ns - (began_ns - from_ns) // NS_PER_S * NS_PER_S

    def _has_ended(self, now_ns: int) -> bool:
        """Return whether a whole second has passed with nothing to look after: then seconds count anew."""
        return self._idle_ns is not None and self._second(self._idle_ns + 1) < now_ns

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._began_ns = self._idle_ns = None

    def on_market(self) -> None:
        """Look with the market, at most once a second: losses, the session, a kill switch that was set from outside."""
        now_ns = self._clock.now_ns()
        if now_ns < self._next_look_ns:
            return
        self._next_look_ns = now_ns + NS_PER_S
        if self._sight.is_killed() and self._blotter.state is not TradingState.HALTED:
            self._desk.set_state(TradingState.HALTED, "the kill switch was set from outside")
        self.mark_losses(now_ns)
        self._look_at_session(now_ns)
        self.arm()

    def flatten(self, reason: str, strategy_id: str | None = None) -> None:
        """Close every position, or those of one strategy, as soon as no open order stands in the way."""
        if strategy_id is None:
            self._flattened = None
        elif not self.flattening:
            self._flattened = {strategy_id}
        elif self._flattened is not None:
            self._flattened |= {strategy_id}
        self.flattening = reason
        self._note("flatten", reason)
        self._flatten()
        self.arm()

    def _tick(self) -> None:
        self._timer = None
        now_ns = self._clock.now_ns()
        if self._has_ended(now_ns):
            self._disarm()
            return
        self._look_at_unanswered(now_ns)
        self._sweep(now_ns)
        if self._blotter.state is TradingState.HALTED:
            for order in self._desk.mine():
                self._out.cancel(order)
        self._flatten()
        self.arm()

    # --- answers that do not come ---------------------------------------------------------------------------------------------

    def _look_at_unanswered(self, now_ns: int) -> None:
        unknown = []
        for name, asked_ns in tuple(self._out.asked.items()):
            order = self._blotter.open.get(name)
            if order is None or order.status not in IN_FLIGHT:
                del self._out.asked[name]
                self._waits.pop(name, None)
                continue
            if order.status is not OrderStatus.UNKNOWN and now_ns - asked_ns >= self._timeout_ns:
                seconds = (now_ns - asked_ns) / NS_PER_S
                reason = f"no answer within {seconds:.1f} s"
                self._out.hear(ExecutionReport(client_order_id=name, kind=ReportKind.LOST, ts_event=now_ns, reason=reason))
            if order.status is OrderStatus.UNKNOWN and self._is_due(name, now_ns):
                unknown.append(name)
        if unknown:
            self._desk.ask(tuple(unknown))

    def _sweep(self, now_ns: int) -> None:
        """Ask about everything that is open, and about ends that were said once: a report that was lost is said again."""
        if now_ns < self._next_sweep_ns:
            return
        self._next_sweep_ns = now_ns + self._sweep_ns
        self._waits = {name: wait for name, wait in self._waits.items() if name in self._blotter.open}
        names = [order.intent.client_order_id for order in self._desk.mine() if order.status is not OrderStatus.SUSPENDED]
        names += list(self._blotter.unconfirmed)
        if names:
            self._desk.ask(tuple(names))

    def _is_due(self, name: str, now_ns: int) -> bool:
        """Return whether to ask about something now; each time the pause doubles, up to half a minute."""
        due_ns, pause_s = self._waits.get(name, (0, 1))
        if now_ns < due_ns:
            return False
        self._waits[name] = (now_ns + pause_s * NS_PER_S, min(2 * pause_s, LONGEST_WAIT_S))
        return True

    # --- positions to close ---------------------------------------------------------------------------------------------------

    def _flatten(self) -> None:
        if not self.flattening:
            return
        held = {key: one for key, one in self._blotter.portfolio.positions().items() if one.quantity and self._is_flattened(key[0])}
        if not held and not any(self._is_flattened(order.intent.strategy_id) for order in self._desk.mine()):
            self._note("flat", self.flattening)
            self.flattening = ""
            return
        busy = {(order.intent.strategy_id, order.intent.instrument_id) for order in self._desk.mine()}
        for (strategy_id, instrument_id), position in held.items():
            if (strategy_id, instrument_id) not in busy:
                self._close(strategy_id, instrument_id, position.quantity)

    def _is_flattened(self, strategy_id: str) -> bool:
        return self._flattened is None or strategy_id in self._flattened

    def _close(self, strategy_id: str, instrument_id: str, lots: int) -> None:
        self._number += 1
        order = closing_order(self._number, (strategy_id, instrument_id), lots, self._clock.now_ns())
        self._out.submit(order, is_by_operator=True)

    # --- losses and the session -----------------------------------------------------------------------------------------------

    def mark_losses(self, now_ns: int) -> None:
        """Remember the day's beginning and the best of what has a loss limit; reduce when the account is beyond its own."""
        wanted = tuple(self._loss_scopes())
        if not wanted:
            return
        day_starts_ns = round(float(self._limits.get("day_starts_hour_utc")) * 3_600 * NS_PER_S)
        marked = self._blotter.losses.mark(now_ns, day_starts_ns, wanted)
        if marked is not None:
            self._out.record(marked, durable=False)
        if self._blotter.state is TradingState.ACTIVE:
            reason = self._beyond()
            if reason:
                self._desk.set_state(TradingState.REDUCE_ONLY, reason)

    def _loss_scopes(self) -> list[Scope]:
        keys = self._blotter.portfolio.positions()
        strategies = sorted({key[0] for key in keys})
        instruments = sorted({key[1] for key in keys})
        found: dict[Scope, None] = {}
        for strategy_id, instrument_id in itertools.product(strategies or [""], instruments or [""]):
            for scope in self._limits.scopes(strategy_id, instrument_id):
                is_named = scope.strategy_id != "" and scope.instrument_id != ""
                if is_named and (scope.get("max_daily_loss") or scope.get("max_drawdown")):
                    found[scope.strategy_id, scope.instrument_id] = None
        return list(found)

    def _beyond(self) -> str:
        account = self._limits.scopes("", "")[-1]
        loss = self._blotter.losses.loss((None, None))
        tests: tuple[tuple[str, Callable[[], object]], ...] = (
            ("max_daily_loss", lambda: -loss.day),
            ("max_drawdown", lambda: loss.drawdown),
            ("max_consecutive_losses", lambda: loss.losses_in_a_row),
        )
        for key, lost in tests:
            most = account.get(key)
            if most and not lost() < most:  # type: ignore[operator]
                found = lost()
                return f"{key}: lost={found:.2f} limit={most}" if isinstance(found, Decimal) else f"{key}: lost={found} limit={most}"
        return ""

    def _look_at_session(self, now_ns: int) -> None:
        lead_s = float(self._limits.get("flat_before_session_end_s"))
        left_s = seconds_to_session_end(self._limits, now_ns) if lead_s else 0.0
        day = round((now_ns / NS_PER_S + left_s) // 86_400)
        if not lead_s or left_s > lead_s or day == self._session_day:
            return
        self._session_day = day
        for order in self._desk.mine():
            self._out.cancel(order)
        self.flatten(f"the session ends in {left_s:.0f} s")

    def _note(self, name: str, detail: str) -> None:
        log.warning("%s: %s", name, detail)
        self._out.record(TimerFired(ts_event=self._clock.now_ns(), name=name, detail=detail), durable=False)


def closing_order(number: int, holder: Holder, lots: int, ts_event: int) -> SubmitOrder:
    """Return the order that closes a position of so many signed lots: at the market, and never beyond it."""
    return SubmitOrder(
        client_order_id=f"{FLATTEN}{number}",
        strategy_id=holder[0],
        instrument_id=holder[1],
        side=Side.SELL if lots > 0 else Side.BUY,
        quantity=abs(lots),
        order_type=OrderType.MARKET,
        limit_ticks=None,
        time_in_force=TimeInForce.IOC,
        ts_event=ts_event,
        reduce_only=True,
    )
