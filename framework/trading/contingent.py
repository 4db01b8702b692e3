"""Orders that wait here, so that every venue has them: stops, trailing stops, legs of a bracket, one-cancels-the-other.

What has to happen follows from the orders and the market as they are, never from what was seen before (`Contingencies.review`): after a
restart the same review of the recovered orders goes on where the last run stopped. Whatever changes an order is a report that
Execution journals and applies like a venue's.

- A stop is set off by the quote that it would trade at (a sell stop by the best bid), or by the last trade. What it becomes passes the
  gate when it is released; a stop that the gate holds up for a passing reason is tried again with the next event.
- A trailing stop follows the price at `trail_ticks`, and never goes back.
- A leg waits for its entry. A stop leg is armed with the first fill of the entry; any other leg goes out once the entry has ended, for
  what it filled. An entry that ends unfilled ends its legs.
- Of one group as much fills as of one order: what one member fills, the others lose. A stop that is set off takes the others out
  first, and is released only when they have ended: never two exits of one position at the same time.
- A reduce-only order at the venue is clipped or canceled when the position has become smaller than it. One that is held goes with no
  more lots than the position has left for it, and waits while other open orders have all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Final, NamedTuple

from framework.messages import BookSnapshot, ExecutionReport, ReportKind, SessionChanged, TradeTick
from framework.model import NS_PER_S, OrderStatus, Side, TimeInForce, TriggerPrice
from framework.trading.order_states import CANCELABLE, REPLACEABLE
from framework.trading.order_terms import Quote, is_reached
from framework.trading.orders import Order
from framework.trading.reducing import Reducing

ASK_AGAIN_NS: Final = NS_PER_S


class Say(NamedTuple):
    """Journal and apply this report about a held order."""

    report: ExecutionReport


class Release(NamedTuple):
    """Send a held order to the venue, if the gate lets it."""

    client_order_id: str


class Cancel(NamedTuple):
    """Ask the venue to cancel an order that stands in the way."""

    client_order_id: str


class Shrink(NamedTuple):
    """Ask the venue for a smaller total."""

    client_order_id: str
    quantity: int


Act = Say | Release | Cancel | Shrink


class Contingencies:
    """What is held and what belongs together. `find` returns any order that there ever was, None for an id that was never used."""

    def __init__(self, find: Callable[[str], Order | None], reducing: Reducing) -> None:
        self._find = find
        self._reducing = reducing
        self._held: dict[str, Order] = {}
        self._groups: dict[str, dict[str, Order]] = {}
        self._quotes: dict[str, Quote] = {}
        self._last: dict[str, int] = {}
        self._asked: dict[tuple[str, int], int] = {}
        self._entered: dict[str, int] = {}

    # --- what happens ----------------------------------------------------------------------------------------------------

    def note(self, order: Order) -> None:
        """Take an order that is new or has changed; one that is closed or neither held nor in a group is forgotten."""
        self._index(order)
        group = order.intent.oco_id
        if group and not self._has_open(group):
            del self._groups[group]

    def restore(self, orders: Iterable[Order]) -> None:
        """Take the orders of the runs before, in any order: open ones, and closed ones as far as they are known."""
        for order in orders:
            self._index(order)
        self._groups = {group: members for group, members in self._groups.items() if self._has_open(group)}

    def _index(self, order: Order) -> None:
        name, group = order.intent.client_order_id, order.intent.oco_id
        self._reducing.note(order)
        if order.status is OrderStatus.SUSPENDED:
            self._held[name] = order
        else:
            self._held.pop(name, None)
            self._entered.pop(name, None)
        if group:
            self._groups.setdefault(group, {})[name] = order

    def _has_open(self, group: str) -> bool:
        return any(member.is_open for member in self._groups[group].values())

    def on_book(self, book: BookSnapshot) -> None:
        """Take the quote of a sound book."""
        bids, asks = book.bid_ticks, book.ask_ticks
        self._quotes[book.instrument_id] = (bids[0] if bids else None, asks[0] if asks else None)

    def on_trade(self, tick: TradeTick) -> None:
        """Take the last trade."""
        self._last[tick.instrument_id] = tick.price_ticks

    def on_session(self, session: SessionChanged, now_ns: int) -> Iterator[Say]:
        """Forget the prices of a session that is over, and yield the end of the DAY orders that are held."""
        if session.is_open:
            return
        self._quotes.pop(session.instrument_id, None)
        self._last.pop(session.instrument_id, None)
        if not session.is_halt:
            for order in self._of(session.instrument_id):
                if order.intent.time_in_force is TimeInForce.DAY:
                    yield _say(order, ReportKind.EXPIRED, now_ns, reason=f"session closed ({session.reason})")

    def quote(self, instrument_id: str) -> Quote:
        """Return the best prices, None where there is none."""
        return self._quotes.get(instrument_id, (None, None))

    def stops(self, instrument_id: str) -> tuple[tuple[str, Side, int], ...]:
        """Return id, side and present price of the stops that are held; a trailing one has none before its first quote."""
        held = ((one.intent, one.stop_ticks) for one in self._of(instrument_id) if one.intent.order_type.is_stop)
        return tuple((intent.client_order_id, intent.side, ticks) for intent, ticks in held if ticks is not None)

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is held, nothing belongs together, and nothing at the venue has to follow a position."""
        return not self._held and not self._groups and self._reducing.is_idle

    # --- what follows ----------------------------------------------------------------------------------------------------

    def review(self, instrument_id: str, now_ns: int, held_up: Container[str] = ()) -> Act | None:
        """Return the next thing that has to happen in an instrument, or None. Call it again once that is done.

        `held_up` names the orders that cannot be helped now: they are left out.
        """
        for order in self._of(instrument_id):
            act = None if order.intent.client_order_id in held_up else self._review_held(order, now_ns)
            if act is not None:
                return act
        for order in self._members_of(instrument_id):
            act = None if order.intent.client_order_id in held_up else self._review_member(order, now_ns)
            if act is not None:
                return act
        for order, most in self._reducing.excess(instrument_id):
            act = None if order.intent.client_order_id in held_up else self._give_way(order, most, now_ns)
            if act is not None:
                return act
        return None

    def _members_of(self, instrument_id: str) -> Iterator[Order]:
        for group in self._groups.values():
            for order in group.values():
                if order.intent.instrument_id == instrument_id:
                    yield order

    def _of(self, instrument_id: str) -> tuple[Order, ...]:
        return tuple(order for order in self._held.values() if order.intent.instrument_id == instrument_id)

    def _review_held(self, order: Order, now_ns: int) -> Act | None:
        expire_ns, parent_id = order.intent.expire_ns, order.intent.parent_id
        if expire_ns is not None and expire_ns <= now_ns:
            return _say(order, ReportKind.EXPIRED, now_ns, reason="good till date: its time is over")
        parent = self._find(parent_id) if parent_id else None
        if parent_id and (parent is None or not parent.filled_quantity):
            is_over = parent is None or not parent.is_open
            return _say(order, ReportKind.CANCELED, now_ns, reason="its entry ended unfilled") if is_over else None
        return self._review_entered(order, parent, now_ns)

    def _review_entered(self, order: Order, parent: Order | None, now_ns: int) -> Act | None:
        """Review an order that waits for no entry, or whose entry has filled something."""
        is_whole = parent is None or not parent.is_open
        due = self._due(order, parent)
        if is_whole:
            due = min(due, order.quantity + self._grown(order, parent))
        if is_whole and due <= 0:
            return _say(order, ReportKind.CANCELED, now_ns, reason="another order of its group has filled")
        if is_whole and due != order.quantity:
            return _say(order, ReportKind.RESTATED, now_ns, quantity=due)
        if order.intent.order_type.is_stop:
            return self._review_stop(order, parent, now_ns)
        return self._go(order, now_ns) if is_whole else None

    def _go(self, order: Order, now_ns: int) -> Say | Release | None:
        """Return how a held order goes to the venue: a reduce-only one as far as the position reaches (flat: the gate ends it)."""
        if order.intent.reduce_only:
            left = self._reducing.left_for(order)
            if 0 < left < order.quantity:
                return _say(order, ReportKind.RESTATED, now_ns, quantity=left, reason="reduce-only: clipped to the position")
            if not left and self._reducing.reach(order):
                return None
        return Release(order.intent.client_order_id)

    def _review_stop(self, order: Order, parent: Order | None, now_ns: int) -> Act | None:
        if order.is_triggered:
            return self._clear_way(order, parent, now_ns)
        reference = self._reference(order)
        if reference is None:
            return None
        stop_ticks = self._trailed(order, reference)
        if stop_ticks != order.stop_ticks:
            return _say(order, ReportKind.RESTATED, now_ns, stop_ticks=stop_ticks)
        if stop_ticks is not None and is_reached(order.intent.side, stop_ticks, reference):
            return _say(order, ReportKind.TRIGGERED, now_ns, reason=f"stop {stop_ticks} was set off at {reference}")
        return None

    def _clear_way(self, order: Order, parent: Order | None, now_ns: int) -> Act | None:
        """Return how a stop that was set off gets the others out of its way; release it when none is left."""
        others = [*self._siblings(order), *([parent] if parent is not None else [])]
        for other in others:
            if other.status is OrderStatus.SUSPENDED:
                return _say(other, ReportKind.CANCELED, now_ns, reason="another order of its group was set off")
        open_others = [other for other in others if other.is_open]
        asked = (self._ask(other, now_ns) for other in open_others)
        return next((cancel for cancel in asked if cancel is not None), None) or (None if open_others else self._go(order, now_ns))

    def _review_member(self, order: Order, now_ns: int) -> Cancel | Shrink | None:
        """Return how a member of a group that is at the venue gives way to what the others filled."""
        if order.status not in CANCELABLE:
            return None
        due = self._due(order, self._find(order.intent.parent_id) if order.intent.parent_id else None)
        return self._give_way(order, due, now_ns)

    def _give_way(self, order: Order, due: int, now_ns: int) -> Cancel | Shrink | None:
        """Return how an order at the venue comes down to a total, as far as it can be asked to now."""
        if due <= order.filled_quantity:
            return self._ask(order, now_ns)
        if due < order.quantity and order.status in REPLACEABLE and self._is_first_time(order, due, now_ns):
            return Shrink(order.intent.client_order_id, due)
        return None

    # --- inside ----------------------------------------------------------------------------------------------------------

    def _due(self, order: Order, parent: Order | None) -> int:
        """Return the total that an order may have: as asked for, at most what its entry filled, less what its group has filled."""
        whole = order.wanted if parent is None else min(order.wanted, parent.filled_quantity)
        return whole - sum(other.filled_quantity for other in self._siblings(order))

    def _grown(self, order: Order, parent: Order | None) -> int:
        """Return by how much an entry that had ended has filled since: only that lets a leg grow again.

        What the others of its group filled in a run before need not be known here; the quantity of the order knows it.
        """
        filled = 0 if parent is None else parent.filled_quantity
        before = self._entered.setdefault(order.intent.client_order_id, filled)
        self._entered[order.intent.client_order_id] = filled
        return filled - before

    def _siblings(self, order: Order) -> list[Order]:
        group = self._groups.get(order.intent.oco_id, {}) if order.intent.oco_id else {}
        return [other for other in group.values() if other is not order]

    def _ask(self, order: Order, now_ns: int) -> Cancel | None:
        is_due = order.status in CANCELABLE and self._is_first_time(order, 0, now_ns)
        return Cancel(order.intent.client_order_id) if is_due else None

    def _is_first_time(self, order: Order, quantity: int, now_ns: int) -> bool:
        """Return whether this was not asked of a venue in the last second: one that refuses is asked again, but not in a circle."""
        key = (order.intent.client_order_id, quantity)
        self._asked = {one: when for one, when in self._asked.items() if now_ns - when < ASK_AGAIN_NS}
        if key in self._asked:
            return False
        self._asked[key] = now_ns
        return True

    def _reference(self, order: Order) -> int | None:
        intent = order.intent
        if intent.trigger is TriggerPrice.LAST:
            return self._last.get(intent.instrument_id)
        bid, ask = self.quote(intent.instrument_id)
        return ask if intent.side is Side.BUY else bid

    def _trailed(self, order: Order, reference: int) -> int | None:
        """Return where the stop is now: a trailing one follows the price, and never goes back."""
        trail_ticks, sign = order.intent.trail_ticks, order.intent.side.sign
        if trail_ticks is None:
            return order.stop_ticks
        following = reference + sign * trail_ticks
        if order.stop_ticks is None:
            return following
        return following if (following - order.stop_ticks) * sign < 0 else order.stop_ticks


def _say(
    order: Order, kind: ReportKind, now_ns: int, *, reason: str = "", quantity: int | None = None, stop_ticks: int | None = None
) -> Say:
    return Say(
        ExecutionReport(
            client_order_id=order.intent.client_order_id,
            kind=kind,
            ts_event=now_ns,
            reason=reason,
            quantity=quantity,
            stop_ticks=stop_ticks,
        )
    )
