"""What every venue promises, as functions that run on any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from framework.clock import EventClock
from framework.messages import ExecutionReport, ReplaceOrder, ReportKind, SubmitOrder
from framework.model import NS_PER_S, OrderType, Side, TimeInForce
from framework.venues.port import RestingOrder, Venue

FINAL = {ReportKind.REJECTED, ReportKind.CANCELED, ReportKind.EXPIRED}


@dataclass
class Desk:
    """A venue on a clock, with everything it said."""

    venue: Venue
    clock: EventClock
    instrument_id: str
    bid_ticks: Callable[[], int]
    ask_ticks: Callable[[], int]
    reports: list[ExecutionReport] = field(default_factory=list)
    number: int = 0

    def start(self) -> None:
        self.venue.start(self.clock, self.reports.append)

    def order(
        self,
        side: Side,
        quantity: int,
        *,
        limit_ticks: int | None = None,
        time_in_force: TimeInForce = TimeInForce.DAY,
        client_order_id: str | None = None,
        **fields: Any,
    ) -> SubmitOrder:
        self.number += 1
        return SubmitOrder(
            client_order_id=client_order_id or f"o{self.number}",
            strategy_id="s",
            instrument_id=self.instrument_id,
            side=side,
            quantity=quantity,
            order_type=OrderType.MARKET if limit_ticks is None else OrderType.LIMIT,
            limit_ticks=limit_ticks,
            time_in_force=time_in_force,
            ts_event=self.clock.now_ns(),
            **fields,
        )

    def send(self, side: Side, quantity: int, **fields: Any) -> str:
        order = self.order(side, quantity, **fields)
        self.venue.submit(order)
        return order.client_order_id

    def change(self, client_order_id: str, revision: int = 1, **fields: Any) -> None:
        self.venue.replace(
            ReplaceOrder(client_order_id=client_order_id, strategy_id="s", ts_event=self.clock.now_ns(), revision=revision, **fields)
        )

    def last(self) -> ExecutionReport:
        return self.reports[-1]

    def wait(self, seconds: float = 1.0) -> None:
        self.clock.advance_to(self.clock.now_ns() + round(seconds * NS_PER_S))

    def said(self, client_order_id: str) -> list[ReportKind]:
        return [report.kind for report in self.reports if report.client_order_id == client_order_id]

    def filled(self, client_order_id: str) -> int:
        return sum(r.last_quantity for r in self.reports if r.client_order_id == client_order_id and r.kind is ReportKind.FILLED)


def check_a_marketable_order_fills_and_pays_the_taker_fee(desk: Desk) -> None:
    order = desk.send(Side.BUY, 1)
    desk.wait()

    assert desk.said(order) == [ReportKind.ACCEPTED, ReportKind.FILLED]
    fill = desk.reports[-1]
    assert fill.last_quantity == 1
    assert fill.liquidity == "TAKER"
    assert fill.trade_id
    assert fill.venue_order_id


def check_nothing_is_heard_before_both_latencies_are_over(desk: Desk) -> None:
    desk.send(Side.BUY, 1)

    assert desk.reports == []


def check_a_far_limit_order_rests_and_its_cancel_is_confirmed_once(desk: Desk) -> None:
    order = desk.send(Side.BUY, 2, limit_ticks=desk.bid_ticks() - 30)
    desk.wait()
    desk.venue.cancel(order)
    desk.wait()
    desk.venue.cancel(order)
    desk.wait()

    assert desk.said(order) == [ReportKind.ACCEPTED, ReportKind.CANCELED, ReportKind.CANCEL_REJECTED]


def check_an_ioc_order_leaves_nothing_behind(desk: Desk) -> None:
    order = desk.send(Side.BUY, 2, limit_ticks=desk.bid_ticks() - 5, time_in_force=TimeInForce.IOC)
    desk.wait()

    assert desk.said(order) == [ReportKind.ACCEPTED, ReportKind.CANCELED]


def check_a_repeated_id_is_rejected_and_never_doubled(desk: Desk) -> None:
    order = desk.send(Side.BUY, 1)
    desk.wait()
    desk.send(Side.BUY, 1, client_order_id=order)
    desk.wait()

    assert desk.said(order) == [ReportKind.ACCEPTED, ReportKind.FILLED, ReportKind.REJECTED]


def check_an_order_that_the_venue_does_not_know_is_reconciled_as_canceled(desk: Desk) -> None:
    desk.venue.reconcile(("of-the-run-before",))
    desk.wait()

    assert desk.said("of-the-run-before") == [ReportKind.CANCELED]
    assert desk.reports[-1].reason == "venue restarted"


def check_a_cancel_of_an_order_that_never_was_is_refused(desk: Desk) -> None:
    desk.venue.cancel("nobody's")
    desk.wait()

    assert desk.said("nobody's") == [ReportKind.CANCEL_REJECTED]


def check_a_bad_order_is_rejected_with_a_reason_and_nothing_else(desk: Desk) -> None:
    usual = desk.order(Side.BUY, 1, limit_ticks=desk.bid_ticks() - 5)
    bad: dict[str, dict[str, Any]] = {
        "no-lots": {"quantity": 0},
        "fewer-than-none": {"quantity": -1},
        "no-price": {"limit_ticks": None},
        "elsewhere": {"instrument_id": "ELSEWHERE.X"},
    }
    for client_order_id, changes in bad.items():
        desk.venue.submit(msgspec.structs.replace(usual, client_order_id=client_order_id, **changes))
    desk.wait()

    assert {name: desk.said(name) for name in bad} == {name: [ReportKind.REJECTED] for name in bad}
    assert all(report.reason for report in desk.reports)


def check_a_sale_fills_like_a_purchase(desk: Desk) -> None:
    bid_ticks = desk.bid_ticks()
    order = desk.send(Side.SELL, 1, limit_ticks=bid_ticks - 5, time_in_force=TimeInForce.IOC)
    desk.wait()

    assert desk.said(order) == [ReportKind.ACCEPTED, ReportKind.FILLED]
    assert bid_ticks - 5 <= desk.reports[-1].last_ticks <= bid_ticks + 1


def check_an_order_never_trades_beyond_its_limit_nor_its_size(desk: Desk) -> None:
    limit_ticks = desk.ask_ticks() + 1
    order = desk.send(Side.BUY, 1_000, limit_ticks=limit_ticks, time_in_force=TimeInForce.IOC)
    desk.wait()

    fills = [report for report in desk.reports if report.kind is ReportKind.FILLED]
    assert 0 < desk.filled(order) <= 1_000
    assert all(fill.last_quantity >= 1 and fill.last_ticks <= limit_ticks for fill in fills)
    assert len({fill.trade_id for fill in fills}) == len(fills)
    assert len({fill.venue_order_id for fill in fills}) == 1


def check_reports_are_stamped_in_order_and_between_request_and_answer(desk: Desk) -> None:
    begin_ns = desk.clock.now_ns()
    for _ in range(3):
        desk.send(Side.BUY, 1)
        desk.wait(0.01)

    stamps = [report.ts_event for report in desk.reports]
    assert stamps == sorted(stamps)
    assert begin_ns < stamps[0] <= stamps[-1] <= desk.clock.now_ns()


def check_a_stopped_venue_says_nothing_more(desk: Desk) -> None:
    desk.send(Side.BUY, 1)
    desk.venue.stop()
    desk.wait()

    assert desk.reports == []


def check_a_fill_or_kill_order_trades_whole_or_not_at_all(desk: Desk) -> None:
    small = desk.send(Side.BUY, 1, limit_ticks=desk.ask_ticks() + 1, time_in_force=TimeInForce.FOK)
    desk.wait()
    large = desk.send(Side.BUY, 100_000, limit_ticks=desk.ask_ticks() + 1, time_in_force=TimeInForce.FOK)
    desk.wait()

    assert desk.said(small) == [ReportKind.ACCEPTED, ReportKind.FILLED]
    assert desk.said(large) == [ReportKind.ACCEPTED, ReportKind.CANCELED]


def check_a_post_only_order_rests_or_is_rejected(desk: Desk) -> None:
    rests = desk.send(Side.BUY, 1, limit_ticks=desk.bid_ticks() - 30, post_only=True)
    takes = desk.send(Side.BUY, 1, limit_ticks=desk.ask_ticks() + 1, post_only=True)
    market = desk.send(Side.BUY, 1, post_only=True)
    desk.wait(0.1)

    assert desk.said(rests) == [ReportKind.ACCEPTED]
    assert desk.said(takes) == desk.said(market) == [ReportKind.REJECTED]
    assert {report.reason for report in desk.reports if report.kind is ReportKind.REJECTED} == {
        "post-only order would take",
        "post-only orders must rest",
    }


def check_an_order_good_till_a_date_expires_then_and_not_before(desk: Desk) -> None:
    expire_ns = desk.clock.now_ns() + 2 * NS_PER_S
    order = desk.send(Side.BUY, 1, limit_ticks=desk.bid_ticks() - 30, time_in_force=TimeInForce.GTD, expire_ns=expire_ns)
    desk.wait(1.9)
    assert desk.said(order) == [ReportKind.ACCEPTED]

    desk.wait(0.2)
    assert desk.said(order) == [ReportKind.ACCEPTED, ReportKind.EXPIRED]
    assert desk.last().ts_event == expire_ns
    late = desk.send(Side.BUY, 1, limit_ticks=desk.bid_ticks() - 30, time_in_force=TimeInForce.GTD, expire_ns=expire_ns)
    desk.wait(0.1)
    assert desk.said(late) == [ReportKind.REJECTED]


def check_an_order_that_is_gone_before_its_date_does_not_expire(desk: Desk) -> None:
    expire_ns = desk.clock.now_ns() + NS_PER_S
    order = desk.send(Side.BUY, 1, limit_ticks=desk.bid_ticks() - 30, time_in_force=TimeInForce.GTD, expire_ns=expire_ns)
    desk.wait(0.1)
    desk.venue.cancel(order)
    desk.wait(2.0)

    assert desk.said(order) == [ReportKind.ACCEPTED, ReportKind.CANCELED]


def check_a_change_is_confirmed_with_the_new_terms(desk: Desk) -> None:
    order = desk.send(Side.BUY, 2, limit_ticks=desk.bid_ticks() - 30)
    desk.wait(0.1)
    limit_ticks = desk.bid_ticks() - 31
    desk.change(order, quantity=5, limit_ticks=limit_ticks)
    desk.wait(0.1)

    answer = desk.last()
    assert desk.said(order) == [ReportKind.ACCEPTED, ReportKind.REPLACED]
    assert (answer.quantity, answer.limit_ticks, answer.revision) == (5, limit_ticks, 1)
    desk.venue.cancel(order)
    desk.wait(0.1)
    assert desk.said(order)[-1] is ReportKind.CANCELED


def check_a_change_to_a_price_that_trades_trades(desk: Desk) -> None:
    order = desk.send(Side.BUY, 2, limit_ticks=desk.bid_ticks() - 30)
    desk.wait(0.1)
    desk.change(order, limit_ticks=desk.ask_ticks() + 1)
    desk.wait(0.1)

    assert desk.said(order)[:3] == [ReportKind.ACCEPTED, ReportKind.REPLACED, ReportKind.FILLED]
    assert desk.filled(order) == 2


def check_a_change_that_cannot_be_is_refused_and_changes_nothing(desk: Desk) -> None:
    order = desk.send(Side.BUY, 2, limit_ticks=desk.bid_ticks() - 30, post_only=True)
    desk.wait(0.1)
    desk.change("nobody's", 7, quantity=1)
    desk.change(order, 1, quantity=0)
    desk.change(order, 2, limit_ticks=desk.ask_ticks() + 1)
    desk.wait(0.1)

    assert desk.said(order) == [ReportKind.ACCEPTED, ReportKind.REPLACE_REJECTED, ReportKind.REPLACE_REJECTED]
    refusals = [report for report in desk.reports if report.kind is ReportKind.REPLACE_REJECTED]
    assert [report.revision for report in refusals] == [7, 1, 2]
    assert all(report.reason for report in refusals)


def check_a_restored_order_rests_again_and_can_be_canceled(desk: Desk) -> None:
    intent = desk.order(Side.BUY, 5, limit_ticks=desk.bid_ticks() - 30, time_in_force=TimeInForce.GTC)
    desk.venue.restore([RestingOrder(intent, "V-1", 5, 2, intent.limit_ticks)])
    desk.venue.reconcile((intent.client_order_id,))
    desk.wait(0.1)
    assert desk.said(intent.client_order_id) == [ReportKind.RESTATED, ReportKind.ACCEPTED]
    assert (desk.reports[0].quantity, desk.last().venue_order_id) == (5, "V-1")

    desk.send(Side.BUY, 1, client_order_id=intent.client_order_id)
    desk.wait(0.1)
    assert desk.last().kind is ReportKind.REJECTED
    desk.change(intent.client_order_id, limit_ticks=desk.ask_ticks() + 1)
    desk.wait(0.1)
    fills = [report for report in desk.reports if report.kind is ReportKind.FILLED]
    assert sum(fill.last_quantity for fill in fills) == 3
    assert fills[0].trade_id == f"T-{intent.client_order_id}-{2 + fills[0].last_quantity}"


def check_an_order_that_the_venue_knows_is_not_restored_over_it(desk: Desk) -> None:
    intent = desk.order(Side.BUY, 1)
    desk.venue.submit(intent)
    desk.wait(0.1)
    desk.venue.restore([RestingOrder(intent, "V-1", 1, 0, desk.bid_ticks() - 30)])
    desk.venue.reconcile((intent.client_order_id,))
    desk.wait(0.1)

    told = [ReportKind.ACCEPTED, ReportKind.FILLED]
    assert desk.said(intent.client_order_id) == [*told, ReportKind.RESTATED, *told]


def check_a_reduce_only_order_is_clipped_when_the_position_shrinks_and_ends_when_it_is_gone(desk: Desk) -> None:
    desk.send(Side.BUY, 3)
    desk.wait(0.1)
    first = desk.send(Side.SELL, 3, limit_ticks=desk.ask_ticks() + 30, reduce_only=True, time_in_force=TimeInForce.GTC)
    desk.wait(0.1)
    desk.send(Side.SELL, 1)
    desk.wait(0.1)
    assert desk.said(first) == [ReportKind.ACCEPTED, ReportKind.RESTATED]
    assert [report.quantity for report in desk.reports if report.kind is ReportKind.RESTATED] == [2]

    desk.send(Side.SELL, 3)
    desk.wait(0.1)
    assert desk.said(first) == [ReportKind.ACCEPTED, ReportKind.RESTATED, ReportKind.CANCELED]
    late = desk.send(Side.SELL, 1, reduce_only=True)
    desk.wait(0.1)
    assert desk.said(late) == [ReportKind.REJECTED]
    assert desk.last().reason == "reduce-only: there is no position left to reduce"


def check_a_restored_position_is_what_a_reduce_only_order_is_measured_by(desk: Desk) -> None:
    desk.venue.restore([], {("s", desk.instrument_id): -2})
    order = desk.send(Side.BUY, 5, reduce_only=True)
    desk.wait(0.1)

    assert desk.said(order)[:2] == [ReportKind.ACCEPTED, ReportKind.RESTATED]
    assert desk.filled(order) == 2


def check_an_order_type_that_the_venue_does_not_know_is_rejected(desk: Desk) -> None:
    stop = msgspec.structs.replace(desk.order(Side.BUY, 1), order_type=OrderType.STOP, stop_ticks=desk.ask_ticks() + 5)
    desk.venue.submit(stop)
    desk.wait(0.1)

    assert desk.said(stop.client_order_id) == [ReportKind.REJECTED]
    assert desk.last().reason == "STOP orders are not known here"


CHECKS: tuple[Callable[[Desk], None], ...] = tuple(value for name, value in sorted(globals().items()) if name.startswith("check_"))
